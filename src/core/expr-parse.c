// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Tokens to a program: a parser by precedence climbing that checks types as it goes and writes each
 * operator's step after those of its operands. What it refuses it explains with the column and with
 * what a person probably meant.
 */
#include <assert.h>
#include <string.h>

#include "core/expr-internal.h"
#include "util/parse.h"
#include "util/strings.h"

enum strength {
    STRENGTH_OR,
    STRENGTH_AND,
    STRENGTH_NOT,
    STRENGTH_COMPARISON,
    STRENGTH_SUM,
    STRENGTH_PRODUCT,
};

struct infix {
    const char *text;
    enum expr_op op;
    enum strength strength;
};

static const struct infix infixes[] = {
    { "or", EXPR_OR, STRENGTH_OR },
    { "and", EXPR_AND, STRENGTH_AND },
    { "<", EXPR_LESS, STRENGTH_COMPARISON },
    { "<=", EXPR_LESS_EQUAL, STRENGTH_COMPARISON },
    { ">", EXPR_GREATER, STRENGTH_COMPARISON },
    { ">=", EXPR_GREATER_EQUAL, STRENGTH_COMPARISON },
    { "==", EXPR_EQUAL, STRENGTH_COMPARISON },
    { "!=", EXPR_NOT_EQUAL, STRENGTH_COMPARISON },
    { "+", EXPR_ADD, STRENGTH_SUM },
    { "-", EXPR_SUBTRACT, STRENGTH_SUM },
    { "*", EXPR_MULTIPLY, STRENGTH_PRODUCT },
    { "/", EXPR_DIVIDE, STRENGTH_PRODUCT },
};

/* What other languages write. */
static const struct {
    const char *wrong, *right;
} habits[] = {
    { "=", "==" },   { "=>", ">=" },   { "=<", "<=" }, { "<>", "!=" },
    { "&&", "and" }, { "&", "and" },   { "||", "or" }, { "|", "or" },
    { "!", "not" },  { "AND", "and" }, { "OR", "or" }, { "NOT", "not" },
};

static const char *const functions[] = { "age", "time", "hour" };
static const enum expr_op function_ops[] = { EXPR_AGE, EXPR_TIME, EXPR_HOUR };

struct parser {
    const char *text;
    struct expr_token token; // the one to look at
    struct expr *expr;       // with room for a step for each byte of text
    size_t depth;            // of nesting, hence of the recursion here
    size_t stack;            // what a run would have on its stack after the steps so far
    struct why *why;
};

/* Steps to the next token. */
static int scan(struct parser *parser)
{
    return expr_scan(parser->text, &parser->token, parser->why);
}

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

/* Checks the type of the part that begins at `at`, which user takes (NULL: the caller). */
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

/* --- the program ----------------------------------------------------------------------------- */

static int too_deep(const struct parser *parser)
{
    return why_set(parser->why, EINVAL, "column %zu: expected nothing nested deeper than %d levels",
                   expr_column(parser->text, parser->token.start), EXPR_MAX_DEPTH);
}

static int emit(struct parser *parser, struct expr_step step)
{
    if (step.op < EXPR_NEGATE && ++parser->stack > EXPR_MAX_DEPTH)
        return too_deep(parser);
    if (step.op >= EXPR_ADD)
        parser->stack--;
    if (step.op == EXPR_AGE || step.op == EXPR_TIME || step.op == EXPR_HOUR)
        parser->expr->uses_time = true;
    parser->expr->steps[parser->expr->n_steps++] = step;
    return 0;
}

static int add_name(struct parser *parser, const struct expr_token *token, size_t *ret_name)
{
    struct expr *expr = parser->expr;
    for (size_t i = 0; i < expr->n_names; i++) {
        const char *text = expr->names[i].text;
        if (strlen(text) == token->length && memcmp(text, token->start, token->length) == 0) {
            *ret_name = i;
            return 0;
        }
    }
    if (token->length > EXPR_MAX_NAME)
        return why_set(parser->why, EINVAL, "column %zu: expected a name of at most %d bytes",
                       expr_column(parser->text, token->start), EXPR_MAX_NAME);
    if (expr->n_names == EXPR_MAX_NAMES)
        return why_set(parser->why, EINVAL, "column %zu: expected at most %d different names",
                       expr_column(parser->text, token->start), EXPR_MAX_NAMES);

    struct expr_name *names = reallocarray(expr->names, expr->n_names + 1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    expr->names = names;
    char *text = strndup(token->start, token->length);
    if (!text)
        return -ENOMEM;
    names[expr->n_names] = (struct expr_name){ .text = text, .slot = expr->n_names };
    *ret_name = expr->n_names++;
    return 0;
}

/* --- the parser: each starts at its first token and stops after its last --------------------- */

static int parse_operators(struct parser *parser, enum strength weakest, enum expr_type *ret_type);

static int expect(struct parser *parser, const char *symbol, const char *expected)
{
    if (!expr_token_is(&parser->token, symbol))
        return unexpected(parser, expected);
    return scan(parser);
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

    r = emit(parser, (struct expr_step){ .op = EXPR_LITERAL, .number = number });
    return r < 0 ? r : scan(parser);
}

static int parse_reading(struct parser *parser, const struct expr_token *token, enum expr_op op)
{
    size_t name = 0;
    int r = add_name(parser, token, &name);
    if (r < 0)
        return r;
    if (op == EXPR_READING)
        parser->expr->names[name].read = true;
    return emit(parser, (struct expr_step){ .op = op, .name = name });
}

static int unknown_function(const struct parser *parser, const struct expr_token *token)
{
    char text[48];
    strings_printable(token->start, token->length, text, sizeof(text));
    const char *nearest = strings_nearest(text, functions, ELEMENTS(functions));
    if (nearest)
        return why_set(parser->why, EINVAL,
                       "column %zu: there is no function '%s', did you mean '%s'?",
                       expr_column(parser->text, token->start), text, nearest);
    return why_set(parser->why, EINVAL,
                   "column %zu: there is no function '%s', expected age, time or hour",
                   expr_column(parser->text, token->start), text);
}

/* After a name, at its '('. */
static int parse_call(struct parser *parser, const struct expr_token *function)
{
    size_t i = 0;
    while (i < ELEMENTS(functions) && !expr_token_is(function, functions[i]))
        i++;
    if (i == ELEMENTS(functions))
        return unknown_function(parser, function);

    int r = scan(parser);
    if (r < 0)
        return r;
    if (function_ops[i] != EXPR_AGE) {
        r = emit(parser, (struct expr_step){ .op = function_ops[i] });
        return r < 0 ? r : expect(parser, ")", "')', for it takes no argument");
    }
    struct expr_token name = parser->token;
    if (name.kind != EXPR_TOKEN_NAME && name.kind != EXPR_TOKEN_QUOTED)
        return unexpected(parser, "the name whose age is meant");
    r = parse_reading(parser, &name, EXPR_AGE);
    if (r < 0)
        return r;
    r = scan(parser);
    return r < 0 ? r : expect(parser, ")", "')' after the name");
}

static int parse_name(struct parser *parser)
{
    struct expr_token name = parser->token;
    int r = scan(parser);
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
    int r = parse_operators(parser, STRENGTH_OR, ret_type);
    return r < 0 ? r : expect(parser, ")", "an operator or ')'");
}

/* Behind 'not'. */
static int parse_not(struct parser *parser, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operators(parser, STRENGTH_NOT, ret_type);
    if (r < 0)
        return r;
    r = check_type(parser, start, "not", EXPR_CONDITION, *ret_type);
    return r < 0 ? r : emit(parser, (struct expr_step){ .op = EXPR_NOT });
}

/* Behind a '-' that has nothing on its left. */
static int parse_negation(struct parser *parser, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operand(parser, ret_type);
    if (r < 0)
        return r;
    r = check_type(parser, start, "-", EXPR_NUMBER, *ret_type);
    return r < 0 ? r : emit(parser, (struct expr_step){ .op = EXPR_NEGATE });
}

/* Steps over the token at hand and goes a level deeper. */
static int parse_nested(struct parser *parser,
                        int (*parse)(struct parser *parser, enum expr_type *ret_type),
                        enum expr_type *ret_type)
{
    if (++parser->depth > EXPR_MAX_DEPTH)
        return too_deep(parser);
    int r = scan(parser);
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
    bool joins = infix->strength < STRENGTH_COMPARISON;
    enum expr_type takes = joins ? EXPR_CONDITION : EXPR_NUMBER;
    int r = check_type(parser, left, infix->text, takes, *type);
    if (r < 0)
        return r;
    r = scan(parser);
    if (r < 0)
        return r;

    const char *right = parser->token.start;
    r = parse_operators(parser, infix->strength + 1, type);
    if (r < 0)
        return r;
    r = check_type(parser, right, infix->text, takes, *type);
    if (r < 0)
        return r;
    *type = infix->strength <= STRENGTH_COMPARISON ? EXPR_CONDITION : EXPR_NUMBER;
    return emit(parser, (struct expr_step){ .op = infix->op });
}

/* Operands joined by operators that bind at least as strongly as weakest. */
static int parse_operators(struct parser *parser, enum strength weakest, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operand(parser, ret_type);
    if (r < 0)
        return r;

    bool compared = false;
    const struct infix *infix;
    while ((infix = infix_at(parser)) && infix->strength >= weakest) {
        if (compared && infix->strength == STRENGTH_COMPARISON)
            return why_set(parser->why, EINVAL,
                           "column %zu: comparisons do not chain, write 'a < b and b < c'",
                           expr_column(parser->text, parser->token.start));
        r = parse_right(parser, infix, start, ret_type);
        if (r < 0)
            return r;
        compared = infix->strength == STRENGTH_COMPARISON;
    }
    return 0;
}

static int parse_whole(struct parser *parser, enum expr_type type)
{
    int r = scan(parser);
    if (r < 0)
        return r;
    const char *start = parser->token.start;
    enum expr_type found = EXPR_NUMBER;
    r = parse_operators(parser, STRENGTH_OR, &found);
    if (r < 0)
        return r;
    if (parser->token.kind != EXPR_TOKEN_END)
        return unexpected(parser, "an operator or the end");
    assert(parser->stack == 1);
    return check_type(parser, start, NULL, type, found);
}

int expr_parse(const char *text, enum expr_type type, struct expr **ret_expr, struct why *why)
{
    size_t length = strnlen(text, EXPR_MAX_LENGTH + 1);
    if (length > EXPR_MAX_LENGTH)
        return why_set(why, EINVAL, "column 1: expected an expression of at most %d bytes",
                       EXPR_MAX_LENGTH);

    _cleanup_(expr_freep) struct expr *expr = calloc(1, sizeof(*expr));
    if (!expr)
        return -ENOMEM;
    expr->type = type;
    expr->steps = calloc(length + 1, sizeof(*expr->steps)); // a step takes at least a byte of text
    if (!expr->steps)
        return -ENOMEM;

    struct parser parser = { .text = text, .token = { .start = text }, .expr = expr, .why = why };
    int r = parse_whole(&parser, type);
    if (r < 0)
        return r;

    struct expr_step *steps = reallocarray(expr->steps, expr->n_steps, sizeof(*steps));
    if (steps)
        expr->steps = steps;
    *ret_expr = TAKE_PTR(expr);
    return 0;
}
