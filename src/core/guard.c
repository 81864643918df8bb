// SPDX-License-Identifier: LGPL-2.1-or-later
// Leases and outages on a clock that is handed in; see guard.h. Pure.
#include "core/guard.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? USEC_INFINITY : sum;
}

struct guard_lease guard_lease(uint64_t span_usec, const struct guard_time *now)
{
    struct guard_lease lease = { .span_usec = span_usec, .end = *now };
    lease.end.mono_usec = add(now->mono_usec, span_usec);
    lease.end.wall_usec = add(now->wall_usec, span_usec);
    return lease;
}

uint64_t guard_lease_left(const struct guard_lease *lease, const struct guard_time *now)
{
    const struct guard_time *end = &lease->end;
    bool same_boot = memcmp(end->boot, now->boot, GUARD_BOOT_SIZE) == 0;
    uint64_t end_usec = same_boot ? end->mono_usec : end->wall_usec;
    uint64_t now_usec = same_boot ? now->mono_usec : now->wall_usec;
    if (lease->span_usec == 0 || now_usec >= end_usec)
        return 0;
    uint64_t left_usec = end_usec - now_usec;
    return left_usec <= lease->span_usec ? left_usec : 0; // the wall clock has gone back
}

uint64_t guard_cut_off_at(uint64_t lost_mono_usec, uint64_t after_usec)
{
    return lost_mono_usec == 0 ? USEC_INFINITY : add(lost_mono_usec, after_usec);
}

enum guard_event guard_step(const struct guard_policy *policy, struct guard *guard,
                            const struct guard_time *now, uint64_t lost_mono_usec,
                            uint64_t *ret_next_mono_usec)
{
    enum guard_event event = GUARD_NONE;
    uint64_t next_mono_usec = USEC_INFINITY;
    uint64_t left_usec = guard_lease_left(&guard->lease, now);
    if (left_usec > 0) {
        next_mono_usec = add(now->mono_usec, left_usec);
    } else if (guard->lease.span_usec > 0) {
        guard->lease.span_usec = 0;
        event = GUARD_LEASE_ENDED;
    }
    uint64_t cut_off_mono_usec =
        policy->on_disconnect ? guard_cut_off_at(lost_mono_usec, policy->disconnect_after_usec)
                              : USEC_INFINITY;
    if (now->mono_usec < cut_off_mono_usec) {
        guard->is_cut_off = false;
        if (cut_off_mono_usec < next_mono_usec)
            next_mono_usec = cut_off_mono_usec;
    } else if (!guard->is_cut_off) {
        guard->is_cut_off = true;
        event = GUARD_CUT_OFF;
    }
    *ret_next_mono_usec = next_mono_usec;
    return event;
}

/* --- as text --------------------------------------------------------------------------------- */

const char *guard_format(const struct guard_lease *lease, char text[static GUARD_TEXT_SIZE])
{
    char boot[2 * GUARD_BOOT_SIZE + 1];
    snprintf(text, GUARD_TEXT_SIZE, "%s %" PRIu64 " %" PRIu64 " %" PRIu64,
             strings_to_hex(lease->end.boot, GUARD_BOOT_SIZE, boot), lease->end.mono_usec,
             lease->end.wall_usec, lease->span_usec);
    return text;
}

/* " 123" off *text. */
static bool take_count(const char **text, uint64_t *ret_count)
{
    char digits[24];
    int64_t count;
    size_t n = **text == ' ' ? strspn(*text + 1, "0123456789") : 0;
    if (n == 0 || n >= sizeof(digits))
        return false;
    memcpy(digits, *text + 1, n);
    digits[n] = '\0';
    if (parse_int(digits, &count) < 0)
        return false;
    *text += 1 + n;
    *ret_count = (uint64_t)count;
    return true;
}

int guard_parse(const char *text, struct guard_lease *ret_lease)
{
    struct guard_lease lease = { 0 };
    if (!strings_from_hex(text, GUARD_BOOT_SIZE, lease.end.boot))
        return -EINVAL;
    text += (size_t)2 * GUARD_BOOT_SIZE;
    if (!take_count(&text, &lease.end.mono_usec) || !take_count(&text, &lease.end.wall_usec) ||
        !take_count(&text, &lease.span_usec) || *text != '\0' || lease.span_usec == 0)
        return -EINVAL;
    *ret_lease = lease;
    return 0;
}
