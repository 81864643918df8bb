// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Whether a command that waits for its reply is one that the rules of a configuration would still
 * give: what a rule said that has been removed since, or says something else by now, is not wanted
 * any more, however long its device has been offline.
 *
 *     standing_holds() for each, when the rules have changed, and at the start.
 */
#pragma once

#include <stdbool.h>

#include "config/config.h"
#include "server/letter.h"

/*
 * device: that it is to, or NULL: its group. topics_have_group: a device may be of any group, as
 * intake_has_group() says.
 */
bool standing_holds(const struct config *config, bool topics_have_group,
                    const struct letter *letter, const char *device);
