// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `file` on real files.
#include "driver-fixture.h"

#include <fcntl.h>

extern const struct actuator_driver actuator_driver_file;
static const struct actuator_driver *const driver = &actuator_driver_file;

static void set(void *actuator, struct value value)
{
    struct why why = { 0 };
    if (driver->set(actuator, &value, &why) < 0)
        fail_msg("%s", why.text);
}

static void each_type_is_written_with_a_newline(void **state)
{
    (void)state;
    void *config = make_config(driver, "path", file_path("out"), NULL);
    void *actuator = NULL;
    struct value now;
    assert_int_equal(open_actuator(driver, config, VALUE_BOOL, &actuator, &now, NULL), 0);
    assert_int_equal(now.type, VALUE_NONE);
    assert_int_equal(access(file_path("out"), F_OK), -1); // opening moves nothing
    set(actuator, (struct value){ .type = VALUE_BOOL, .boolean = true });
    assert_file("out", "1\n");
    set(actuator, (struct value){ .type = VALUE_BOOL });
    assert_file("out", "0\n");
    set(actuator, (struct value){ .type = VALUE_NUMBER, .number = 21.4 });
    assert_file("out", "21.4\n");
    set(actuator, (struct value){ .type = VALUE_STRING, .string = "up and \"away\"" });
    assert_file("out", "up and \"away\"\n");
    driver->base.close(actuator);
    free_config(driver, config);
}

static struct value value_now(enum value_type type)
{
    void *config = make_config(driver, "path", file_path("now"), NULL);
    void *actuator = NULL;
    struct value now = { .type = VALUE_NONE };
    assert_int_equal(open_actuator(driver, config, type, &actuator, &now, NULL), 0);
    driver->base.close(actuator);
    free_config(driver, config);
    return now;
}

static void what_the_file_says_is_known_at_the_start(void **state)
{
    (void)state;
    put_file("now", "1\n");
    struct value now = value_now(VALUE_BOOL);
    assert_true(now.type == VALUE_BOOL && now.boolean);
    put_file("now", "-3.5\n");
    now = value_now(VALUE_NUMBER);
    assert_true(now.type == VALUE_NUMBER && now.number == -3.5);
    assert_int_equal(value_now(VALUE_BOOL).type, VALUE_NONE);
    now = value_now(VALUE_STRING);
    assert_true(now.type == VALUE_STRING && strcmp(now.string, "-3.5") == 0);
    put_file("now", "\xff\n");
    assert_int_equal(value_now(VALUE_STRING).type, VALUE_NONE);
    char text[VALUE_TEXT_SIZE + 1];
    memset(text, 'x', sizeof(text));
    text[VALUE_TEXT_SIZE - 1] = '\0';
    put_file("now", text);
    assert_int_equal(value_now(VALUE_STRING).type, VALUE_STRING);
    text[VALUE_TEXT_SIZE - 1] = 'x';
    text[VALUE_TEXT_SIZE] = '\0';
    put_file("now", text);
    assert_int_equal(value_now(VALUE_STRING).type, VALUE_NONE);
}

static void a_fifo_is_written_to_and_never_read(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(file_path("fifo"), 0600), 0);
    void *config = make_config(driver, "path", file_path("fifo"), NULL);
    void *actuator = NULL;
    struct value now, on = { .type = VALUE_BOOL, .boolean = true };
    assert_int_equal(open_actuator(driver, config, VALUE_BOOL, &actuator, &now, NULL), 0);
    struct why why = { 0 };
    assert_int_equal(driver->set(actuator, &on, &why), -ENXIO); // nobody reads: no waiting
    assert_non_null(strstr(why.text, "fifo"));
    _cleanup_(closep) int reader = open(file_path("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    set(actuator, on);
    driver->base.close(actuator);
    assert_int_equal(open_actuator(driver, config, VALUE_BOOL, &actuator, &now, NULL), 0);
    assert_int_equal(now.type, VALUE_NONE);
    char got[8] = "";
    assert_int_equal(read(reader, got, sizeof(got) - 1), 2);
    assert_string_equal(got, "1\n");
    driver->base.close(actuator);
    free_config(driver, config);
}

static void a_path_that_cannot_be_written_fails_at_the_start(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int r;
    } cases[] = { { "", -EISDIR }, { "no/such", -ENOENT } };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        void *config = make_config(driver, "path", file_path(cases[i].name), NULL);
        void *actuator = NULL;
        struct value now = { .type = VALUE_NUMBER };
        struct why why = { 0 };
        assert_int_equal(open_actuator(driver, config, VALUE_BOOL, &actuator, &now, &why),
                         cases[i].r);
        assert_non_null(strstr(why.text, fixture_directory));
        assert_null(actuator);
        assert_int_equal(now.type, VALUE_NUMBER); // untouched
        free_config(driver, config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_is_written_with_a_newline),
        cmocka_unit_test(what_the_file_says_is_known_at_the_start),
        cmocka_unit_test(a_fifo_is_written_to_and_never_read),
        cmocka_unit_test(a_path_that_cannot_be_written_fails_at_the_start),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
