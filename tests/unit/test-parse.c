// SPDX-License-Identifier: LGPL-2.1-or-later
// Small values from text: what is taken, what is not of the form, and what is too large.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

static void booleans_are_systemds_words(void **state)
{
    (void)state;
    static const char *const yes[] = { "yes", "true", "on", "1", "YES", "True" };
    static const char *const no[] = { "no", "false", "off", "0", "Off" };
    static const char *const bad[] = { "", "y", "2", "yes ", " no", "01", "enabled" };
    for (size_t i = 0; i < ELEMENTS(yes); i++) {
        bool value = false;
        assert_int_equal(parse_bool(yes[i], &value), 0);
        assert_true(value);
    }
    for (size_t i = 0; i < ELEMENTS(no); i++) {
        bool value = true;
        assert_int_equal(parse_bool(no[i], &value), 0);
        assert_false(value);
    }
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        bool value = true;
        assert_int_equal(parse_bool(bad[i], &value), -EINVAL);
        assert_true(value);
    }
}

static void integers_are_whole_and_in_range(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        int64_t value;
    } cases[] = {
        { "0", 0, 0 },
        { "-0", 0, 0 },
        { "+7", 0, 7 },
        { "007", 0, 7 },
        { "9223372036854775807", 0, INT64_MAX },
        { "-9223372036854775808", 0, INT64_MIN },
        { "9223372036854775808", -ERANGE, 0 },
        { "-9223372036854775809", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { "-", -EINVAL, 0 },
        { "+-1", -EINVAL, 0 },
        { " 1", -EINVAL, 0 },
        { "1 ", -EINVAL, 0 },
        { "1.0", -EINVAL, 0 },
        { "0x10", -EINVAL, 0 },
        { "1e3", -EINVAL, 0 },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        int64_t value = 42;
        if (parse_int(cases[i].text, &value) != cases[i].result ||
            value != (cases[i].result == 0 ? cases[i].value : 42))
            fail_msg("'%s'", cases[i].text);
    }
}

static void numbers_are_decimal_and_finite(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        double value;
    } cases[] = {
        { "21.4", 0, 21.4 },     { "-0.5e-3", 0, -0.0005 },
        { ".5", 0, 0.5 },        { "5.", 0, 5 },
        { "+3", 0, 3 },          { "007.5", 0, 7.5 },
        { "1E5", 0, 1e5 },       { "1e-400", 0, 0 },
        { "1e400", -ERANGE, 0 }, { "-1e400", -ERANGE, 0 },
        { "", -EINVAL, 0 },      { ".", -EINVAL, 0 },
        { "-", -EINVAL, 0 },     { "e5", -EINVAL, 0 },
        { "1e", -EINVAL, 0 },    { "1e+", -EINVAL, 0 },
        { "0x1p3", -EINVAL, 0 }, { "inf", -EINVAL, 0 },
        { "nan", -EINVAL, 0 },   { " 1", -EINVAL, 0 },
        { "1 ", -EINVAL, 0 },    { "1,5", -EINVAL, 0 },
        { "1.5.3", -EINVAL, 0 }, { "--1", -EINVAL, 0 },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        double value = 42;
        if (parse_number(cases[i].text, &value) != cases[i].result ||
            value != (cases[i].result == 0 ? cases[i].value : 42))
            fail_msg("'%s'", cases[i].text);
    }
}

static void durations_are_written_as_systemd_does(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        uint64_t usec;
    } cases[] = {
        { "0", 0, 0 },
        { "5", 0, 5 * USEC_PER_SEC },
        { "5s", 0, 5 * USEC_PER_SEC },
        { " 5 sec ", 0, 5 * USEC_PER_SEC },
        { "250ms", 0, 250 * USEC_PER_MSEC },
        { "7us", 0, 7 },
        { "1.5s", 0, 1500 * USEC_PER_MSEC },
        { ".5", 0, 500 * USEC_PER_MSEC },
        { "0.0000004s", 0, 0 },
        { "1h 30min", 0, 5400 * USEC_PER_SEC },
        { "1h30m", 0, 5400 * USEC_PER_SEC },
        { "2minutes 3seconds", 0, 123 * USEC_PER_SEC },
        { "1w 1d", 0, 691200 * USEC_PER_SEC },
        { "infinity", 0, USEC_INFINITY },
        { "9999999w", -ERANGE, 0 },
        { "300000000000000000us 1s", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { " ", -EINVAL, 0 },
        { "s", -EINVAL, 0 },
        { "-5s", -EINVAL, 0 },
        { "+5s", -EINVAL, 0 },
        { "5x", -EINVAL, 0 },
        { "5S", -EINVAL, 0 },
        { "1e3", -EINVAL, 0 },
        { "1.5.3s", -EINVAL, 0 },
        { ".", -EINVAL, 0 },
        { "5s,", -EINVAL, 0 },
        { "infinity 5s", -EINVAL, 0 },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t usec = 42;
        int r = parse_duration(cases[i].text, &usec);
        if (r != cases[i].result || usec != (r == 0 ? cases[i].usec : 42))
            fail_msg("'%s': %d, %llu", cases[i].text, r, (unsigned long long)usec);
    }
}

static void times_are_those_of_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        uint64_t usec;
    } cases[] = {
        { "1970-01-01T00:00:00Z", 0, 0 },
        { "2026-11-24T12:34:56Z", 0, 1795523696 * USEC_PER_SEC },
        { "2026-11-24T12:34:56.789Z", 0, 1795523696789 * USEC_PER_MSEC },
        { "2026-11-24t12:34:56.7891239z", 0, 1795523696789123 },
        { "2026-11-24T13:34:56+01:00", 0, 1795523696 * USEC_PER_SEC },
        { "2026-11-23T21:04:56-15:30", 0, 1795523696 * USEC_PER_SEC },
        { "2026-11-24T12:34:56-00:00", 0, 1795523696 * USEC_PER_SEC },
        { "2024-02-29T00:00:00Z", 0, 1709164800 * USEC_PER_SEC },
        { "2000-02-29T23:59:59Z", 0, 951868799 * USEC_PER_SEC },
        { "9999-12-31T23:59:59Z", 0, 253402300799 * USEC_PER_SEC },
        { "1990-12-31T23:59:60Z", 0, 662688000 * USEC_PER_SEC },
        { "1990-12-31T15:59:60-08:00", 0, 662688000 * USEC_PER_SEC },
        { "1970-01-01T00:30:00+01:00", -ERANGE, 0 },
        { "1969-12-31T23:59:59Z", -ERANGE, 0 },
        { "0000-01-01T00:00:00Z", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { "now", -EINVAL, 0 },
        { "2026-11-24", -EINVAL, 0 },
        { "2026-11-24T12:34:56", -EINVAL, 0 },
        { "2026-11-24 12:34:56Z", -EINVAL, 0 },
        { "2026-11-24T12:34Z", -EINVAL, 0 },
        { "2026-11-24T12:34:56.Z", -EINVAL, 0 },
        { "2026-11-24T12:34:56+0100", -EINVAL, 0 },
        { "2026-11-24T12:34:56+24:00", -EINVAL, 0 },
        { "2026-11-24T12:34:56+01:60", -EINVAL, 0 },
        { "2026-11-24T12:34:56Z ", -EINVAL, 0 },
        { " 2026-11-24T12:34:56Z", -EINVAL, 0 },
        { "2026-13-01T00:00:00Z", -EINVAL, 0 },
        { "2026-00-01T00:00:00Z", -EINVAL, 0 },
        { "2026-11-31T00:00:00Z", -EINVAL, 0 },
        { "2026-11-00T00:00:00Z", -EINVAL, 0 },
        { "2025-02-29T00:00:00Z", -EINVAL, 0 },
        { "2100-02-29T00:00:00Z", -EINVAL, 0 },
        { "2026-11-24T24:00:00Z", -EINVAL, 0 },
        { "2026-11-24T12:60:00Z", -EINVAL, 0 },
        { "2026-11-24T12:34:60Z", -EINVAL, 0 },
        { "2026-11-24T12:34:61Z", -EINVAL, 0 },
        { "+026-11-24T12:34:56Z", -EINVAL, 0 },
        { "12026-11-24T12:34:56Z", -EINVAL, 0 },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t usec = 42;
        int r = parse_rfc3339(cases[i].text, &usec);
        if (r != cases[i].result)
            fail_msg("'%s' gives %d", cases[i].text, r);
        assert_int_equal(usec, r == 0 ? cases[i].usec : 42);
    }
}

static void a_time_that_was_written_is_read_as_it_was(void **state)
{
    (void)state;
    char text[CLOCK_RFC3339_SIZE];
    // Some 73 days apart, from 1970 to 9999.
    for (uint64_t msec = 0; msec < 253402300799000; msec += 6311433123) {
        uint64_t usec;
        clock_format_rfc3339(msec * USEC_PER_MSEC, text);
        assert_int_equal(parse_rfc3339(text, &usec), 0);
        assert_int_equal(usec, msec * USEC_PER_MSEC);
    }
}

static void sizes_are_to_the_base_1024(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        uint64_t bytes;
    } cases[] = {
        { "0", 0, 0 },
        { "512", 0, 512 },
        { "64K", 0, 65536 },
        { "32M", 0, 32 << 20 },
        { "2G", 0, 2ULL << 30 },
        { "3T", 0, 3ULL << 40 },
        { "18446744073709551615", 0, UINT64_MAX },
        { "18446744073709551616", -ERANGE, 0 },
        { "16777215T", 0, 16777215ULL << 40 },
        { "16777216T", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { "K", -EINVAL, 0 },
        { "64k", -EINVAL, 0 },
        { "64KB", -EINVAL, 0 },
        { "64 K", -EINVAL, 0 },
        { "-1", -EINVAL, 0 },
        { "1.5M", -EINVAL, 0 },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t bytes = 42;
        int r = parse_size(cases[i].text, &bytes);
        if (r != cases[i].result || bytes != (r == 0 ? cases[i].bytes : 42))
            fail_msg("'%s': %d, %llu", cases[i].text, r, (unsigned long long)bytes);
    }
}

static void arguments_are_split_and_unquoted(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *expected[5];
    } cases[] = {
        { "/bin/true", { "/bin/true" } },
        { "  a  b\tc\n", { "a", "b", "c" } },
        { "a\vb\fc", { "a", "b", "c" } },
        { "'a b' \"c d\" e\\ f", { "a b", "c d", "e f" } },
        { "a'b'\"c\"d", { "abcd" } },
        { "'' \"\"", { "", "" } },
        { "'a\\b\"' \"c\\\"'\"", { "a\\b\"", "c\"'" } },
        { "$HOME *", { "$HOME", "*" } },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_(strings_freep) char **argv = NULL;
        assert_int_equal(parse_argv(cases[i].text, &argv), 0);
        size_t n = strings_count((char *const *)cases[i].expected);
        assert_int_equal(strings_count(argv), n);
        for (size_t k = 0; k < n; k++)
            assert_string_equal(argv[k], cases[i].expected[k]);
    }
}

static void an_open_quote_or_an_empty_line_is_no_command(void **state)
{
    (void)state;
    static const char *const bad[] = { "", " \t", "\v", "'a", "\"a", "a\\", "a 'b", "\"a\\\"" };
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        char **argv = NULL;
        assert_int_equal(parse_argv(bad[i], &argv), -EINVAL);
        assert_null(argv);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(booleans_are_systemds_words),
        cmocka_unit_test(integers_are_whole_and_in_range),
        cmocka_unit_test(numbers_are_decimal_and_finite),
        cmocka_unit_test(durations_are_written_as_systemd_does),
        cmocka_unit_test(times_are_those_of_rfc_3339),
        cmocka_unit_test(a_time_that_was_written_is_read_as_it_was),
        cmocka_unit_test(sizes_are_to_the_base_1024),
        cmocka_unit_test(arguments_are_split_and_unquoted),
        cmocka_unit_test(an_open_quote_or_an_empty_line_is_no_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
