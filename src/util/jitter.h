// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pauses that differ a little, so that a fleet does not speak as one. No secret: who has seen some
 * can tell the next.
 */
#pragma once

#include <stdint.h>

/* usec, give or take up to a quarter. *state: any number at first, as the caller's seed. */
static inline uint64_t jitter(uint64_t *state, uint64_t usec)
{
    *state = *state * 6364136223846793005 + 1442695040888963407; // Knuth's, MMIX
    return usec - usec / 4 + (*state >> 33) % (usec / 2 + 1);
}
