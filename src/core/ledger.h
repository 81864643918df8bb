// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What became of a stream's samples. A sample is one value that a sensor gave; a message carries
 * one or more. Every sample ends as exactly one of these, or still waits:
 *
 *     sampled = filtered + merged + expired + dropped + rejected + acked + waiting
 *
 * where what waits is queued or in flight.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ledger {
    uint64_t sampled;
    uint64_t filtered; // held back by a deadband
    uint64_t merged;   // gone into an aggregate, or replaced by a newer one (keep = latest)
    uint64_t expired;  // older than max_age
    uint64_t dropped;  // at a bound, not kept (keep = none), or lost with a damaged file
    uint64_t rejected; // refused by the broker
    uint64_t acked;    // acknowledged by the broker; with QoS 0, written to the connection
};

/* Adds what is in delta. */
void ledger_add(struct ledger *ledger, const struct ledger *delta);

/* How many samples wait. */
uint64_t ledger_waiting(const struct ledger *ledger);

/* Whether it counts nothing. */
static inline bool ledger_is_zero(const struct ledger *ledger)
{
    return (ledger->sampled | ledger->filtered | ledger->merged | ledger->expired |
            ledger->dropped | ledger->rejected | ledger->acked) == 0;
}
