// SPDX-License-Identifier: LGPL-2.1-or-later
// JSON from a peer: a validating scanner in front of json-c. Pure.
#include "core/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "util/strings.h"

enum {
    STACK_DEPTH = 64,
    MAX_NUMBER = 512,        // bytes; RFC 8259, section 6 lets a reader limit the precision
    MAX_FINITE_DIGITS = 300, // without an exponent, a double holds whatever they are
    MAX_INTEGER = 19,        // bytes, the sign included, that 64 bits hold whatever they are
};

struct scanner {
    const char *begin, *at, *end;
    uint64_t objects; // bit n: level n is an object
    unsigned depth, max_depth;
    size_t n_members;       // of all objects
    size_t n_long_integers; // which json-c may clamp to 64 bits
    bool in_key;
    bool has_nul_in_key; // where json-c would cut it
    struct why *why;
};

static int fail(const struct scanner *scanner, const char *what)
{
    return why_set(scanner->why, EBADMSG, "byte %td: %s", scanner->at - scanner->begin, what);
}

static void skip_blank(struct scanner *scanner)
{
    while (scanner->at < scanner->end && (*scanner->at == ' ' || *scanner->at == '\t' ||
                                          *scanner->at == '\n' || *scanner->at == '\r'))
        scanner->at++;
}

static bool is_digit(const struct scanner *scanner)
{
    return scanner->at < scanner->end && *scanner->at >= '0' && *scanner->at <= '9';
}

static int skip_digits(struct scanner *scanner, const char *expected)
{
    if (!is_digit(scanner))
        return fail(scanner, expected);
    while (is_digit(scanner))
        scanner->at++;
    return 0;
}

/* Whether a number of the right form is one that a double holds. */
static bool is_finite(const char *number, size_t length)
{
    char text[MAX_NUMBER + 1]; // strtod() needs the NUL
    memcpy(text, number, length);
    text[length] = '\0';
    return isfinite(strtod(text, NULL)); // the program never leaves the "C" numeric locale
}

/* RFC 8259, section 6, and no more than a double holds. */
static int scan_number(struct scanner *scanner)
{
    const char *begin = scanner->at;
    scanner->at += *scanner->at == '-';
    bool leading_zero = scanner->at < scanner->end && *scanner->at == '0';
    int r = skip_digits(scanner, "a number, a string, true, false, null, '[' or '{' is expected");
    if (r < 0)
        return r;
    if (leading_zero && scanner->at - begin > 1 + (*begin == '-'))
        return fail(scanner, "a number cannot begin with 0");
    bool has_fraction = scanner->at < scanner->end && *scanner->at == '.';
    if (has_fraction) {
        scanner->at++;
        r = skip_digits(scanner, "a digit is expected behind the '.'");
        if (r < 0)
            return r;
    }
    bool has_exponent = scanner->at < scanner->end && (*scanner->at | 0x20) == 'e';
    if (has_exponent) {
        scanner->at++;
        if (scanner->at < scanner->end && (*scanner->at == '-' || *scanner->at == '+'))
            scanner->at++;
        r = skip_digits(scanner, "a digit is expected in the exponent");
        if (r < 0)
            return r;
    }
    size_t length = (size_t)(scanner->at - begin);
    scanner->n_long_integers += !has_fraction && !has_exponent && length > MAX_INTEGER;
    if (length > MAX_NUMBER)
        return fail(scanner, "the number is too long");
    if ((has_exponent || length > MAX_FINITE_DIGITS) && !is_finite(begin, length))
        return fail(scanner, "the number is too large");
    return 0;
}

/* 0..15, or -1. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int scan_hex(struct scanner *scanner, unsigned *ret_code)
{
    *ret_code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = scanner->at < scanner->end ? hex_digit(*scanner->at) : -1;
        if (digit < 0)
            return fail(scanner, "four hexadecimal digits are expected behind \\u");
        *ret_code = *ret_code * 16 + (unsigned)digit;
        scanner->at++;
    }
    return 0;
}

/* Behind the backslash. */
static int scan_escape(struct scanner *scanner)
{
    unsigned code, low;
    if (scanner->at == scanner->end || !*scanner->at || !strchr("\"\\/bfnrtu", *scanner->at))
        return fail(scanner, "no such escape");
    if (*scanner->at++ != 'u')
        return 0;
    int r = scan_hex(scanner, &code);
    if (r == 0 && code == 0 && scanner->in_key)
        scanner->has_nul_in_key = true;
    if (r < 0 || code < 0xd800 || code > 0xdfff)
        return r;
    // A character beyond U+FFFF is two of them; one alone has no UTF-8 form.
    if (code > 0xdbff || scanner->end - scanner->at < 2 || scanner->at[0] != '\\' ||
        scanner->at[1] != 'u')
        return fail(scanner, "half of a surrogate pair");
    scanner->at += 2;
    r = scan_hex(scanner, &low);
    if (r == 0 && (low < 0xdc00 || low > 0xdfff))
        return fail(scanner, "half of a surrogate pair");
    return r;
}

static int scan_string(struct scanner *scanner)
{
    scanner->at++; // the quote
    while (scanner->at < scanner->end) {
        unsigned char c = (unsigned char)*scanner->at;
        if (c == '"') {
            scanner->at++;
            return 0;
        }
        if (c < 0x20)
            return fail(scanner, "a control character in a string");
        if (c == '\\') {
            scanner->at++;
            int r = scan_escape(scanner);
            if (r < 0)
                return r;
            continue;
        }
        size_t n =
            c < 0x80 ? 1 : strings_utf8_length(scanner->at, (size_t)(scanner->end - scanner->at));
        if (n == 0)
            return fail(scanner, "invalid UTF-8");
        scanner->at += n;
    }
    return fail(scanner, "the string is not closed");
}

static int scan_word(struct scanner *scanner, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(scanner->end - scanner->at) < length || memcmp(scanner->at, word, length) != 0)
        return fail(scanner, "a number, a string, true, false, null, '[' or '{' is expected");
    scanner->at += length;
    return 0;
}

/* A key and its colon. */
static int scan_key(struct scanner *scanner)
{
    skip_blank(scanner);
    if (scanner->at == scanner->end || *scanner->at != '"')
        return fail(scanner, "a key in double quotes is expected");
    scanner->in_key = true;
    int r = scan_string(scanner);
    scanner->in_key = false;
    if (r < 0)
        return r;
    skip_blank(scanner);
    if (scanner->at == scanner->end || *scanner->at != ':')
        return fail(scanner, "':' is expected");
    scanner->at++;
    scanner->n_members++;
    return 0;
}

static bool in_object(const struct scanner *scanner)
{
    return scanner->objects >> (scanner->depth - 1) & 1;
}

/* '[' or '{'. 1 if it is empty and so already closed, 0 if a value comes next. */
static int open_level(struct scanner *scanner)
{
    bool is_object = *scanner->at++ == '{';
    if (scanner->depth == scanner->max_depth)
        return why_set(scanner->why, EMSGSIZE, "byte %td: nested deeper than %u levels",
                       scanner->at - scanner->begin - 1, scanner->max_depth);
    uint64_t bit = UINT64_C(1) << scanner->depth++;
    scanner->objects = is_object ? scanner->objects | bit : scanner->objects & ~bit;
    skip_blank(scanner);
    if (scanner->at < scanner->end && *scanner->at == (is_object ? '}' : ']')) {
        scanner->at++;
        scanner->depth--;
        return 1;
    }
    return is_object ? scan_key(scanner) : 0;
}

/* Behind a value: closes levels, or goes on to the next value. 1 when the text is whole. */
static int next_value(struct scanner *scanner)
{
    for (;;) {
        skip_blank(scanner);
        if (scanner->depth == 0)
            return scanner->at == scanner->end ? 1 : fail(scanner, "something behind the end");
        bool is_object = in_object(scanner);
        if (scanner->at == scanner->end)
            return fail(scanner,
                        is_object ? "the object is not closed" : "the array is not closed");
        char c = *scanner->at;
        if (c == ',') {
            scanner->at++;
            return is_object ? scan_key(scanner) : 0;
        }
        if (c != (is_object ? '}' : ']'))
            return fail(scanner, is_object ? "',' or '}' is expected" : "',' or ']' is expected");
        scanner->at++;
        scanner->depth--;
    }
}

/* One value, or the opening of one. 1: a whole value, 0: the first value in it comes next. */
static int scan_value(struct scanner *scanner)
{
    skip_blank(scanner);
    if (scanner->at == scanner->end)
        return fail(scanner, "the text ends where a value is expected");
    int r;
    switch (*scanner->at) {
    case '{':
    case '[':
        return open_level(scanner);
    case '"':
        r = scan_string(scanner);
        break;
    case 't':
        r = scan_word(scanner, "true");
        break;
    case 'f':
        r = scan_word(scanner, "false");
        break;
    case 'n':
        r = scan_word(scanner, "null");
        break;
    default:
        r = scan_number(scanner);
    }
    return r < 0 ? r : 1;
}

static int scan(struct scanner *scanner, const char *bytes, size_t length, size_t max_size,
                unsigned max_depth, struct why *why)
{
    *scanner = (struct scanner){
        .begin = bytes,
        .at = bytes,
        .end = bytes + length,
        .max_depth = max_depth < STACK_DEPTH ? max_depth : STACK_DEPTH,
        .why = why,
    };
    if (length > max_size)
        return why_set(why, EMSGSIZE, "%zu bytes, at most %zu are read", length, max_size);
    for (;;) {
        int r = scan_value(scanner);
        if (r > 0)
            r = next_value(scanner);
        if (r != 0)
            return r < 0 ? r : 0;
    }
}

int json_check(const char *bytes, size_t length, size_t max_size, unsigned max_depth,
               struct why *why)
{
    struct scanner scanner;
    return scan(&scanner, bytes, length, max_size, max_depth, why);
}

/* Members of all objects in the tree, which json-c has merged where a key came twice. */
static size_t count_members(struct json_object *object)
{
    size_t n = 0;
    if (json_object_is_type(object, json_type_object)) {
        json_object_object_foreach(object, key, member)
        {
            (void)key;
            n += 1 + count_members(member);
        }
    } else if (json_object_is_type(object, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(object); i++)
            n += count_members(json_object_array_get_idx(object, i));
    }
    return n;
}

/*
 * A copy of a scanned text in which "e0" stands behind each long integer, so that json-c takes it
 * as a double instead of clamping it to 64 bits.
 */
static char *widen_integers(const struct scanner *scanner, size_t *ret_length)
{
    char *copy = malloc((size_t)(scanner->end - scanner->begin) + 2 * scanner->n_long_integers);
    if (!copy)
        return NULL;
    char *out = copy;
    bool in_string = false;
    for (const char *at = scanner->begin; at < scanner->end;) {
        const char *begin = at++;
        bool is_integer = false;
        if (*begin == '"') {
            in_string = !in_string;
        } else if (in_string) {
            at += *begin == '\\';
        } else if (strchr("-0123456789", *begin)) {
            is_integer = true;
            for (; at < scanner->end && strchr("+-.0123456789Ee", *at); at++)
                is_integer &= *at >= '0' && *at <= '9';
        }
        size_t length = (size_t)(at - begin);
        out = mempcpy(out, begin, length);
        if (is_integer && length > MAX_INTEGER)
            out = mempcpy(out, "e0", 2);
    }
    *ret_length = (size_t)(out - copy);
    return copy;
}

static bool begins_object(const char *bytes, size_t length)
{
    size_t at = 0;
    while (at < length && strchr(" \t\r\n", bytes[at]) && bytes[at] != '\0')
        at++;
    return at < length && bytes[at] == '{';
}

int json_parse_object(const char *bytes, size_t length, struct json_object **ret_object,
                      struct why *why)
{
    struct scanner scanner;
    if (!begins_object(bytes, length)) // also what is no JSON at all, in words that help
        return why_set(why, EBADMSG, "not a JSON object, which begins with '{'");
    int r = scan(&scanner, bytes, length, JSON_MAX_SIZE, JSON_MAX_DEPTH, why);
    if (r < 0)
        return r;
    if (scanner.has_nul_in_key)
        return why_set(why, EBADMSG, "a key cannot hold \\u0000");
    _cleanup_(freep) char *widened = NULL;
    if (scanner.n_long_integers > 0) {
        widened = widen_integers(&scanner, &length);
        if (!widened)
            return why_set(why, ENOMEM, "out of memory");
    }
    struct json_tokener *tokener = json_tokener_new_ex(JSON_MAX_DEPTH + 1);
    if (!tokener)
        return why_set(why, ENOMEM, "out of memory");
    _cleanup_(json_object_putp) struct json_object *object =
        json_tokener_parse_ex(tokener, widened ? widened : bytes, (int)length);
    json_tokener_free(tokener);
    if (!json_object_is_type(object, json_type_object))
        return why_set(why, EBADMSG, "not a JSON object");
    if (count_members(object) != scanner.n_members)
        return why_set(why, EBADMSG, "a key stands twice in an object");
    *ret_object = TAKE_PTR(object);
    return 0;
}

const char *json_quote(const char *text, char *out, size_t size)
{
    size_t length = strlen(text), at = 0;
    out[at++] = '"';
    while (length > 0) {
        char escaped[8];
        size_t n = strings_utf8_length(text, length);
        unsigned char c = (unsigned char)*text;
        const char *piece = text;
        size_t piece_length = n;
        if (c == '"' || c == '\\') {
            piece = escaped;
            piece_length = 2;
            memcpy(escaped, (char[]){ '\\', (char)c }, 2);
        } else if (c < 0x20 || n == 0) {
            n = 1;
            piece = escaped;
            piece_length = 6;
            stpcpy(escaped, "\\ufffd"); // for a byte that is not UTF-8
            if (c < 0x20)
                strings_to_hex(&c, 1, stpcpy(escaped, "\\u00"));
        }
        if (at + piece_length + 2 > size)
            break;
        memcpy(out + at, piece, piece_length);
        at += piece_length;
        text += n;
        length -= n;
    }
    out[at++] = '"';
    out[at] = '\0';
    return out;
}

const char *json_text_of(struct json_object *object, const char *key)
{
    struct json_object *member;
    if (!json_object_object_get_ex(object, key, &member) ||
        !json_object_is_type(member, json_type_string))
        return NULL;
    return json_object_get_string(member);
}

bool json_has_keys_of(const char *newer, const char *older)
{
    _cleanup_(json_object_putp) struct json_object *new_object = NULL, *old_object = NULL;
    if (json_parse_object(newer, strlen(newer), &new_object, NULL) < 0 ||
        json_parse_object(older, strlen(older), &old_object, NULL) < 0)
        return false;
    json_object_object_foreach(old_object, key, member)
    {
        (void)member;
        if (!json_object_object_get_ex(new_object, key, NULL))
            return false;
    }
    return true;
}
