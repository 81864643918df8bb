// SPDX-License-Identifier: LGPL-2.1-or-later
// Says in words what a row of the schema expects: schema_describe(). Pure.
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "config/schema.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/strings.h"

struct unit {
    const char *name;
    double factor; // of the base unit
};

/* In the largest unit that needs no fraction. */
static void format_in(const struct unit *units, size_t n_units, double value, char *out,
                      size_t size)
{
    size_t i = 0;
    while (i + 1 < n_units && (value == 0 || fmod(value, units[i].factor) != 0))
        i++;
    snprintf(out, size, "%.15g%s", value / units[i].factor, units[i].name);
}

static void format_limit(enum option_type type, double value, char *out, size_t size)
{
    static const struct unit durations[] = {
        { "d", 86400e6 }, { "h", 3600e6 }, { "min", 60e6 },
        { "s", 1e6 },     { "ms", 1e3 },   { "us", 1 },
    };
    static const struct unit sizes[] = {
        { "G", 1 << 30 }, { "M", 1 << 20 }, { "K", 1024 }, { "", 1 }
    };
    if (type == OPTION_DURATION && value == 0)
        snprintf(out, size, "0s");
    else if (type == OPTION_DURATION)
        format_in(durations, ELEMENTS(durations), value, out, size);
    else if (type == OPTION_SIZE)
        format_in(sizes, ELEMENTS(sizes), value, out, size);
    else
        snprintf(out, size, "%.15g", value);
}

const char *schema_describe(const struct schema_option *option, char *out, size_t size)
{
    static const char *const forms[] = {
        [OPTION_BOOL] = "yes or no",
        [OPTION_INT] = "a whole number",
        [OPTION_NUMBER] = "a number",
        [OPTION_DURATION] = "a duration such as 5s",
        [OPTION_SIZE] = "a size such as 64K",
        [OPTION_STRING] = "a text",
        [OPTION_LIST] = "words separated by spaces",
        [OPTION_ARGV] = "a program and its arguments, quotes closed",
        [OPTION_CONDITION] = "a condition such as light < 300",
        [OPTION_COMMAND] = "a JSON object such as {\"led_on\": true}",
    };
    if (option->type == OPTION_ENUM) {
        int at = snprintf(out, size, "%s", option->choices[1] ? "one of " : "");
        strings_join(option->choices, SIZE_MAX, out + at, size - (size_t)at);
        return out;
    }
    const char *form = forms[option->type];
    const char *comma = option->type == OPTION_DURATION || option->type == OPTION_SIZE ? "," : "";
    char min[32], max[32];
    format_limit(option->type, option->min, min, sizeof(min));
    format_limit(option->type, option->max, max, sizeof(max));
    if (option->min == 0 && option->max == 0)
        snprintf(out, size, "%s", form);
    else if (option->type == OPTION_STRING)
        snprintf(out, size, "%s of %s to %s bytes", form, min, max);
    else if (isinf(option->max))
        snprintf(out, size, "%s%s of at least %s", form, comma, min);
    else
        snprintf(out, size, "%s%s from %s to %s", form, comma, min, max);
    return out;
}
