// SPDX-License-Identifier: LGPL-2.1-or-later
// Values and numbers as text: what is written is JSON and reads back as the same value.
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/value.h"

static const char *format(double number, int decimals)
{
    static char text[352];
    return value_format_number(number, decimals, text, sizeof(text));
}

static void numbers_are_written_as_people_write_them(void **state)
{
    (void)state;
    assert_string_equal(format(21.4, -1), "21.4");
    assert_string_equal(format(0.1 + 0.2, -1), "0.3");
    assert_string_equal(format(250, -1), "250");
    assert_string_equal(format(-1.5, -1), "-1.5");
    assert_string_equal(format(1e20, -1), "1e+20");
    assert_string_equal(format(1e-7, -1), "1e-07");
    assert_string_equal(format(123456789012345, -1), "123456789012345");
}

static void decimals_are_those_of_the_sensor(void **state)
{
    (void)state;
    assert_string_equal(format(21.4, 2), "21.40");
    assert_string_equal(format(21.456, 1), "21.5");
    assert_string_equal(format(249.9, 0), "250");
    assert_int_equal(strlen(format(-DBL_MAX, 9)), 320);
}

static void there_is_no_negative_zero(void **state)
{
    (void)state;
    assert_string_equal(format(-0.0, -1), "0");
    assert_string_equal(format(-0.0, 2), "0.00");
    assert_string_equal(format(-0.004, 2), "0.00");
    assert_string_equal(format(-0.005001, 2), "-0.01");
    assert_string_equal(format(-0.4, 0), "0");
    assert_string_equal(format(-1e-300, -1), "-1e-300");
    assert_string_equal(format(-10, 0), "-10");
}

/* Numbers of every magnitude, made by a fixed xorshift. */
static void every_number_reads_back_finite_and_close(void **state)
{
    (void)state;
    static const double edges[] = { DBL_MAX, -DBL_MAX, 1.797693134862315e308, DBL_MIN, 5e-324, 0 };
    uint64_t bits = 88172645463325252;
    for (size_t i = 0; i < 20000; i++) {
        double number;
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&number, i < ELEMENTS(edges) ? (const void *)&edges[i] : &bits, sizeof(number));
        if (!isfinite(number))
            continue;
        const char *text = format(number, -1);
        double back = strtod(text, NULL);
        if (json_check(text, strlen(text), 352, 0, NULL) != 0 ||
            fabs(back - number) > fabs(number) * 1e-14 + 5e-324)
            fail_msg("%a was written as %s", number, text);
    }
}

static void values_are_written_as_json(void **state)
{
    (void)state;
    char text[VALUE_TEXT_SIZE * 6 + 3];
    struct value value = { .type = VALUE_BOOL, .boolean = true };
    assert_string_equal(value_format_json(&value, text, sizeof(text)), "true");
    value.boolean = false;
    assert_string_equal(value_format_json(&value, text, sizeof(text)), "false");
    value = (struct value){ .type = VALUE_NUMBER, .number = 21.5 };
    assert_string_equal(value_format_json(&value, text, sizeof(text)), "21.5");
    value = (struct value){ .type = VALUE_STRING, .string = "a\"b" };
    assert_string_equal(value_format_json(&value, text, sizeof(text)), "\"a\\\"b\"");
    value = (struct value){ .type = VALUE_NONE };
    assert_string_equal(value_format_json(&value, text, sizeof(text)), "null");
}

static void the_longest_string_fits_with_all_its_escapes(void **state)
{
    (void)state;
    char text[VALUE_TEXT_SIZE * 6 + 3];
    struct value value = { .type = VALUE_STRING };
    memset(value.string, '\x01', VALUE_TEXT_SIZE - 1);
    value_format_json(&value, text, sizeof(text));
    assert_int_equal(strlen(text), (VALUE_TEXT_SIZE - 1) * 6 + 2);
}

static void actuators_get_plain_text(void **state)
{
    (void)state;
    char text[VALUE_TEXT_SIZE];
    struct value value = { .type = VALUE_BOOL, .boolean = true };
    assert_string_equal(value_format_plain(&value, text, sizeof(text)), "1");
    value.boolean = false;
    assert_string_equal(value_format_plain(&value, text, sizeof(text)), "0");
    value = (struct value){ .type = VALUE_NUMBER, .number = -0.25 };
    assert_string_equal(value_format_plain(&value, text, sizeof(text)), "-0.25");
    value = (struct value){ .type = VALUE_STRING, .string = "a\"b\n" };
    assert_string_equal(value_format_plain(&value, text, sizeof(text)), "a\"b\n");
}

static void values_are_equal_by_type_and_content(void **state)
{
    (void)state;
    struct value no = { .type = VALUE_BOOL, .boolean = false };
    struct value yes = { .type = VALUE_BOOL, .boolean = true };
    struct value zero = { .type = VALUE_NUMBER, .number = 0 };
    struct value none = { .type = VALUE_NONE };
    struct value a = { .type = VALUE_STRING, .string = "a" };
    struct value b = { .type = VALUE_STRING, .string = "b" };
    struct value a_again;
    memset(&a_again, 'x', sizeof(a_again)); // what is behind the NUL does not count
    a_again.type = VALUE_STRING;
    memcpy(a_again.string, "a", 2);
    assert_true(value_equal(&yes, &yes) && value_equal(&none, &none) && value_equal(&a, &a_again));
    assert_false(value_equal(&no, &yes) || value_equal(&no, &zero) || value_equal(&no, &none) ||
                 value_equal(&a, &b));
}

static void types_have_names(void **state)
{
    (void)state;
    assert_string_equal(value_type_name(VALUE_NONE), "nothing");
    assert_string_equal(value_type_name(VALUE_BOOL), "boolean");
    assert_string_equal(value_type_name(VALUE_NUMBER), "number");
    assert_string_equal(value_type_name(VALUE_STRING), "string");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_written_as_people_write_them),
        cmocka_unit_test(decimals_are_those_of_the_sensor),
        cmocka_unit_test(there_is_no_negative_zero),
        cmocka_unit_test(every_number_reads_back_finite_and_close),
        cmocka_unit_test(values_are_written_as_json),
        cmocka_unit_test(the_longest_string_fits_with_all_its_escapes),
        cmocka_unit_test(actuators_get_plain_text),
        cmocka_unit_test(values_are_equal_by_type_and_content),
        cmocka_unit_test(types_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
