// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the devices of a group say to one expression, kept up to date as they say it: of a number
 * all aggregates, of a condition how many say yes. Each device has an entry of its own, which says
 * one thing or nothing. Pure, without allocation.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/ranking.h"

/* `rate` is for a window over time alone, see core/series.h. */
enum aggregate {
    AGGREGATE_MIN,
    AGGREGATE_MAX,
    AGGREGATE_MEAN,
    AGGREGATE_MEDIAN,
    AGGREGATE_SUM,
    AGGREGATE_COUNT,
    AGGREGATE_STDDEV,
    AGGREGATE_RATE,
};

/* All zeros: an empty tally of numbers. */
struct tally {
    bool of_conditions;
    struct ranking numbers;
    size_t n_true, n_false;
};

/* All zeros: says nothing. Stays where it is while it says something. */
struct tally_entry {
    bool counted;
    bool holds; // of a condition
    struct ranking_node node;
};

/* entry says value from now on: a number, or of a condition 1 or 0; NAN: nothing. */
void tally_put(struct tally *tally, struct tally_entry *entry, double value);

/* Entries that say something. */
size_t tally_count(const struct tally *tally);

/*
 * The aggregate of what the entries say; NAN where it is unknown: of fewer than min_entries (at
 * least 1), and where it is not finite. AGGREGATE_COUNT is, of conditions, how many hold.
 */
double tally_value(const struct tally *tally, enum aggregate aggregate, size_t min_entries);
