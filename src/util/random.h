// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Numbers that look like chance, for jitter and samples, and the same again from the same state:
 * splitmix64 (Steele, Lea, Flood 2014), good from any state, 0 included. For what a peer must not
 * guess there is sd_id128_randomize(3).
 */
#pragma once

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* usec, give or take up to a quarter, so that a fleet does not speak as one. */
static inline uint64_t random_jitter(uint64_t *state, uint64_t usec)
{
    return usec - usec / 4 + random_next(state) % (usec / 2 + 1);
}
