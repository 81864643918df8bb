// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The one-line cause of a failure, for the layer that decides and logs.
 *
 * A function that can fail in ways that its errno does not tell takes a `struct why *` as its last
 * argument (NULL: the caller does not care), fills it on failure only, and returns -errno as ever:
 *
 *     return why_set(why, ENODEV, "no GPIO chip with the label '%s'", chip);
 */
#pragma once

struct why {
    char text[256]; // one line, NUL-terminated, cut at the end when too long; "" when nothing is
                    // known
};

/*
 * Formats the cause into why (which may be NULL) and returns -error; error is a positive errno.
 */
int why_set(struct why *why, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
