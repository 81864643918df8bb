// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The arithmetic between a sensor's raw values and what its stream publishes. It must not overflow,
 * whatever finite values a sensor gives, and must not read a clock.
 */
#include "core/sampling.h"

#include <assert.h>
#include <float.h>
#include <math.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/random.h"

void sampling_done(struct sampling *sampling)
{
    free(sampling->values);
    *sampling = (struct sampling){ 0 };
}

/*
 * Half away from zero. A decimal such as 1.005 is a little below itself as a double, and so may be
 * its product with a power of ten, by at most DBL_EPSILON in all: that much is added first. With 15
 * digits before the point there is nothing behind it that a double could tell.
 */
static double round_decimals(double value, int decimals)
{
    static const double powers[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9 };
    if (decimals < 0)
        return value;
    assert((size_t)decimals < ELEMENTS(powers));
    double scaled = value * powers[decimals];
    if (!(fabs(scaled) < 1e15))
        return value;
    return round(scaled * (1 + DBL_EPSILON)) / powers[decimals] + 0.0; // + 0.0: no negative zero
}

int sampling_scale(const struct sampling_options *options, double raw, double *ret_reading,
                   struct why *why)
{
    double reading = round_decimals(raw * options->scale + options->offset, options->decimals);
    if (!isfinite(reading))
        return why_set(why, ERANGE, "the reading is not a finite number");
    if (reading < options->valid_min)
        return why_set(why, ERANGE, "%.15g is below valid_min, %.15g", reading, options->valid_min);
    if (reading > options->valid_max)
        return why_set(why, ERANGE, "%.15g is above valid_max, %.15g", reading, options->valid_max);
    *ret_reading = reading;
    return 0;
}

/* Keeps a uniform sample (Vitter's algorithm R): the n-th value stays with a chance of MAX / n. */
static int keep_value(struct sampling *sampling, double reading)
{
    if (!sampling->values) {
        sampling->values = calloc(SAMPLING_MAX_VALUES, sizeof(*sampling->values));
        if (!sampling->values)
            return -ENOMEM;
    }
    uint64_t i = sampling->n_values;
    if (i >= SAMPLING_MAX_VALUES)
        i = random_next(&sampling->random) % (sampling->n_values + 1);
    if (i < SAMPLING_MAX_VALUES)
        sampling->values[i] = reading;
    return 0;
}

int sampling_add(struct sampling *sampling, const struct sampling_options *options, double reading)
{
    assert(isfinite(reading));
    if (options->aggregate == SAMPLING_MEDIAN) {
        int r = keep_value(sampling, reading);
        if (r < 0)
            return r;
    }
    if (sampling->n_values == 0) {
        sampling->mean = 0;
        sampling->min = reading;
        sampling->max = reading;
    }
    double n = (double)++sampling->n_values;
    sampling->last = reading;
    sampling->mean += reading / n - sampling->mean / n; // neither a sum nor a difference overflows
    sampling->min = fmin(sampling->min, reading);
    sampling->max = fmax(sampling->max, reading);
    return 0;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct sampling *sampling)
{
    size_t n = SAMPLING_MAX_VALUES;
    if (sampling->n_values < n)
        n = (size_t)sampling->n_values;
    qsort(sampling->values, n, sizeof(*sampling->values), compare_doubles);
    double upper = sampling->values[n / 2];
    return n % 2 ? upper : sampling->values[n / 2 - 1] / 2 + upper / 2;
}

static double aggregate(struct sampling *sampling, enum sampling_aggregate how)
{
    switch (how) {
    case SAMPLING_MEAN:
        return sampling->mean;
    case SAMPLING_MIN:
        return sampling->min;
    case SAMPLING_MAX:
        return sampling->max;
    case SAMPLING_MEDIAN:
        return median(sampling);
    case SAMPLING_LAST:
        break;
    }
    return sampling->last;
}

/* The step from 0.2 to 0.3 is as far as a deadband of 0.1, whatever their doubles say. */
static bool within(double a, double b, double deadband)
{
    double doubt = 2 * DBL_EPSILON * fmax(fabs(a), fabs(b));
    return fabs(a - b) <= deadband + doubt;
}

static bool is_silent(const struct sampling *sampling, const struct sampling_options *options,
                      double value, uint64_t now_mono_usec)
{
    if (!sampling->published || isnan(options->deadband) ||
        !within(value, sampling->last_published, options->deadband))
        return false;
    uint64_t due_mono_usec; // when the silence has lasted long enough
    if (__builtin_add_overflow(sampling->last_published_mono_usec, options->max_silence_usec,
                               &due_mono_usec))
        return true;
    return now_mono_usec < due_mono_usec;
}

int sampling_take(struct sampling *sampling, const struct sampling_options *options,
                  uint64_t now_mono_usec, double *ret_value)
{
    if (sampling->n_values == 0)
        return 0;
    double value = round_decimals(aggregate(sampling, options->aggregate), options->decimals);
    sampling->n_values = 0;
    if (is_silent(sampling, options, value, now_mono_usec))
        return 0;

    sampling->published = true;
    sampling->last_published = value;
    sampling->last_published_mono_usec = now_mono_usec;
    *ret_value = value;
    return 1;
}

uint64_t sampling_next(uint64_t start_mono_usec, uint64_t interval_usec, uint64_t now_mono_usec)
{
    assert(interval_usec > 0);
    uint64_t before_mono_usec = start_mono_usec; // the last time that is not after now
    if (now_mono_usec > start_mono_usec)
        before_mono_usec = now_mono_usec - (now_mono_usec - start_mono_usec) % interval_usec;
    uint64_t next_mono_usec;
    if (__builtin_add_overflow(before_mono_usec, interval_usec, &next_mono_usec))
        return USEC_INFINITY;
    return next_mono_usec;
}
