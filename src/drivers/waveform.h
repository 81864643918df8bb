// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The values of the simulated sensor: curves over time, and series recorded in a CSV file. Pure:
 * time is handed in, as microseconds since the sensor was opened.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/why.h"

enum waveform { WAVE_CONSTANT, WAVE_SINE, WAVE_RAMP, WAVE_NOISE, WAVE_REPLAY };

/*
 * A curve between min and max at elapsed_usec. WAVE_CONSTANT is min; WAVE_SINE begins at min and is
 * at max after half a period; WAVE_RAMP rises from min to max and falls back at once. period_usec
 * is not 0. Not for WAVE_NOISE and WAVE_REPLAY.
 */
double waveform_at(enum waveform wave, double min, double max, uint64_t period_usec,
                   uint64_t elapsed_usec);

/* An evenly distributed value from min to max. *seed is any number and is changed. */
double waveform_noise(double min, double max, uint64_t *seed);

enum { SERIES_MAX_SIZE = 1 << 20, SERIES_MAX_ROWS = 1 << 16 };

/* A recorded series: values alone, or values with the second from which each holds. */
struct series {
    size_t n_rows; // at least 1
    bool timed;
    struct series_row {
        double seconds; // finite, rising; 0 unless timed
        double value;
    } rows[];
};

/*
 * Reads a CSV file's bytes: one number a line, or `seconds,value` in each line, with rising
 * seconds; empty lines and those that begin with # are skipped. *ret_series is new, freed with
 * free(). 0, or -EBADMSG with why ("line 3: ..."), -EFBIG beyond SERIES_MAX_ROWS, -ENOMEM.
 */
int series_parse(const char *bytes, size_t length, struct series **ret_series, struct why *why);

/*
 * The value of the n-th reading (from 0), at elapsed_usec since the first. A timed series is
 * played from its first row's second, each value held until the next row and the last one as long
 * as the one before; then it begins again. An untimed one gives a value a reading.
 */
double series_at(const struct series *series, uint64_t n, uint64_t elapsed_usec);
