// SPDX-License-Identifier: LGPL-2.1-or-later
// Values of actuators and how they are written. Pure.
#include "core/value.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"

const char *value_type_name(enum value_type type)
{
    static const char *const names[] = { "nothing", "boolean", "number", "string" };
    return names[type];
}

bool value_equal(const struct value *a, const struct value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case VALUE_BOOL:
        return a->boolean == b->boolean;
    case VALUE_NUMBER:
        return a->number == b->number;
    case VALUE_STRING:
        return strcmp(a->string, b->string) == 0;
    default:
        return true;
    }
}

const char *value_format_number(double number, int decimals, char *out, size_t size)
{
    // Above this, 15 digits could round up to what is read back as infinity.
    static const double max_rounded = 1.79769313486231e308;
    assert(isfinite(number));
    if (decimals < 0)
        snprintf(out, size, "%.*g", fabs(number) > max_rounded ? 17 : 15, number);
    else
        snprintf(out, size, "%.*f", decimals, number);
    if (out[0] == '-' && out[strspn(out, "-0.")] == '\0') // what is left of -0.001 is no sign
        memmove(out, out + 1, strlen(out));
    return out;
}

const char *value_format_json(const struct value *value, char *out, size_t size)
{
    switch (value->type) {
    case VALUE_BOOL:
        snprintf(out, size, "%s", value->boolean ? "true" : "false");
        return out;
    case VALUE_NUMBER:
        return value_format_number(value->number, -1, out, size);
    case VALUE_STRING:
        return json_quote(value->string, out, size);
    default:
        snprintf(out, size, "null");
        return out;
    }
}

const char *value_format_plain(const struct value *value, char *out, size_t size)
{
    if (value->type == VALUE_BOOL)
        snprintf(out, size, "%d", value->boolean);
    else if (value->type == VALUE_STRING)
        snprintf(out, size, "%s", value->string);
    else
        value_format_json(value, out, size);
    return out;
}
