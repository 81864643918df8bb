// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a store does with a message: copies it, and counts what it costs. Internal to store/.
 */
#pragma once

#include <string.h>

#include "store/store.h"

/*
 * Copies a message with all that it points to, in one block of memory at its payload:
 * store_messages_free() knows. 0 or -ENOMEM.
 */
int store_copy_message(const struct store_message *message, struct store_message *ret_copy);

/* What it adds to its stream's `bytes`. */
static inline uint64_t store_cost(const struct store_message *message)
{
    return message->payload_size + (message->subject ? strlen(message->subject) : 0) +
           STORE_MESSAGE_OVERHEAD;
}

/* When it was, by the wall clock; UINT64_MAX while nobody knows. */
static inline uint64_t store_wall_usec(uint64_t begin_wall_usec, uint64_t mono_usec)
{
    return begin_wall_usec > 0 ? begin_wall_usec + mono_usec : UINT64_MAX;
}

/* Whether a trim that has given up so much takes one more message, of wall_usec. */
static inline bool store_trim_goes_on(const struct store_trim *trim, uint64_t n_gone,
                                      uint64_t n_bytes, uint64_t wall_usec)
{
    return n_gone < trim->n_messages || n_bytes < trim->bytes || wall_usec < trim->before_wall_usec;
}
