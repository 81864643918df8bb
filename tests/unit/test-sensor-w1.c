// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `w1` on a tree like that of the kernel; the texts are tested in test-reading.c.
#include "driver-fixture.h"

extern const struct sensor_driver sensor_driver_w1;
static const struct sensor_driver *const driver = &sensor_driver_w1;

#define DEVICE "bus/w1/devices/28-00000abcdef0/"

static void *thermometer(void)
{
    return make_config(driver, "device", "28-00000abcdef0", NULL);
}

static void the_reading_with_a_check_sum_goes_first(void **state)
{
    (void)state;
    put_file(DEVICE "temperature", "21000\n");
    assert_reads(driver, thermometer(), 21);
    put_file(DEVICE "w1_slave", "57 01 4b 46 7f ff 09 10 c2 : crc=c2 YES\n"
                                "57 01 4b 46 7f ff 09 10 c2 t=21437\n");
    assert_reads(driver, thermometer(), 21.437);
    put_file(DEVICE "w1_slave", "57 01 4b 46 7f ff 09 10 c2 : crc=00 NO\n"
                                "57 01 4b 46 7f ff 09 10 c2 t=21437\n");
    assert_read_fails(driver, thermometer(), EIO, "w1_slave: the check sum");
    assert_int_equal(remove(file_path(DEVICE "w1_slave")), 0);
}

static void the_power_on_value_is_refused_either_way(void **state)
{
    (void)state;
    put_file(DEVICE "temperature", "85000\n");
    assert_read_fails(driver, thermometer(), ENODATA, "after power-on");
    put_file(DEVICE "temperature", "\n");
    assert_read_fails(driver, thermometer(), ENODATA, "temperature: empty");
}

static void one_that_is_not_there_is_named(void **state)
{
    (void)state;
    assert_read_fails(driver, make_config(driver, "device", "28-1", NULL), ENODEV,
                      "bus/w1/devices/28-1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reading_with_a_check_sum_goes_first),
        cmocka_unit_test(the_power_on_value_is_refused_either_way),
        cmocka_unit_test(one_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
