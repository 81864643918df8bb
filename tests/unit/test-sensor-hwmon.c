// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `hwmon` on a tree like that of the kernel.
#include "driver-fixture.h"

extern const struct sensor_driver sensor_driver_hwmon;
static const struct sensor_driver *const driver = &sensor_driver_hwmon;

#define CHIP "class/hwmon/hwmon3/"

static void *input(const char *name)
{
    return make_config(driver, "chip", "k10temp", "input", name, NULL);
}

static int setup(void **state)
{
    if (fixture_setup(state) < 0)
        return -1;
    put_file("class/hwmon/hwmon0/name", "acpitz\n");
    put_file(CHIP "name", "k10temp\n");
    put_file(CHIP "temp1_input", "41375\n");
    put_file(CHIP "temp1_label", "Tctl\n");
    put_file(CHIP "in0_input", "3312\n");
    put_file(CHIP "curr1_input", "-1500\n");
    put_file(CHIP "power1_input", "12500000\n");
    put_file(CHIP "fan1_input", "1200\n");
    put_file(CHIP "intrusion0_input", "5\n");
    put_file(CHIP "t1_input", "7\n");
    return 0;
}

static void values_are_in_the_units_that_people_use(void **state)
{
    (void)state;
    assert_reads(driver, input("temp1"), 41.375);
    assert_reads(driver, input("in0"), 3.312);
    assert_reads(driver, input("curr1"), -1.5);
    assert_reads(driver, input("power1"), 12.5);
    assert_reads(driver, input("fan1"), 1200);
    assert_reads(driver, input("intrusion0"), 5); // begins with `in` and is no voltage
    assert_reads(driver, input("t1"), 7);         // begins as `temp` does
}

static void an_input_is_found_by_its_label_and_a_chip_by_its_entry(void **state)
{
    (void)state;
    assert_reads(driver, input("Tctl"), 41.375);
    assert_reads(driver, make_config(driver, "chip", "hwmon3", "input", "fan1", NULL), 1200);
}

static void what_is_not_there_is_named(void **state)
{
    (void)state;
    assert_read_fails(driver, input("temp2"), ENODEV, "no input 'temp2'");
    assert_read_fails(driver, make_config(driver, "chip", "nvme", "input", "temp1", NULL), ENODEV,
                      "there is no 'nvme'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_in_the_units_that_people_use),
        cmocka_unit_test(an_input_is_found_by_its_label_and_a_chip_by_its_entry),
        cmocka_unit_test(what_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
