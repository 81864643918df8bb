// SPDX-License-Identifier: LGPL-2.1-or-later
// Expressions: a table of values, a table of refusals, Kleene's tables, and random expressions
// against a second evaluator that is too simple to be wrong in the same way.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/expr.h"
#include "util/clock.h"

#define NOW (100 * USEC_PER_SEC)

/* The readings of every test, and the slots that the names are bound to. */
static const struct {
    const char *name;
    struct expr_reading reading;
} known[] = {
    { "light", { 250, NOW } },
    { "zero", { 0, NOW - 10 * USEC_PER_SEC } },
    { "neg", { -4, NOW - 90 * USEC_PER_SEC } },
    { "missing", { 7, 0 } },
    { "stale", { 250, NOW - 90 * USEC_PER_SEC - 1 } },
    { "nan", { NAN, NOW } },
    { "inf", { INFINITY, NOW } },
    { "big", { 1e308, NOW } },
    { "later", { 5, NOW + USEC_PER_SEC } },
    { "room-2", { 21.5, NOW } },
    { "and", { 3, NOW } },
    { "Küche", { 19, NOW } },
};

static struct expr_reading readings[ELEMENTS(known)];
static const struct expr_context context = {
    .readings = readings,
    .now_mono_usec = NOW,
    .now_wall_usec = 1700000000250000,
    .local_hour = 18,
    .stale_after_usec = 90 * USEC_PER_SEC,
};

static struct expr *parse(const char *text, enum expr_type type)
{
    struct expr *expr = NULL;
    struct why why = { "" };
    if (expr_parse(text, type, &expr, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    for (size_t i = 0; i < expr_n_names(expr); i++) {
        size_t slot = 0;
        while (slot < ELEMENTS(known) && strcmp(known[slot].name, expr_name(expr, i)) != 0)
            slot++;
        assert_true(slot < ELEMENTS(known));
        expr_bind(expr, i, slot);
    }
    return expr;
}

static int condition(const char *text)
{
    _cleanup_(expr_freep) struct expr *expr = parse(text, EXPR_CONDITION);
    return expr_condition(expr, &context);
}

static void conditions_have_their_values(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int expected;
    } cases[] = {
        { "light < 300", 1 },
        { "light < 250", 0 },
        { "light <= 250", 1 },
        { "light > 250", 0 },
        { "light > 249.5", 1 },
        { "light >= 250", 1 },
        { "light == 250", 1 },
        { "light != 250", 0 },
        { "light == 2.5e2", 1 },
        { "0.1 + 0.2 == 0.3", 0 }, // plain equality of doubles
        { "light < 300 and hour() >= 18", 1 },
        { "hour() == 18 and time() > 1.6e9", 1 },
        { "not light < 300", 0 },
        { "not not light < 300", 1 },
        { "not light < 300 or zero == 0", 1 }, // not binds more strongly than or
        { "not (light < 300 or zero == 0)", 0 },
        { "not light > 300 and zero == 1", 0 }, // and than and
        { "1 < 2 or 1 < 2 and 2 < 1", 1 },      // and binds more strongly than or
        { "(1 < 2 or 1 < 2) and 2 < 1", 0 },
        { "2 < 1 and 1 < 2 or 1 < 2", 1 },
        { "1 + 1 < 3 - 0", 1 }, // sums than comparisons
        { "light / 2 < 126 and light / 2 > 124", 1 },
        { "((((light)))) < (((300)))", 1 },
        { "-light < 0", 1 },
        { "- - light == 250", 1 },
        { "`room-2` > 21", 1 },
        { "`light` == light", 1 },
        { "`and` == 3", 1 },
        { "`Küche` < `room-2`", 1 },
        { "\t light\r\n<\n300 ", 1 },
        { "age(neg) == 90", 1 },
        { "age(stale) > 90", 1 }, // known however old
        { "age(stale) > 90 or stale > 0", 1 },
        { "age(missing) > 90", -1 },
        { "age(later) == 0", 1 }, // not a huge number
        { "later == 5", 1 },
        { "neg == -4", 1 }, // just not stale
        { "stale < 300", -1 },
        { "missing == missing", -1 },
        { "nan == nan", -1 },
        { "nan != 0", -1 },
        { "inf > 0", -1 },
        { "1 / zero > 0", -1 },
        { "zero / zero == 0", -1 },
        { "big * 10 > 0", -1 },
        { "big + big > 0", -1 },
        { "0 - big - big < 0", -1 },
        { "1 / (big * 10) == 0", -1 }, // not back from infinity
        { "missing * 0 == 0", -1 },
        { "-missing < 0", -1 },
        { "light < 300 and missing < 1", -1 },
        { "light > 300 and missing < 1", 0 },
        { "missing < 1 and light > 300", 0 },
        { "light < 300 or missing < 1", 1 },
        { "missing < 1 or light < 300", 1 },
        { "missing < 1 or light > 300", -1 },
        { "not missing < 1", -1 },
        { "not (missing < 1 and 2 < 1)", 1 },
        { "missing < 1 or not missing < 1", -1 }, // Kleene knows no excluded middle
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        if (condition(cases[i].text) != cases[i].expected)
            fail_msg("%s: not %d", cases[i].text, cases[i].expected);
    }
}

static void numbers_have_their_values(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double expected; // NAN: unknown
    } cases[] = {
        { "0", 0 },
        { "1 + 2 * 3", 7 },
        { "(1 + 2) * 3", 9 },
        { "7 - 4 - 2", 1 },
        { "7 - (4 - 2)", 5 },
        { "100 / 10 / 5", 2 },
        { "100 / 10 * 5", 50 },
        { "2 * 3 - 4 / 2", 4 },
        { "-2 * 3", -6 },
        { "2 * -3", -6 },
        { "2--3", 5 },
        { "-(1 + 2)", -3 },
        { ".5 + 1e-1", 0.6 },
        { "1E+2", 100 },
        { "light", 250 },
        { "light-1", 249 },
        { "neg * neg", 16 },
        { "age(zero) + 0.5", 10.5 },
        { "time()", 1700000000.25 },
        { "hour()", 18 },
        { "hour ( ) + age ( `zero` )", 28 },
        { "1 / 4", 0.25 },
        { "1 / zero", NAN },
        { "missing + 1", NAN },
        { "stale", NAN },
        { "nan", NAN },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_(expr_freep) struct expr *expr = parse(cases[i].text, EXPR_NUMBER);
        double value = 4711;
        bool is_known = expr_number(expr, &context, &value);
        if (is_known == (bool)isnan(cases[i].expected))
            fail_msg("%s: %s", cases[i].text, is_known ? "known" : "unknown");
        if (value != (is_known ? cases[i].expected : 4711))
            fail_msg("%s: %.17g", cases[i].text, value);
    }
}

static void unknown_spreads_as_in_kleenes_logic(void **state)
{
    (void)state;
    static const char *const texts[] = { "light > 300", "missing > 0", "light < 300" };
    static const int values[] = { 0, -1, 1 };
    static const int and_table[3][3] = { { 0, 0, 0 }, { 0, -1, -1 }, { 0, -1, 1 } };
    static const int or_table[3][3] = { { 0, -1, 1 }, { -1, -1, 1 }, { 1, 1, 1 } };
    for (size_t a = 0; a < 3; a++) {
        char text[64];
        snprintf(text, sizeof(text), "not %s", texts[a]);
        assert_int_equal(condition(text), values[a] < 0 ? -1 : !values[a]);
        for (size_t b = 0; b < 3; b++) {
            snprintf(text, sizeof(text), "%s and %s", texts[a], texts[b]);
            assert_int_equal(condition(text), and_table[a][b]);
            snprintf(text, sizeof(text), "%s or %s", texts[a], texts[b]);
            assert_int_equal(condition(text), or_table[a][b]);
        }
    }
}

static void every_operator_with_an_unknown_number_is_unknown(void **state)
{
    (void)state;
    static const char *const compared[] = { "<", "<=", ">", ">=", "==", "!=" };
    static const char *const joined[] = { "+", "-", "*", "/" };
    static const char *const sides[][2] = { { "missing", "1" },
                                            { "1", "missing" },
                                            { "missing", "stale" } };
    for (size_t side = 0; side < ELEMENTS(sides); side++) {
        char text[64];
        for (size_t i = 0; i < ELEMENTS(compared); i++) {
            snprintf(text, sizeof(text), "%s %s %s", sides[side][0], compared[i], sides[side][1]);
            assert_int_equal(condition(text), -1);
        }
        for (size_t i = 0; i < ELEMENTS(joined); i++) {
            snprintf(text, sizeof(text), "%s %s %s", sides[side][0], joined[i], sides[side][1]);
            _cleanup_(expr_freep) struct expr *expr = parse(text, EXPR_NUMBER);
            double value = 0;
            assert_false(expr_number(expr, &context, &value));
        }
    }
}

static void refusals_say_where_and_what_was_expected(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        { "", "column 1: expected a number, a name or '(', found the end" },
        { "  ", "column 3: expected a number, a name or '(', found the end" },
        { "light = 300", "column 7: there is no operator '=', write '=='" },
        { "light => 300", "column 7: there is no operator '=>', write '>='" },
        { "light =< 300", "column 7: there is no operator '=<', write '<='" },
        { "light <> 300", "column 7: there is no operator '<>', write '!='" },
        { "light < 300 < 400", "column 13: comparisons do not chain, write 'a < b and b < c'" },
        { "not light == 3 != 4", "column 16: comparisons do not chain, write 'a < b and b < c'" },
        { "a < 1 && b < 2", "column 7: there is no operator '&&', write 'and'" },
        { "a < 1 & b < 2", "column 7: there is no operator '&', write 'and'" },
        { "a < 1 || b < 2", "column 7: there is no operator '||', write 'or'" },
        { "a < 1 AND b < 2", "column 7: there is no operator 'AND', write 'and'" },
        { "!(a < 1)", "column 1: there is no operator '!', write 'not'" },
        { "ago(light) < 3", "column 1: there is no function 'ago', did you mean 'age'?" },
        { "1 < hours()", "column 5: there is no function 'hours', did you mean 'hour'?" },
        { "tiem() < 3", "column 1: there is no function 'tiem', did you mean 'time'?" },
        { "average(light) < 3",
          "column 1: there is no function 'average', expected min, max, mean, median, sum, count, "
          "stddev, rate, age, time or hour" },
        { "maen(light) < 3", "column 1: there is no function 'maen', did you mean 'mean'?" },
        { "mean(light < 3) < 3", "column 6: expected a number for 'mean', found a condition" },
        { "mean(3) < 3", "column 6: expected a reading for 'mean', as in mean(light)" },
        { "mean() < 3", "column 6: expected a number, a name or '(', found ')'" },
        { "mean(light < 3", "column 6: expected a number for 'mean', found a condition" },
        { "mean(light", "column 11: expected ')' after the argument, found the end" },
        { "mean(max(light)) < 3", "column 10: expected no 'max' over devices within another" },
        { "count(age(light) > 3) > 3",
          "column 7: expected no age(), time() or hour() within 'count'" },
        { "rate(light) > 3",
          "column 6: expected a span of time for 'rate', as in rate(light, 10min)" },
        { "mean(light + 1, 1h) > 3",
          "column 6: expected a name alone before the ',', as in mean(light, 10min)" },
        { "mean(light, 1y) > 3",
          "column 13: expected a span of time such as 10min, from 1ms to 366d" },
        { "mean(light, ) > 3",
          "column 13: expected a span of time such as 10min, from 1ms to 366d" },
        { "mean(light, 0) > 3",
          "column 13: expected a span of time such as 10min, from 1ms to 366d" },
        { "mean(light, 1h, 2) > 3", "column 15: expected ')' after the argument, found ','" },
        { "age(3) < 3", "column 5: expected the name whose age is meant, found '3'" },
        { "age(light + 1) < 3", "column 11: expected ')' after the name, found '+'" },
        { "time(light) < 3", "column 6: expected ')', for it takes no argument, found 'light'" },
        { "light", "column 1: expected a condition such as 'light < 300', found a number" },
        { "a < 1 and b",
          "column 11: expected a condition such as 'light < 300' for 'and', found a number" },
        { "a or b < 1",
          "column 1: expected a condition such as 'light < 300' for 'or', found a number" },
        { "not a",
          "column 5: expected a condition such as 'light < 300' for 'not', found a number" },
        { "1 + (a < 1) < 3", "column 5: expected a number for '+', found a condition" },
        { "(a < 1) == (b < 1)", "column 1: expected a number for '==', found a condition" },
        { "-(a < 1)", "column 2: expected a number for '-', found a condition" },
        { "(a < 1", "column 7: expected an operator or ')', found the end" },
        { "a < 1)", "column 6: expected an operator or the end, found ')'" },
        { "a < 1 b", "column 7: expected an operator or the end, found 'b'" },
        { "a <", "column 4: expected a number, a name or '(', found the end" },
        { "a < and", "column 5: expected a number, a name or '(', found 'and'" },
        { "a < +1", "column 5: expected a number, a name or '(', found '+'" },
        { "a < 300lux", "column 5: expected a number, found '300lux'" },
        { "a < 0x10", "column 5: expected a number, found '0x10'" },
        { "a < 1.2.3", "column 5: expected a number, found '1.2.3'" },
        { "a < 1e400", "column 5: expected a smaller number than 1e400" },
        { "a < `b", "column 5: expected a closing '`' after the name" },
        { "a < ``", "column 5: expected a name between the backquotes" },
        { "`Küche` < 1 §", "column 13: expected an operator or the end, found '§'" },
        { "a \x01 b", "column 3: expected an operator or the end, found '\\x01'" },
        { "a \xff b", "column 3: expected an operator or the end, found '\\xff'" },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct expr *expr = NULL;
        struct why why = { "" };
        assert_int_equal(expr_parse(cases[i].text, EXPR_CONDITION, &expr, &why), -EINVAL);
        assert_string_equal(why.text, cases[i].why);
        assert_null(expr);
    }
    struct expr *expr = NULL;
    struct why why = { "" };
    assert_int_equal(expr_parse("a < 1", EXPR_NUMBER, &expr, &why), -EINVAL);
    assert_string_equal(why.text, "column 1: expected a number, found a condition");
    assert_int_equal(expr_parse("a <", EXPR_NUMBER, &expr, NULL), -EINVAL);
}

/* prefix and suffix n times around "1". */
static int parse_nested(const char *prefix, const char *suffix, size_t n)
{
    char text[EXPR_MAX_LENGTH + 1] = "";
    char *at = text;
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, prefix);
    at = stpcpy(at, "1");
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, suffix);
    _cleanup_(expr_freep) struct expr *expr = NULL;
    struct why why = { "" };
    int r = expr_parse(text, EXPR_NUMBER, &expr, &why);
    if (r < 0) {
        assert_non_null(strstr(why.text, "nested"));
        return r;
    }
    double value = 0;
    assert_true(expr_number(expr, &context, &value));
    return 0;
}

static void bounds_hold(void **state)
{
    (void)state;
    assert_int_equal(parse_nested("(", ")", EXPR_MAX_DEPTH), 0);
    assert_int_equal(parse_nested("(", ")", EXPR_MAX_DEPTH + 1), -EINVAL);
    assert_int_equal(parse_nested("-", "", EXPR_MAX_DEPTH), 0);
    assert_int_equal(parse_nested("-", "", EXPR_MAX_DEPTH + 1), -EINVAL);
    assert_int_equal(parse_nested("1+(", ")", EXPR_MAX_DEPTH - 1), 0); // fills the stack
    assert_int_equal(parse_nested("1+(", ")", EXPR_MAX_DEPTH), -EINVAL);
    assert_int_equal(parse_nested("1+2*(", ")", EXPR_MAX_DEPTH), -EINVAL);
    assert_int_equal(parse_nested("1+", "", 2000), 0); // long is not deep
    assert_int_equal(parse_nested("(", ")-(2)", 50), 0);

    char text[EXPR_MAX_LENGTH + 2];
    memset(text, ' ', sizeof(text));
    text[0] = '1';
    text[EXPR_MAX_LENGTH] = '\0';
    struct expr *expr = NULL;
    assert_int_equal(expr_parse(text, EXPR_NUMBER, &expr, NULL), 0);
    expr_free(expr);
    text[EXPR_MAX_LENGTH] = ' ';
    text[EXPR_MAX_LENGTH + 1] = '\0';
    struct why why = { "" };
    assert_int_equal(expr_parse(text, EXPR_NUMBER, &expr, &why), -EINVAL);
    assert_string_equal(why.text, "column 1: expected an expression of at most 4096 bytes");
}

static void names_are_bounded_in_length_and_number(void **state)
{
    (void)state;
    char text[EXPR_MAX_LENGTH + 1];
    struct expr *expr = NULL;
    struct why why = { "" };
    snprintf(text, sizeof(text), "1 + n%0*d", EXPR_MAX_NAME - 1, 1);
    assert_int_equal(expr_parse(text, EXPR_NUMBER, &expr, &why), 0);
    expr_free(expr);
    snprintf(text, sizeof(text), "1 + n%0*d", EXPR_MAX_NAME, 1);
    assert_int_equal(expr_parse(text, EXPR_NUMBER, &expr, &why), -EINVAL);
    assert_string_equal(why.text, "column 5: expected a name of at most 64 bytes");

    char *at = text;
    for (int i = 0; i < EXPR_MAX_NAMES; i++)
        at += sprintf(at, "%sn%d", i ? "+" : "", i);
    assert_int_equal(expr_parse(text, EXPR_NUMBER, &expr, &why), 0);
    assert_int_equal(expr_n_names(expr), EXPR_MAX_NAMES);
    expr_free(expr);
    strcpy(at, "+n0+more");
    assert_int_equal(expr_parse(text, EXPR_NUMBER, &expr, &why), -EINVAL);
    assert_non_null(strstr(why.text, "at most 64 different names"));
}

static void names_come_in_order_of_first_use_and_at_first_bound_to_it(void **state)
{
    (void)state;
    _cleanup_(expr_freep) struct expr *expr = NULL;
    assert_int_equal(expr_parse("b - a + `b` * age(c)", EXPR_NUMBER, &expr, NULL), 0);
    assert_int_equal(expr_n_names(expr), 3);
    assert_string_equal(expr_name(expr, 0), "b");
    assert_string_equal(expr_name(expr, 1), "a");
    assert_string_equal(expr_name(expr, 2), "c");

    struct expr_reading own[] = { { 10, 1 }, { 3, 1 }, { 0, 1 }, { 100, 1 } };
    struct expr_context at = { .readings = own,
                               .now_mono_usec = 2 * USEC_PER_SEC + 1,
                               .stale_after_usec = USEC_INFINITY };
    double value = 0;
    assert_true(expr_number(expr, &at, &value));
    assert_true(value == 10 - 3 + 10 * 2);
    expr_bind(expr, 0, 3);
    assert_true(expr_number(expr, &at, &value));
    assert_true(value == 100 - 3 + 100 * 2);
}

static void uses_time_only_with_a_function(void **state)
{
    (void)state;
    static const char *const with[] = { "age(light)", "1 + time()", "hour()" };
    for (size_t i = 0; i < ELEMENTS(with); i++) {
        _cleanup_(expr_freep) struct expr *expr = parse(with[i], EXPR_NUMBER);
        assert_true(expr_uses_time(expr));
    }
    _cleanup_(expr_freep) struct expr *expr = NULL;
    assert_int_equal(expr_parse("light + age + time + hour", EXPR_NUMBER, &expr, NULL), 0);
    assert_false(expr_uses_time(expr));
}

static void first_unknown_is_the_name_to_blame(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
    } cases[] = {
        { "light + zero", NULL },
        { "light + missing", "missing" },
        { "light + stale + missing", "stale" },
        { "nan", "nan" },
        { "age(stale)", NULL },
        { "age(stale) + stale", "stale" },
        { "age(missing)", "missing" },
        { "1 / zero", NULL },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_(expr_freep) struct expr *expr = parse(cases[i].text, EXPR_NUMBER);
        size_t first = expr_first_unknown(expr, &context);
        if (cases[i].name)
            assert_string_equal(expr_name(expr, first), cases[i].name);
        else
            assert_true(first == SIZE_MAX);
    }
}

/* --- random expressions against a second evaluator ------------------------------------------- */

/* The operators by strength, as the header ranks them; a leaf has none. */
static const struct {
    const char *text;
    int strength;
} ops[] = {
    { "or", 0 }, { "and", 1 }, { "not", 2 }, { "<", 3 }, { "<=", 3 }, { ">", 3 }, { ">=", 3 },
    { "==", 3 }, { "!=", 3 },  { "+", 4 },   { "-", 4 }, { "*", 5 },  { "/", 5 }, { "neg", 6 },
};

struct tree {
    int op; // -1: a leaf
    const char *leaf;
    double value; // of the leaf; NAN: unknown
    struct tree *left, *right;
};

static struct tree pool[512];
static size_t n_pool;
static uint64_t seed;

static int pick(int n)
{
    seed = seed * 6364136223846793005 + 1442695040888963407;
    return (int)((seed >> 33) % (uint64_t)n);
}

static struct tree *grow(bool is_condition, int depth)
{
    static const struct tree leaves[] = {
        { -1, "2", 2, NULL, NULL },           { -1, "0.5", 0.5, NULL, NULL },
        { -1, "light", 250, NULL, NULL },     { -1, "zero", 0, NULL, NULL },
        { -1, "neg", -4, NULL, NULL },        { -1, "missing", NAN, NULL, NULL },
        { -1, "stale", NAN, NULL, NULL },     { -1, "age(zero)", 10, NULL, NULL },
        { -1, "`room-2`", 21.5, NULL, NULL }, { -1, "big", 1e308, NULL, NULL },
    };
    struct tree *tree = &pool[n_pool++];
    assert_true(n_pool <= ELEMENTS(pool));
    if (!is_condition && (depth <= 0 || pick(4) == 0)) {
        *tree = leaves[pick((int)ELEMENTS(leaves))];
        return tree;
    }
    *tree =
        (struct tree){ .op = is_condition ? (depth <= 1 ? 3 + pick(6) : pick(9)) : 9 + pick(5) };
    bool joins = tree->op < 3;
    if (strcmp(ops[tree->op].text, "not") != 0 && strcmp(ops[tree->op].text, "neg") != 0)
        tree->left = grow(joins, depth - 1);
    tree->right = grow(joins, depth - 1);
    return tree;
}

/* Writes tree with no more parentheses than it needs where it stands. */
static char *print(const struct tree *tree, int weakest, char *at)
{
    if (tree->op < 0)
        return stpcpy(at, tree->leaf);
    int strength = ops[tree->op].strength;
    bool in_group = strength < weakest;
    if (in_group)
        at = stpcpy(at, "(");
    if (tree->left) {
        at = print(tree->left, strength == 3 ? 4 : strength, at);
        at += sprintf(at, " %s ", ops[tree->op].text);
        at = print(tree->right, strength + 1, at);
    } else {
        at = stpcpy(at, strength == 2 ? "not " : "-");
        at = print(tree->right, strength, at);
    }
    return in_group ? stpcpy(at, ")") : at;
}

/* A condition is 0, 0.5 for unknown, or 1: Kleene's `and` is min, his `or` max, his `not` 1 - x. */
static double naive(const struct tree *tree)
{
    if (tree->op < 0)
        return tree->value;
    double a = tree->left ? naive(tree->left) : 0;
    double b = naive(tree->right);
    const char *op = ops[tree->op].text;
    if (strcmp(op, "and") == 0)
        return fmin(a, b);
    if (strcmp(op, "or") == 0)
        return fmax(a, b);
    if (strcmp(op, "not") == 0)
        return 1 - b;
    if (strcmp(op, "neg") == 0)
        return -b;
    double result = op[0] == '+' ? a + b : op[0] == '-' ? a - b : op[0] == '*' ? a * b : NAN;
    if (op[0] == '/' && b != 0)
        result = a / b;
    if (ops[tree->op].strength > 3)
        return isfinite(result) ? result : NAN;
    if (isnan(a) || isnan(b))
        return 0.5;
    bool is_less = a < b, is_equal = a == b;
    bool is_strict = op[1] == '\0';
    if (op[0] == '=' || op[0] == '!')
        return is_equal == (op[0] == '=');
    return op[0] == '<' ? is_less || (is_equal && !is_strict)
                        : !is_less && !(is_equal && is_strict);
}

static void random_expressions_agree_with_a_naive_evaluator(void **state)
{
    (void)state;
    unsigned counts[3] = { 0 };
    for (seed = 1; seed < 20000; seed++) {
        uint64_t round = seed;
        n_pool = 0;
        const struct tree *tree = grow(true, 2 + pick(5));
        char text[EXPR_MAX_LENGTH * 2];
        print(tree, 0, text);
        double expected = naive(tree);
        int found = condition(text);
        if (found != (expected == 0.5 ? -1 : (int)expected))
            fail_msg("seed %u: %s: %d, not %g", (unsigned)round, text, found, expected);
        counts[found + 1]++;
        seed = round;
    }
    for (size_t i = 0; i < 3; i++)
        assert_true(counts[i] > 1000); // each outcome was really tried
}

static void aggregates_have_arguments_and_look_at_tallies(void **state)
{
    (void)state;
    _cleanup_(expr_freep) struct expr *expr = NULL;
    assert_int_equal(
        expr_parse("count(a < 3 or b > a) >= 2 and median(a) + 1 < 9", EXPR_CONDITION, &expr, NULL),
        0);
    assert_int_equal(expr_n_names(expr), 0);
    assert_int_equal(expr_n_aggregates(expr), 2);
    assert_int_equal(expr_type(expr_argument(expr, 0)), EXPR_CONDITION);
    assert_int_equal(expr_n_names(expr_argument(expr, 0)), 2);
    assert_int_equal(expr_type(expr_argument(expr, 1)), EXPR_NUMBER);
    struct tally tallies[2] = { { .of_conditions = true }, { 0 } };
    struct tally_entry yes[2] = { 0 }, numbers[3] = { 0 };
    const struct expr_context at = { .tallies = tallies, .min_devices = 2 };
    assert_int_equal(expr_condition(expr, &at), -1);
    tally_put(&tallies[0], &yes[0], 1);
    tally_put(&tallies[0], &yes[1], 1);
    for (size_t i = 0; i < ELEMENTS(numbers); i++)
        tally_put(&tallies[1], &numbers[i], (double)i + 6);
    assert_int_equal(expr_condition(expr, &at), 1); // 2 >= 2 and 7 + 1 < 9
    tally_put(&tallies[0], &yes[1], 0);
    assert_int_equal(expr_condition(expr, &at), 0);
    tally_put(&tallies[0], &yes[1], NAN);
    assert_int_equal(expr_condition(expr, &at), -1); // fewer than two
    const struct expr_context without = { 0 };
    assert_int_equal(expr_condition(expr, &without), -1);
}

static void windows_have_a_name_and_a_span(void **state)
{
    (void)state;
    _cleanup_(expr_freep) struct expr *expr = NULL;
    assert_int_equal(expr_parse("mean(`room-2`, 1h 30min) - rate(a, 500ms) + max(b,7)", EXPR_NUMBER,
                                &expr, NULL),
                     0);
    assert_int_equal(expr_n_names(expr), 0);
    assert_int_equal(expr_n_windows(expr), 3);
    assert_string_equal(expr_window_name(expr, 0), "room-2");
    assert_int_equal(expr_window_span_usec(expr, 0), 5400 * USEC_PER_SEC);
    assert_int_equal(expr_window_span_usec(expr, 1), 500 * USEC_PER_MSEC);
    assert_int_equal(expr_window_span_usec(expr, 2), 7 * USEC_PER_SEC);
    assert_true(expr_uses_time(expr));
    double value = 7;
    assert_false(expr_number(expr, &context, &value)); // without series
}

static void equal_programs_are_told_from_others(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        { "a < 3", " (a)<3.0", true },
        { "a < 3", "b < 3", false },
        { "a < 3", "a < 4", false },
        { "a < 3", "a <= 3", false },
        { "a < 3 and b < 3", "a < 3", false },
        { "mean(a) < 3", "mean( a )<3", true },
        { "mean(a) < 3", "mean(b) < 3", false },
        { "mean(a) < 3", "max(a) < 3", false },
        { "mean(a, 1min) < 3", "mean(a, 60s) < 3", true },
        { "mean(a, 1min) < 3", "mean(a, 61s) < 3", false },
        { "mean(a, 1min) < 3", "mean(b, 1min) < 3", false },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_(expr_freep) struct expr *a = NULL, *b = NULL;
        assert_int_equal(expr_parse(cases[i].a, EXPR_CONDITION, &a, NULL), 0);
        assert_int_equal(expr_parse(cases[i].b, EXPR_CONDITION, &b, NULL), 0);
        assert_int_equal(expr_equal(a, b), cases[i].equal);
    }
}

static void a_late_reading_is_unknown_without_a_time_to_go_stale(void **state)
{
    (void)state;
    _cleanup_(expr_freep) struct expr *value = NULL, *age = NULL;
    assert_int_equal(expr_parse("a < 3", EXPR_CONDITION, &value, NULL), 0);
    assert_int_equal(expr_parse("age(a) == 60", EXPR_CONDITION, &age, NULL), 0);
    const struct expr_reading own[] = { { 1, 40 * USEC_PER_SEC } };
    const bool late[] = { true };
    struct expr_context at = { .readings = own,
                               .now_mono_usec = 100 * USEC_PER_SEC,
                               .stale_after_usec = USEC_INFINITY,
                               .late = late };
    assert_int_equal(expr_condition(value, &at), -1);
    assert_int_equal(expr_first_unknown(value, &at), 0);
    assert_int_equal(expr_condition(age, &at), 1);
    at.stale_after_usec = 61 * USEC_PER_SEC;
    assert_int_equal(expr_condition(value, &at), 1);
    at.stale_after_usec = 59 * USEC_PER_SEC;
    assert_int_equal(expr_condition(value, &at), -1);
}

int main(void)
{
    for (size_t i = 0; i < ELEMENTS(known); i++)
        readings[i] = known[i].reading;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aggregates_have_arguments_and_look_at_tallies),
        cmocka_unit_test(windows_have_a_name_and_a_span),
        cmocka_unit_test(equal_programs_are_told_from_others),
        cmocka_unit_test(a_late_reading_is_unknown_without_a_time_to_go_stale),
        cmocka_unit_test(conditions_have_their_values),
        cmocka_unit_test(numbers_have_their_values),
        cmocka_unit_test(unknown_spreads_as_in_kleenes_logic),
        cmocka_unit_test(every_operator_with_an_unknown_number_is_unknown),
        cmocka_unit_test(refusals_say_where_and_what_was_expected),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(names_are_bounded_in_length_and_number),
        cmocka_unit_test(names_come_in_order_of_first_use_and_at_first_bound_to_it),
        cmocka_unit_test(uses_time_only_with_a_function),
        cmocka_unit_test(first_unknown_is_the_name_to_blame),
        cmocka_unit_test(random_expressions_agree_with_a_naive_evaluator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
