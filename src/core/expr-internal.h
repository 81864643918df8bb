// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the three files of expr share: the tokens that expr-scan.c finds, and the program that
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
        size_t name;   // EXPR_READING and EXPR_AGE: an index into names
    };
};

struct expr_name {
    char *text;
    size_t slot;
    bool read; // by its value; false: only its age is asked for
};

struct expr {
    enum expr_type type;
    bool uses_time;
    size_t n_steps;
    struct expr_step *steps; // parsing made sure that they need at most EXPR_MAX_DEPTH of stack
    size_t n_names;
    struct expr_name *names;
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
