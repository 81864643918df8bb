// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * When an actuator falls back to `safe` by itself: the lease of the command that set it has ended,
 * or the device has been cut off from the broker for too long. Pure.
 *
 * A lease counts on the clock that cannot jump, and goes on over a restart of the daemon. Over a
 * reboot the wall clock is all there is: a lease that it would make longer than it ever was has
 * ended, so that a clock that is wrong errs on the side of `safe`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GUARD_BOOT_SIZE = 16, // bytes of a boot's id
    GUARD_TEXT_SIZE = 128,
};

/* Now, on both clocks. */
struct guard_time {
    uint8_t boot[GUARD_BOOT_SIZE];
    uint64_t mono_usec, wall_usec;
};

struct guard_lease {
    uint64_t span_usec; // 0: there is none
    struct guard_time end;
};

struct guard_policy {
    bool on_disconnect; // `on_disconnect = safe`
    uint64_t disconnect_after_usec;
};

struct guard {
    struct guard_lease lease;
    bool is_cut_off; // it has been told for this outage
};

enum guard_event { GUARD_NONE, GUARD_LEASE_ENDED, GUARD_CUT_OFF };

/* A lease of span_usec (not 0) from now on. */
struct guard_lease guard_lease(uint64_t span_usec, const struct guard_time *now);

/* How long a lease still lasts; 0: it has ended, or there is none. */
uint64_t guard_lease_left(const struct guard_lease *lease, const struct guard_time *now);

/*
 * What has happened by now; each thing is told once. lost_mono_usec is when the connection was
 * lost, or the daemon was started without one; 0 while connected. *ret_next_mono_usec is when to
 * ask again, USEC_INFINITY if only an event can change anything.
 */
enum guard_event guard_step(const struct guard_policy *policy, struct guard *guard,
                            const struct guard_time *now, uint64_t lost_mono_usec,
                            uint64_t *ret_next_mono_usec);

/* When an outage since lost_mono_usec has lasted for after_usec; USEC_INFINITY: never. */
uint64_t guard_cut_off_at(uint64_t lost_mono_usec, uint64_t after_usec);

/* Writes a lease as one line of text, for a record. Returns text. */
const char *guard_format(const struct guard_lease *lease, char text[static GUARD_TEXT_SIZE]);

/* Reads what guard_format() wrote. 0 or -EINVAL. */
int guard_parse(const char *text, struct guard_lease *ret_lease);
