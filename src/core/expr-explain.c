// SPDX-License-Identifier: LGPL-2.1-or-later
// What an expression has found, as numbers and in words: expr_find(), expr_explain(). Pure.
#include <inttypes.h>
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
                           const struct expr_finding *finding)
{
    char span[32];
    append_value(text, name->text, finding->value);
    if (finding->detail > 0)
        append(text, " (%s old)", clock_format_span(finding->detail, span, sizeof(span)));
}

size_t expr_n_findings(const struct expr *expr)
{
    return expr->n_names + expr->n_aggregates + expr->n_windows;
}

static struct expr_finding find_reading(const struct expr_reading *reading, uint64_t now_mono_usec)
{
    if (reading->mono_usec == 0)
        return (struct expr_finding){ NAN, 0 };
    bool is_past = reading->mono_usec < now_mono_usec;
    return (struct expr_finding){ reading->value,
                                  is_past ? now_mono_usec - reading->mono_usec : 0 };
}

void expr_find(const struct expr *expr, const struct expr_context *context,
               struct expr_finding *ret_findings)
{
    for (size_t i = 0; i < expr->n_names; i++)
        *ret_findings++ =
            find_reading(&context->readings[expr->names[i].slot], context->now_mono_usec);
    for (size_t i = 0; i < expr->n_aggregates; i++) {
        const struct expr_aggregate *aggregate = &expr->aggregates[i];
        const struct tally *tally = &context->tallies[aggregate->slot];
        *ret_findings++ =
            (struct expr_finding){ tally_value(tally, aggregate->function, 1), tally_count(tally) };
    }
    for (size_t i = 0; i < expr->n_windows; i++) {
        const struct expr_window *window = &expr->windows[i];
        const struct series *series = context->series[window->slot];
        double value =
            series ? series_value(series, window->function, context->now_wall_usec) : NAN;
        *ret_findings++ = (struct expr_finding){ value, 0 };
    }
}

const char *expr_explain(const struct expr *expr, const struct expr_finding *findings, char *out,
                         size_t size)
{
    struct text text = { out, size, 0 };
    out[0] = '\0';
    for (size_t i = 0; i < expr->n_names; i++)
        append_reading(&text, &expr->names[i], findings++);
    for (size_t i = 0; i < expr->n_aggregates; i++, findings++) {
        append_value(&text, expr->aggregates[i].text, findings->value);
        append(&text, " (%" PRIu64 " devices)", findings->detail);
    }
    for (size_t i = 0; i < expr->n_windows; i++)
        append_value(&text, expr->windows[i].text, findings++->value);
    return out;
}
