// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The tokens of an expression's text, which point into it. Internal to expr.
 *
 *     struct expr_token token = { .start = text };
 *     while ((r = expr_scan(text, &token, why)) == 0 && token.kind != EXPR_TOKEN_END)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/why.h"

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
