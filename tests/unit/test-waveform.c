// SPDX-License-Identifier: LGPL-2.1-or-later
// The simulated sensor's curves and recordings, on handed-in time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "drivers/waveform.h"
#include "util/clock.h"

static const uint64_t day = 86400 * USEC_PER_SEC;

static void a_sine_is_dark_at_midnight_and_bright_at_noon(void **state)
{
    (void)state;
    assert_float_equal(waveform_at(WAVE_SINE, 0, 1023, day, 0), 0, 1e-9);
    assert_float_equal(waveform_at(WAVE_SINE, 0, 1023, day, day / 4), 511.5, 1e-9);
    assert_float_equal(waveform_at(WAVE_SINE, 0, 1023, day, day / 2), 1023, 1e-9);
    assert_float_equal(waveform_at(WAVE_SINE, 0, 1023, day, 1000 * day), 0, 1e-9);
}

static void a_ramp_rises_and_begins_again(void **state)
{
    (void)state;
    assert_float_equal(waveform_at(WAVE_RAMP, -10, 10, 1000, 0), -10, 1e-9);
    assert_float_equal(waveform_at(WAVE_RAMP, -10, 10, 1000, 750), 5, 1e-9);
    assert_float_equal(waveform_at(WAVE_RAMP, -10, 10, 1000, 1000), -10, 1e-9);
}

static void a_constant_is_min(void **state)
{
    (void)state;
    assert_float_equal(waveform_at(WAVE_CONSTANT, 250, 1, 1000, 12345), 250, 0);
}

static void noise_stays_between_and_covers_both_halves(void **state)
{
    (void)state;
    uint64_t seed = 0;
    unsigned n_upper = 0;
    for (unsigned i = 0; i < 10000; i++) {
        double value = waveform_noise(5, 7, &seed);
        assert_true(value >= 5 && value <= 7);
        n_upper += value > 6;
    }
    assert_in_range(n_upper, 4700, 5300);
}

static struct series *parse(const char *text)
{
    struct series *series = NULL;
    struct why why = { 0 };
    if (series_parse(text, strlen(text), &series, &why) < 0)
        fail_msg("%s", why.text);
    return series;
}

static void values_alone_give_one_a_reading_and_begin_again(void **state)
{
    (void)state;
    struct series *series = parse("# light\n250\n\n 320 \r\n-1");
    assert_int_equal(series->n_rows, 3);
    assert_float_equal(series_at(series, 0, 0), 250, 0);
    assert_float_equal(series_at(series, 1, 0), 320, 0);
    assert_float_equal(series_at(series, 2, 99), -1, 0);
    assert_float_equal(series_at(series, 3, 0), 250, 0);
    free(series);
}

static void values_with_seconds_hold_until_the_next(void **state)
{
    (void)state;
    struct series *series = parse("100,1\n110,2\n130,3\n");
    static const struct {
        uint64_t seconds;
        double value;
    } expected[] = { { 0, 1 }, { 9, 1 }, { 10, 2 }, { 29, 2 }, { 30, 3 }, { 49, 3 }, { 50, 1 } };
    for (size_t i = 0; i < ELEMENTS(expected); i++)
        assert_float_equal(series_at(series, i, expected[i].seconds * USEC_PER_SEC),
                           expected[i].value, 0);
    free(series);
    series = parse("5,7\n");
    assert_float_equal(series_at(series, 0, day), 7, 0);
    free(series);
}

static void assert_refused(const char *text, const char *part)
{
    struct series *series = NULL;
    struct why why = { 0 };
    assert_int_equal(series_parse(text, strlen(text), &series, &why), -EBADMSG);
    assert_null(series);
    if (!strstr(why.text, part))
        fail_msg("'%s' is not in '%s'", part, why.text);
}

static void a_bad_line_is_named(void **state)
{
    (void)state;
    assert_refused("", "no values");
    assert_refused("# only this\n", "no values");
    assert_refused("1\nlight\n", "line 2: 'light'");
    assert_refused("1,2\n3\n", "line 2:");
    assert_refused("1\n2,3\n", "line 2:");
    assert_refused("2,1\n2,1\n", "line 2:");
    assert_refused("1,2,3\n", "line 1:");
    assert_refused(",1\n", "line 1:");
    assert_refused("1e10,1\n", "line 1:");
}

static void too_many_rows_are_refused(void **state)
{
    (void)state;
    const size_t n = SERIES_MAX_ROWS + 1;
    char *text = malloc(2 * n);
    for (size_t i = 0; i < n; i++)
        text[2 * i] = '1', text[2 * i + 1] = '\n';
    struct series *series = NULL;
    assert_int_equal(series_parse(text, 2 * n, &series, NULL), -EFBIG);
    assert_int_equal(series_parse(text, 2 * n - 2, &series, NULL), 0);
    free(series);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sine_is_dark_at_midnight_and_bright_at_noon),
        cmocka_unit_test(a_ramp_rises_and_begins_again),
        cmocka_unit_test(a_constant_is_min),
        cmocka_unit_test(noise_stays_between_and_covers_both_halves),
        cmocka_unit_test(values_alone_give_one_a_reading_and_begin_again),
        cmocka_unit_test(values_with_seconds_hold_until_the_next),
        cmocka_unit_test(a_bad_line_is_named),
        cmocka_unit_test(too_many_rows_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
