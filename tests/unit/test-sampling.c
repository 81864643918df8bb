// SPDX-License-Identifier: LGPL-2.1-or-later
// From raw values to what is published, and weeks of it on a clock that the test turns.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/sampling.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define WEEK (7ULL * 24 * 3600 * USEC_PER_SEC)

static const struct sampling_options defaults = {
    .scale = 1,
    .valid_min = NAN,
    .valid_max = NAN,
    .decimals = -1,
    .deadband = NAN,
    .max_silence_usec = USEC_INFINITY,
};

static double rounded(double raw, int decimals)
{
    struct sampling_options options = defaults;
    options.decimals = decimals;
    double reading = NAN;
    assert_int_equal(sampling_scale(&options, raw, &reading, NULL), 0);
    return reading;
}

static void rounding_goes_half_away_from_zero_as_written(void **state)
{
    (void)state;
    static const struct {
        double raw;
        int decimals;
        double expected;
    } cases[] = {
        { 21.44, 1, 21.4 },
        { 21.45, 1, 21.5 },
        { -21.45, 1, -21.5 },
        { 2.675, 2, 2.68 },
        { 1.005, 2, 1.01 },
        { 0.5, 0, 1 },
        { 1.5, 0, 2 },
        { 2.5, 0, 3 },
        { -2.5, 0, -3 },
        { 2.4999999, 0, 2 },
        { 0.1 + 0.2, 9, 0.3 },
        { 1e300, 9, 1e300 },
        { 123456789012345, 0, 123456789012345 },
        { 999999999999999, 0, 999999999999999 },
        { 9007199254740992, 0, 9007199254740992 },
        { 1e-12, 9, 0 },
        { 0.1 + 0.2, -1, 0.1 + 0.2 },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        double found = rounded(cases[i].raw, cases[i].decimals);
        if (found != cases[i].expected)
            fail_msg("%.17g to %d decimals: %.17g", cases[i].raw, cases[i].decimals, found);
    }
    assert_false(signbit(rounded(-0.001, 2)));
}

static void every_decimal_that_ends_in_5_is_rounded_up(void **state)
{
    (void)state;
    for (int decimals = 0; decimals <= 9; decimals++) {
        for (int n = 1; n < 2000000; n += 97) {
            char text[64];
            snprintf(text, sizeof(text), "%d5e-%d", n, decimals + 1);
            double half = strtod(text, NULL);
            snprintf(text, sizeof(text), "%de-%d", n + 1, decimals);
            double expected = strtod(text, NULL);
            if (rounded(half, decimals) != expected || rounded(-half, decimals) != -expected)
                fail_msg("%.17g to %d decimals", half, decimals);
            assert_true(rounded(expected, decimals) == expected);
        }
    }
}

static void scale_and_offset_come_before_the_limits(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.scale = 0.1;
    options.offset = -40;
    options.decimals = 1;
    options.valid_min = -20;
    options.valid_max = 85;
    double reading = 4711;
    struct why why = { "" };
    assert_int_equal(sampling_scale(&options, 615, &reading, &why), 0);
    assert_true(reading == 21.5);
    assert_int_equal(sampling_scale(&options, 200, &reading, &why), 0);
    assert_true(reading == -20);
    assert_int_equal(sampling_scale(&options, 1250, &reading, &why), 0);
    assert_true(reading == 85);

    assert_int_equal(sampling_scale(&options, 199, &reading, &why), -ERANGE);
    assert_string_equal(why.text, "-20.1 is below valid_min, -20");
    assert_int_equal(sampling_scale(&options, 1251, &reading, &why), -ERANGE);
    assert_string_equal(why.text, "85.1 is above valid_max, 85");
    assert_true(reading == 85); // untouched on failure
}

static void what_is_not_finite_is_refused(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.scale = 10;
    static const double raws[] = { NAN, INFINITY, -INFINITY, DBL_MAX };
    for (size_t i = 0; i < ELEMENTS(raws); i++) {
        double reading = 4711;
        struct why why = { "" };
        assert_int_equal(sampling_scale(&options, raws[i], &reading, &why), -ERANGE);
        assert_string_equal(why.text, "the reading is not a finite number");
        options.decimals = 9;
    }
}

/* What an interval with these values publishes. */
static double gathered(enum sampling_aggregate aggregate, const double *values, size_t n)
{
    struct sampling_options options = defaults;
    options.aggregate = aggregate;
    struct sampling sampling = { 0 };
    for (size_t i = 0; i < n; i++)
        assert_int_equal(sampling_add(&sampling, &options, values[i]), 0);
    double value = NAN;
    assert_int_equal(sampling_take(&sampling, &options, 0, &value), 1);
    sampling_done(&sampling);
    assert_null(sampling.values);
    return value;
}

static void each_aggregate_gives_its_value(void **state)
{
    (void)state;
    static const double values[] = { 5, -1, 9, 4, 8 };
    assert_true(gathered(SAMPLING_LAST, values, 5) == 8);
    assert_true(gathered(SAMPLING_MEAN, values, 5) == 5);
    assert_true(gathered(SAMPLING_MIN, values, 5) == -1);
    assert_true(gathered(SAMPLING_MAX, values, 5) == 9);
    assert_true(gathered(SAMPLING_MEDIAN, values, 5) == 5);
    assert_true(gathered(SAMPLING_MEDIAN, values, 4) == 4.5); // the mean of the middle two
    assert_true(gathered(SAMPLING_MEDIAN, values, 2) == 2);
    assert_true(gathered(SAMPLING_MEDIAN, values, 1) == 5);
    assert_true(gathered(SAMPLING_MEAN, values, 1) == 5);
}

static void huge_values_do_not_overflow(void **state)
{
    (void)state;
    static const double values[] = { DBL_MAX, DBL_MAX, DBL_MAX, DBL_MAX };
    static const double opposite[] = { DBL_MAX, -DBL_MAX, DBL_MAX, -DBL_MAX };
    assert_true(gathered(SAMPLING_MEAN, values, 4) == DBL_MAX);
    assert_true(gathered(SAMPLING_MEDIAN, values, 4) == DBL_MAX);
    assert_true(isfinite(gathered(SAMPLING_MEAN, opposite, 4)));
    assert_true(gathered(SAMPLING_MEDIAN, opposite, 4) == 0);
}

static void empty_interval_publishes_nothing(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.max_silence_usec = 0;
    struct sampling sampling = { 0 };
    double value = 4711;
    assert_int_equal(sampling_take(&sampling, &options, 0, &value), 0);
    assert_int_equal(sampling_add(&sampling, &options, 1), 0);
    assert_int_equal(sampling_take(&sampling, &options, 1, &value), 1);
    assert_int_equal(sampling_take(&sampling, &options, WEEK, &value), 0);
    assert_true(value == 1);
}

static void an_interval_forgets_the_one_before(void **state)
{
    (void)state;
    for (int how = SAMPLING_LAST; how <= SAMPLING_MEDIAN; how++) {
        struct sampling_options options = defaults;
        options.aggregate = (enum sampling_aggregate)how;
        struct sampling sampling = { 0 };
        double value = NAN;
        for (int i = 0; i < 3; i++)
            assert_int_equal(sampling_add(&sampling, &options, i * 1e20), 0);
        assert_int_equal(sampling_take(&sampling, &options, 0, &value), 1);
        assert_int_equal(sampling_add(&sampling, &options, 5), 0);
        assert_int_equal(sampling_take(&sampling, &options, 1, &value), 1);
        assert_true(value == 5);
        sampling_done(&sampling);
    }
}

static void the_published_value_is_rounded(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.aggregate = SAMPLING_MEAN;
    options.decimals = 1;
    struct sampling sampling = { 0 };
    double value = NAN;
    assert_int_equal(sampling_add(&sampling, &options, 21.4), 0);
    assert_int_equal(sampling_add(&sampling, &options, 21.5), 0);
    assert_int_equal(sampling_take(&sampling, &options, 0, &value), 1);
    assert_true(value == 21.5); // 21.45
}

/* One reading in an interval that ends now; whether it is published. */
static int offer(struct sampling *sampling, const struct sampling_options *options, double reading,
                 uint64_t now_mono_usec)
{
    double value = NAN;
    assert_int_equal(sampling_add(sampling, options, reading), 0);
    int r = sampling_take(sampling, options, now_mono_usec, &value);
    assert_true(r == 1 ? value == reading : isnan(value));
    return r;
}

static void deadband_compares_with_the_last_published_value(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.deadband = 5;
    struct sampling sampling = { 0 };
    assert_int_equal(offer(&sampling, &options, 100, 0), 1); // the first always
    assert_int_equal(offer(&sampling, &options, 103, 1), 0);
    assert_int_equal(offer(&sampling, &options, 105, 2), 0); // exactly the deadband
    assert_int_equal(offer(&sampling, &options, 106, 3), 1); // by small steps too
    assert_int_equal(offer(&sampling, &options, 101, 4), 0);
    assert_int_equal(offer(&sampling, &options, 100.9, 5), 1);
}

static void deadband_is_not_fooled_by_binary_fractions(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.deadband = 0.1;
    options.decimals = 1;
    for (int tenth = -500; tenth < 500; tenth++) {
        struct sampling sampling = { 0 };
        assert_int_equal(offer(&sampling, &options, tenth / 10.0, 0), 1);
        assert_int_equal(offer(&sampling, &options, (tenth + 1) / 10.0, 1), 0);
        assert_int_equal(offer(&sampling, &options, (tenth + 2) / 10.0, 2), 1);
    }
}

static void deadband_of_zero_holds_back_only_the_same(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.deadband = 0;
    struct sampling sampling = { 0 };
    assert_int_equal(offer(&sampling, &options, 1, 0), 1);
    assert_int_equal(offer(&sampling, &options, 1, 1), 0);
    assert_int_equal(offer(&sampling, &options, 1.000001, 2), 1);
    assert_int_equal(offer(&sampling, &options, 1e15, 3), 1);
    assert_int_equal(offer(&sampling, &options, 1e15 + 1, 4), 1);
}

static void max_silence_publishes_in_spite_of_the_deadband(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.deadband = 5;
    options.max_silence_usec = 60;
    struct sampling sampling = { 0 };
    assert_int_equal(offer(&sampling, &options, 100, 1000), 1);
    assert_int_equal(offer(&sampling, &options, 100, 1059), 0);
    assert_int_equal(offer(&sampling, &options, 101, 1060), 1);
    assert_int_equal(offer(&sampling, &options, 200, 1070), 1); // counts from here
    assert_int_equal(offer(&sampling, &options, 200, 1129), 0);
    assert_int_equal(offer(&sampling, &options, 200, 1130), 1);
    options.max_silence_usec = USEC_INFINITY;
    assert_int_equal(offer(&sampling, &options, 200, UINT64_MAX - 1), 0);
}

static void median_beyond_its_memory_is_that_of_a_uniform_sample(void **state)
{
    (void)state;
    struct sampling_options options = defaults;
    options.aggregate = SAMPLING_MEDIAN;
    struct sampling sampling = { 0 };
    double value = NAN;
    for (int n = 0; n < 1000000; n++) // rising: what keeps the first or the last is far off
        assert_int_equal(sampling_add(&sampling, &options, n), 0);
    assert_int_equal(sampling_take(&sampling, &options, 0, &value), 1);
    assert_true(fabs(value - 500000) < 80000); // 5 standard deviations of a median of 1,024

    unsigned per_tenth[10] = { 0 };
    for (int i = 0; i < SAMPLING_MAX_VALUES; i++)
        per_tenth[(int)(sampling.values[i] / 100000)]++;
    for (int i = 0; i < 10; i++)
        assert_in_range(per_tenth[i], 54, 150); // 102 and 5 standard deviations
    sampling_done(&sampling);
}

static void next_time_is_on_the_grid_and_after_now(void **state)
{
    (void)state;
    assert_int_equal(sampling_next(1000, 10, 1000), 1010);
    assert_int_equal(sampling_next(1000, 10, 1009), 1010);
    assert_int_equal(sampling_next(1000, 10, 1010), 1020);
    assert_int_equal(sampling_next(1000, 10, 1057), 1060); // skips what was missed
    assert_int_equal(sampling_next(1000, 10, 7), 1010);    // before it began
    assert_int_equal(sampling_next(0, 1, 0), 1);
    assert_int_equal(sampling_next(1003, 7, 1003 + 7000000000007), 1003 + 7000000000014);
    assert_true(sampling_next(1003, 7, UINT64_MAX - 1) == USEC_INFINITY);
    assert_true(sampling_next(0, UINT64_MAX - 1, 5) == UINT64_MAX - 1);
    assert_true(sampling_next(UINT64_MAX - 2, 100, UINT64_MAX - 1) == USEC_INFINITY);
    assert_true(sampling_next(UINT64_MAX - 2, 100, 0) == USEC_INFINITY);
}

/* A light that rises and falls with the day, in whole steps. */
static double daylight(uint64_t now_mono_usec)
{
    double day = fmod((double)now_mono_usec / (24 * 3600 * (double)USEC_PER_SEC), 1);
    return round(512 - 511 * cos(2 * M_PI * day));
}

static void weeks_of_late_timers_neither_drift_nor_lose_an_interval(void **state)
{
    (void)state;
    const uint64_t start = 12345678, interval = 5 * USEC_PER_SEC;
    struct sampling_options options = defaults;
    options.deadband = 10;
    options.max_silence_usec = 600 * USEC_PER_SEC;
    struct sampling sampling = { 0 };
    uint64_t n_fired = 0, n_published = 0, last_mono_usec = 0;
    double last = 0;

    for (uint64_t due = start; due < start + 3 * WEEK; n_fired++) {
        uint64_t now = due + (n_fired * 7919) % (interval / 2); // the loop was busy
        double reading = NAN, value = NAN;
        assert_int_equal(sampling_scale(&options, daylight(now), &reading, NULL), 0);
        assert_int_equal(sampling_add(&sampling, &options, reading), 0);
        if (sampling_take(&sampling, &options, now, &value) == 1) {
            assert_true(n_published == 0 || fabs(value - last) > 10 ||
                        now - last_mono_usec >= options.max_silence_usec);
            n_published++;
            last = value;
            last_mono_usec = now;
        }
        assert_true(fabs(reading - last) <= 10);
        assert_true(now - last_mono_usec < options.max_silence_usec);
        due = sampling_next(start, interval, now);
        assert_int_equal((due - start) % interval, 0);
    }
    assert_int_equal(n_fired, 3 * WEEK / interval);
    assert_in_range(n_published, 3 * 7 * 144, n_fired / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_goes_half_away_from_zero_as_written),
        cmocka_unit_test(every_decimal_that_ends_in_5_is_rounded_up),
        cmocka_unit_test(scale_and_offset_come_before_the_limits),
        cmocka_unit_test(what_is_not_finite_is_refused),
        cmocka_unit_test(each_aggregate_gives_its_value),
        cmocka_unit_test(huge_values_do_not_overflow),
        cmocka_unit_test(empty_interval_publishes_nothing),
        cmocka_unit_test(an_interval_forgets_the_one_before),
        cmocka_unit_test(the_published_value_is_rounded),
        cmocka_unit_test(deadband_compares_with_the_last_published_value),
        cmocka_unit_test(deadband_is_not_fooled_by_binary_fractions),
        cmocka_unit_test(deadband_of_zero_holds_back_only_the_same),
        cmocka_unit_test(max_silence_publishes_in_spite_of_the_deadband),
        cmocka_unit_test(median_beyond_its_memory_is_that_of_a_uniform_sample),
        cmocka_unit_test(next_time_is_on_the_grid_and_after_now),
        cmocka_unit_test(weeks_of_late_timers_neither_drift_nor_lose_an_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
