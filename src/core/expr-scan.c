// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Text to tokens, which point into it. It decides where a token ends, not whether it makes sense.
 */
#include "core/expr-scan.h"

#include <string.h>

#include "util/cleanup.h"
#include "util/strings.h"

size_t expr_column(const char *text, const char *at)
{
    size_t column = 1;
    for (const char *p = text; p < at; p++)
        column += ((unsigned char)*p & 0xc0) != 0x80; // not a continuation of a UTF-8 sequence
    return column;
}

bool expr_token_is(const struct expr_token *token, const char *text)
{
    return (token->kind == EXPR_TOKEN_SYMBOL || token->kind == EXPR_TOKEN_NAME) &&
           strlen(text) == token->length && memcmp(token->start, text, token->length) == 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name_part(char c)
{
    return is_name_start(c) || is_digit(c);
}

static size_t name_length(const char *text)
{
    size_t n = 0;
    while (is_name_part(text[n]))
        n++;
    return n;
}

/* Takes whatever looks as if it belonged to a number ("12abc" too): parse_number() is the judge. */
static size_t number_length(const char *text)
{
    size_t n = 1;
    for (;; n++) {
        bool in_exponent = text[n - 1] == 'e' || text[n - 1] == 'E';
        bool is_sign = text[n] == '+' || text[n] == '-';
        if (!is_name_part(text[n]) && text[n] != '.' && !(is_sign && in_exponent))
            return n;
    }
}

static size_t symbol_length(const char *text)
{
    static const char *const pairs[] = { "<=", ">=", "==", "!=", "&&", "||", "=>", "=<", "<>" };
    for (size_t i = 0; i < ELEMENTS(pairs); i++) {
        if (strncmp(text, pairs[i], 2) == 0)
            return 2;
    }
    size_t n = strings_utf8_length(text, strnlen(text, 4));
    return n > 0 ? n : 1;
}

static int scan_quoted(const char *text, const char *at, struct expr_token *token, struct why *why)
{
    size_t length = strcspn(at + 1, "`");
    if (at[1 + length] == '\0')
        return why_set(why, EINVAL, "column %zu: expected a closing '`' after the name",
                       expr_column(text, at));
    if (length == 0)
        return why_set(why, EINVAL, "column %zu: expected a name between the backquotes",
                       expr_column(text, at));
    *token = (struct expr_token){ EXPR_TOKEN_QUOTED, at + 1, length };
    return 0;
}

int expr_scan(const char *text, struct expr_token *token, struct why *why)
{
    const char *at = token->start + token->length + (token->kind == EXPR_TOKEN_QUOTED);
    at += strspn(at, " \t\r\n");

    if (*at == '`')
        return scan_quoted(text, at, token, why);
    if (*at == '\0')
        *token = (struct expr_token){ EXPR_TOKEN_END, at, 0 };
    else if (is_digit(*at) || *at == '.')
        *token = (struct expr_token){ EXPR_TOKEN_NUMBER, at, number_length(at) };
    else if (is_name_start(*at))
        *token = (struct expr_token){ EXPR_TOKEN_NAME, at, name_length(at) };
    else
        *token = (struct expr_token){ EXPR_TOKEN_SYMBOL, at, symbol_length(at) };
    return 0;
}
