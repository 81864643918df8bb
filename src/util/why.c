// SPDX-License-Identifier: LGPL-2.1-or-later
// Formats the cause of a failure; see why.h. Must not log.
#include "util/why.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

int why_set(struct why *why, int error, const char *format, ...)
{
    assert(error > 0);
    if (why) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(why->text, sizeof(why->text), format, arguments);
        va_end(arguments);
    }
    return -error;
}
