// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Text to a program: expr_parse(), by precedence climbing. It checks types as it goes and writes
 * each operator's step after those of its operands. What it refuses it explains with the column and
 * with what a person probably meant. Each function starts at its first token and stops after its
 * last.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/expr-program.h"
#include "core/expr-scan.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

enum strength {
    BINDS_OR,
    BINDS_AND,
    BINDS_NOT,
    BINDS_COMPARISON,
    BINDS_SUM,
    BINDS_PRODUCT,
};

struct parser {
    const char *text;
    struct expr_token token; // the one to look at
    struct expr *expr;       // with room for a step for each byte of text
    bool in_argument;        // of an aggregate
    size_t depth;            // of nesting, hence of the parser's recursion
    struct why *why;
};

struct infix {
    const char *text;
    enum expr_op op;
    enum strength strength;
};

static const struct infix infixes[] = {
    { "or", EXPR_OR, BINDS_OR },
    { "and", EXPR_AND, BINDS_AND },
    { "<", EXPR_LESS, BINDS_COMPARISON },
    { "<=", EXPR_LESS_EQUAL, BINDS_COMPARISON },
    { ">", EXPR_GREATER, BINDS_COMPARISON },
    { ">=", EXPR_GREATER_EQUAL, BINDS_COMPARISON },
    { "==", EXPR_EQUAL, BINDS_COMPARISON },
    { "!=", EXPR_NOT_EQUAL, BINDS_COMPARISON },
    { "+", EXPR_ADD, BINDS_SUM },
    { "-", EXPR_SUBTRACT, BINDS_SUM },
    { "*", EXPR_MULTIPLY, BINDS_PRODUCT },
    { "/", EXPR_DIVIDE, BINDS_PRODUCT },
};

/* What other languages write. */
static const struct {
    const char *wrong, *right;
} habits[] = {
    { "=", "==" },   { "=>", ">=" },   { "=<", "<=" }, { "<>", "!=" },
    { "&&", "and" }, { "&", "and" },   { "||", "or" }, { "|", "or" },
    { "!", "not" },  { "AND", "and" }, { "OR", "or" }, { "NOT", "not" },
};

static const char *const functions[] = {
    "min", "max", "mean", "median", "sum", "count", "stddev", "rate", "age", "time", "hour",
};
enum { FUNCTION_AGE = AGGREGATE_RATE + 1, FUNCTION_TIME };

static const uint64_t max_span_usec = 366ULL * 86400 * USEC_PER_SEC;

/* --- errors ---------------------------------------------------------------------------------- */

static const char *describe(const struct expr_token *token, char *out, size_t size)
{
    if (token->kind == EXPR_TOKEN_END)
        return "the end";
    char text[48];
    strings_printable(token->start, token->length, text, sizeof(text));
    snprintf(out, size, "'%s'", text);
    return out;
}

static int unexpected(const struct parser *parser, const char *expected)
{
    const struct expr_token *token = &parser->token;
    size_t column = expr_column(parser->text, token->start);

    for (size_t i = 0; i < ELEMENTS(habits); i++) {
        if (expr_token_is(token, habits[i].wrong))
            return why_set(parser->why, EINVAL, "column %zu: there is no operator '%s', write '%s'",
                           column, habits[i].wrong, habits[i].right);
    }
    char found[64];
    return why_set(parser->why, EINVAL, "column %zu: expected %s, found %s", column, expected,
                   describe(token, found, sizeof(found)));
}

static int check_type(const struct parser *parser, const char *at, const char *user,
                      enum expr_type expected, enum expr_type found)
{
    if (found == expected)
        return 0;
    const char *wanted = expected == EXPR_NUMBER ? "a number" : "a condition such as 'light < 300'";
    const char *given = found == EXPR_NUMBER ? "a number" : "a condition";
    size_t column = expr_column(parser->text, at);
    if (user)
        return why_set(parser->why, EINVAL, "column %zu: expected %s for '%s', found %s", column,
                       wanted, user, given);
    return why_set(parser->why, EINVAL, "column %zu: expected %s, found %s", column, wanted, given);
}

static int too_deep(const struct parser *parser)
{
    return why_set(parser->why, EINVAL, "column %zu: expected nothing nested deeper than %d levels",
                   expr_column(parser->text, parser->token.start), EXPR_MAX_DEPTH);
}

/* r is what adding a step has returned. */
static int added(const struct parser *parser, int r)
{
    return r == -EOVERFLOW ? too_deep(parser) : r;
}

/* --- the parser ------------------------------------------------------------------------------ */

static int next_token(struct parser *parser)
{
    return expr_scan(parser->text, &parser->token, parser->why);
}

static int expect(struct parser *parser, const char *symbol, const char *expected)
{
    if (!expr_token_is(&parser->token, symbol))
        return unexpected(parser, expected);
    return next_token(parser);
}

static int parse_literal(struct parser *parser)
{
    const struct expr_token *token = &parser->token;
    char text[64];
    double number = 0;
    int r = -EINVAL;
    if (token->length < sizeof(text)) {
        memcpy(text, token->start, token->length);
        text[token->length] = '\0';
        r = parse_number(text, &number);
    }
    if (r == -ERANGE)
        return why_set(parser->why, EINVAL, "column %zu: expected a smaller number than %s",
                       expr_column(parser->text, token->start), text);
    if (r < 0)
        return unexpected(parser, "a number");

    r = added(parser, expr_program_add_literal(parser->expr, number));
    return r < 0 ? r : next_token(parser);
}

/* The reading, or the age, of the name that token is. */
static int parse_reading(struct parser *parser, const struct expr_token *token, enum expr_op op)
{
    int r = expr_program_add_reading(parser->expr, op, token->start, token->length);
    if (r == -ENAMETOOLONG)
        return why_set(parser->why, EINVAL, "column %zu: expected a name of at most %d bytes",
                       expr_column(parser->text, token->start), EXPR_MAX_NAME);
    if (r == -E2BIG)
        return why_set(parser->why, EINVAL, "column %zu: expected at most %d different names",
                       expr_column(parser->text, token->start), EXPR_MAX_NAMES);
    return added(parser, r);
}

/* Operands joined by operators that bind at least as strongly as weakest. */
static int parse_operators(struct parser *parser, enum strength weakest, enum expr_type *ret_type);

static int unknown_function(const struct parser *parser, const struct expr_token *token)
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

static int parse_age(struct parser *parser)
{
    struct expr_token name = parser->token;
    if (name.kind != EXPR_TOKEN_NAME && name.kind != EXPR_TOKEN_QUOTED)
        return unexpected(parser, "the name whose age is meant");
    int r = parse_reading(parser, &name, EXPR_AGE);
    if (r < 0)
        return r;
    r = next_token(parser);
    return r < 0 ? r : expect(parser, ")", "')' after the name");
}

/* A call of an aggregate: where it and its argument begin in the text. */
struct call {
    enum aggregate function;
    const char *start, *argument;
};

/* At the ')' that must end a call. */
static int end_call(const struct parser *parser, const struct call *call, size_t *ret_length)
{
    if (!expr_token_is(&parser->token, ")"))
        return unexpected(parser, "')' after the argument");
    *ret_length = (size_t)(parser->token.start + 1 - call->start);
    return 0;
}

/* --- over time ------------------------------------------------------------------------------- */

/* The span up to the ')': "1h", "1h 30min". */
static int parse_span(struct parser *parser, uint64_t *ret_usec)
{
    const char *start = parser->token.start, *end = start;
    while (parser->token.kind == EXPR_TOKEN_NUMBER || parser->token.kind == EXPR_TOKEN_NAME) {
        end = parser->token.start + parser->token.length;
        int r = next_token(parser);
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

/* At the ',' behind the argument, which must be a name. */
static int parse_window(struct parser *parser, const struct call *call, const struct expr *argument)
{
    const char *function = functions[call->function];
    if (!expr_program_is_reading(argument))
        return why_set(parser->why, EINVAL,
                       "column %zu: expected a name alone before the ',', as in %s(light, 10min)",
                       expr_column(parser->text, call->argument), function);
    uint64_t span_usec = 0;
    size_t length = 0;
    int r = next_token(parser);
    if (r == 0)
        r = parse_span(parser, &span_usec);
    if (r == 0)
        r = end_call(parser, call, &length);
    if (r < 0)
        return r;
    r = expr_program_add_window(parser->expr, call->function, expr_name(argument, 0), span_usec,
                                call->start, length);
    if (r == -E2BIG)
        return why_set(parser->why, EINVAL, "column %zu: expected at most %d windows",
                       expr_column(parser->text, call->argument), EXPR_MAX_WINDOWS);
    return added(parser, r);
}

/* --- over devices ---------------------------------------------------------------------------- */

/* Parses what stands between '(' and ',' or ')' into an expression of its own. */
static int parse_argument(struct parser *parser, const struct call *call,
                          struct expr **ret_argument)
{
    struct parser inner = *parser;
    inner.depth++;
    if (inner.depth > EXPR_MAX_DEPTH)
        return too_deep(parser);
    _cleanup_(expr_freep) struct expr *argument = NULL;
    int r = expr_program_new(strlen(call->argument), &argument);
    if (r < 0)
        return r;
    inner.in_argument = true;
    inner.expr = argument;
    enum expr_type type = EXPR_NUMBER;
    r = parse_operators(&inner, BINDS_OR, &type);
    if (r < 0)
        return r;
    parser->token = inner.token;
    if (call->function != AGGREGATE_COUNT) {
        r = check_type(parser, call->argument, functions[call->function], EXPR_NUMBER, type);
        if (r < 0)
            return r;
    }
    expr_program_end(argument, type);
    *ret_argument = TAKE_PTR(argument);
    return 0;
}

static int check_aggregate(const struct parser *parser, const struct call *call,
                           const struct expr *argument)
{
    const char *function = functions[call->function];
    size_t column = expr_column(parser->text, call->argument);
    if (expr_n_names(argument) + expr_n_windows(argument) == 0)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected a reading for '%s', as in %s(light)", column, function,
                       function);
    // Its value would change in every device at every moment; a window's does with its readings.
    if (expr_program_reads_clock(argument))
        return why_set(parser->why, EINVAL,
                       "column %zu: expected no age(), time() or hour() within '%s'", column,
                       function);
    if (call->function == AGGREGATE_RATE)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected a span of time for 'rate', as in rate(light, 10min)",
                       column);
    if (parser->in_argument)
        return why_set(parser->why, EINVAL,
                       "column %zu: expected no '%s' over devices within another", column,
                       function);
    return 0;
}

/* Behind the argument, which it takes over. */
static int parse_aggregate(struct parser *parser, const struct call *call, struct expr **argument)
{
    size_t length = 0;
    int r = check_aggregate(parser, call, *argument);
    if (r == 0)
        r = end_call(parser, call, &length);
    if (r < 0)
        return r;
    r = expr_program_add_aggregate(parser->expr, call->function, argument, call->start, length);
    if (r == -E2BIG)
        return why_set(parser->why, EINVAL, "column %zu: expected at most %d aggregates",
                       expr_column(parser->text, call->argument), EXPR_MAX_AGGREGATES);
    return added(parser, r);
}

/* Behind the '(': over devices or over time, as a ',' will tell. */
static int parse_function(struct parser *parser, enum aggregate function, const char *start)
{
    const struct call call = { function, start, parser->token.start };
    _cleanup_(expr_freep) struct expr *argument = NULL;
    int r = parse_argument(parser, &call, &argument);
    if (r < 0)
        return r;
    assert(argument);
    r = expr_token_is(&parser->token, ",") ? parse_window(parser, &call, argument)
                                           : parse_aggregate(parser, &call, &argument);
    return r < 0 ? r : next_token(parser);
}

/* After a name, at its '('. */
static int parse_call(struct parser *parser, const struct expr_token *function)
{
    size_t i = 0;
    while (i < ELEMENTS(functions) && !expr_token_is(function, functions[i]))
        i++;
    if (i == ELEMENTS(functions))
        return unknown_function(parser, function);

    int r = next_token(parser);
    if (r < 0)
        return r;
    if (i < FUNCTION_AGE)
        return parse_function(parser, (enum aggregate)i, function->start);
    if (i == FUNCTION_AGE)
        return parse_age(parser);
    enum expr_op op = i == FUNCTION_TIME ? EXPR_TIME : EXPR_HOUR;
    r = added(parser, expr_program_add(parser->expr, op));
    return r < 0 ? r : expect(parser, ")", "')', for it takes no argument");
}

static int parse_name(struct parser *parser)
{
    struct expr_token name = parser->token;
    int r = next_token(parser);
    if (r < 0)
        return r;
    if (name.kind == EXPR_TOKEN_NAME && expr_token_is(&parser->token, "("))
        return parse_call(parser, &name);
    return parse_reading(parser, &name, EXPR_READING);
}

static int parse_operand(struct parser *parser, enum expr_type *ret_type);

/* Behind '('. */
static int parse_group(struct parser *parser, enum expr_type *ret_type)
{
    int r = parse_operators(parser, BINDS_OR, ret_type);
    return r < 0 ? r : expect(parser, ")", "an operator or ')'");
}

/* Behind 'not'. */
static int parse_not(struct parser *parser, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operators(parser, BINDS_NOT, ret_type);
    if (r < 0)
        return r;
    r = check_type(parser, start, "not", EXPR_CONDITION, *ret_type);
    return r < 0 ? r : added(parser, expr_program_add(parser->expr, EXPR_NOT));
}

/* Behind a '-' that has nothing on its left. */
static int parse_negation(struct parser *parser, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operand(parser, ret_type);
    if (r < 0)
        return r;
    r = check_type(parser, start, "-", EXPR_NUMBER, *ret_type);
    return r < 0 ? r : added(parser, expr_program_add(parser->expr, EXPR_NEGATE));
}

/* Steps over the token at hand and goes a level deeper. */
static int parse_nested(struct parser *parser,
                        int (*parse)(struct parser *parser, enum expr_type *ret_type),
                        enum expr_type *ret_type)
{
    if (++parser->depth > EXPR_MAX_DEPTH)
        return too_deep(parser);
    int r = next_token(parser);
    if (r < 0)
        return r;
    r = parse(parser, ret_type);
    parser->depth--;
    return r;
}

static int parse_operand(struct parser *parser, enum expr_type *ret_type)
{
    const struct expr_token *token = &parser->token;
    if (expr_token_is(token, "("))
        return parse_nested(parser, parse_group, ret_type);
    if (expr_token_is(token, "not"))
        return parse_nested(parser, parse_not, ret_type);
    if (expr_token_is(token, "-"))
        return parse_nested(parser, parse_negation, ret_type);

    *ret_type = EXPR_NUMBER;
    if (token->kind == EXPR_TOKEN_NUMBER)
        return parse_literal(parser);
    if (token->kind == EXPR_TOKEN_QUOTED ||
        (token->kind == EXPR_TOKEN_NAME && !expr_token_is(token, "and") &&
         !expr_token_is(token, "or")))
        return parse_name(parser);
    return unexpected(parser, "a number, a name or '('");
}

static const struct infix *infix_at(const struct parser *parser)
{
    for (size_t i = 0; i < ELEMENTS(infixes); i++) {
        if (expr_token_is(&parser->token, infixes[i].text))
            return &infixes[i];
    }
    return NULL;
}

/* At an infix whose left side began at left and is of *type, which becomes that of the whole. */
static int parse_right(struct parser *parser, const struct infix *infix, const char *left,
                       enum expr_type *type)
{
    bool joins = infix->strength < BINDS_COMPARISON;
    enum expr_type takes = joins ? EXPR_CONDITION : EXPR_NUMBER;
    int r = check_type(parser, left, infix->text, takes, *type);
    if (r < 0)
        return r;
    r = next_token(parser);
    if (r < 0)
        return r;

    const char *right = parser->token.start;
    r = parse_operators(parser, infix->strength + 1, type);
    if (r < 0)
        return r;
    r = check_type(parser, right, infix->text, takes, *type);
    if (r < 0)
        return r;
    *type = infix->strength <= BINDS_COMPARISON ? EXPR_CONDITION : EXPR_NUMBER;
    return added(parser, expr_program_add(parser->expr, infix->op));
}

static int parse_operators(struct parser *parser, enum strength weakest, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operand(parser, ret_type);
    if (r < 0)
        return r;

    bool compared = false;
    const struct infix *infix;
    while ((infix = infix_at(parser)) && infix->strength >= weakest) {
        if (compared && infix->strength == BINDS_COMPARISON)
            return why_set(parser->why, EINVAL,
                           "column %zu: comparisons do not chain, write 'a < b and b < c'",
                           expr_column(parser->text, parser->token.start));
        r = parse_right(parser, infix, start, ret_type);
        if (r < 0)
            return r;
        compared = infix->strength == BINDS_COMPARISON;
    }
    return 0;
}

static int parse_whole(struct parser *parser, enum expr_type type)
{
    int r = next_token(parser);
    if (r < 0)
        return r;
    const char *start = parser->token.start;
    enum expr_type found = EXPR_NUMBER;
    r = parse_operators(parser, BINDS_OR, &found);
    if (r < 0)
        return r;
    if (parser->token.kind != EXPR_TOKEN_END)
        return unexpected(parser, "an operator or the end");
    return check_type(parser, start, NULL, type, found);
}

int expr_parse(const char *text, enum expr_type type, struct expr **ret_expr, struct why *why)
{
    size_t length = strnlen(text, EXPR_MAX_LENGTH + 1);
    if (length > EXPR_MAX_LENGTH)
        return why_set(why, EINVAL, "column 1: expected an expression of at most %d bytes",
                       EXPR_MAX_LENGTH);

    _cleanup_(expr_freep) struct expr *expr = NULL;
    int r = expr_program_new(length, &expr);
    if (r < 0)
        return r;
    struct parser parser = { .text = text, .token = { .start = text }, .expr = expr, .why = why };
    r = parse_whole(&parser, type);
    if (r < 0)
        return r;
    expr_program_end(expr, type);
    *ret_expr = TAKE_PTR(expr);
    return 0;
}
