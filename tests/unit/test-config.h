// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For the tests of config/: a directory of configuration files and a small set of drivers. Each
 * test runs in an empty directory of its own, so that the files have short names in errors.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "config/config.h"
#include "util/clock.h"
#include "util/strings.h"

#define MAIN_FILE "nightlightd.conf"

/* --- drivers: sensors `sim` and `exec`, actuators `gpio` (bool alone) and `log` -------------- */

struct sim_config {
    int wave;
    double min, max;
    uint64_t period_usec, memory;
};
struct exec_config {
    char **command;
    char *token; // a secret
};
struct gpio_config {
    char *chip;
    int64_t line;
    bool active_low;
};

static const char *const waves[] = { "constant", "sine", "ramp", NULL };

static const struct schema_option sim_options[] = {
    { "wave", OPTION_ENUM, offsetof(struct sim_config, wave), .choices = waves, .help = "-" },
    { "min", OPTION_NUMBER, offsetof(struct sim_config, min), .def = "0", .help = "-" },
    { "max", OPTION_NUMBER, offsetof(struct sim_config, max), .def = "100", .help = "-" },
    { "period", OPTION_DURATION, offsetof(struct sim_config, period_usec), .min = 1000,
      .max = 86400e6, .def = "1min", .help = "-" },
    { "memory", OPTION_SIZE, offsetof(struct sim_config, memory), .min = 1024, .max = 64 << 20,
      .def = "64K", .help = "-" },
};
static const struct schema_option exec_options[] = {
    { "command", OPTION_ARGV, offsetof(struct exec_config, command), .required = true,
      .help = "-" },
    { "token", OPTION_STRING, offsetof(struct exec_config, token), .secret = true, .min = 4,
      .max = 16, .help = "-" },
};
static const struct schema_option gpio_options[] = {
    { "chip", OPTION_STRING, offsetof(struct gpio_config, chip), .required = true, .help = "-" },
    { "line", OPTION_INT, offsetof(struct gpio_config, line), .min = 0, .max = 511, .def = "0",
      .help = "-" },
    { "active_low", OPTION_BOOL, offsetof(struct gpio_config, active_low), .def = "no",
      .help = "-" },
};

static int sim_check(const void *driver_config, struct why *why)
{
    const struct sim_config *sim = driver_config;
    return sim->min < sim->max ? 0 : why_set(why, EINVAL, "min is not less than max");
}

/* What stands for a driver is only compared. */
static const int sim_driver, exec_driver, gpio_driver, log_driver;

static const struct config_driver sensor_table[] = {
    { "sim", &sim_driver, sim_options, ELEMENTS(sim_options), sizeof(struct sim_config), 0,
      sim_check },
    { "exec", &exec_driver, exec_options, ELEMENTS(exec_options), sizeof(struct exec_config), 0,
      NULL },
};
static const struct config_driver actuator_table[] = {
    { "gpio", &gpio_driver, gpio_options, ELEMENTS(gpio_options), sizeof(struct gpio_config),
      1 << VALUE_BOOL, NULL },
    { "log", &log_driver, NULL, 0, 0, 1 << VALUE_BOOL | 1 << VALUE_NUMBER | 1 << VALUE_STRING,
      NULL },
};

/* --- files ----------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

__attribute__((unused)) static int setup(void **state)
{
    char *directory = strdup("/tmp/test-config-XXXXXX");
    assert_non_null(mkdtemp(directory));
    assert_int_equal(chdir(directory), 0);
    *state = directory;
    return 0;
}

__attribute__((unused)) static int teardown(void **state)
{
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(nftw(*state, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    free(*state);
    return 0;
}

#define in_directory(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

__attribute__((unused)) static void put_bytes(const char *path, const char *bytes, size_t length)
{
    if (strchr(path, '/'))
        mkdir("conf.d", 0755);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

__attribute__((unused)) static void put(const char *path, const char *text)
{
    put_bytes(path, text, strlen(text));
}

/* --- loading --------------------------------------------------------------------------------- */

__attribute__((unused)) static int load(const char *role, struct config **ret_config,
                                        struct config_errors *errors)
{
    const struct config_sources sources = {
        .file = MAIN_FILE,
        .role = role,
        .sensor_drivers = sensor_table,
        .n_sensor_drivers = ELEMENTS(sensor_table),
        .actuator_drivers = actuator_table,
        .n_actuator_drivers = ELEMENTS(actuator_table),
    };
    return config_load(&sources, ret_config, errors);
}

/* Loads the files that are there, which are right. */
__attribute__((unused)) static struct config *load_good(const char *role)
{
    struct config *config = NULL;
    struct config_errors errors = { 0 };
    int r = load(role, &config, &errors);
    for (size_t i = 0; i < errors.n_lines; i++)
        print_error("%s\n", errors.lines[i]);
    assert_int_equal(r, 0);
    assert_null(errors.lines);
    return config;
}

/* Loads the files that are there, and expects just those errors; NULL at the end. */
__attribute__((unused, sentinel)) static void expect_errors(const char *role, ...)
{
    struct config *config = NULL;
    struct config_errors errors = { 0 };
    assert_int_equal(load(role, &config, &errors), -EINVAL);
    assert_null(config);
    va_list lines;
    va_start(lines, role);
    size_t n = 0;
    for (const char *line; (line = va_arg(lines, const char *)); n++) {
        assert_true(n < errors.n_lines);
        assert_string_equal(errors.lines[n], line);
    }
    va_end(lines);
    if (n < errors.n_lines)
        print_error("also: %s\n", errors.lines[n]);
    assert_int_equal(errors.n_lines, n);
    config_errors_done(&errors);
}

/* One file with an id and that text behind it: three lines more. */
__attribute__((unused)) static void put_main(const char *text)
{
    char *whole;
    assert_true(asprintf(&whole, "[daemon]\nid = here\n\n%s", text) > 0);
    put(MAIN_FILE, whole);
    free(whole);
}

__attribute__((unused)) static struct config *load_main(const char *text)
{
    put_main(text);
    return load_good(NULL);
}

/* As the above, with one error: "LINE: WHAT", the line counted in text. */
struct bad {
    const char *text;
    unsigned line;
    const char *what;
};

__attribute__((unused)) static void expect_each(const struct bad *bad, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *line;
        assert_true(asprintf(&line, MAIN_FILE ":%u: %s", bad[i].line + 3, bad[i].what) > 0);
        put_main(bad[i].text);
        expect_errors(NULL, line, NULL);
        free(line);
    }
}
