// SPDX-License-Identifier: LGPL-2.1-or-later
// What sensors say, as numbers: right, wrong, cut off.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "drivers/reading.h"

static void assert_text(const char *text, int expected_r, double expected)
{
    double value = 42;
    struct why why = { 0 };
    assert_int_equal(reading_from_text(text, strlen(text), &value, &why), expected_r);
    assert_float_equal(value, expected_r < 0 ? 42 : expected, 0);
    assert_int_equal(why.text[0] != '\0', expected_r < 0);
}

static void a_number_may_have_white_space_around_it(void **state)
{
    (void)state;
    assert_text("21.5", 0, 21.5);
    assert_text(" \t-3e2\r\n", 0, -300);
    assert_text("0\n\n", 0, 0);
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    assert_text("", -ENODATA, 0);
    assert_text(" \n", -ENODATA, 0);
    assert_text("true", -EBADMSG, 0);
    assert_text("21,5", -EBADMSG, 0);
    assert_text("1 2", -EBADMSG, 0);
    assert_text("nan", -EBADMSG, 0);
    assert_text("0x10", -EBADMSG, 0);
    assert_text("1e999", -ERANGE, 0);
    double value;
    assert_int_equal(reading_from_text("1\0002", 3, &value, NULL), -EBADMSG);
}

static void assert_json(const char *text, const char *path, int expected_r, double expected)
{
    double value = 42;
    struct why why = { 0 };
    assert_int_equal(reading_from_json(text, strlen(text), path, &value, &why), expected_r);
    assert_float_equal(value, expected_r < 0 ? 42 : expected, 0);
    assert_int_equal(why.text[0] != '\0', expected_r < 0);
}

static void a_path_goes_through_members_and_elements(void **state)
{
    (void)state;
    const char *text = "{\"light\": 250, \"rooms\": [{\"t\": 21.5}, {\"t\": -4}], \"a.b\": 7,"
                       " \"a\": {\"b\": 8, \"c\": 9}}";
    assert_json(text, "light", 0, 250);
    assert_json(text, "rooms.0.t", 0, 21.5);
    assert_json(text, "rooms.1.t", 0, -4);
    assert_json(text, "a.c", 0, 9);
    assert_json(text, "a.b", 0, 7); // the member with the dot goes first
}

static void a_path_that_leads_nowhere_is_refused(void **state)
{
    (void)state;
    const char *text = "{\"light\": 250, \"rooms\": [1]}";
    assert_json(text, "dark", -ENODATA, 0);
    assert_json(text, "light.0", -ENODATA, 0);
    assert_json(text, "rooms.1", -ENODATA, 0);
    assert_json(text, "rooms.-1", -ENODATA, 0);
    assert_json(text, "rooms.x", -ENODATA, 0);
    assert_json(text, "rooms.99999999999999999999", -ENODATA, 0);
}

static void a_member_that_is_no_number_is_refused(void **state)
{
    (void)state;
    assert_json("{\"on\": true}", "on", -EBADMSG, 0);
    assert_json("{\"on\": \"12\"}", "on", -EBADMSG, 0);
    assert_json("{\"on\": null}", "on", -EBADMSG, 0);
    assert_json("{\"on\": {}}", "on", -EBADMSG, 0);
    assert_json("{\"on\": NaN}", "on", -EBADMSG, 0);
    assert_json("[1]", "0", -EBADMSG, 0);
    assert_json("", "on", -EBADMSG, 0);
}

static void an_integer_of_more_than_64_bits_is_a_number(void **state)
{
    (void)state;
    assert_json("{\"n\": 99999999999999999999999}", "n", 0, 99999999999999999999999.0);
    assert_json("{\"n\": -99999999999999999999999}", "n", 0, -99999999999999999999999.0);
    assert_json("{\"n\": 4294967296}", "n", 0, 4294967296.0);
}

static void assert_w1(const char *text, int expected_r, double expected)
{
    double value = 42;
    struct why why = { 0 };
    assert_int_equal(reading_from_w1_slave(text, strlen(text), &value, &why), expected_r);
    assert_float_equal(value, expected_r < 0 ? 42 : expected, 0);
    assert_int_equal(why.text[0] != '\0', expected_r < 0);
}

static void a_thermometer_with_a_right_check_sum_is_believed(void **state)
{
    (void)state;
    assert_w1("57 01 4b 46 7f ff 09 10 c2 : crc=c2 YES\n57 01 4b 46 7f ff 09 10 c2 t=21437\n", 0,
              21.437);
    assert_w1("f8 ff 4b 46 7f ff 08 10 99 : crc=99 YES\nf8 ff 4b 46 7f ff 08 10 99 t=-500\n", 0,
              -0.5);
}

static void a_thermometer_with_a_wrong_check_sum_is_not(void **state)
{
    (void)state;
    assert_w1("57 01 4b 46 7f ff 09 10 c2 : crc=c3 NO\n57 01 4b 46 7f ff 09 10 c2 t=21437\n", -EIO,
              0);
}

static void the_power_on_value_and_a_shorted_bus_are_refused(void **state)
{
    (void)state;
    assert_w1("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n",
              -ENODATA, 0);
    assert_w1("00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n", -EIO, 0);
}

static void other_texts_are_no_thermometer(void **state)
{
    (void)state;
    assert_w1("", -EBADMSG, 0);
    assert_w1("t=21437\n", -EBADMSG, 0);
    assert_w1("57 01 : crc=c2 YES", -EBADMSG, 0);
    assert_w1("57 01 : crc=c2 YES\n57 01 t=", -ENODATA, 0);
    assert_w1("57 01 : crc=c2 YES\n57 01 t=12x\n", -EBADMSG, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_may_have_white_space_around_it),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(a_path_goes_through_members_and_elements),
        cmocka_unit_test(a_path_that_leads_nowhere_is_refused),
        cmocka_unit_test(a_member_that_is_no_number_is_refused),
        cmocka_unit_test(an_integer_of_more_than_64_bits_is_a_number),
        cmocka_unit_test(a_thermometer_with_a_right_check_sum_is_believed),
        cmocka_unit_test(a_thermometer_with_a_wrong_check_sum_is_not),
        cmocka_unit_test(the_power_on_value_and_a_shorted_bus_are_refused),
        cmocka_unit_test(other_texts_are_no_thermometer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
