// SPDX-License-Identifier: LGPL-2.1-or-later
// Text to typed members, by the rows of the schema; see convert.h. Knows the types, not the keys.
#include "config/convert.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/command.h"
#include "core/expr.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

/* A member's content, whichever it is. */
union member {
    bool boolean;
    int64_t integer;
    double number;
    uint64_t count; // durations, sizes
    int choice;
    char *string;
    char **strings;
    struct expr *condition;
    struct command *command;
};

static size_t member_size(enum option_type type)
{
    switch (type) {
    case OPTION_BOOL:
        return sizeof(bool);
    case OPTION_INT:
    case OPTION_NUMBER:
    case OPTION_DURATION:
    case OPTION_SIZE:
        return sizeof(uint64_t);
    case OPTION_ENUM:
        return sizeof(int);
    case OPTION_STRING:
    case OPTION_LIST:
    case OPTION_ARGV:
    case OPTION_CONDITION:
    case OPTION_COMMAND:
        return sizeof(void *);
    }
    return 0;
}

static void store(const struct schema_option *option, void *data, const union member *member)
{
    memcpy((char *)data + option->offset, member, member_size(option->type));
}

static void free_member(enum option_type type, union member *member)
{
    if (type == OPTION_STRING)
        free(member->string);
    else if (type == OPTION_LIST || type == OPTION_ARGV)
        strings_free(member->strings);
    else if (type == OPTION_CONDITION)
        expr_free(member->condition);
    else if (type == OPTION_COMMAND)
        command_free(member->command);
}

void convert_unset(const struct schema_option *option, void *data)
{
    union member member = { 0 };
    if (option->type == OPTION_NUMBER)
        member.number = NAN;
    else if (option->type == OPTION_DURATION)
        member.count = USEC_INFINITY;
    store(option, data, &member);
}

void convert_clear(const struct schema_option *option, void *data)
{
    union member member = { 0 };
    memcpy(&member, (char *)data + option->offset, member_size(option->type));
    free_member(option->type, &member);
    convert_unset(option, data);
}

/* --- parsing --------------------------------------------------------------------------------- */

/* -EINVAL: not of that form. -ERANGE: not in the row's range. */
static int in_range(const struct schema_option *option, double value)
{
    bool limited = option->min != 0 || option->max != 0;
    return limited && (value < option->min || value > option->max) ? -ERANGE : 0;
}

static int parse_choice(const struct schema_option *option, const char *text, int *ret_choice)
{
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *ret_choice = i;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_string(const struct schema_option *option, const char *text, char **ret_string)
{
    int r = in_range(option, (double)strlen(text));
    if (r < 0)
        return r;
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    *ret_string = copy;
    return 0;
}

static int parse_simple(const struct schema_option *option, const char *text, union member *member)
{
    int r;
    switch (option->type) {
    case OPTION_BOOL:
        return parse_bool(text, &member->boolean);
    case OPTION_INT:
        r = parse_int(text, &member->integer);
        return r < 0 ? r : in_range(option, (double)member->integer);
    case OPTION_NUMBER:
        r = parse_number(text, &member->number);
        return r < 0 ? r : in_range(option, member->number);
    case OPTION_DURATION:
        r = parse_duration(text, &member->count);
        return r < 0 ? r : in_range(option, (double)member->count);
    case OPTION_SIZE:
        r = parse_size(text, &member->count);
        return r < 0 ? r : in_range(option, (double)member->count);
    case OPTION_ENUM:
        return parse_choice(option, text, &member->choice);
    case OPTION_STRING:
        return parse_string(option, text, &member->string);
    case OPTION_LIST:
        return strings_split(text, &member->strings);
    case OPTION_ARGV:
        return parse_argv(text, &member->strings);
    default:
        assert(!"a type of its own");
        return -EINVAL;
    }
}

/* --- errors ---------------------------------------------------------------------------------- */

static const char *noun(enum option_type type)
{
    static const char *const nouns[] = {
        [OPTION_BOOL] = "a yes or no",
        [OPTION_INT] = "a whole number",
        [OPTION_NUMBER] = "a number",
        [OPTION_DURATION] = "a duration",
        [OPTION_SIZE] = "a size",
        [OPTION_ENUM] = "one of the choices",
        [OPTION_STRING] = "a text",
        [OPTION_LIST] = "a list",
        [OPTION_ARGV] = "a command line",
        [OPTION_CONDITION] = "a condition",
        [OPTION_COMMAND] = "a JSON command",
    };
    return nouns[type];
}

static const char *nearest_choice(const struct schema_option *option, const char *text)
{
    size_t n = 0;
    while (option->type == OPTION_ENUM && option->choices[n])
        n++;
    return n > 0 && strlen(text) > 1 ? strings_nearest(text, option->choices, n) : NULL;
}

static int explain(const struct schema_option *option, const char *text, int error, struct why *why)
{
    char shown[64] = "the value", quoted[70], expected[128];
    if (error == -ENOMEM)
        return error;
    if (!option->secret)
        strings_printable(text, strlen(text), shown, sizeof(shown));
    snprintf(quoted, sizeof(quoted), option->secret ? "%s" : "'%s'", shown);
    schema_describe(option, expected, sizeof(expected));
    const char *nearest = option->secret ? NULL : nearest_choice(option, text);
    if (nearest)
        return why_set(why, EINVAL, "%s is not known (did you mean '%s'?); expected %s", quoted,
                       nearest, expected);
    if (error == -ERANGE)
        return why_set(why, EINVAL, "%s is out of range; expected %s", quoted, expected);
    return why_set(why, EINVAL, "%s is not %s; expected %s", quoted, noun(option->type), expected);
}

/* Conditions and commands say themselves where they are wrong. */
static int parse_core(const struct schema_option *option, const char *text, union member *member,
                      struct why *why)
{
    struct why detail = { 0 };
    int r = option->type == OPTION_CONDITION
                ? expr_parse(text, EXPR_CONDITION, &member->condition, &detail)
                : command_parse(text, strlen(text), &member->command, &detail);
    if (r == 0 || r == -ENOMEM)
        return r;
    if (strstr(detail.text, "expected"))
        return why_set(why, EINVAL, "%s", detail.text);
    char expected[128];
    schema_describe(option, expected, sizeof(expected));
    return why_set(why, EINVAL, "%.120s; expected %s", detail.text, expected);
}

static int parse(const struct schema_option *option, const char *text, union member *member,
                 struct why *why)
{
    if (option->type == OPTION_CONDITION || option->type == OPTION_COMMAND)
        return parse_core(option, text, member, why);
    int r = parse_simple(option, text, member);
    return r < 0 ? explain(option, text, r, why) : 0;
}

int convert_set(const struct schema_option *option, void *data, const char *text, struct why *why)
{
    union member member = { 0 };
    int r = parse(option, text, &member, why);
    if (r < 0)
        return r;
    r = option->check ? option->check(text, why) : 0;
    if (r < 0) {
        free_member(option->type, &member);
        return r;
    }
    convert_clear(option, data);
    store(option, data, &member);
    return 0;
}
