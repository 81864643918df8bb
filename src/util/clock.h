// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The only reader of clocks. Time is uint64_t microseconds; `mono_` counts since boot and includes
 * suspend (CLOCK_BOOTTIME), `wall_` since 1970 in UTC (CLOCK_REALTIME); the two are never compared.
 * Pure code is handed `now` and does not include this file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USEC_PER_MSEC 1000ULL
#define USEC_PER_SEC  1000000ULL
#define USEC_INFINITY UINT64_MAX

#define CLOCK_RFC3339_SIZE sizeof("2026-11-24T12:34:56.789Z")

/* Microseconds since boot, suspend included. Cannot fail. */
uint64_t clock_mono_usec(void);

/*
 * When, on clock_mono_usec()'s clock, it was monotonic_nsec on CLOCK_MONOTONIC, which stops while
 * the machine is suspended: the kernel's stamp on something that has just happened. What seems to
 * lie in the future is now.
 */
uint64_t clock_from_monotonic(uint64_t monotonic_nsec);

/* Microseconds since the epoch, UTC. Cannot fail. */
uint64_t clock_wall_usec(void);

/*
 * Whether clock_wall_usec() can be believed: the machine has a clock that runs without power, or
 * the network has set the one that it has since it was switched on.
 */
bool clock_is_right(void);

/* Hour of the day (0..23) of wall_usec in the local time zone (tzset(3)). */
int clock_local_hour(uint64_t wall_usec);

/*
 * Writes wall_usec as RFC 3339 in UTC with milliseconds, "2026-11-24T12:34:56.789Z".
 * The year is bounded to 0..9999 (RFC 3339, section 5.6). Returns text.
 */
const char *clock_format_rfc3339(uint64_t wall_usec, char text[static CLOCK_RFC3339_SIZE]);

/*
 * Writes a span as a person says it, in its two largest units: "3 h 12 min", "45 s", "120 ms".
 * size 32 always suffices. Returns text.
 */
const char *clock_format_span(uint64_t span_usec, char *text, size_t size);

/*
 * The pause before the next attempt, when those before it have failed: min_usec at first
 * (pause_usec is 0), then twice the last one, max_usec at the most. Pure.
 */
static inline uint64_t clock_back_off(uint64_t pause_usec, uint64_t min_usec, uint64_t max_usec)
{
    uint64_t next_usec = pause_usec > 0 ? 2 * pause_usec : min_usec;
    return next_usec < max_usec ? next_usec : max_usec;
}
