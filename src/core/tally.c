// SPDX-License-Identifier: LGPL-2.1-or-later
// What the devices of a group say to one expression; see tally.h.
#include "core/tally.h"

#include <math.h>

static void put_condition(struct tally *tally, struct tally_entry *entry, double value)
{
    if (entry->counted)
        --*(entry->holds ? &tally->n_true : &tally->n_false);
    entry->counted = !isnan(value);
    entry->holds = value == 1;
    if (entry->counted)
        ++*(entry->holds ? &tally->n_true : &tally->n_false);
}

static void put_number(struct tally *tally, struct tally_entry *entry, double value)
{
    if (entry->counted && entry->node.value == value)
        return;
    if (entry->counted)
        ranking_remove(&tally->numbers, &entry->node);
    entry->counted = !isnan(value);
    if (entry->counted)
        ranking_add(&tally->numbers, &entry->node, value);
}

void tally_put(struct tally *tally, struct tally_entry *entry, double value)
{
    if (tally->of_conditions)
        put_condition(tally, entry, value);
    else
        put_number(tally, entry, value);
}

size_t tally_count(const struct tally *tally)
{
    return tally->n_true + tally->n_false + ranking_count(&tally->numbers);
}

static double of_numbers(const struct ranking *numbers, enum aggregate aggregate)
{
    size_t n = ranking_count(numbers);
    switch (aggregate) {
    case AGGREGATE_MIN:
        return ranking_nth(numbers, 0);
    case AGGREGATE_MAX:
        return ranking_nth(numbers, n - 1);
    case AGGREGATE_MEAN:
        return ranking_sum(numbers) / (double)n;
    case AGGREGATE_MEDIAN:
        return ranking_median(numbers);
    case AGGREGATE_SUM:
        return ranking_sum(numbers);
    case AGGREGATE_COUNT:
        return (double)n;
    case AGGREGATE_STDDEV:
        return ranking_stddev(numbers);
    default:
        return NAN;
    }
}

double tally_value(const struct tally *tally, enum aggregate aggregate, size_t min_entries)
{
    size_t n = tally_count(tally);
    if (n == 0 || n < min_entries)
        return NAN;
    if (tally->of_conditions)
        return (double)tally->n_true;
    double value = of_numbers(&tally->numbers, aggregate);
    return isfinite(value) ? value : NAN;
}
