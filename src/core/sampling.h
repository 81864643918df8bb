// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What becomes of a sensor's raw values on the way to its stream: scaled, checked, gathered over
 * the interval, rounded, and held back while they do not change. Pure; one `struct sampling` a
 * sensor.
 *
 *     sampling_scale() gives the reading (local rules see each one), sampling_add() gathers it,
 *     sampling_take() ends an interval and says what to publish, if anything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/why.h"

enum sampling_aggregate {
    SAMPLING_LAST,
    SAMPLING_MEAN,
    SAMPLING_MIN,
    SAMPLING_MAX,
    SAMPLING_MEDIAN,
};

enum { SAMPLING_MAX_VALUES = 1024 }; // gathered for one median

struct sampling_options {
    double scale, offset;        // reading = raw * scale + offset
    double valid_min, valid_max; // of the reading; NAN: no limit
    int decimals;                // 0..9; -1: as they come
    double deadband;             // NAN: publish every time
    uint64_t max_silence_usec;   // publish at least this often in spite of deadband; USEC_INFINITY
    enum sampling_aggregate aggregate;
};

/* All zero at first. Between two sampling_take() the options stay the same. */
struct sampling {
    uint64_t n_values; // in this interval
    double last, mean, min, max;
    double *values;  // of this interval, for the median: at most SAMPLING_MAX_VALUES; else NULL
    uint64_t random; // the state of the choice of what is kept
    bool published;  // ever
    double last_published;
    uint64_t last_published_mono_usec;
};

void sampling_done(struct sampling *sampling);

/*
 * The reading for a raw value, rounded to decimals: half away from zero, of the number as it is
 * written (2.675 gives 2.68, though the nearest double is below). -ERANGE with why if the rounded
 * reading is not finite or outside valid_min..valid_max.
 */
int sampling_scale(const struct sampling_options *options, double raw, double *ret_reading,
                   struct why *why);

/*
 * Gathers one finite reading. For a median of more than SAMPLING_MAX_VALUES a uniform sample is
 * kept. Returns 0 or -ENOMEM.
 */
int sampling_add(struct sampling *sampling, const struct sampling_options *options, double reading);

/*
 * Ends the interval. Returns 1 and *ret_value (rounded) if something is to be published, 0 if not:
 * nothing gathered, or no further than the deadband from the last published value and max_silence
 * not over. A deadband of 0 holds back only what is the same.
 */
int sampling_take(struct sampling *sampling, const struct sampling_options *options,
                  uint64_t now_mono_usec, double *ret_value);

/*
 * When a timer that began at start_mono_usec and fires every interval_usec (> 0), first one
 * interval later, fires next after now_mono_usec: never drifts, skips what was missed.
 * USEC_INFINITY when that is beyond the clock.
 */
uint64_t sampling_next(uint64_t start_mono_usec, uint64_t interval_usec, uint64_t now_mono_usec);
