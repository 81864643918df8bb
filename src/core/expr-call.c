// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Calls: age(), time(), hour(), the aggregates over the devices of a group, which bring a program
 * of their own that is run for each device, and those over time.
 */
#include <assert.h>
#include <string.h>

#include "core/expr-internal.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

static const char *const functions[] = {
    "min", "max", "mean", "median", "sum", "count", "stddev", "rate", "age", "time", "hour",
};
enum { FUNCTION_AGE = AGGREGATE_RATE + 1, FUNCTION_TIME };

static const uint64_t max_span_usec = 366ULL * 86400 * USEC_PER_SEC;

static int unknown_function(const struct expr_parser *parser, const struct expr_token *token)
{
    char text[48];
    strings_printable(token->start, token->length, text, sizeof(text));
    const char *nearest = strings_nearest(text, functions, ELEMENTS(functions));
    size_t column = expr_column(parser->text, token->start);
    if (nearest)
        return why_set(parser->why, EINVAL,
                       "column %zu: there is no function '%s', did you mean '%s'?", column, text,
                       nearest);
    return why_set(parser->why, EINVAL,
                   "column %zu: there is no function '%s', expected min, max, mean, median, sum, "
                   "count, stddev, rate, age, time or hour",
                   column, text);
}

static int parse_age(struct expr_parser *parser)
{
    struct expr_token name = parser->token;
    if (name.kind != EXPR_TOKEN_NAME && name.kind != EXPR_TOKEN_QUOTED)
        return expr_unexpected(parser, "the name whose age is meant");
    int r = expr_parse_reading(parser, &name, EXPR_AGE);
    if (r < 0)
        return r;
    r = expr_next(parser);
    return r < 0 ? r : expr_expect(parser, ")", "')' after the name");
}

/* --- over time ------------------------------------------------------------------------------- */

/* The span up to the ')': "1h", "1h 30min". */
static int parse_span(struct expr_parser *parser, uint64_t *ret_usec)
{
    const char *start = parser->token.start, *end = start;
    while (parser->token.kind == EXPR_TOKEN_NUMBER || parser->token.kind == EXPR_TOKEN_NAME) {
        end = parser->token.start + parser->token.length;
        int r = expr_next(parser);
        if (r < 0)
            return r;
    }
    char text[64] = "";
    if ((size_t)(end - start) < sizeof(text))
        memcpy(text, start, (size_t)(end - start));
    if (parse_duration(text, ret_usec) < 0 || *ret_usec < USEC_PER_MSEC ||
        *ret_usec > max_span_usec)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected a span of time such as 10min, from 1ms to 366d",
                       expr_column(parser->text, start));
    return 0;
}

/* At the ',' behind argument, which must be a name. Takes argument's name over. */
static int parse_window(struct expr_parser *parser, enum aggregate function, const char *start,
                        struct expr *argument)
{
    struct expr *expr = parser->expr;
    if (argument->n_steps != 1 || argument->steps[0].op != EXPR_READING)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected a name alone before the ',', as in %s(light, 10min)",
                       expr_column(parser->text, start), functions[function]);
    if (expr->n_windows == EXPR_MAX_WINDOWS)
        return why_set(parser->why, EINVAL, "column %zu: expected at most %d windows",
                       expr_column(parser->text, start), EXPR_MAX_WINDOWS);
    uint64_t span_usec;
    int r = expr_next(parser);
    if (r == 0)
        r = parse_span(parser, &span_usec);
    if (r < 0)
        return r;
    struct expr_window *windows =
        reallocarray(expr->windows, expr->n_windows + 1, sizeof(*windows));
    if (!windows)
        return -ENOMEM;
    expr->windows = windows;
    windows[expr->n_windows] = (struct expr_window){
        .function = function,
        .name = TAKE_PTR(argument->names[0].text),
        .span_usec = span_usec,
        .slot = expr->n_windows,
    };
    expr->uses_time = true; // samples leave it
    return expr_emit(parser, (struct expr_step){ .op = EXPR_WINDOW, .name = expr->n_windows++ });
}

/* --- over devices ---------------------------------------------------------------------------- */

static int add_aggregate(struct expr_parser *parser, enum aggregate function, const char *start,
                         struct expr **argument)
{
    struct expr *expr = parser->expr;
    size_t column = expr_column(parser->text, start);
    if (function == AGGREGATE_RATE)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected a span of time for 'rate', as in rate(light, 10min)",
                       column);
    if (expr->is_argument)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected no '%s' over devices within another", column,
                       functions[function]);
    if (expr->n_aggregates == EXPR_MAX_AGGREGATES)
        return why_set(parser->why, EINVAL, "column %zu: expected at most %d aggregates", column,
                       EXPR_MAX_AGGREGATES);
    struct expr_aggregate *aggregates =
        reallocarray(expr->aggregates, expr->n_aggregates + 1, sizeof(*aggregates));
    if (!aggregates)
        return -ENOMEM;
    expr->aggregates = aggregates;
    aggregates[expr->n_aggregates] = (struct expr_aggregate){ .function = function,
                                                              .argument = TAKE_PTR(*argument),
                                                              .slot = expr->n_aggregates };
    return expr_emit(parser,
                     (struct expr_step){ .op = EXPR_AGGREGATE, .name = expr->n_aggregates++ });
}

/* Parses what stands between '(' and ',' or ')' into an expression of its own. */
static int parse_argument(struct expr_parser *parser, enum aggregate function,
                          struct expr **ret_argument)
{
    const char *start = parser->token.start;
    struct expr_parser inner = *parser;
    inner.stack = 0;
    inner.depth++;
    if (inner.depth > EXPR_MAX_DEPTH)
        return expr_too_deep(parser);
    _cleanup_(expr_freep) struct expr *argument = NULL;
    int r = expr_allocate(strlen(start), &argument);
    if (r < 0)
        return r;
    argument->is_argument = true;
    inner.expr = argument;
    r = expr_parse_operators(&inner, EXPR_BINDS_OR, &argument->type);
    if (r < 0)
        return r;
    parser->token = inner.token;
    if (function != AGGREGATE_COUNT) {
        r = expr_check_type(parser, start, functions[function], EXPR_NUMBER, argument->type);
        if (r < 0)
            return r;
    }
    expr_shrink(argument);
    *ret_argument = TAKE_PTR(argument);
    return 0;
}

static int check_argument(const struct expr_parser *parser, const struct expr *argument,
                          const char *start, enum aggregate function)
{
    if (argument->n_names + argument->n_windows == 0)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected a reading for '%s', as in %s(light)",
                       expr_column(parser->text, start), functions[function], functions[function]);
    // Its value would change in every device at every moment; a window's does with its readings.
    for (size_t i = 0; i < argument->n_steps; i++) {
        enum expr_op op = argument->steps[i].op;
        if (op == EXPR_AGE || op == EXPR_TIME || op == EXPR_HOUR)
            return why_set(parser->why, EINVAL,
                           "column %zu: expected no age(), time() or hour() within '%s'",
                           expr_column(parser->text, start), functions[function]);
    }
    return 0;
}

/* Keeps the text of the whole call, from its function's name to the ')'. */
static int keep_text(const struct expr_parser *parser, const char *call, bool is_window)
{
    const struct expr *expr = parser->expr;
    if (!expr_token_is(&parser->token, ")"))
        return expr_unexpected(parser, "')' after the argument");
    char *text = strndup(call, (size_t)(parser->token.start + 1 - call));
    if (!text)
        return -ENOMEM;
    if (is_window)
        expr->windows[expr->n_windows - 1].text = text;
    else
        expr->aggregates[expr->n_aggregates - 1].text = text;
    return 0;
}

static int parse_aggregate(struct expr_parser *parser, enum aggregate function, const char *call)
{
    const char *start = parser->token.start;
    _cleanup_(expr_freep) struct expr *argument = NULL;
    int r = parse_argument(parser, function, &argument);
    if (r < 0)
        return r;
    assert(argument);
    bool is_window = expr_token_is(&parser->token, ",");
    if (is_window) {
        r = parse_window(parser, function, start, argument);
    } else {
        r = check_argument(parser, argument, start, function);
        if (r == 0)
            r = add_aggregate(parser, function, start, &argument);
    }
    if (r == 0)
        r = keep_text(parser, call, is_window);
    return r < 0 ? r : expr_next(parser);
}

int expr_parse_call(struct expr_parser *parser, const struct expr_token *function)
{
    size_t i = 0;
    while (i < ELEMENTS(functions) && !expr_token_is(function, functions[i]))
        i++;
    if (i == ELEMENTS(functions))
        return unknown_function(parser, function);

    int r = expr_next(parser);
    if (r < 0)
        return r;
    if (i < FUNCTION_AGE)
        return parse_aggregate(parser, (enum aggregate)i, function->start);
    if (i == FUNCTION_AGE)
        return parse_age(parser);
    enum expr_op op = i == FUNCTION_TIME ? EXPR_TIME : EXPR_HOUR;
    r = expr_emit(parser, (struct expr_step){ .op = op });
    return r < 0 ? r : expr_expect(parser, ")", "')', for it takes no argument");
}
