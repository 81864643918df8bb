// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `file` on real files.
#include "driver-fixture.h"

extern const struct sensor_driver sensor_driver_file;
static const struct sensor_driver *const driver = &sensor_driver_file;

static void a_number_is_read_anew_each_time(void **state)
{
    (void)state;
    void *config = make_config(driver, "path", file_path("light"), NULL);
    void *sensor = NULL;
    double value = NAN;
    assert_int_equal(driver->open(config, &sensor, NULL), 0); // the file comes later
    assert_int_equal(driver->read(sensor, &value, NULL), -ENOENT);
    put_file("light", "250\n");
    assert_int_equal(driver->read(sensor, &value, NULL), 0);
    assert_float_equal(value, 250, 0);
    put_file("light", " 320.5 \n");
    assert_int_equal(driver->read(sensor, &value, NULL), 0);
    assert_float_equal(value, 320.5, 0);
    driver->base.close(sensor);
    free_config(driver, config);
}

static void a_member_of_a_json_object_is_taken(void **state)
{
    (void)state;
    put_file("room.json", "{\"rooms\": [{\"t\": 21.5}]}\n");
    assert_reads(driver,
                 make_config(driver, "path", file_path("room.json"), "json", "rooms.0.t", NULL),
                 21.5);
    assert_read_fails(driver,
                      make_config(driver, "path", file_path("room.json"), "json", "light", NULL),
                      ENODATA, "room.json: there is no 'light'");
}

static void a_truth_is_no_number(void **state)
{
    (void)state;
    put_file("truth", "true\n");
    put_file("truth.json", "{\"on\": true}");
    assert_read_fails(driver, make_config(driver, "path", file_path("truth"), NULL), EBADMSG,
                      "'true' is not a number");
    assert_read_fails(driver,
                      make_config(driver, "path", file_path("truth.json"), "json", "on", NULL),
                      EBADMSG, "'on' is of type boolean");
}

static void a_file_beyond_64_kib_is_refused(void **state)
{
    (void)state;
    char *text = calloc(1, 65536 + 2);
    memset(text, ' ', 65536);
    text[0] = '7';
    put_file("large", text);
    assert_reads(driver, make_config(driver, "path", file_path("large"), NULL), 7);
    text[65536] = ' ';
    put_file("large", text);
    free(text);
    assert_read_fails(driver, make_config(driver, "path", file_path("large"), NULL), EFBIG,
                      "cannot read");
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    assert_read_fails(driver, make_config(driver, "path", file_path(""), NULL), EISDIR,
                      "cannot read");
    // A FIFO that nobody writes to does not hold the reader.
    assert_int_equal(mkfifo(file_path("fifo"), 0600), 0);
    assert_read_fails(driver, make_config(driver, "path", file_path("fifo"), NULL), ENODATA,
                      "empty");
}

static void a_member_needs_names_between_its_dots(void **state)
{
    (void)state;
    const struct schema_option *json = &driver->base.options[1];
    assert_string_equal(json->key, "json");
    assert_int_equal(json->check("a.0.b", NULL), 0);
    assert_int_equal(json->check("a..b", NULL), -EINVAL);
    assert_int_equal(json->check(".a", NULL), -EINVAL);
    assert_int_equal(json->check("a.", NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_is_read_anew_each_time),
        cmocka_unit_test(a_member_of_a_json_object_is_taken),
        cmocka_unit_test(a_truth_is_no_number),
        cmocka_unit_test(a_file_beyond_64_kib_is_refused),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_member_needs_names_between_its_dots),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
