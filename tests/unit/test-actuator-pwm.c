// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `pwm` on a tree like that of the kernel.
#include "driver-fixture.h"

#include <sys/inotify.h>

extern const struct actuator_driver actuator_driver_pwm;
static const struct actuator_driver *const driver = &actuator_driver_pwm;

#define CHIP "class/pwm/pwmchip0/"

static void put_channel(const char *period, const char *duty, const char *enable)
{
    put_file(CHIP "export", "");
    put_file(CHIP "pwm1/period", period);
    put_file(CHIP "pwm1/duty_cycle", duty);
    put_file(CHIP "pwm1/enable", enable);
}

static void *open_pwm(const char *chip, enum value_type type, void **config, struct value *now)
{
    *config = make_config(driver, "chip", chip, "channel", "1", "period", "1ms", NULL);
    void *actuator = NULL;
    struct why why = { 0 };
    if (open_actuator(driver, *config, type, &actuator, now, &why) < 0)
        fail_msg("%s", why.text);
    return actuator;
}

/* Sets value and writes down which attributes were written, in order: "period duty_cycle enable ".
 */
static const char *order_of_set(double number)
{
    static char order[256];
    order[0] = '\0';
    void *config;
    struct value now, value = { .type = VALUE_NUMBER, .number = number };
    void *actuator = open_pwm("0", VALUE_NUMBER, &config, &now);
    _cleanup_(closep) int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    assert_true(inotify_add_watch(watch, file_path(CHIP "pwm1"), IN_CLOSE_WRITE) >= 0);
    assert_int_equal(driver->set(actuator, &value, NULL), 0);
    _Alignas(struct inotify_event) char events[4096];
    ssize_t length = read(watch, events, sizeof(events));
    for (ssize_t at = 0; at < length;) {
        const struct inotify_event *event = (const void *)(events + at);
        size_t used = strlen(order);
        snprintf(order + used, sizeof(order) - used, "%s ", event->name);
        at += (ssize_t)(sizeof(*event) + event->len);
    }
    driver->base.close(actuator);
    free_config(driver, config);
    return order;
}

static void a_number_is_the_part_of_the_period(void **state)
{
    (void)state;
    put_channel("0\n", "0\n", "0\n");
    assert_string_equal(order_of_set(0.25), "period duty_cycle enable ");
    assert_file(CHIP "pwm1/period", "1000000\n");
    assert_file(CHIP "pwm1/duty_cycle", "250000\n");
    assert_file(CHIP "pwm1/enable", "1\n");
    assert_string_equal(order_of_set(1), "duty_cycle enable "); // the period is right already
    assert_file(CHIP "pwm1/duty_cycle", "1000000\n");
}

static void the_duty_never_exceeds_the_period_on_the_way(void **state)
{
    (void)state;
    put_channel("20000000\n", "15000000\n", "1\n"); // longer before: first less duty
    assert_string_equal(order_of_set(0.5), "duty_cycle period enable ");
    put_channel("1000\n", "900\n", "1\n"); // shorter before: first more period
    assert_string_equal(order_of_set(0.5), "period duty_cycle enable ");
    put_channel("0\n", "0\n", "0\n"); // never set: the kernel takes no duty, not even 0
    assert_string_equal(order_of_set(0), "period duty_cycle enable ");
}

static void a_bool_is_none_or_all_of_the_period_and_stays_enabled(void **state)
{
    (void)state;
    put_channel("1000000\n", "0\n", "1\n");
    void *config;
    struct value now;
    void *actuator = open_pwm("pwmchip0", VALUE_BOOL, &config, &now);
    assert_true(now.type == VALUE_BOOL && !now.boolean);
    assert_int_equal(
        driver->set(actuator, &(struct value){ .type = VALUE_BOOL, .boolean = true }, NULL), 0);
    assert_file(CHIP "pwm1/duty_cycle", "1000000\n");
    assert_int_equal(driver->set(actuator, &(struct value){ .type = VALUE_BOOL }, NULL), 0);
    assert_file(CHIP "pwm1/duty_cycle", "0\n");
    assert_file(CHIP "pwm1/enable", "1\n");
    driver->base.close(actuator);
    assert_file(CHIP "pwm1/enable", "1\n");
    free_config(driver, config);
}

static void what_it_is_now_is_known_only_while_it_runs(void **state)
{
    (void)state;
    void *config;
    struct value now;
    put_channel("1000000\n", "250000\n", "1\n");
    driver->base.close(open_pwm("0", VALUE_NUMBER, &config, &now));
    free_config(driver, config);
    assert_true(now.type == VALUE_NUMBER && now.number == 0.25);
    driver->base.close(open_pwm("0", VALUE_BOOL, &config, &now)); // neither off nor full
    free_config(driver, config);
    assert_int_equal(now.type, VALUE_NONE);
    put_channel("1000000\n", "250000\n", "0\n");
    driver->base.close(open_pwm("0", VALUE_NUMBER, &config, &now));
    free_config(driver, config);
    assert_int_equal(now.type, VALUE_NONE);
}

static void what_is_out_of_range_changes_nothing(void **state)
{
    (void)state;
    put_channel("1000\n", "900\n", "1\n");
    void *config;
    struct value now, value = { .type = VALUE_NUMBER, .number = 1.01 };
    void *actuator = open_pwm("0", VALUE_NUMBER, &config, &now);
    struct why why = { 0 };
    assert_int_equal(driver->set(actuator, &value, &why), -ERANGE);
    assert_string_equal(why.text, "1.01 is not from 0 to 1");
    value.number = -0.1;
    assert_int_equal(driver->set(actuator, &value, NULL), -ERANGE);
    assert_file(CHIP "pwm1/period", "1000\n");
    driver->base.close(actuator);
    free_config(driver, config);
}

static void a_channel_that_is_not_there_is_exported(void **state)
{
    (void)state;
    put_channel("0\n", "0\n", "0\n");
    void *config = make_config(driver, "chip", "0", "channel", "2", NULL);
    void *actuator = NULL;
    struct value now;
    assert_int_equal(open_actuator(driver, config, VALUE_BOOL, &actuator, &now, NULL), -ENOENT);
    assert_file(CHIP "export", "2\n"); // no kernel makes pwm2 of it here
    free_config(driver, config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_is_the_part_of_the_period),
        cmocka_unit_test(the_duty_never_exceeds_the_period_on_the_way),
        cmocka_unit_test(a_bool_is_none_or_all_of_the_period_and_stays_enabled),
        cmocka_unit_test(what_it_is_now_is_known_only_while_it_runs),
        cmocka_unit_test(what_is_out_of_range_changes_nothing),
        cmocka_unit_test(a_channel_that_is_not_there_is_exported),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
