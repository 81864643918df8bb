// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One value, from its text to the member of its structure, as its row says. Internal to config/.
 * A structure begins with convert_unset() for each of its rows and ends with convert_clear().
 */
#pragma once

#include "config/schema.h"
#include "util/why.h"

/* Writes what stands for "not set" into the member, without freeing anything. */
void convert_unset(const struct schema_option *option, void *data);

/* Frees the member and leaves it unset. */
void convert_clear(const struct schema_option *option, void *data);

/*
 * Parses text, holds it against the row's limits and check, and replaces the member. -EINVAL with
 * why ("'5q' is not a duration; expected ...", the value left out if it is a secret), -ENOMEM; the
 * member is then as before.
 */
int convert_set(const struct schema_option *option, void *data, const char *text, struct why *why);
