// SPDX-License-Identifier: LGPL-2.1-or-later
// What an expression looks at, in words: expr_explain(). Pure.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/expr-internal.h"
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

static void append_reading(struct text *text, const struct expr_name *name,
                           const struct expr_context *context)
{
    const struct expr_reading *reading = &context->readings[name->slot];
    char span[32];
    append_value(text, name->text, reading->mono_usec > 0 ? reading->value : NAN);
    if (reading->mono_usec > 0 && reading->mono_usec < context->now_mono_usec)
        append(text, " (%s old)",
               clock_format_span(context->now_mono_usec - reading->mono_usec, span, sizeof(span)));
}

const char *expr_explain(const struct expr *expr, const struct expr_context *context, char *out,
                         size_t size)
{
    struct text text = { out, size, 0 };
    out[0] = '\0';
    for (size_t i = 0; context->readings && i < expr->n_names; i++)
        append_reading(&text, &expr->names[i], context);
    for (size_t i = 0; context->tallies && i < expr->n_aggregates; i++) {
        const struct expr_aggregate *aggregate = &expr->aggregates[i];
        const struct tally *tally = &context->tallies[aggregate->slot];
        append_value(&text, aggregate->text, tally_value(tally, aggregate->function, 1));
        append(&text, " (%zu devices)", tally_count(tally));
    }
    for (size_t i = 0; context->series && i < expr->n_windows; i++) {
        const struct expr_window *window = &expr->windows[i];
        const struct series *series = context->series[window->slot];
        append_value(&text, window->text,
                     series ? series_value(series, window->function, context->now_wall_usec) : NAN);
    }
    return out;
}
