// SPDX-License-Identifier: LGPL-2.1-or-later
// What an expression has found, in words: expr_explain(). Pure.
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/expr-program.h"
#include "core/value.h"
#include "util/clock.h"

struct text {
    char *out;
    size_t size, length;
};

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *format, ...)
{
    va_list arguments;
    if (text->length >= text->size)
        return;
    va_start(arguments, format);
    int n = vsnprintf(text->out + text->length, text->size - text->length, format, arguments);
    va_end(arguments);
    text->length += n > 0 ? (size_t)n : 0;
    if (text->length >= text->size)
        memcpy(text->out + text->size - 4, "...", 4);
}

static void append_value(struct text *text, const char *what, double value)
{
    char number[352];
    append(text, "%s%s = %s", text->length > 0 ? ", " : "", what,
           isfinite(value) ? value_format_number(value, -1, number, sizeof(number)) : "unknown");
}

const char *expr_explain(const struct expr *expr, const struct expr_finding *findings, char *out,
                         size_t size)
{
    struct text text = { out, size, 0 };
    char span[32];
    size_t n_names = expr_n_names(expr), n_windows = expr_n_windows(expr);
    out[0] = '\0';
    for (size_t i = 0, n = expr_n_findings(expr); i < n; i++) {
        uint64_t detail = findings[i].detail;
        append_value(&text, expr_program_finding(expr, i), findings[i].value);
        if (i >= n_names && i < n - n_windows)
            append(&text, " (%" PRIu64 " devices)", detail);
        else if (detail > 0)
            append(&text, " (%s old)", clock_format_span(detail, span, sizeof(span)));
    }
    return out;
}
