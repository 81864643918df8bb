// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A value that an actuator shall have, as the one who wants it keeps it, and how he hears what
 * became of it: from the main loop alone, never from within a call.
 *
 *     struct wish wish = { .ended = on_ended, .expires_wall_usec = USEC_INFINITY };
 *     actuator_set(actuator, &value, &wish);      // now it must stay where it is
 *     ...                                         // on_ended(&wish): look at wish.outcome
 *
 * An actuator hands what has ended to the device's wishes (wish_end()), which tell of all in the
 * next turn of the loop, in the order in which they have ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"
#include "util/why.h"

enum wish_outcome {
    WISH_PENDING,
    WISH_REACHED,
    WISH_FAILED,     // it is tried again, unless the wish expires
    WISH_SUPERSEDED, // by a newer one before it was its turn, or the actuator is gone
    WISH_EXPIRED,    // it was not its turn in time
};

struct wish {
    void (*ended)(struct wish *wish); // once; may free what the wish is in
    uint64_t expires_wall_usec;       // it is not begun, nor tried again, after that
    struct why *why;                  // gets the cause of a failure, unless it has one already
    enum wish_outcome outcome;
    struct wish *next; // the wishes'
};

struct wishes;

/* told: from the loop, when wishes have ended (behind them) or wishes_note() was called. */
int wishes_new(sd_event *event, void (*told)(void *userdata), void *userdata,
               struct wishes **ret_wishes);

/* Those that have ended and were not told of never are. */
void wishes_free(struct wishes *wishes);
DEFINE_CLEANUP(struct wishes *, wishes_free)

/* wish may be NULL: nobody waits for it. */
void wish_end(struct wishes *wishes, struct wish *wish, enum wish_outcome outcome);

/* There is news of an actuator. */
void wishes_note(struct wishes *wishes);
