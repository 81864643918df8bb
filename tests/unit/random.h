// SPDX-License-Identifier: LGPL-2.1-or-later
/* Repeatable random numbers for property tests: the seed is printed, and SEED=... repeats a run. */
#pragma once

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t random_state;

__attribute__((unused)) static void random_begin(void)
{
    const char *seed = getenv("SEED");
    random_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761U | 1;
    printf("SEED=%" PRIu64 "\n", random_state);
}

/* 0..n-1; xorshift64 (Marsaglia, 2003). */
__attribute__((unused)) static uint64_t random_below(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % n;
}
