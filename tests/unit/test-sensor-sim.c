// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `sim` as the configuration sets it up; its curves are tested in test-waveform.c.
#include "driver-fixture.h"

extern const struct sensor_driver sensor_driver_sim;
static const struct sensor_driver *const driver = &sensor_driver_sim;

static void assert_check(void *config, int expected_r)
{
    struct why why = { 0 };
    assert_int_equal(driver->base.check(config, &why), expected_r);
    assert_int_equal(why.text[0] != '\0', expected_r < 0);
    free_config(driver, config);
}

static void keys_that_do_not_go_together_are_refused(void **state)
{
    (void)state;
    assert_check(make_config(driver, NULL), 0);
    assert_check(make_config(driver, "wave", "constant", "min", "250", NULL), 0);
    assert_check(make_config(driver, "wave", "sine", "min", "250", NULL), -EINVAL);
    assert_check(make_config(driver, "wave", "noise", "min", "3", "max", "3", NULL), -EINVAL);
    assert_check(make_config(driver, "wave", "ramp", "min", "-1e308", "max", "1e308", NULL),
                 -EINVAL);
    assert_check(make_config(driver, "wave", "replay", NULL), -EINVAL);
    assert_check(make_config(driver, "wave", "replay", "path", "/x", NULL), 0);
    assert_check(make_config(driver, "wave", "sine", "path", "/x", NULL), -EINVAL);
}

static void a_constant_and_a_curve_are_read(void **state)
{
    (void)state;
    assert_reads(driver, make_config(driver, "wave", "constant", "min", "250", NULL), 250);
    void *config =
        make_config(driver, "wave", "sine", "min", "5", "max", "6", "period", "1d", NULL);
    double value = NAN;
    assert_int_equal(read_once(driver, config, &value, NULL), 0);
    assert_float_equal(value, 5, 1e-3); // just after midnight
    free_config(driver, config);
}

static void two_noises_differ(void **state)
{
    (void)state;
    void *config = make_config(driver, "wave", "noise", NULL);
    void *a = NULL, *b = NULL;
    double value_a, value_b;
    assert_int_equal(driver->open(config, &a, NULL), 0);
    assert_int_equal(driver->open(config, &b, NULL), 0);
    driver->read(a, &value_a, NULL);
    driver->read(b, &value_b, NULL);
    assert_true(value_a != value_b);
    driver->base.close(a);
    driver->base.close(b);
    free_config(driver, config);
}

static void a_recording_is_replayed_in_a_loop(void **state)
{
    (void)state;
    put_file("light.csv", "250\n320\n");
    void *config = make_config(driver, "wave", "replay", "path", file_path("light.csv"), NULL);
    void *sensor = NULL;
    assert_int_equal(driver->open(config, &sensor, NULL), 0);
    static const double expected[] = { 250, 320, 250 };
    for (size_t i = 0; i < ELEMENTS(expected); i++) {
        double value = NAN;
        assert_int_equal(driver->read(sensor, &value, NULL), 0);
        assert_float_equal(value, expected[i], 0);
    }
    driver->base.close(sensor);
    free_config(driver, config);
}

static void a_bad_recording_is_named_with_its_line(void **state)
{
    (void)state;
    put_file("bad.csv", "seconds,light\n0,250\n");
    assert_read_fails(driver,
                      make_config(driver, "wave", "replay", "path", file_path("bad.csv"), NULL),
                      EBADMSG, "bad.csv: line 1: 'seconds' is not a number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_that_do_not_go_together_are_refused),
        cmocka_unit_test(a_constant_and_a_curve_are_read),
        cmocka_unit_test(two_noises_differ),
        cmocka_unit_test(a_recording_is_replayed_in_a_loop),
        cmocka_unit_test(a_bad_recording_is_named_with_its_line),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
