// SPDX-License-Identifier: LGPL-2.1-or-later
// JSON from a peer: what RFC 8259 allows and refuses, bounds, repeated keys, and quoting.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"

/* From an allocation of its exact size, so that ASan sees a byte too far. */
static int check(const char *text, size_t length, struct why *why)
{
    _cleanup_(freep) char *bytes = malloc(length ? length : 1);
    memcpy(bytes, text, length);
    return json_check(bytes, length, JSON_MAX_SIZE, JSON_MAX_DEPTH, why);
}

static struct json_object *parse(const char *text)
{
    struct json_object *object = NULL;
    struct why why = { "" };
    if (json_parse_object(text, strlen(text), &object, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    return object;
}

static void what_the_rfc_allows_is_taken(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "[]",
        " \t\r\n{ \"a\" : [ 1 , 2 ] } \n",
        "0",
        "-0",
        "-0.0e-0",
        "1E+5",
        "0.5",
        "1e308",
        "1.7976931348623157e308",
        "1e-400", // underflow is zero
        "0e999999999999",
        "18446744073709551616",
        "\"\"",
        "true",
        "null",
        "[true,false,null]",
        "{\"\":{\"\":[]},\"b\":[{}]}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\\u0000\"",
        "\"\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
    };
    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        struct why why = { "" };
        if (check(texts[i], strlen(texts[i]), &why) != 0)
            fail_msg("%s: %s", texts[i], why.text);
    }
}

static void what_the_rfc_refuses_is_refused_where_it_stands(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *where; // what why begins with
    } cases[] = {
        { "", "byte 0: " },
        { " ", "byte 1: " },
        { "NaN", "byte 0: " },
        { "Infinity", "byte 0: " },
        { "-Infinity", "byte 1: " },
        { "{'a':1}", "byte 1: " },
        { "{a:1}", "byte 1: " },
        { "1.", "byte 2: " },
        { ".5", "byte 0: " },
        { "+1", "byte 0: " },
        { "-", "byte 1: " },
        { "01", "byte 2: " },
        { "-012", "byte 4: " },
        { "1e", "byte 2: " },
        { "1e+", "byte 3: " },
        { "0x10", "byte 1: " },
        { "1e400", "byte 5: " },
        { "-1E309", "byte 6: " },
        { "tru", "byte 0: " },
        { "True", "byte 0: " },
        { "nulll", "byte 4: " },
        { "[", "byte 1: " },
        { "[1", "byte 2: " },
        { "[1,", "byte 3: " },
        { "[1,]", "byte 3: " },
        { "[,1]", "byte 1: " },
        { "[1 2]", "byte 3: " },
        { "[1}", "byte 2: " },
        { "]", "byte 0: " },
        { "{", "byte 1: " },
        { "{\"a\"}", "byte 4: " },
        { "{\"a\":}", "byte 5: " },
        { "{\"a\":1", "byte 6: " },
        { "{\"a\":1,}", "byte 7: " },
        { "{\"a\":1]", "byte 6: " },
        { "{,}", "byte 1: " },
        { "{} {}", "byte 3: " },
        { "1 // one", "byte 2: " },
        { "/**/1", "byte 0: " },
        { "\v1", "byte 0: " },
        { "\xef\xbb\xbf{}", "byte 0: " }, // a byte order mark
        { "\"a", "byte 2: " },
        { "\"a\nb\"", "byte 2: " },
        { "\"\\x41\"", "byte 2: " },
        { "\"\\u12g4\"", "byte 5: " },
        { "\"\\u\x11\x12\x13\x14\"", "byte 3: " },
        { "\"\\u12\"", "byte 5: " },
        { "\"\\", "byte 2: " },
        { "\"\\ud800\"", "byte 7: " },
        { "\"\\udc00\"", "byte 7: " },
        { "\"\\ud800x\"", "byte 7: " },
        { "\"\\ud800\\u0041\"", "byte 13: " },
        { "\"\\ud800\\n\"", "byte 7: " },
        { "\"\xff\"", "byte 1: " },
        { "\"\xc0\xaf\"", "byte 1: " },
        { "\"\xed\xa0\x80\"", "byte 1: " },
        { "\"a\xe2\x82\"", "byte 2: " },
        { "\"a\xe2\x82", "byte 2: " },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct why why = { "" };
        int r = check(cases[i].text, strlen(cases[i].text), &why);
        if (r != -EBADMSG || strncmp(why.text, cases[i].where, strlen(cases[i].where)) != 0)
            fail_msg("%s: %d, %s", cases[i].text, r, why.text);
    }
}

static void a_nul_is_no_white_space_and_no_end(void **state)
{
    (void)state;
    assert_int_equal(check("{}\0", 3, NULL), -EBADMSG);
    assert_int_equal(check("\"\0\"", 3, NULL), -EBADMSG);
    assert_int_equal(check("\"\\\0\"", 4, NULL), -EBADMSG);
    assert_int_equal(check("\"\\u\0\0\0\0\"", 8, NULL), -EBADMSG);
    assert_int_equal(check("[\0]", 3, NULL), -EBADMSG);
}

static void every_cut_of_a_text_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[-1.5e+3,\"\\ud83d\\ude00\xc3\xa9\",{\"b\":true}]}";
    for (size_t length = 0; length < sizeof(text) - 1; length++)
        assert_int_equal(check(text, length, NULL), -EBADMSG);
    assert_int_equal(check(text, sizeof(text) - 1, NULL), 0);
}

static void a_number_decides_by_its_value_not_by_its_length(void **state)
{
    (void)state;
    char text[512];
    snprintf(text, sizeof(text), "1%0308d", 0); // 1e308
    assert_int_equal(check(text, strlen(text), NULL), 0);
    snprintf(text, sizeof(text), "1%0309d", 0); // 1e309
    assert_int_equal(check(text, strlen(text), NULL), -EBADMSG);
    snprintf(text, sizeof(text), "0.%0100d1", 0);
    assert_int_equal(check(text, strlen(text), NULL), 0);
}

static void depth_is_bounded_and_a_deep_text_costs_no_stack(void **state)
{
    (void)state;
    enum { DEEP = 10000 };
    static char text[2 * DEEP];
    struct why why = { "" };
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    assert_int_equal(json_check(text, sizeof(text), sizeof(text), 64, &why), -EMSGSIZE);
    assert_string_equal(why.text, "byte 64: nested deeper than 64 levels");
    assert_int_equal(json_check(text + DEEP - 64, 128, 128, 64, NULL), 0);
    assert_int_equal(json_check(text + DEEP - 2, 4, 4, 1, NULL), -EMSGSIZE);
    assert_int_equal(json_check("1", 1, 1, 0, NULL), 0);
    assert_int_equal(json_check("[]", 2, 2, 0, NULL), -EMSGSIZE);
}

static void brackets_of_every_level_must_match(void **state)
{
    (void)state;
    assert_int_equal(check("[{\"a\":[{\"b\":[[],{}]}]}]", 23, NULL), 0);
    assert_int_equal(check("[{\"a\":[{\"b\":[[],{}]]}]}]", 24, NULL), -EBADMSG);
    assert_int_equal(check("{\"a\":[1],\"b\"}", 13, NULL), -EBADMSG);
    assert_int_equal(check("[{\"a\":1},\"b\":2]", 15, NULL), -EBADMSG);
}

static void size_is_bounded(void **state)
{
    (void)state;
    static char text[JSON_MAX_SIZE + 1];
    memset(text, ' ', sizeof(text));
    text[0] = '{';
    text[1] = '}';
    struct json_object *object = NULL;
    assert_int_equal(json_parse_object(text, JSON_MAX_SIZE, &object, NULL), 0);
    json_object_put(object);
    assert_int_equal(json_parse_object(text, JSON_MAX_SIZE + 1, &object, NULL), -EMSGSIZE);
}

static void an_object_is_parsed_to_its_full_depth(void **state)
{
    (void)state;
    char text[128] = "{\"a\":";
    memset(text + 5, '[', JSON_MAX_DEPTH - 1);
    text[4 + JSON_MAX_DEPTH] = '7';
    memset(text + 5 + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH - 1);
    text[4 + 2 * JSON_MAX_DEPTH] = '}';
    struct json_object *object = parse(text);
    assert_int_equal(json_object_object_length(object), 1);
    json_object_put(object);
}

static void a_repeated_key_is_refused_however_it_is_written(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"b\":[0,{\"a\":{},\"c\":1,\"a\":{\"d\":1}}]}",
        "{\"\":1,\"\":2}",
    };
    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        struct json_object *object = NULL;
        assert_int_equal(json_parse_object(texts[i], strlen(texts[i]), &object, NULL), -EBADMSG);
        assert_null(object);
    }
    json_object_put(parse("{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}"));
}

static void a_key_with_a_nul_is_refused_since_it_would_be_cut(void **state)
{
    (void)state;
    static const char text[] = "{\"led_on\\u0000x\":true}";
    struct json_object *object = NULL;
    struct why why = { "" };
    assert_int_equal(json_parse_object(text, strlen(text), &object, &why), -EBADMSG);
    assert_string_equal(why.text, "a key cannot hold \\u0000");
    json_object_put(parse("{\"a\":\"\\u0000\"}"));
}

static void other_types_than_an_object_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = { "[]", "1", "null", "\"{}\"", " true" };
    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        struct json_object *object = NULL;
        assert_int_equal(json_parse_object(texts[i], strlen(texts[i]), &object, NULL), -EBADMSG);
    }
}

static void an_integer_beyond_64_bits_is_a_double(void **state)
{
    (void)state;
    struct json_object *object =
        parse("{\"a\":18446744073709551616,\"b\":[-99999999999999999999],\"c\":9223372036854775807,"
              "\"s\":\"\\\"99999999999999999999\",\"d\":-9223372036854775809,"
              "\"e\":1.00000000000000000000,\"f\":1e00000000000000000000001}");
    assert_true(json_object_get_double(json_object_object_get(object, "a")) == 0x1p64);
    struct json_object *b = json_object_array_get_idx(json_object_object_get(object, "b"), 0);
    assert_true(json_object_get_double(b) == -1e20);
    assert_true(json_object_get_int64(json_object_object_get(object, "c")) == INT64_MAX);
    assert_string_equal(json_object_get_string(json_object_object_get(object, "s")),
                        "\"99999999999999999999");
    assert_true(json_object_get_double(json_object_object_get(object, "d")) == -0x1p63);
    assert_true(json_object_get_double(json_object_object_get(object, "e")) == 1);
    assert_true(json_object_get_double(json_object_object_get(object, "f")) == 10);
    json_object_put(object);
}

static void quoted_text_reads_back(void **state)
{
    (void)state;
    static const char text[] = "\"\\/\b\f\n\r\t\x01\x1f\x7f \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    char quoted[256], member[300];
    json_quote(text, quoted, sizeof(quoted));
    assert_int_equal(check(quoted, strlen(quoted), NULL), 0);
    snprintf(member, sizeof(member), "{\"a\":%s}", quoted);
    struct json_object *object = parse(member);
    assert_string_equal(json_object_get_string(json_object_object_get(object, "a")), text);
    json_object_put(object);
}

static void a_quote_is_cut_between_characters(void **state)
{
    (void)state;
    static const char text[] = "a\n\xc3\xa9\x01\xf0\x9f\x98\x80\"";
    char full[64];
    size_t full_length = strlen(json_quote(text, full, sizeof(full)));
    for (size_t size = 3; size <= full_length + 1; size++) {
        _cleanup_(freep) char *out = malloc(size);
        json_quote(text, out, size);
        assert_int_equal(check(out, strlen(out), NULL), 0);
        assert_memory_equal(out, full, strlen(out) - 1);
        assert_true(strlen(out) < size);
    }
    char exact[64];
    assert_string_equal(json_quote(text, exact, full_length + 1), full);
}

static void what_is_not_utf8_is_quoted_as_a_replacement(void **state)
{
    (void)state;
    char out[64];
    assert_string_equal(json_quote("a\xff\xc3", out, sizeof(out)), "\"a\\ufffd\\ufffd\"");
    assert_string_equal(json_quote("", out, 3), "\"\"");
}

static void keys_of_another_object_are_found(void **state)
{
    (void)state;
    assert_true(json_has_keys_of("{\"a\": 2, \"b\": 3}", "{\"a\": 1}"));
    assert_true(json_has_keys_of("{\"a\": null}", "{\"a\": 1}"));
    assert_true(json_has_keys_of("{}", "{}"));
    assert_false(json_has_keys_of("{\"a\": 2}", "{\"a\": 1, \"b\": 1}"));
    assert_false(json_has_keys_of("{\"a\": 2}", "[1]"));
    assert_false(json_has_keys_of("nonsense", "{\"a\": 1}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_rfc_allows_is_taken),
        cmocka_unit_test(what_the_rfc_refuses_is_refused_where_it_stands),
        cmocka_unit_test(a_nul_is_no_white_space_and_no_end),
        cmocka_unit_test(every_cut_of_a_text_is_refused),
        cmocka_unit_test(a_number_decides_by_its_value_not_by_its_length),
        cmocka_unit_test(depth_is_bounded_and_a_deep_text_costs_no_stack),
        cmocka_unit_test(brackets_of_every_level_must_match),
        cmocka_unit_test(size_is_bounded),
        cmocka_unit_test(an_object_is_parsed_to_its_full_depth),
        cmocka_unit_test(a_repeated_key_is_refused_however_it_is_written),
        cmocka_unit_test(a_key_with_a_nul_is_refused_since_it_would_be_cut),
        cmocka_unit_test(other_types_than_an_object_are_refused),
        cmocka_unit_test(an_integer_beyond_64_bits_is_a_double),
        cmocka_unit_test(quoted_text_reads_back),
        cmocka_unit_test(a_quote_is_cut_between_characters),
        cmocka_unit_test(what_is_not_utf8_is_quoted_as_a_replacement),
        cmocka_unit_test(keys_of_another_object_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
