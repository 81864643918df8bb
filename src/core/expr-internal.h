// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the files of expr share: the tokens that expr-scan.c finds, and the program that
 * expr-parse.c makes of them and expr.c runs, in postfix order for a stack of doubles on which a
 * condition is 1 or 0 and everything unknown is NAN. Nobody else includes this.
 */
#pragma once

#include "core/expr.h"

enum expr_op {
    EXPR_LITERAL,
    EXPR_READING,
    EXPR_AGE,
    EXPR_TIME,
    EXPR_HOUR,
    EXPR_AGGREGATE,
    EXPR_WINDOW,
    EXPR_NEGATE, // from here on they take one value from the stack
    EXPR_NOT,
    EXPR_ADD, // from here on two
    EXPR_SUBTRACT,
    EXPR_MULTIPLY,
    EXPR_DIVIDE,
    EXPR_LESS,
    EXPR_LESS_EQUAL,
    EXPR_GREATER,
    EXPR_GREATER_EQUAL,
    EXPR_EQUAL,
    EXPR_NOT_EQUAL,
    EXPR_AND,
    EXPR_OR,
};

struct expr_step {
    enum expr_op op;
    union {
        double number; // EXPR_LITERAL
        size_t name;   // EXPR_READING, EXPR_AGE, EXPR_AGGREGATE, EXPR_WINDOW: an index into names,
                       // aggregates or windows
    };
};

struct expr_name {
    char *text;
    size_t slot;
    bool read; // by its value; false: only its age is asked for
};

/* Over the devices of a group: argument is run for each, by whoever keeps the tally. */
struct expr_aggregate {
    enum aggregate function;
    char *text; // "median(light)", as it was written
    struct expr *argument;
    size_t slot;
};

/* Over the last span of a name's readings. */
struct expr_window {
    enum aggregate function;
    char *text; // "mean(light, 10min)", as it was written
    char *name;
    uint64_t span_usec;
    size_t slot;
};

struct expr {
    enum expr_type type;
    bool uses_time;
    bool is_argument; // of an aggregate
    size_t n_steps;
    struct expr_step *steps; // parsing made sure that they need at most EXPR_MAX_DEPTH of stack
    size_t n_names;
    struct expr_name *names;
    size_t n_aggregates;
    struct expr_aggregate *aggregates;
    size_t n_windows;
    struct expr_window *windows;
};

enum expr_token_kind {
    EXPR_TOKEN_END,
    EXPR_TOKEN_NUMBER,
    EXPR_TOKEN_NAME,
    EXPR_TOKEN_QUOTED, // without its backquotes
    EXPR_TOKEN_SYMBOL,
};

struct expr_token {
    enum expr_token_kind kind;
    const char *start; // in the text
    size_t length;
};

/*
 * Steps token to the one after it in text, at first from { .start = text }. -EINVAL with why for
 * bad backquotes; any other bytes are some token, for the parser to refuse.
 */
int expr_scan(const char *text, struct expr_token *token, struct why *why);

/* Whether a name or a symbol reads so. */
bool expr_token_is(const struct expr_token *token, const char *text);

/* The column of a place in text, counted in characters from 1. */
size_t expr_column(const char *text, const char *at);

/* --- the parser: each function starts at its first token and stops after its last ------------ */

enum expr_strength {
    EXPR_BINDS_OR,
    EXPR_BINDS_AND,
    EXPR_BINDS_NOT,
    EXPR_BINDS_COMPARISON,
    EXPR_BINDS_SUM,
    EXPR_BINDS_PRODUCT,
};

struct expr_parser {
    const char *text;
    struct expr_token token; // the one to look at
    struct expr *expr;       // with room for a step for each byte of text
    size_t depth;            // of nesting, hence of the parser's recursion
    size_t stack;            // what a run would have on its stack after the steps so far
    struct why *why;
};

/* A new expression with room for a program of so many bytes of text; then without the room. */
int expr_allocate(size_t length, struct expr **ret_expr);
void expr_shrink(struct expr *expr);

/* Steps to the next token; or over the one that must be symbol, else -EINVAL. */
int expr_next(struct expr_parser *parser);
int expr_expect(struct expr_parser *parser, const char *symbol, const char *expected);

int expr_emit(struct expr_parser *parser, struct expr_step step);

/* -EINVAL, with why. */
int expr_unexpected(const struct expr_parser *parser, const char *expected);
int expr_too_deep(const struct expr_parser *parser);

/* Checks the type of the part that begins at `at`, which user takes (NULL: the caller). */
int expr_check_type(const struct expr_parser *parser, const char *at, const char *user,
                    enum expr_type expected, enum expr_type found);

/* Emits the reading, or the age, of the name that token is. */
int expr_parse_reading(struct expr_parser *parser, const struct expr_token *token, enum expr_op op);

/* After a name, at its '('. */
int expr_parse_call(struct expr_parser *parser, const struct expr_token *function);

/* Operands joined by operators that bind at least as strongly as weakest. */
int expr_parse_operators(struct expr_parser *parser, enum expr_strength weakest,
                         enum expr_type *ret_type);
