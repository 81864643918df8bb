// SPDX-License-Identifier: LGPL-2.1-or-later
// What the program knows of MQTT without a network.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/mqtt.h"
#include "util/cleanup.h"

static void reasons_are_told_in_words(void **state)
{
    (void)state;
    assert_string_equal(mqtt_reason(0), "success");
    assert_string_equal(mqtt_reason(MQTT_NO_MATCHING_SUBSCRIBERS), "no matching subscribers");
    assert_string_equal(mqtt_reason(0x87), "not authorised");
    assert_string_equal(mqtt_reason(0xa2), "wildcard subscriptions not supported"); // the last one
}

static void every_code_has_a_line_of_its_own(void **state)
{
    (void)state;
    const char *unknown = mqtt_reason(0x7f);
    assert_string_equal(unknown, "a reason that MQTT does not know");
    assert_ptr_equal(mqtt_reason(-1), unknown);
    assert_ptr_equal(mqtt_reason(0x100), unknown);
    for (int code = 0x80; code <= 0xa2; code++) // MQTT 5.0, table 2-6, has no gap there
        assert_string_not_equal(mqtt_reason(code), unknown);
    for (int i = 0; i <= UINT8_MAX; i++) {
        const char *reason = mqtt_reason(i);
        assert_true(reason[0] && !strchr(reason, '\n'));
        for (int k = 0; k < i && reason != unknown; k++)
            assert_string_not_equal(reason, mqtt_reason(k));
    }
}

static void first_user_property_of_a_name_counts(void **state)
{
    static const struct mqtt_user_property properties[] = {
        { "time", "1" }, { "seq", "2" }, { "seq", "3" }, { "", "4" }, { "empty", "" }
    };
    const struct mqtt_message message = { .properties = properties,
                                          .n_properties = ELEMENTS(properties) };
    (void)state;
    assert_string_equal(mqtt_message_property(&message, "time"), "1");
    assert_string_equal(mqtt_message_property(&message, "seq"), "2");
    assert_string_equal(mqtt_message_property(&message, ""), "4");
    assert_string_equal(mqtt_message_property(&message, "empty"), "");
    assert_null(mqtt_message_property(&message, "boot"));
    assert_null(mqtt_message_property(&message, "Seq"));
    assert_null(mqtt_message_property(&message, "se"));
}

static void message_without_properties_has_none(void **state)
{
    const struct mqtt_message message = { 0 };
    (void)state;
    assert_null(mqtt_message_property(&message, "seq"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasons_are_told_in_words),
        cmocka_unit_test(every_code_has_a_line_of_its_own),
        cmocka_unit_test(first_user_property_of_a_name_counts),
        cmocka_unit_test(message_without_properties_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
