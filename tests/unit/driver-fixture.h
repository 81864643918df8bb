// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For the tests of drivers: a directory of one's own with files in it, which is also the root of
 * sysfs, and a driver's configuration made from its rows as the loader does it.
 *
 *     put_file("class/leds/lamp/brightness", "0\n");
 *     void *config = make_config(&sensor_driver_file, "path", file_path("x"), NULL);
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "drivers/driver.h"
#include "drivers/sysfs.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/files.h"
#include "util/parse.h"
#include "util/strings.h"

static char fixture_directory[64];

static inline int fixture_setup(void **state)
{
    (void)state;
    strcpy(fixture_directory, "/tmp/nightlight-test-XXXXXX");
    sysfs_set_root(fixture_directory);
    return mkdtemp(fixture_directory) ? 0 : -1;
}

static inline int fixture_remove(const char *path, const struct stat *status, int flag,
                                 struct FTW *walk)
{
    (void)status, (void)flag, (void)walk;
    return remove(path);
}

static inline int fixture_teardown(void **state)
{
    (void)state;
    return nftw(fixture_directory, fixture_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* The path of a name in the directory; valid until the second call from now. */
static inline const char *file_path(const char *name)
{
    static char paths[2][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 2];
    snprintf(path, PATH_MAX, "%s/%s", fixture_directory, name);
    return path;
}

/* Makes the file, and the directories on the way. */
static inline void put_file(const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s", file_path(name));
    for (char *slash = path + strlen(fixture_directory); (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static inline void assert_file(const char *name, const char *expected)
{
    _cleanup_(freep) char *text = NULL;
    assert_int_equal(files_read(file_path(name), 65536, &text, NULL), 0);
    assert_string_equal(text, expected);
}

static inline void fixture_set_option(const struct schema_option *option, const char *text,
                                      void *config)
{
    void *member = (char *)config + option->offset;
    struct why why = { 0 };
    if (option->check && option->check(text, &why) < 0)
        fail_msg("%s = %s: %s", option->key, text, why.text);
    switch (option->type) {
    case OPTION_BOOL:
        assert_int_equal(parse_bool(text, member), 0);
        break;
    case OPTION_INT:
        assert_int_equal(parse_int(text, member), 0);
        break;
    case OPTION_NUMBER:
        assert_int_equal(parse_number(text, member), 0);
        break;
    case OPTION_DURATION:
        assert_int_equal(parse_duration(text, member), 0);
        break;
    case OPTION_ENUM:
        *(int *)member = 0;
        while (strcmp(option->choices[*(int *)member], text) != 0)
            assert_non_null(option->choices[++*(int *)member]);
        break;
    case OPTION_STRING:
        free(*(char **)member);
        *(char **)member = strdup(text);
        break;
    case OPTION_ARGV:
        strings_free(*(char ***)member);
        assert_int_equal(parse_argv(text, member), 0);
        break;
    default:
        fail_msg("no driver has an option of type %d", option->type);
    }
}

static inline void fixture_set_unset(const struct schema_option *option, void *config)
{
    if (option->type == OPTION_NUMBER)
        *(double *)((char *)config + option->offset) = NAN;
    if (option->type == OPTION_DURATION)
        *(uint64_t *)((char *)config + option->offset) = USEC_INFINITY;
}

/* The rows' defaults. */
static inline void *fixture_new_config(const struct schema_option *options, size_t n_options,
                                       size_t size)
{
    void *config = calloc(1, size ? size : 1);
    for (size_t i = 0; i < n_options; i++) {
        if (options[i].def)
            fixture_set_option(&options[i], options[i].def, config);
        else
            fixture_set_unset(&options[i], config);
    }
    return config;
}

static inline void fixture_set_pairs(const struct schema_option *options, size_t n_options,
                                     void *config, va_list pairs)
{
    const char *key;
    while ((key = va_arg(pairs, const char *))) {
        const char *text = va_arg(pairs, const char *);
        size_t i = 0;
        while (i < n_options && strcmp(options[i].key, key) != 0)
            i++;
        assert_true(i < n_options);
        fixture_set_option(&options[i], text, config);
    }
}

static inline void *make_sensor_config(const struct sensor_driver *driver, ...)
{
    void *config =
        fixture_new_config(driver->base.options, driver->base.n_options, driver->base.config_size);
    va_list pairs;
    va_start(pairs, driver);
    fixture_set_pairs(driver->base.options, driver->base.n_options, config, pairs);
    va_end(pairs);
    return config;
}

static inline void *make_actuator_config(const struct actuator_driver *driver, ...)
{
    void *config =
        fixture_new_config(driver->base.options, driver->base.n_options, driver->base.config_size);
    va_list pairs;
    va_start(pairs, driver);
    fixture_set_pairs(driver->base.options, driver->base.n_options, config, pairs);
    va_end(pairs);
    return config;
}

#define make_config(driver, ...)                                                                   \
    _Generic((driver), const struct sensor_driver *                                                \
             : make_sensor_config, const struct actuator_driver *                                  \
             : make_actuator_config)(driver, __VA_ARGS__)

static inline void fixture_free_config(const struct schema_option *options, size_t n_options,
                                       void *config)
{
    for (size_t i = 0; i < n_options; i++) {
        void *member = (char *)config + options[i].offset;
        if (options[i].type == OPTION_STRING)
            free(*(char **)member);
        if (options[i].type == OPTION_ARGV)
            strings_free(*(char ***)member);
    }
    free(config);
}

#define free_config(driver, config)                                                                \
    fixture_free_config((driver)->base.options, (driver)->base.n_options, config)

/* Opens an actuator of which nothing is known; *now is what it is. */
static inline int open_actuator(const struct actuator_driver *driver, const void *config,
                                enum value_type type, void **actuator, struct value *now,
                                struct why *why)
{
    struct actuator_start start = { 0 };
    int r = driver->open(config, type, actuator, &start, why);
    if (r == 0)
        *now = start.now;
    return r;
}

/* Opens, reads once and closes: what the first of the three to fail returns, with why. */
static inline int read_once(const struct sensor_driver *driver, const void *config, double *value,
                            struct why *why)
{
    void *sensor = NULL;
    int r = driver->open(config, &sensor, why);
    if (r < 0)
        return r;
    assert_non_null(sensor);
    r = driver->read(sensor, value, why);
    driver->base.close(sensor);
    return r;
}

/* read_once() of a value that is expected. config is freed. */
static inline void assert_reads(const struct sensor_driver *driver, void *config, double expected)
{
    double value = NAN;
    struct why why = { 0 };
    if (read_once(driver, config, &value, &why) < 0)
        fail_msg("%s", why.text);
    assert_float_equal(value, expected, 1e-9);
    free_config(driver, config);
}

/* read_once() of a failure with a cause in which part stands. config is freed. */
static inline void assert_read_fails(const struct sensor_driver *driver, void *config, int error,
                                     const char *part)
{
    double value = 42;
    struct why why = { 0 };
    assert_int_equal(read_once(driver, config, &value, &why), -error);
    if (!strstr(why.text, part))
        fail_msg("'%s' is not in '%s'", part, why.text);
    assert_float_equal(value, 42, 0); // untouched
    free_config(driver, config);
}
