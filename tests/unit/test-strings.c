// SPDX-License-Identifier: LGPL-2.1-or-later
// Strings: vectors, the nearest word, UTF-8 and what may be shown in a line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/strings.h"

static void text_is_split_at_white_space(void **state)
{
    (void)state;
    _cleanup_(strings_freep) char **vector = NULL;
    assert_int_equal(strings_split("  a bc\t\n d ", &vector), 0);
    assert_int_equal(strings_count(vector), 3);
    assert_string_equal(vector[1], "bc");
}

static void nothing_is_split_to_an_empty_vector(void **state)
{
    (void)state;
    static const char *const texts[] = { "", " ", "\t\n" };
    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        _cleanup_(strings_freep) char **vector = NULL;
        assert_int_equal(strings_split(texts[i], &vector), 0);
        assert_non_null(vector);
        assert_int_equal(strings_count(vector), 0);
    }
    assert_int_equal(strings_count(NULL), 0);
    assert_false(strings_match_any(NULL, "a"));
    strings_free(NULL);
}

static void a_pattern_has_stars_and_question_marks(void **state)
{
    (void)state;
    char *const patterns[] = { (char *)"porch", (char *)"lamp-?", (char *)"*-north", NULL };
    assert_true(strings_match_any(patterns, "porch"));
    assert_true(strings_match_any(patterns, "lamp-1"));
    assert_true(strings_match_any(patterns, "stadium-north"));
    assert_false(strings_match_any(patterns, "lamp-10"));
    assert_false(strings_match_any(patterns, "porch2"));
    assert_false(strings_match_any(patterns, ""));
}

static void null_equals_null_only(void **state)
{
    (void)state;
    char copy[] = "a";
    assert_true(strings_equal("a", copy) && strings_equal(NULL, NULL));
    assert_false(strings_equal("a", NULL) || strings_equal(NULL, "") || strings_equal("a", "b"));
}

static void the_nearest_word_is_what_a_person_meant(void **state)
{
    (void)state;
    static const char *const words[] = { "interval", "sample_interval", "stream", "qos", "unit" };
    static const struct {
        const char *word, *nearest;
    } cases[] = {
        { "intervall", "interval" },
        { "intreval", "interval" }, // two letters swapped
        { "steam", "stream" },
        { "sampleinterval", "sample_interval" },
        { "qs", "qos" },
        { "unti", "unit" },
        { "nuit", "unit" },
        { "xyz", NULL },
        { "", NULL },
        { "streaming-rate", NULL },
        { "qos", "qos" },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        const char *nearest = strings_nearest(cases[i].word, words, ELEMENTS(words));
        if (!strings_equal(nearest, cases[i].nearest))
            fail_msg("%s: %s", cases[i].word, nearest ? nearest : "none");
    }
}

static void a_very_long_word_has_no_nearest(void **state)
{
    (void)state;
    char word[65], near[65];
    memset(word, 'a', 64);
    word[64] = '\0';
    memcpy(near, word, sizeof(near));
    const char *const candidates[] = { near, "b" };
    assert_null(strings_nearest(word, candidates, 2));
    word[63] = near[63] = '\0';
    word[0] = 'x';
    assert_ptr_equal(strings_nearest(word, candidates, 2), near);
}

/* Every sequence of up to three bytes, and the edges of those of four, by RFC 3629's own grammar.
 */
static size_t expected_length(const uint8_t *b)
{
    bool c1 = (b[1] & 0xc0) == 0x80, c2 = (b[2] & 0xc0) == 0x80, c3 = (b[3] & 0xc0) == 0x80;
    if (b[0] < 0x80)
        return 1;
    if (b[0] >= 0xc2 && b[0] <= 0xdf)
        return c1 ? 2 : 0;
    uint32_t point = (b[0] & 0xfU) << 12 | (b[1] & 0x3fU) << 6 | (b[2] & 0x3fU);
    if (b[0] >= 0xe0 && b[0] <= 0xef)
        return c1 && c2 && point >= 0x800 && (point < 0xd800 || point > 0xdfff) ? 3 : 0;
    point = (b[0] & 7U) << 18 | (b[1] & 0x3fU) << 12 | (b[2] & 0x3fU) << 6 | (b[3] & 0x3fU);
    if (b[0] >= 0xf0 && b[0] <= 0xf7)
        return c1 && c2 && c3 && point >= 0x10000 && point <= 0x10ffff ? 4 : 0;
    return 0;
}

static void utf8_is_what_rfc_3629_says(void **state)
{
    (void)state;
    static const uint8_t edges[] = { 0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff };
    for (unsigned first = 0; first < 256; first++) {
        for (size_t i = 0; i < 1000; i++) {
            uint8_t bytes[] = { (uint8_t)first, edges[i / 100], edges[i / 10 % 10], edges[i % 10] };
            size_t expected = expected_length(bytes);
            assert_int_equal(strings_utf8_length((const char *)bytes, 4), expected);
            for (size_t cut = 0; cut < expected; cut++)
                assert_int_equal(strings_utf8_length((const char *)bytes, cut), 0);
        }
    }
    assert_true(strings_is_utf8("", 0));
    assert_true(strings_is_utf8("a\xc3\xa9\0b", 5));
    assert_false(strings_is_utf8("a\xc3", 2));
}

static void a_printable_line_has_no_control_characters(void **state)
{
    (void)state;
    char out[64];
    static const char text[] = "a\n\x1b[1m\x7f\xff \xc3\xa9\xc2\x9b\xc2\xa0\0z";
    strings_printable(text, sizeof(text) - 1, out, sizeof(out));
    assert_string_equal(out, "a\\x0a\\x1b[1m\\x7f\\xff \xc3\xa9\\xc2\\x9b\xc2\xa0\\x00z");
}

static void a_printable_line_is_cut_between_characters_and_marked(void **state)
{
    (void)state;
    static const char text[] = "ab\xc3\xa9\xf0\x9f\x98\x80\ncd\xff\xc2\x9b";
    char full[64];
    size_t length = sizeof(text) - 1;
    size_t full_length = strlen(strings_printable(text, length, full, sizeof(full)));
    for (size_t size = 8; size <= full_length + 1; size++) {
        _cleanup_(freep) char *out = malloc(size);
        strings_printable(text, length, out, size);
        size_t n = strlen(out);
        assert_true(n < size && strings_is_utf8(out, n));
        if (size <= full_length) {
            assert_string_equal(out + n - 3, "...");
            assert_memory_equal(out, full, n - 3);
        } else {
            assert_string_equal(out, full);
        }
    }
}

static void words_are_joined_and_cut(void **state)
{
    static const char *const words[] = { "one", "two", "three", NULL };
    char out[20];
    (void)state;
    assert_string_equal(strings_join(words, 3, out, sizeof(out)), "one, two, three");
    assert_string_equal(strings_join(words, SIZE_MAX, out, sizeof(out)), "one, two, three");
    assert_string_equal(strings_join(words, 1, out, sizeof(out)), "one");
    assert_string_equal(strings_join(words, 0, out, sizeof(out)), "none");
    assert_string_equal(strings_join(words, 3, out, 16), "one, two, three");
    assert_string_equal(strings_join(words, 3, out, 15), "one, two, t...");
    assert_string_equal(strings_join(words, 3, out, 8), "one,...");
}

static void bytes_are_hexadecimal_and_back(void **state)
{
    static const unsigned char bytes[] = { 0x00, 0x09, 0xaf, 0xff };
    unsigned char back[sizeof(bytes) + 1] = { 0, 0, 0, 0, 7 };
    char text[2 * sizeof(bytes) + 1];
    (void)state;
    assert_string_equal(strings_to_hex(bytes, sizeof(bytes), text), "0009afff");
    assert_true(strings_from_hex("0009afff and more", sizeof(bytes), back));
    assert_memory_equal(back, bytes, sizeof(bytes));
    assert_int_equal(back[sizeof(bytes)], 7);
    assert_true(strings_from_hex("", 0, back));
    assert_false(strings_from_hex("0009aff", sizeof(bytes), back));
    assert_false(strings_from_hex("0009AFFF", sizeof(bytes), back));
    assert_false(strings_from_hex("0009 fff", sizeof(bytes), back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_split_at_white_space),
        cmocka_unit_test(nothing_is_split_to_an_empty_vector),
        cmocka_unit_test(a_pattern_has_stars_and_question_marks),
        cmocka_unit_test(null_equals_null_only),
        cmocka_unit_test(the_nearest_word_is_what_a_person_meant),
        cmocka_unit_test(a_very_long_word_has_no_nearest),
        cmocka_unit_test(utf8_is_what_rfc_3629_says),
        cmocka_unit_test(a_printable_line_has_no_control_characters),
        cmocka_unit_test(a_printable_line_is_cut_between_characters_and_marked),
        cmocka_unit_test(words_are_joined_and_cut),
        cmocka_unit_test(bytes_are_hexadecimal_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
