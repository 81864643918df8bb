// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `led` on a tree like that of the kernel.
#include "driver-fixture.h"

extern const struct actuator_driver actuator_driver_led;
static const struct actuator_driver *const driver = &actuator_driver_led;

#define LED "class/leds/platform:lamp/"

static void *open_led(enum value_type type, void **config, struct value *now)
{
    *config = make_config(driver, "name", "platform:lamp", NULL);
    void *actuator = NULL;
    struct why why = { 0 };
    if (open_actuator(driver, *config, type, &actuator, now, &why) < 0)
        fail_msg("%s", why.text);
    return actuator;
}

static void a_bool_is_nothing_or_the_full_brightness(void **state)
{
    (void)state;
    put_file(LED "max_brightness", "127\n");
    put_file(LED "brightness", "3\n");
    void *config;
    struct value now;
    void *actuator = open_led(VALUE_BOOL, &config, &now);
    assert_true(now.type == VALUE_BOOL && now.boolean);
    assert_file(LED "brightness", "3\n"); // opening moves nothing
    assert_int_equal(
        driver->set(actuator, &(struct value){ .type = VALUE_BOOL, .boolean = true }, NULL), 0);
    assert_file(LED "brightness", "127\n");
    assert_int_equal(driver->set(actuator, &(struct value){ .type = VALUE_BOOL }, NULL), 0);
    assert_file(LED "brightness", "0\n");
    driver->base.close(actuator);
    assert_file(LED "brightness", "0\n");
    free_config(driver, config);
}

static void a_number_is_a_brightness_within_the_leds_own(void **state)
{
    (void)state;
    put_file(LED "max_brightness", "255\n");
    put_file(LED "brightness", "17\n");
    void *config;
    struct value now, value = { .type = VALUE_NUMBER, .number = 99.6 };
    void *actuator = open_led(VALUE_NUMBER, &config, &now);
    assert_true(now.type == VALUE_NUMBER && now.number == 17);
    assert_int_equal(driver->set(actuator, &value, NULL), 0);
    assert_file(LED "brightness", "100\n");
    struct why why = { 0 };
    value.number = 256;
    assert_int_equal(driver->set(actuator, &value, &why), -ERANGE);
    assert_non_null(strstr(why.text, "from 0 to 255"));
    value.number = -1;
    assert_int_equal(driver->set(actuator, &value, NULL), -ERANGE);
    value.number = 1e300;
    assert_int_equal(driver->set(actuator, &value, NULL), -ERANGE);
    assert_file(LED "brightness", "100\n");
    driver->base.close(actuator);
    free_config(driver, config);
}

static void an_led_without_a_brightness_is_refused(void **state)
{
    (void)state;
    put_file(LED "max_brightness", "0\n");
    void *config = make_config(driver, "name", "platform:lamp", NULL);
    void *actuator = NULL;
    struct value now;
    struct why why = { 0 };
    assert_int_equal(open_actuator(driver, config, VALUE_BOOL, &actuator, &now, &why), -EBADMSG);
    assert_non_null(strstr(why.text, "max_brightness"));
    free_config(driver, config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bool_is_nothing_or_the_full_brightness),
        cmocka_unit_test(a_number_is_a_brightness_within_the_leds_own),
        cmocka_unit_test(an_led_without_a_brightness_is_refused),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
