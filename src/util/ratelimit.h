// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Limits repeats: at most `burst` events in each `interval_usec`. Plain value; zero-initialised
 * counters are a fresh limit.
 *
 *     struct ratelimit limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 5 };
 *     unsigned n_suppressed;
 *     if (ratelimit_pass(&limit, now_mono_usec, &n_suppressed)) log...
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ratelimit {
    uint64_t interval_usec;
    unsigned burst;
    uint64_t begin_mono_usec; // of the current interval
    unsigned n_passed;        // in the current interval
    unsigned n_suppressed;    // since the last one that passed
};

/*
 * Whether an event at now_mono_usec passes; *ret_suppressed (may be NULL) is set to how many were
 * held back since the last that passed, only when this one passes.
 */
bool ratelimit_pass(struct ratelimit *limit, uint64_t now_mono_usec, unsigned *ret_suppressed);
