// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The connector's end of the pair: what goes to the daemon and comes from it. Never waits in a
 * send: what the daemon does not take yet is queued, and who puts messages in looks at
 * pair_is_full().
 */
#pragma once

#include <stdbool.h>

#include "core/frame.h"

/* Queues a record for the daemon. Ends the process when there is no memory. */
void pair_put(const struct frame_record *record);

/* Whether so much waits for the daemon that no more messages should be put in. */
bool pair_is_full(void);

/* Whether anything waits. */
bool pair_has_output(void);

/* Sends what the daemon takes now. Ends the process when the daemon is gone. */
void pair_flush(void);

/* As pair_flush(), and waits until all is sent, for limit_msec at the most. */
void pair_drain(int limit_msec);

/*
 * Takes in a frame, if there is one; the one before must have been read by pair_next(). Ends the
 * process when the daemon is gone.
 */
bool pair_receive(void);

/* The next record of the frame, if there is one. Ends the process when it is malformed. */
bool pair_next(struct frame_record *ret_record);

/* Waits for the options, which come first and stay valid. */
void pair_wait_for_options(struct frame_options *ret_options);
