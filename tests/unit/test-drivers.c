// SPDX-License-Identifier: LGPL-2.1-or-later
// The contract that drivers/driver.h states, for every driver in the build's tables.
#include "driver-fixture.h"

#include <dirent.h>

#include "config/schema.h"

static size_t size_of_member(enum option_type type)
{
    switch (type) {
    case OPTION_BOOL:
        return sizeof(bool);
    case OPTION_ENUM:
        return sizeof(int);
    case OPTION_INT:
    case OPTION_NUMBER:
    case OPTION_DURATION:
    case OPTION_SIZE:
        return 8;
    default:
        return sizeof(void *);
    }
}

static void check_option(const char *driver, const struct schema_option *option, size_t config_size)
{
    print_message("  %s.%s\n", driver, option->key);
    assert_true(option->key[0] != '\0');
    assert_int_equal(strspn(option->key, "abcdefghijklmnopqrstuvwxyz0123456789_"),
                     strlen(option->key));
    assert_true(option->offset + size_of_member(option->type) <= config_size);
    assert_true(option->min <= option->max);
    assert_true(option->type == OPTION_ENUM ? option->choices && option->choices[0]
                                            : !option->choices);
    assert_false(option->required && option->def);
    assert_non_null(option->help);
    assert_int_equal(option->help[strlen(option->help) - 1], '.');
}

static void check_options(const char *driver, const char *kind, const struct schema_option *options,
                          size_t n_options, size_t config_size)
{
    const struct schema_section *section = schema_find_section(kind);
    assert_non_null(section);
    for (size_t i = 0; i < n_options; i++) {
        check_option(driver, &options[i], config_size);
        // A driver's key in a section must not hide the section's own.
        assert_null(schema_find_option(section->options, section->n_options, options[i].key));
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(options[i].key, options[k].key);
            assert_true(options[i].offset >= options[k].offset + size_of_member(options[k].type) ||
                        options[k].offset >= options[i].offset + size_of_member(options[i].type));
        }
    }
}

static void check_text(const char *kind, const char *name, const char *help)
{
    print_message("%s %s\n", kind, name);
    assert_non_null(help);
    assert_int_equal(help[strlen(help) - 1], '.');
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/src/drivers/%s-%s.c", SOURCE_DIR, kind, name);
    assert_int_equal(access(path, R_OK), 0);
}

static void every_sensor_driver_is_described_as_the_configuration_needs_it(void **state)
{
    (void)state;
    for (size_t i = 0; sensor_drivers[i]; i++) {
        const struct sensor_driver *driver = sensor_drivers[i];
        check_text("sensor", driver->base.name, driver->base.help);
        check_options(driver->base.name, "sensor", driver->base.options, driver->base.n_options,
                      driver->base.config_size);
        assert_true(driver->open && driver->read && driver->base.close);
        assert_true(driver->base.blocking || !driver->base.cancel);
        assert_int_equal(driver->fd != NULL, driver->dispatch != NULL);
        assert_false(driver->base.blocking && driver->fd);
    }
}

static void every_actuator_driver_is_described_as_the_configuration_needs_it(void **state)
{
    (void)state;
    const unsigned all = 1 << VALUE_BOOL | 1 << VALUE_NUMBER | 1 << VALUE_STRING;
    for (size_t i = 0; actuator_drivers[i]; i++) {
        const struct actuator_driver *driver = actuator_drivers[i];
        check_text("actuator", driver->base.name, driver->base.help);
        check_options(driver->base.name, "actuator", driver->base.options, driver->base.n_options,
                      driver->base.config_size);
        assert_true(driver->open && driver->set && driver->base.close);
        assert_true(driver->base.blocking || !driver->base.cancel);
        assert_true(driver->types != 0 && (driver->types & ~all) == 0);
    }
}

static void every_driver_file_is_in_the_table(void **state)
{
    (void)state;
    unsigned n_files = 0, n_drivers = 0;
    DIR *directory = opendir(SOURCE_DIR "/src/drivers");
    assert_non_null(directory);
    for (const struct dirent *entry; (entry = readdir(directory));)
        n_files += (strncmp(entry->d_name, "sensor-", 7) == 0 ||
                    strncmp(entry->d_name, "actuator-", 9) == 0) &&
                   strcmp(strrchr(entry->d_name, '.'), ".c") == 0;
    closedir(directory);
    while (sensor_drivers[n_drivers])
        n_drivers++;
    for (size_t i = 0; actuator_drivers[i]; i++)
        n_drivers++;
    assert_int_equal(n_files, n_drivers);
}

/* Right in form, and there is no such thing. */
static const char *nonsense(const struct schema_option *option)
{
    if (option->type == OPTION_ENUM)
        return option->choices[0];
    if (option->type == OPTION_STRING && option->check && option->check("no-such-thing", NULL) == 0)
        return "no-such-thing";
    if (option->type == OPTION_STRING && option->check)
        return "4294967295"; // a number of a chip
    if (option->type == OPTION_STRING || option->type == OPTION_ARGV)
        return "/no-such-directory/no-such-thing";
    return "1";
}

static void fill_with_nonsense(const struct schema_option *options, size_t n_options, void *config)
{
    for (size_t i = 0; i < n_options; i++)
        if (options[i].required)
            fixture_set_option(&options[i], nonsense(&options[i]), config);
}

static void a_sensor_that_is_not_there_fails_with_a_cause(void **state)
{
    (void)state;
    for (size_t i = 0; sensor_drivers[i]; i++) {
        const struct sensor_driver *driver = sensor_drivers[i];
        void *config = make_config(driver, NULL);
        bool any_required = false;
        for (size_t k = 0; k < driver->base.n_options; k++)
            any_required |= driver->base.options[k].required;
        fill_with_nonsense(driver->base.options, driver->base.n_options, config);
        double value = 42;
        struct why why = { 0 };
        int r = read_once(driver, config, &value, &why);
        print_message("%s: %d %s\n", driver->base.name, r, why.text);
        if (any_required) { // else its defaults are enough
            assert_true(r < 0);
            assert_string_not_equal(why.text, "");
            assert_float_equal(value, 42, 0);
            assert_true(read_once(driver, config, &value, NULL) < 0);
        }
        free_config(driver, config);
    }
}

static int set_once(const struct actuator_driver *driver, const void *config, struct why *why)
{
    static const struct value values[] = {
        { .type = VALUE_BOOL, .boolean = true },
        { .type = VALUE_NUMBER, .number = 1 },
        { .type = VALUE_STRING, .string = "up" },
    };
    size_t i = 0;
    while (!(driver->types & 1U << values[i].type))
        i++;
    void *actuator = NULL;
    struct value now = { 0 };
    int r = open_actuator(driver, config, values[i].type, &actuator, &now, why);
    if (r < 0)
        return r;
    assert_non_null(actuator);
    assert_true(now.type == VALUE_NONE || now.type == values[i].type);
    r = driver->set(actuator, &values[i], why);
    driver->base.close(actuator);
    return r;
}

static void an_actuator_that_is_not_there_fails_with_a_cause(void **state)
{
    (void)state;
    for (size_t i = 0; actuator_drivers[i]; i++) {
        const struct actuator_driver *driver = actuator_drivers[i];
        void *config = make_config(driver, NULL);
        fill_with_nonsense(driver->base.options, driver->base.n_options, config);
        struct why why = { 0 };
        int r = set_once(driver, config, &why);
        print_message("%s: %d %s\n", driver->base.name, r, why.text);
        if (driver->base.n_options > 0) {
            assert_true(r < 0);
            assert_string_not_equal(why.text, "");
            assert_true(set_once(driver, config, NULL) < 0);
        }
        free_config(driver, config);
    }
}

static void the_configuration_gets_every_driver(void **state)
{
    (void)state;
    struct config_sources sources = { .file = "kept" };
    driver_add_to(&sources);
    driver_add_to(&sources); // again is fine
    assert_string_equal(sources.file, "kept");
    assert_null(sensor_drivers[sources.n_sensor_drivers]);
    assert_null(actuator_drivers[sources.n_actuator_drivers]);
    for (size_t i = 0; i < sources.n_sensor_drivers; i++) {
        assert_ptr_equal(sources.sensor_drivers[i].driver, sensor_drivers[i]);
        assert_string_equal(sources.sensor_drivers[i].name, sensor_drivers[i]->base.name);
    }
    for (size_t i = 0; i < sources.n_actuator_drivers; i++) {
        assert_ptr_equal(sources.actuator_drivers[i].driver, actuator_drivers[i]);
        assert_int_equal(sources.actuator_drivers[i].types, actuator_drivers[i]->types);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sensor_driver_is_described_as_the_configuration_needs_it),
        cmocka_unit_test(every_actuator_driver_is_described_as_the_configuration_needs_it),
        cmocka_unit_test(every_driver_file_is_in_the_table),
        cmocka_unit_test(a_sensor_that_is_not_there_fails_with_a_cause),
        cmocka_unit_test(an_actuator_that_is_not_there_fails_with_a_cause),
        cmocka_unit_test(the_configuration_gets_every_driver),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
