// SPDX-License-Identifier: LGPL-2.1-or-later
// Readings over time: against a naive computation, late and out of order; bounds; saved and loaded.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "core/series.h"
#include "random.h"
#include "util/clock.h"

#define T0   (1790000000 * USEC_PER_SEC)
#define SPAN (60 * USEC_PER_SEC) // parts of a second

static const struct {
    enum aggregate aggregate;
    const char *name;
} exact[] = {
    { AGGREGATE_MIN, "min" },       { AGGREGATE_MAX, "max" },     { AGGREGATE_MEAN, "mean" },
    { AGGREGATE_SUM, "sum" },       { AGGREGATE_COUNT, "count" }, { AGGREGATE_RATE, "rate" },
    { AGGREGATE_STDDEV, "stddev" },
};

struct sample {
    double value;
    uint64_t wall_usec;
};

/* The window as it is documented: a part counts as long as its newest reading is within the span.
 */
static size_t window_of(const struct sample *samples, size_t n, uint64_t now_wall_usec,
                        struct sample *ret_window)
{
    size_t n_window = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t newest_wall_usec = 0;
        for (size_t k = 0; k < n; k++) {
            if (samples[k].wall_usec / USEC_PER_SEC == samples[i].wall_usec / USEC_PER_SEC &&
                samples[k].wall_usec > newest_wall_usec)
                newest_wall_usec = samples[k].wall_usec;
        }
        if (now_wall_usec - newest_wall_usec < SPAN)
            ret_window[n_window++] = samples[i];
    }
    return n_window;
}

/* What has left the window when a reading comes does not return, if another joins it later. */
static size_t forget(struct sample *samples, size_t n, uint64_t now_wall_usec)
{
    static struct sample window[4096];
    n = window_of(samples, n, now_wall_usec, window);
    memcpy(samples, window, n * sizeof(*samples));
    return n;
}

static double naive(const struct sample *samples, size_t n, enum aggregate aggregate)
{
    double least = INFINITY, most = -INFINITY, value = 0, time = 0, deviation = 0, spread = 0,
           product = 0;
    for (size_t i = 0; i < n; i++) {
        least = fmin(least, samples[i].value);
        most = fmax(most, samples[i].value);
        value += samples[i].value / (double)n;
        time += (double)(samples[i].wall_usec - T0) / 1e6 / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double seconds = (double)(samples[i].wall_usec - T0) / 1e6 - time;
        deviation += pow(samples[i].value - value, 2);
        spread += seconds * seconds;
        product += seconds * (samples[i].value - value);
    }
    switch (aggregate) {
    case AGGREGATE_MIN:
        return n > 0 ? least : NAN;
    case AGGREGATE_MAX:
        return n > 0 ? most : NAN;
    case AGGREGATE_MEAN:
        return n > 0 ? value : NAN;
    case AGGREGATE_SUM:
        return value * (double)n;
    case AGGREGATE_COUNT:
        return (double)n;
    case AGGREGATE_STDDEV:
        return n > 0 ? sqrt(deviation / (double)n) : NAN;
    case AGGREGATE_RATE:
        return product / spread;
    default:
        return NAN;
    }
}

static void check(const struct series *series, const struct sample *samples, size_t n,
                  uint64_t now_wall_usec)
{
    static struct sample window[4096];
    size_t n_window = window_of(samples, n, now_wall_usec, window);
    for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++) {
        double value = series_value(series, exact[i].aggregate, now_wall_usec);
        double expected = naive(window, n_window, exact[i].aggregate);
        if (isnan(value) != isnan(expected) || fabs(value - expected) > 1e-6 * (1 + fabs(expected)))
            fail_msg("%s of %zu is %.12g, expected %.12g", exact[i].name, n_window, value,
                     expected);
    }
}

static void windows_agree_with_a_naive_computation(void **state)
{
    (void)state;
    static struct sample samples[4096];
    _cleanup_(series_freep) struct series *series = NULL;
    uint64_t now_wall_usec = T0 + 100 * USEC_PER_SEC;
    size_t n = 0;
    random_begin();
    assert_int_equal(series_new(SPAN, &series), 0);
    for (size_t step = 0; step < 3000; step++) {
        // Mostly quick, now and then a silence that empties the window.
        now_wall_usec += random_below(random_below(100) == 0 ? 2 * SPAN : USEC_PER_SEC / 2);
        struct sample sample = { (double)random_below(1000) / 10 - 50, now_wall_usec };
        if (random_below(4) == 0) // late, in any order, also too late; not before all time
            sample.wall_usec -= random_below(SPAN + SPAN / 4);
        assert_int_equal(series_add(series, sample.value, sample.wall_usec, now_wall_usec), 0);
        n = forget(samples, n, now_wall_usec);
        if (now_wall_usec - sample.wall_usec < SPAN)
            samples[n++] = sample;
        check(series, samples, n, now_wall_usec);
        if (random_below(50) == 0)
            check(series, samples, n, now_wall_usec + random_below(SPAN));
    }
    assert_true(series_size(series) < SERIES_MAX_SAVED);
}

static void a_median_is_exact_with_a_reading_a_part(void **state)
{
    (void)state;
    _cleanup_(series_freep) struct series *series = NULL;
    assert_int_equal(series_new(SPAN, &series), 0);
    assert_true(isnan(series_value(series, AGGREGATE_MEDIAN, T0)));
    static const double values[] = { 5, 1, 9, 2, 7 };
    for (size_t i = 0; i < 5; i++)
        series_add(series, values[i], T0 + i * USEC_PER_SEC, T0 + 10 * USEC_PER_SEC);
    assert_true(series_value(series, AGGREGATE_MEDIAN, T0 + 10 * USEC_PER_SEC) == 5);
    series_add(series, 6, T0 + 6 * USEC_PER_SEC, T0 + 10 * USEC_PER_SEC);
    assert_true(series_value(series, AGGREGATE_MEDIAN, T0 + 10 * USEC_PER_SEC) == 5.5);
}

static void a_line_has_its_slope(void **state)
{
    (void)state;
    _cleanup_(series_freep) struct series *series = NULL;
    assert_int_equal(series_new(600 * USEC_PER_SEC, &series), 0);
    series_add(series, 20, T0, T0);
    assert_true(isnan(series_value(series, AGGREGATE_RATE, T0))); // of a single moment
    for (uint64_t i = 1; i <= 100; i++)
        series_add(series, 20 + 0.05 * (double)i, T0 + i * USEC_PER_SEC, T0 + i * USEC_PER_SEC);
    double rate = series_value(series, AGGREGATE_RATE, T0 + 100 * USEC_PER_SEC);
    assert_true(fabs(rate - 0.05) < 1e-9);
}

static void an_empty_window_counts_nothing_and_knows_nothing(void **state)
{
    (void)state;
    _cleanup_(series_freep) struct series *series = NULL;
    assert_int_equal(series_new(SPAN, &series), 0);
    series_add(series, 20, T0, T0);
    assert_true(series_value(series, AGGREGATE_COUNT, T0 + SPAN - 1) == 1);
    assert_true(series_value(series, AGGREGATE_COUNT, T0 + SPAN) == 0);
    assert_true(series_value(series, AGGREGATE_SUM, T0 + SPAN) == 0);
    assert_true(isnan(series_value(series, AGGREGATE_MEAN, T0 + SPAN)));
}

static void numbers_beyond_all_bounds_are_unknown(void **state)
{
    (void)state;
    _cleanup_(series_freep) struct series *series = NULL;
    assert_int_equal(series_new(SPAN, &series), 0);
    series_add(series, 1.7e308, T0, T0);
    series_add(series, -1.7e308, T0 + 1, T0 + 1);
    assert_true(isnan(series_value(series, AGGREGATE_STDDEV, T0 + 1)));
    assert_true(series_value(series, AGGREGATE_MAX, T0 + 1) == 1.7e308);
}

/* As when a machine without a clock of its own gets the time. */
static void a_clock_that_is_set_back_breaks_no_bound(void **state)
{
    (void)state;
    _cleanup_(series_freep) struct series *series = NULL;
    assert_int_equal(series_new(SPAN, &series), 0);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(series_add(series, 1, T0 + i * USEC_PER_SEC, T0 + i * USEC_PER_SEC), 0);
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(series_add(series, 1, T0 + i * USEC_PER_SEC, T0 + i * USEC_PER_SEC), 0);
    assert_true(series_size(series) < SERIES_MAX_SAVED);
    uint64_t later_wall_usec = T0 + 2000 * USEC_PER_SEC;
    series_add(series, 3, later_wall_usec, later_wall_usec);
    assert_true(series_value(series, AGGREGATE_MEAN, later_wall_usec) == 3);
}

/* Else a window would be what it was before for as long as the clock has gone back. */
static void after_a_clock_is_set_back_the_window_is_what_comes_then(void **state)
{
    (void)state;
    _cleanup_(series_freep) struct series *series = NULL;
    assert_int_equal(series_new(SPAN, &series), 0);
    for (uint64_t i = 0; i < 1000; i++)
        series_add(series, 1, T0 + i * USEC_PER_SEC, T0 + i * USEC_PER_SEC);
    uint64_t then_wall_usec = T0 - 365 * 86400 * USEC_PER_SEC;
    assert_true(series_value(series, AGGREGATE_COUNT, then_wall_usec) == 0);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t now_wall_usec = then_wall_usec + i * USEC_PER_SEC;
        assert_int_equal(series_add(series, 7, now_wall_usec, now_wall_usec), 0);
        assert_true(series_value(series, AGGREGATE_MEAN, now_wall_usec) == 7);
        assert_true(series_value(series, AGGREGATE_MEDIAN, now_wall_usec) == 7);
        assert_true(series_value(series, AGGREGATE_COUNT, now_wall_usec) >= fmin((double)i, 59));
    }
}

static void what_is_saved_loads_and_goes_on(void **state)
{
    (void)state;
    unsigned char saved[SERIES_MAX_SAVED];
    _cleanup_(series_freep) struct series *series = NULL, *loaded = NULL, *other = NULL;
    assert_int_equal(series_new(SPAN, &series), 0);
    size_t n = series_save(series, saved); // an empty one
    assert_int_equal(series_load(SPAN, saved, n, &loaded), 0);
    series_free(TAKE_PTR(loaded));
    uint64_t now_wall_usec = T0 + 200 * USEC_PER_SEC;
    for (uint64_t i = 0; i < 200; i++)
        series_add(series, (double)(i * i % 17), T0 + i * USEC_PER_SEC, T0 + i * USEC_PER_SEC);
    n = series_save(series, saved);
    assert_true(n <= sizeof(saved));
    assert_int_equal(series_load(SPAN, saved, n, &loaded), 0);
    series_add(series, 3, now_wall_usec, now_wall_usec);
    series_add(loaded, 3, now_wall_usec, now_wall_usec);
    for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++)
        assert_true(series_value(series, exact[i].aggregate, now_wall_usec) ==
                    series_value(loaded, exact[i].aggregate, now_wall_usec));
    assert_int_equal(series_load(SPAN + 1, saved, n, &other), -EBADMSG); // of another span
    for (size_t k = 0; k < n; k++) { // only whole parts, and no more of them than there were
        int r = series_load(SPAN, saved, k, &other);
        assert_true(r == 0 || r == -EBADMSG);
        assert_true(r < 0 || series_size(other) <= series_size(series));
        series_free(TAKE_PTR(other));
    }
    saved[n] = 0x80; // a number that goes on behind the end
    assert_int_equal(series_load(SPAN, saved, n + 1, &other), -EBADMSG);
    saved[0] = 1;
    assert_int_equal(series_load(SPAN, saved, n, &other), -EBADMSG);
}

/* One reading of each part, as of a sensor that is read once a minute: what a fleet has most of. */
static void single_readings_are_saved_in_few_bytes(void **state)
{
    (void)state;
    unsigned char saved[SERIES_MAX_SAVED];
    _cleanup_(series_freep) struct series *series = NULL, *loaded = NULL;
    assert_int_equal(series_new(SPAN, &series), 0);
    uint64_t part_usec = SPAN / SERIES_PARTS, last_wall_usec = 0;
    for (uint64_t i = 0; i < SERIES_PARTS; i++) {
        last_wall_usec = T0 + i * part_usec;
        series_add(series, 250 + (double)(i % 7) / 4, last_wall_usec, last_wall_usec);
    }
    size_t n = series_save(series, saved);
    assert_true(n <= 12 * SERIES_PARTS + 16);
    assert_int_equal(series_load(SPAN, saved, n, &loaded), 0);
    for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++)
        assert_true(series_value(series, exact[i].aggregate, last_wall_usec) ==
                    series_value(loaded, exact[i].aggregate, last_wall_usec));
}

/* A window of two readings in one part, as an early version has written it on a little-endian
 * machine. */
static void what_an_older_version_has_saved_loads(void **state)
{
    (void)state;
    const struct {
        char magic[8];
        uint64_t span_usec, index, newest_wall_usec;
        double n, value, time, of_value, of_time, of_product, min, max;
    } old = { "series1", SPAN, T0 / (SPAN / SERIES_PARTS), T0, 2, 5, 0, 2, 0, 0, 4, 6 };
    _cleanup_(series_freep) struct series *series = NULL, *other = NULL;
    assert_int_equal(series_load(SPAN, (const unsigned char *)&old, sizeof(old), &series), 0);
    assert_true(series_value(series, AGGREGATE_MEAN, T0) == 5);
    assert_true(series_value(series, AGGREGATE_MAX, T0) == 6);
    assert_true(series_value(series, AGGREGATE_COUNT, T0) == 2);
    assert_int_equal(series_load(SPAN, (const unsigned char *)&old, sizeof(old) - 1, &other),
                     -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_agree_with_a_naive_computation),
        cmocka_unit_test(a_median_is_exact_with_a_reading_a_part),
        cmocka_unit_test(a_line_has_its_slope),
        cmocka_unit_test(an_empty_window_counts_nothing_and_knows_nothing),
        cmocka_unit_test(numbers_beyond_all_bounds_are_unknown),
        cmocka_unit_test(a_clock_that_is_set_back_breaks_no_bound),
        cmocka_unit_test(after_a_clock_is_set_back_the_window_is_what_comes_then),
        cmocka_unit_test(what_is_saved_loads_and_goes_on),
        cmocka_unit_test(single_readings_are_saved_in_few_bytes),
        cmocka_unit_test(what_an_older_version_has_saved_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
