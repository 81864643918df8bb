// SPDX-License-Identifier: LGPL-2.1-or-later
// The table of the configuration is sound, and says in words what it expects.
#include "test-config.h"

#include "config/convert.h"

/* Bytes that a row's member takes. */
static size_t size_of(enum option_type type)
{
    if (type == OPTION_BOOL)
        return sizeof(bool);
    return type == OPTION_ENUM ? sizeof(int) : 8;
}

static void check_row(const struct schema_section *section, const struct schema_option *option)
{
    char expected[64];
    assert_true(option->offset + size_of(option->type) <= section->size);
    assert_int_equal(option->offset % size_of(option->type), 0);
    assert_non_null(option->help);
    assert_true(strlen(option->help) > 10);
    assert_int_equal(option->help[strlen(option->help) - 1], '.');
    assert_true(option->min <= option->max);
    assert_int_equal(option->type == OPTION_ENUM, option->choices != NULL);
    assert_true(!option->required || !option->def);
    assert_true(strlen(schema_describe(option, expected, sizeof(expected))) < sizeof(expected) - 1);
    assert_ptr_equal(schema_find_option(section->options, section->n_options, option->key), option);
}

static void check_default(const struct schema_section *section, const struct schema_option *option)
{
    struct why why = { 0 };
    void *data = calloc(1, section->size);
    assert_non_null(data);
    convert_unset(option, data);
    if (option->def && convert_set(option, data, option->def, &why) < 0)
        fail_msg("%s.%s: %s", section->name, option->key, why.text);
    convert_clear(option, data);
    free(data);
}

static void every_row_is_sound(void **state)
{
    (void)state;
    for (size_t i = 0; schema_sections[i]; i++) {
        const struct schema_section *section = schema_sections[i];
        assert_ptr_equal(schema_find_section(section->name), section);
        assert_non_null(section->help);
        for (size_t k = 0; k < section->n_options; k++) {
            check_row(section, &section->options[k]);
            check_default(section, &section->options[k]);
        }
    }
}

/* Two rows with one offset would overwrite each other. */
static void no_two_rows_share_a_member(void **state)
{
    (void)state;
    for (size_t i = 0; schema_sections[i]; i++) {
        const struct schema_section *section = schema_sections[i];
        for (size_t k = 0; k < section->n_options; k++) {
            for (size_t m = 0; m < k; m++)
                assert_int_not_equal(section->options[k].offset, section->options[m].offset);
        }
    }
}

static void keys_of_a_later_version_are_not_there_yet(void **state)
{
    (void)state;
    assert_null(schema_find_section("homeassistant"));
}

static void rows_say_what_they_expect(void **state)
{
    (void)state;
    static const char *const one[] = { "device", NULL }, *const two[] = { "tcp", "unix", NULL };
    static const struct {
        struct schema_option option;
        const char *expected;
    } cases[] = {
        { { .type = OPTION_BOOL }, "yes or no" },
        { { .type = OPTION_INT }, "a whole number" },
        { { .type = OPTION_INT, .min = 0, .max = 2 }, "a whole number from 0 to 2" },
        { { .type = OPTION_NUMBER, .min = -1.5, .max = 2 }, "a number from -1.5 to 2" },
        { { .type = OPTION_NUMBER, .max = INFINITY }, "a number of at least 0" },
        { { .type = OPTION_DURATION }, "a duration such as 5s" },
        { { .type = OPTION_DURATION, .min = 10e3, .max = 86400e6 },
          "a duration such as 5s, from 10ms to 1d" },
        { { .type = OPTION_DURATION, .min = 0, .max = 5400e6 },
          "a duration such as 5s, from 0s to 90min" },
        { { .type = OPTION_SIZE, .min = 1, .max = 1536 }, "a size such as 64K, from 1 to 1536" },
        { { .type = OPTION_SIZE, .min = 1024, .max = 32 << 20 },
          "a size such as 64K, from 1K to 32M" },
        { { .type = OPTION_ENUM, .choices = one }, "device" },
        { { .type = OPTION_ENUM, .choices = two }, "one of tcp, unix" },
        { { .type = OPTION_STRING, .min = 1, .max = 64 }, "a text of 1 to 64 bytes" },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char out[128];
        assert_string_equal(schema_describe(&cases[i].option, out, sizeof(out)), cases[i].expected);
    }
}

static void a_refused_value_leaves_the_member(void **state)
{
    (void)state;
    static const struct schema_option option = { .key = "x", .type = OPTION_STRING, .max = 3 };
    char *member = NULL;
    struct why why = { 0 };
    assert_int_equal(convert_set(&option, &member, "abc", &why), 0);
    assert_int_equal(convert_set(&option, &member, "abcd", &why), -EINVAL);
    assert_string_equal(member, "abc");
    assert_string_equal(why.text, "'abcd' is out of range; expected a text of 0 to 3 bytes");
    convert_clear(&option, &member);
    assert_null(member);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_sound),
        cmocka_unit_test(no_two_rows_share_a_member),
        cmocka_unit_test(keys_of_a_later_version_are_not_there_yet),
        cmocka_unit_test(rows_say_what_they_expect),
        cmocka_unit_test(a_refused_value_leaves_the_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
