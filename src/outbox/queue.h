// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The messages of an outbox: its streams, all entries by stream and seq, which of them are to be
 * stored, in flight, or done, and how they are counted. Decides nothing.
 *
 * Plain value; see outbox_new() for what is not zero at first.
 */
#pragma once

#include "outbox/entry.h"
#include "outbox/outage.h"
#include "outbox/outbox-options.h"
#include "outbox/stream.h"
#include "util/ratelimit.h"

enum { QUEUE_BUCKETS = 1024, QUEUE_MID_BUCKETS = 256 };

struct queue {
    struct outbox_options options; // its texts are the owner's
    uint8_t boot[STORE_BOOT_SIZE]; // of the machine
    bool is_connected;

    size_t n_streams;
    struct stream **streams; // the urgent first, then the higher the priority the earlier

    struct entry *by_seq[QUEUE_BUCKETS];
    struct entry *put_first, *put_last;      // to be stored, in the order of put_mono_usec
    struct entry_list done;                  // stored, to be removed from the store
    size_t n_in_memory, n_bytes_in_memory;   // not stored, volatile ones too
    struct entry *by_mid[QUEUE_MID_BUCKETS]; // in flight
    unsigned window, n_in_flight;            // window: so many may be
    size_t bytes_in_flight;

    uint64_t n_sent, n_dropped, n_expired, n_rejected; // messages
    struct outage outage;
    struct ratelimit drops;  // as logged
    uint64_t wake_mono_usec; // when outbox_tick() is wanted, but for the disk
};

void queue_done(struct queue *queue);
void queue_wake(struct queue *queue, uint64_t mono_usec);                      // at the latest
struct stream *queue_find_stream(const struct queue *queue, const char *name); // NULL: none
uint64_t queue_n_lost(const struct queue *queue);

/* Into the hash table; among those to be stored too, unless the stream is volatile. */
void queue_add(struct queue *queue, struct entry *entry);
struct entry *queue_find(const struct queue *queue, const struct stream *stream, uint64_t seq);
/* Out of everything but the lists of `done`, and free. */
void queue_forget(struct queue *queue, struct entry *entry);
void queue_put_later(struct queue *queue, struct entry *entry);
void queue_put_never(struct queue *queue, struct entry *entry);

/* An entry's storage has changed: keeps the counts. */
void queue_set_storage(struct queue *queue, struct entry *entry, enum entry_storage storage);

/* It flies, with its message id once it has one; or comes back, not delivered. */
void queue_take_off(struct queue *queue, struct entry *entry);
void queue_take_back(struct queue *queue, struct entry *entry);
void queue_remember_mid(struct queue *queue, struct entry *entry);
/* The one of that message id, which is not remembered any more; NULL: there is none. */
struct entry *queue_recall_mid(struct queue *queue, int mid);
/* Likewise, any of them. */
struct entry *queue_recall_any(struct queue *queue);
/* The next in flight of a stream, in no order; entry NULL: the first. NULL: there is no other. */
const struct entry *queue_next_in_flight(const struct queue *queue, const struct stream *stream,
                                         const struct entry *entry);
bool queue_has_room_in_flight(const struct queue *queue);

/* The message has come to its end. The entry is freed, or done. */
void queue_finish(struct queue *queue, struct entry *entry, enum ledger_end end);
