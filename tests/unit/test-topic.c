// SPDX-License-Identifier: LGPL-2.1-or-later
// Topic templates: what may stand in them, and expansion, filter and match as each other's inverse.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/topic.h"

enum { ALL = (1 << TOPIC_FIELDS) - 1 };

static struct topic_template *parse(const char *text)
{
    struct topic_template *template = NULL;
    struct why why = { "" };
    if (topic_parse(text, ALL, &template, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    return template;
}

static bool matches(const char *text, const char *topic, struct topic_match *ret_match)
{
    _cleanup_(topic_freep) struct topic_template *template = parse(text);
    return topic_match(template, topic, ret_match);
}

static void assert_slice(const struct topic_match *match, enum topic_field field, const char *text)
{
    assert_int_equal(match->field[field].length, strlen(text));
    assert_memory_equal(match->field[field].bytes, text, strlen(text));
}

static void a_bad_template_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } cases[] = {
        { "", "empty" },
        { "/", "empty" },
        { "/a", "empty" },
        { "a/", "empty" },
        { "a//b", "empty" },
        { "a/{id", "whole level" },
        { "a/x{id}", "whole level" },
        { "{id}x/a", "whole level" },
        { "a/id}", "whole level" },
        { "{id}{group}", "whole level" },
        { "{{id}}", "whole level" },
        { "}{", "whole level" },
        { "{", "whole level" },
        { "{}", "{}" },
        { "{ID}", "{ID}" },
        { "{idx}", "{idx}" },
        { "{i}", "{i}" },
        { "{id}/a/{id}", "twice" },
        { "a/+", "'+'" },
        { "a/#", "'#'" },
        { "a+b", "'+'" },
        { "$SYS/a", "'$'" },
        { "$share/g/a", "'$'" },
        { "a\nb", "control" },
        { "a\x7f", "control" },
        { "a\xc2\x9b", "control" },
        { "a\xff", "UTF-8" },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct topic_template *template = NULL;
        struct why why = { "" };
        int r = topic_parse(cases[i].text, ALL, &template, &why);
        if (r != -EINVAL || template || !strstr(why.text, cases[i].reason))
            fail_msg("'%s': %d, %s", cases[i].text, r, why.text);
    }
}

static void a_placeholder_stands_only_where_it_is_allowed(void **state)
{
    (void)state;
    struct topic_template *template = NULL;
    assert_int_equal(topic_parse("{id}/{sensor}", 1 << TOPIC_ID, &template, NULL), -EINVAL);
    assert_int_equal(topic_parse("{id}", 1 << TOPIC_ID, &template, NULL), 0);
    assert_true(topic_has(template, TOPIC_ID));
    assert_false(topic_has(template, TOPIC_GROUP));
    topic_free(template);
    topic_free(NULL);
}

static void the_length_of_a_template_is_bounded(void **state)
{
    (void)state;
    char text[TOPIC_MAX_LENGTH / 2 + 2];
    memset(text, 'a', sizeof(text));
    text[TOPIC_MAX_LENGTH / 2] = '\0';
    topic_free(parse(text));
    text[TOPIC_MAX_LENGTH / 2] = 'a';
    text[TOPIC_MAX_LENGTH / 2 + 1] = '\0';
    struct topic_template *template = NULL;
    assert_int_equal(topic_parse(text, 0, &template, NULL), -EINVAL);
}

static void the_levels_of_a_template_are_bounded(void **state)
{
    (void)state;
    char text[128];
    for (size_t i = 0; i < 33; i++)
        memcpy(text + 2 * i, "a/", 2);
    struct topic_template *template = NULL;
    text[63] = '\0';
    topic_free(parse(text));
    text[63] = '/';
    text[65] = '\0';
    assert_int_equal(topic_parse(text, 0, &template, NULL), -EINVAL);
}

static void what_is_expanded_matches_and_gives_its_values_back(void **state)
{
    (void)state;
    _cleanup_(topic_freep) struct topic_template *template =
        parse("site/{group}/{id}/{sensor}/x/{stream}");
    struct topic_values values = { { "dev-1", "hall", "light", "telemetry" } };
    _cleanup_(freep) char *topic = NULL;
    struct topic_match match;
    assert_int_equal(topic_expand(template, &values, &topic), 0);
    assert_string_equal(topic, "site/hall/dev-1/light/x/telemetry");
    assert_true(topic_match(template, topic, &match));
    for (unsigned i = 0; i < TOPIC_FIELDS; i++)
        assert_slice(&match, (enum topic_field)i, values.field[i]);
}

static void a_filter_has_a_plus_for_what_is_not_known(void **state)
{
    (void)state;
    _cleanup_(topic_freep) struct topic_template *template = parse("{group}/{id}/telemetry");
    struct topic_values known = { .field = { [TOPIC_ID] = "a" } }, unknown = { 0 };
    _cleanup_(freep) char *one = NULL;
    _cleanup_(freep) char *all = NULL;
    assert_int_equal(topic_filter(template, &known, &one), 0);
    assert_string_equal(one, "+/a/telemetry");
    assert_int_equal(topic_filter(template, &unknown, &all), 0);
    assert_string_equal(all, "+/+/telemetry");
}

static void a_value_that_is_missing_or_would_change_the_topic_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { NULL, "", "a/b", "+", "#", "a b", "\xc3\xa9" };
    _cleanup_(topic_freep) struct topic_template *template = parse("{id}/telemetry");
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        struct topic_values values = { .field = { [TOPIC_ID] = bad[i] } };
        char *topic = NULL;
        assert_int_equal(topic_expand(template, &values, &topic), -EINVAL);
        if (bad[i])
            assert_int_equal(topic_filter(template, &values, &topic), -EINVAL);
        assert_null(topic);
    }
}

static void an_expanded_topic_is_bounded(void **state)
{
    (void)state;
    // Every template that is taken can be expanded: the values are short.
    char text[TOPIC_MAX_LENGTH / 2 + 1], value[65];
    memset(text, 'a', sizeof(text));
    memcpy(text, "{id}/{group}/{sensor}/{stream}/", 31);
    text[TOPIC_MAX_LENGTH / 2] = '\0';
    memset(value, 'v', 64);
    value[64] = '\0';
    _cleanup_(topic_freep) struct topic_template *template = parse(text);
    struct topic_values values = { { value, value, value, value } };
    _cleanup_(freep) char *topic = NULL;
    assert_int_equal(topic_expand(template, &values, &topic), 0);
    assert_int_equal(strlen(topic), TOPIC_MAX_LENGTH / 2 - 27 + 4 * 64);
    assert_true(strlen(topic) <= TOPIC_MAX_LENGTH);
}

static void only_the_same_levels_match(void **state)
{
    (void)state;
    static const struct {
        const char *template, *topic;
        bool expected;
    } cases[] = {
        { "{id}/telemetry", "a/telemetry", true },
        { "{id}/telemetry", "a/telemetr", false },
        { "{id}/telemetry", "a/telemetryx", false },
        { "{id}/telemetry", "a/telemetry/", false },
        { "{id}/telemetry", "/telemetry", false },
        { "{id}/telemetry", "a", false },
        { "{id}/telemetry", "a/", false },
        { "{id}/telemetry", "a/b/telemetry", false },
        { "{id}/telemetry", "telemetry", false },
        { "{id}/telemetry", "", false },
        { "{id}/telemetry", "$SYS/telemetry", false },
        { "a/{id}", "a/b", true },
        { "a/{id}", "a/", false },
        { "a/{id}", "a", false },
        { "a/{id}", "ab/c", false },
        { "a/{id}", "a/b/c", false },
        { "a/{id}", "a/$b", true },
        { "a", "a", true },
        { "a", "a/", false },
        { "ab/c", "a/bc", false },
        { "{id}", "\xc3\xa9 x", true },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct topic_match match;
        if (matches(cases[i].template, cases[i].topic, &match) != cases[i].expected)
            fail_msg("%s, %s", cases[i].template, cases[i].topic);
    }
}

static void a_match_leaves_other_fields_empty_and_a_failed_one_all(void **state)
{
    (void)state;
    struct topic_match match;
    assert_true(matches("{id}/telemetry", "dev/telemetry", &match));
    assert_slice(&match, TOPIC_ID, "dev");
    assert_null(match.field[TOPIC_GROUP].bytes);
    match.field[TOPIC_GROUP].length = 7;
    assert_false(matches("{group}/telemetry", "dev/status", &match));
    assert_int_equal(match.field[TOPIC_GROUP].length, 7);
}

static void ids_are_of_plain_characters(void **state)
{
    (void)state;
    static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                              "0123456789._:@-";
    for (unsigned c = 0; c < 256; c++) {
        char text = (char)c;
        assert_int_equal(topic_valid_value(&text, 1), c != 0 && strchr(all, text) != NULL);
    }
    char text[65];
    memset(text, 'a', sizeof(text));
    assert_false(topic_valid_value(text, 0));
    assert_true(topic_valid_value(text, 64));
    assert_false(topic_valid_value(text, 65));
    assert_false(topic_valid_value("a\0b", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_template_is_refused_with_its_reason),
        cmocka_unit_test(a_placeholder_stands_only_where_it_is_allowed),
        cmocka_unit_test(the_length_of_a_template_is_bounded),
        cmocka_unit_test(the_levels_of_a_template_are_bounded),
        cmocka_unit_test(what_is_expanded_matches_and_gives_its_values_back),
        cmocka_unit_test(a_filter_has_a_plus_for_what_is_not_known),
        cmocka_unit_test(a_value_that_is_missing_or_would_change_the_topic_is_refused),
        cmocka_unit_test(an_expanded_topic_is_bounded),
        cmocka_unit_test(only_the_same_levels_match),
        cmocka_unit_test(a_match_leaves_other_fields_empty_and_a_failed_one_all),
        cmocka_unit_test(ids_are_of_plain_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
