// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What an actuator is set to: a boolean, a number or a short text. A plain value, copied freely.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { VALUE_TEXT_SIZE = 256 };

enum value_type { VALUE_NONE, VALUE_BOOL, VALUE_NUMBER, VALUE_STRING };

struct value {
    enum value_type type; // VALUE_NONE: not known
    union {
        bool boolean;
        double number;                // finite
        char string[VALUE_TEXT_SIZE]; // valid UTF-8, NUL-terminated
    };
};

/* "boolean", "number", "string", "nothing". */
const char *value_type_name(enum value_type type);

bool value_equal(const struct value *a, const struct value *b);

/*
 * Writes value as JSON (RFC 8259): true, 21.5, "text" with escapes, null for VALUE_NONE.
 * size VALUE_TEXT_SIZE * 6 + 3 always suffices. Returns out.
 */
const char *value_format_json(const struct value *value, char *out, size_t size);

/* The bytes that an actuator `file` or `exec` gets: 1 or 0 for a boolean, else number or text. */
const char *value_format_plain(const struct value *value, char *out, size_t size);

/*
 * Writes a finite number as JSON with that many decimals (0..9), or with decimals < 0 in the
 * shortest form of at most 15 significant digits: 21.4 stays 21.4 (17 digits next to DBL_MAX, where
 * rounding up gives infinity). Negative zero, also from rounding, becomes 0. size 352 always
 * suffices. Returns out.
 */
const char *value_format_number(double number, int decimals, char *out, size_t size);
