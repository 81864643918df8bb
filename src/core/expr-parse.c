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

struct infix {
    const char *text;
    enum expr_op op;
    enum expr_strength strength;
};

static const struct infix infixes[] = {
    { "or", EXPR_OR, EXPR_BINDS_OR },
    { "and", EXPR_AND, EXPR_BINDS_AND },
    { "<", EXPR_LESS, EXPR_BINDS_COMPARISON },
    { "<=", EXPR_LESS_EQUAL, EXPR_BINDS_COMPARISON },
    { ">", EXPR_GREATER, EXPR_BINDS_COMPARISON },
    { ">=", EXPR_GREATER_EQUAL, EXPR_BINDS_COMPARISON },
    { "==", EXPR_EQUAL, EXPR_BINDS_COMPARISON },
    { "!=", EXPR_NOT_EQUAL, EXPR_BINDS_COMPARISON },
    { "+", EXPR_ADD, EXPR_BINDS_SUM },
    { "-", EXPR_SUBTRACT, EXPR_BINDS_SUM },
    { "*", EXPR_MULTIPLY, EXPR_BINDS_PRODUCT },
    { "/", EXPR_DIVIDE, EXPR_BINDS_PRODUCT },
};

/* What other languages write. */
static const struct {
    const char *wrong, *right;
} habits[] = {
    { "=", "==" },   { "=>", ">=" },   { "=<", "<=" }, { "<>", "!=" },
    { "&&", "and" }, { "&", "and" },   { "||", "or" }, { "|", "or" },
    { "!", "not" },  { "AND", "and" }, { "OR", "or" }, { "NOT", "not" },
};

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

int expr_unexpected(const struct expr_parser *parser, const char *expected)
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

int expr_check_type(const struct expr_parser *parser, const char *at, const char *user,
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

int expr_too_deep(const struct expr_parser *parser)
{
    return why_set(parser->why, EINVAL, "column %zu: expected nothing nested deeper than %d levels",
                   expr_column(parser->text, parser->token.start), EXPR_MAX_DEPTH);
}

int expr_emit(struct expr_parser *parser, struct expr_step step)
{
    if (step.op < EXPR_NEGATE && ++parser->stack > EXPR_MAX_DEPTH)
        return expr_too_deep(parser);
    if (step.op >= EXPR_ADD)
        parser->stack--;
    if (step.op == EXPR_AGE || step.op == EXPR_TIME || step.op == EXPR_HOUR)
        parser->expr->uses_time = true;
    parser->expr->steps[parser->expr->n_steps++] = step;
    return 0;
}

static int add_name(struct expr_parser *parser, const struct expr_token *token, size_t *ret_name)
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

/* --- the parser ------------------------------------------------------------------------------ */

int expr_next(struct expr_parser *parser)
{
    return expr_scan(parser->text, &parser->token, parser->why);
}

int expr_expect(struct expr_parser *parser, const char *symbol, const char *expected)
{
    if (!expr_token_is(&parser->token, symbol))
        return expr_unexpected(parser, expected);
    return expr_next(parser);
}

static int parse_literal(struct expr_parser *parser)
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
        return expr_unexpected(parser, "a number");

    r = expr_emit(parser, (struct expr_step){ .op = EXPR_LITERAL, .number = number });
    return r < 0 ? r : expr_next(parser);
}

int expr_parse_reading(struct expr_parser *parser, const struct expr_token *token, enum expr_op op)
{
    size_t name = 0;
    int r = add_name(parser, token, &name);
    if (r < 0)
        return r;
    if (op == EXPR_READING)
        parser->expr->names[name].read = true;
    return expr_emit(parser, (struct expr_step){ .op = op, .name = name });
}

static int parse_name(struct expr_parser *parser)
{
    struct expr_token name = parser->token;
    int r = expr_next(parser);
    if (r < 0)
        return r;
    if (name.kind == EXPR_TOKEN_NAME && expr_token_is(&parser->token, "("))
        return expr_parse_call(parser, &name);
    return expr_parse_reading(parser, &name, EXPR_READING);
}

static int parse_operand(struct expr_parser *parser, enum expr_type *ret_type);

/* Behind '('. */
static int parse_group(struct expr_parser *parser, enum expr_type *ret_type)
{
    int r = expr_parse_operators(parser, EXPR_BINDS_OR, ret_type);
    return r < 0 ? r : expr_expect(parser, ")", "an operator or ')'");
}

/* Behind 'not'. */
static int parse_not(struct expr_parser *parser, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = expr_parse_operators(parser, EXPR_BINDS_NOT, ret_type);
    if (r < 0)
        return r;
    r = expr_check_type(parser, start, "not", EXPR_CONDITION, *ret_type);
    return r < 0 ? r : expr_emit(parser, (struct expr_step){ .op = EXPR_NOT });
}

/* Behind a '-' that has nothing on its left. */
static int parse_negation(struct expr_parser *parser, enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operand(parser, ret_type);
    if (r < 0)
        return r;
    r = expr_check_type(parser, start, "-", EXPR_NUMBER, *ret_type);
    return r < 0 ? r : expr_emit(parser, (struct expr_step){ .op = EXPR_NEGATE });
}

/* Steps over the token at hand and goes a level deeper. */
static int parse_nested(struct expr_parser *parser,
                        int (*parse)(struct expr_parser *parser, enum expr_type *ret_type),
                        enum expr_type *ret_type)
{
    if (++parser->depth > EXPR_MAX_DEPTH)
        return expr_too_deep(parser);
    int r = expr_next(parser);
    if (r < 0)
        return r;
    r = parse(parser, ret_type);
    parser->depth--;
    return r;
}

static int parse_operand(struct expr_parser *parser, enum expr_type *ret_type)
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
    return expr_unexpected(parser, "a number, a name or '('");
}

static const struct infix *infix_at(const struct expr_parser *parser)
{
    for (size_t i = 0; i < ELEMENTS(infixes); i++) {
        if (expr_token_is(&parser->token, infixes[i].text))
            return &infixes[i];
    }
    return NULL;
}

/* At an infix whose left side began at left and is of *type, which becomes that of the whole. */
static int parse_right(struct expr_parser *parser, const struct infix *infix, const char *left,
                       enum expr_type *type)
{
    bool joins = infix->strength < EXPR_BINDS_COMPARISON;
    enum expr_type takes = joins ? EXPR_CONDITION : EXPR_NUMBER;
    int r = expr_check_type(parser, left, infix->text, takes, *type);
    if (r < 0)
        return r;
    r = expr_next(parser);
    if (r < 0)
        return r;

    const char *right = parser->token.start;
    r = expr_parse_operators(parser, infix->strength + 1, type);
    if (r < 0)
        return r;
    r = expr_check_type(parser, right, infix->text, takes, *type);
    if (r < 0)
        return r;
    *type = infix->strength <= EXPR_BINDS_COMPARISON ? EXPR_CONDITION : EXPR_NUMBER;
    return expr_emit(parser, (struct expr_step){ .op = infix->op });
}

int expr_parse_operators(struct expr_parser *parser, enum expr_strength weakest,
                         enum expr_type *ret_type)
{
    const char *start = parser->token.start;
    int r = parse_operand(parser, ret_type);
    if (r < 0)
        return r;

    bool compared = false;
    const struct infix *infix;
    while ((infix = infix_at(parser)) && infix->strength >= weakest) {
        if (compared && infix->strength == EXPR_BINDS_COMPARISON)
            return why_set(parser->why, EINVAL,
                           "column %zu: comparisons do not chain, write 'a < b and b < c'",
                           expr_column(parser->text, parser->token.start));
        r = parse_right(parser, infix, start, ret_type);
        if (r < 0)
            return r;
        compared = infix->strength == EXPR_BINDS_COMPARISON;
    }
    return 0;
}

static int parse_whole(struct expr_parser *parser, enum expr_type type)
{
    int r = expr_next(parser);
    if (r < 0)
        return r;
    const char *start = parser->token.start;
    enum expr_type found = EXPR_NUMBER;
    r = expr_parse_operators(parser, EXPR_BINDS_OR, &found);
    if (r < 0)
        return r;
    if (parser->token.kind != EXPR_TOKEN_END)
        return expr_unexpected(parser, "an operator or the end");
    assert(parser->stack == 1);
    return expr_check_type(parser, start, NULL, type, found);
}

int expr_allocate(size_t length, struct expr **ret_expr)
{
    _cleanup_(expr_freep) struct expr *expr = calloc(1, sizeof(*expr));
    if (!expr)
        return -ENOMEM;
    expr->steps = calloc(length + 1, sizeof(*expr->steps)); // a step takes at least a byte of text
    if (!expr->steps)
        return -ENOMEM;
    *ret_expr = TAKE_PTR(expr);
    return 0;
}

void expr_shrink(struct expr *expr)
{
    struct expr_step *steps = reallocarray(expr->steps, expr->n_steps, sizeof(*steps));
    if (steps)
        expr->steps = steps;
}

int expr_parse(const char *text, enum expr_type type, struct expr **ret_expr, struct why *why)
{
    size_t length = strnlen(text, EXPR_MAX_LENGTH + 1);
    if (length > EXPR_MAX_LENGTH)
        return why_set(why, EINVAL, "column 1: expected an expression of at most %d bytes",
                       EXPR_MAX_LENGTH);

    _cleanup_(expr_freep) struct expr *expr = NULL;
    int r = expr_allocate(length, &expr);
    if (r < 0)
        return r;
    expr->type = type;
    struct expr_parser parser = {
        .text = text, .token = { .start = text }, .expr = expr, .why = why
    };
    r = parse_whole(&parser, type);
    if (r < 0)
        return r;
    expr_shrink(expr);
    *ret_expr = TAKE_PTR(expr);
    return 0;
}
