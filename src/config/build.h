// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sections of text to sections of typed values, each by its rows. Internal to config/. What no row
 * alone can say is left to check.h.
 */
#pragma once

#include "config/config.h"
#include "config/reader.h"

/* Adds the sections that are always there; before the first file is read. */
void build_begin(struct raw_config *raw, struct errors *errors);

/* Makes every section of raw a section of config; what is wrong goes to errors. */
void build_sections(struct config *config, const struct raw_config *raw,
                    const struct config_sources *sources, struct errors *errors);
