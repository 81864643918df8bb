// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `iio` on a tree like that of the kernel.
#include "driver-fixture.h"

extern const struct sensor_driver sensor_driver_iio;
static const struct sensor_driver *const driver = &sensor_driver_iio;

#define DEVICE "bus/iio/devices/iio:device0/"

static void *channel(const char *name)
{
    return make_config(driver, "device", "tsl2561", "channel", name, NULL);
}

static int setup(void **state)
{
    if (fixture_setup(state) < 0)
        return -1;
    put_file(DEVICE "name", "tsl2561\n");
    put_file(DEVICE "in_illuminance_input", "250\n");
    put_file(DEVICE "in_illuminance_raw", "9999\n");
    put_file(DEVICE "in_voltage0_raw", "1000\n");
    put_file(DEVICE "in_voltage0-voltage1_raw", "-10\n");
    put_file(DEVICE "in_voltage_scale", "0.125\n");
    put_file(DEVICE "in_voltage1_raw", "1000\n");
    put_file(DEVICE "in_voltage1_scale", "2\n");
    put_file(DEVICE "in_temp_raw", "-100\n");
    put_file(DEVICE "in_temp_offset", "300\n");
    put_file(DEVICE "in_temp_scale", "10\n");
    put_file(DEVICE "in_accel_x_raw", "512\n");
    put_file(DEVICE "in_accel_scale", "0.5\n");
    put_file(DEVICE "in_count0_raw", "77\n");
    put_file(DEVICE "in_broken_raw", "none\n");
    return 0;
}

static void a_processed_value_goes_before_a_raw_one(void **state)
{
    (void)state;
    assert_reads(driver, channel("illuminance"), 250);
}

static void a_raw_value_gets_its_offset_and_then_its_scale(void **state)
{
    (void)state;
    assert_reads(driver, channel("temp"), 2000);
    assert_reads(driver, channel("count0"), 77); // neither
}

static void the_scale_of_the_channel_goes_before_that_of_its_type(void **state)
{
    (void)state;
    assert_reads(driver, channel("voltage0"), 125);
    assert_reads(driver, channel("voltage1"), 2000);
    assert_reads(driver, channel("accel_x"), 256);
    assert_reads(driver, channel("voltage0-voltage1"), -1.25);
    put_file(DEVICE "in_voltage-voltage_scale", "3\n");
    assert_reads(driver, channel("voltage0-voltage1"), -30);
}

static void a_device_is_found_by_its_entry_too(void **state)
{
    (void)state;
    assert_reads(driver,
                 make_config(driver, "device", "iio:device0", "channel", "illuminance", NULL), 250);
}

static void two_devices_of_one_name_need_their_entries(void **state)
{
    (void)state;
    put_file("bus/iio/devices/iio:device1/name", "tsl2561\n");
    assert_read_fails(driver, channel("temp"), ENOTUNIQ, "are called 'tsl2561'");
    assert_reads(driver, make_config(driver, "device", "iio:device0", "channel", "temp", NULL),
                 2000);
    assert_int_equal(remove(file_path("bus/iio/devices/iio:device1/name")), 0);
}

static void what_is_not_there_is_named(void **state)
{
    (void)state;
    assert_read_fails(driver, make_config(driver, "device", "bmp280", "channel", "temp", NULL),
                      ENODEV, "there is no 'bmp280'");
    assert_read_fails(driver, channel("pressure"), ENODEV,
                      "neither in_pressure_input nor in_pressure_raw");
    assert_read_fails(driver, channel("broken"), EBADMSG, "'none' is not a number");
}

static void names_cannot_lead_out_of_sysfs(void **state)
{
    (void)state;
    assert_int_equal(driver->base.options[0].check("../x", NULL), -EINVAL);
    assert_int_equal(driver->base.options[0].check("a/b", NULL), -EINVAL);
    assert_int_equal(driver->base.options[1].check("../x", NULL), -EINVAL);
}

static void a_number_alone_is_no_device(void **state)
{
    (void)state;
    struct why why = { 0 };
    assert_int_equal(driver->base.options[0].check("0", &why), -EINVAL);
    assert_string_equal(why.text,
                        "'0' is a number alone; expected a name such as bh1750, or iio:device0");
    assert_int_equal(driver->base.options[0].check("iio:device0", NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_processed_value_goes_before_a_raw_one),
        cmocka_unit_test(a_raw_value_gets_its_offset_and_then_its_scale),
        cmocka_unit_test(the_scale_of_the_channel_goes_before_that_of_its_type),
        cmocka_unit_test(a_device_is_found_by_its_entry_too),
        cmocka_unit_test(two_devices_of_one_name_need_their_entries),
        cmocka_unit_test(what_is_not_there_is_named),
        cmocka_unit_test(names_cannot_lead_out_of_sysfs),
        cmocka_unit_test(a_number_alone_is_no_device),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
