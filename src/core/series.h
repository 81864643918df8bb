// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The readings of the last span of time, for mean(vibration, 1h) and its like, in bounded memory:
 * the span is cut into SERIES_PARTS parts of equal length, each of which keeps sums that combine
 * without loss. A reading goes to the part of its own time, so it may come late and in any order.
 *
 * The oldest part counts as a whole as long as any of its readings is within the span; all
 * aggregates are exact but for that, and for a median, which is that of the parts' means weighted
 * by their readings: exact where no two readings share a part. Pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/tally.h"
#include "util/cleanup.h"

enum {
    SERIES_PARTS = 60,
    SERIES_MAX_SAVED = 64 + (SERIES_PARTS + 1) * 96, // bytes of series_save()
};

struct series;

/* span_usec: from 1 ms. 0 or -ENOMEM. */
int series_new(uint64_t span_usec, struct series **ret_series);
void series_free(struct series *series);
DEFINE_CLEANUP(struct series *, series_free)

/*
 * Takes a finite value of the time wall_usec. One that is older than the span is ignored; one from
 * the future is taken as of now. -ENOMEM, and it is not in.
 */
int series_add(struct series *series, double value, uint64_t wall_usec, uint64_t now_wall_usec);

/* NAN where it is unknown: of no readings (but a count, and a sum), a rate of a single moment. */
double series_value(const struct series *series, enum aggregate aggregate, uint64_t now_wall_usec);

/* Bytes that it takes in memory. */
size_t series_size(const struct series *series);

/* Writes it to out (SERIES_MAX_SAVED bytes); returns how many were written. */
size_t series_save(const struct series *series, unsigned char *out);

/*
 * A new series from what series_save() wrote, in this version or an older one. -EBADMSG: it is not
 * that, or of another span; -ENOMEM.
 */
int series_load(uint64_t span_usec, const unsigned char *bytes, size_t n_bytes,
                struct series **ret_series);
