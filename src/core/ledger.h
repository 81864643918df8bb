// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What became of a stream's samples. A sample is one value that a sensor gave; a message carries
 * one or more. Every sample ends as exactly one of these, or still waits:
 *
 *     sampled = filtered + merged + expired + dropped + rejected + acked + waiting
 *
 * where what waits is queued or in flight.
 *
 *     filtered    held back by a deadband
 *     merged      gone into an aggregate, or replaced by a newer one (keep = latest)
 *     expired     older than max_age
 *     dropped     at a bound, not kept (keep = none), or lost with a damaged file
 *     rejected    refused by the broker
 *     acked       acknowledged by the broker; with QoS 0, written to the connection
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* How a sample may end. */
enum ledger_end {
    LEDGER_FILTERED,
    LEDGER_MERGED,
    LEDGER_EXPIRED,
    LEDGER_DROPPED,
    LEDGER_REJECTED,
    LEDGER_ACKED,
    LEDGER_ENDS,
};

struct ledger {
    uint64_t sampled;
    uint64_t ended[LEDGER_ENDS];
};

/* Adds what is in delta. */
void ledger_add(struct ledger *ledger, const struct ledger *delta);

/* How many samples wait. */
uint64_t ledger_waiting(const struct ledger *ledger);

/* Whether it counts nothing. */
bool ledger_is_zero(const struct ledger *ledger);

/* The names of the ends, as above. */
extern const char *const ledger_end_names[LEDGER_ENDS];
