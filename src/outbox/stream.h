// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A stream of an outbox: its policy, what waits in it, and its counts.
 *
 * The ledger on disk follows the rows there; `delta` has what never came to disk; `pending` has
 * what the disk's does not know yet; `job_delta` what a job is writing. Together they are the
 * stream's ledger at any moment. queue.h keeps the counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/ledger.h"
#include "core/stream.h"
#include "outbox/entry.h"
#include "store/store.h"

struct topic_template;

struct stream {
    char *name;
    struct stream_policy policy;        // its name is the one above
    const struct topic_template *topic; // of struct templates; NULL: its messages have their own
    bool is_configured;                 // else it is only drained
    uint64_t next_seq;
    bool is_known; // disk says what the store has
    struct store_state disk;
    struct ledger delta, pending, job_delta;
    uint64_t n_unwritten; // messages that wait and are not stored
    uint64_t unwritten_bytes;
    uint64_t n_handed_over; // entries that a job is writing, done ones too
    uint64_t n_stored;      // entries that are stored, done ones too
    uint64_t n_stored_done; // the done ones of them
    uint64_t n_in_flight, n_in_flight_samples;
    struct entry_list fresh, loaded;
    uint64_t cursor;                    // what is stored up to here is in memory
    bool is_unsynced;                   // keep = latest: a power cut may bring back what is gone
    bool is_exhausted;                  // nothing is stored beyond the cursor that is not in memory
    uint64_t trim_messages, trim_bytes; // to be given up on disk by the next job
    uint64_t expire_mono_usec;          // when to look for what has expired on disk
    uint64_t hold_mono_usec;            // the broker refuses what we send: nothing before
    uint64_t hold_usec;                 // the last such pause
    uint64_t wait_mono_usec;            // keep = latest: since when it waits for the disk; 0: not
    uint64_t n_given_up;                // messages, at a stop: they could not be written
};

/* NULL: out of memory. */
struct stream *stream_new(const struct stream_policy *policy);
void stream_free(struct stream *stream);

/* Takes over a policy, but for its topic. */
void stream_set_policy(struct stream *stream, const struct stream_policy *policy);

/* Where a fresh or loaded entry is; NULL: in neither list. */
struct entry_list *stream_list_of(const struct entry *entry);

uint64_t stream_n_waiting(const struct stream *stream);  // messages, in flight too
uint64_t stream_n_unloaded(const struct stream *stream); // on disk alone
bool stream_is_on_disk(const struct stream *stream);     // something of it, or may be soon
void stream_rewind(struct stream *stream, uint64_t seq); // the cursor goes before seq
struct ledger stream_ledger(const struct stream *stream);
