// SPDX-License-Identifier: LGPL-2.1-or-later
// See queue.h.
#include "outbox/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void queue_done(struct queue *queue)
{
    for (size_t i = 0; i < QUEUE_BUCKETS; i++) {
        struct entry *entry = queue->by_seq[i];
        while (entry) {
            struct entry *next = entry->same_seq_bucket;
            free(entry);
            entry = next;
        }
    }
    for (size_t i = 0; i < queue->n_streams; i++)
        stream_free(queue->streams[i]);
    free(queue->streams);
}

void queue_wake(struct queue *queue, uint64_t mono_usec)
{
    if (mono_usec < queue->wake_mono_usec)
        queue->wake_mono_usec = mono_usec;
}

struct stream *queue_find_stream(const struct queue *queue, const char *name)
{
    for (size_t i = 0; i < queue->n_streams; i++) {
        if (strcmp(queue->streams[i]->name, name) == 0)
            return queue->streams[i];
    }
    return NULL;
}

uint64_t queue_n_lost(const struct queue *queue)
{
    return queue->n_dropped + queue->n_expired + queue->n_rejected;
}

/* --- those that are to be stored ------------------------------------------------------------- */

/* In the order of when they are due, and of their coming. */
void queue_put_later(struct queue *queue, struct entry *entry)
{
    struct entry *previous = queue->put_last;
    assert(!entry->is_to_be_put);
    if (queue->put_first && queue->put_first->put_mono_usec > entry->put_mono_usec)
        previous = NULL;
    while (previous && previous->put_mono_usec > entry->put_mono_usec)
        previous = previous->put_previous;
    entry->is_to_be_put = true;
    entry->put_previous = previous;
    entry->put_next = previous ? previous->put_next : queue->put_first;
    *(entry->put_previous ? &entry->put_previous->put_next : &queue->put_first) = entry;
    *(entry->put_next ? &entry->put_next->put_previous : &queue->put_last) = entry;
}

void queue_put_never(struct queue *queue, struct entry *entry)
{
    if (!entry->is_to_be_put)
        return;
    entry->is_to_be_put = false;
    *(entry->put_previous ? &entry->put_previous->put_next : &queue->put_first) = entry->put_next;
    *(entry->put_next ? &entry->put_next->put_previous : &queue->put_last) = entry->put_previous;
}

/* --- the hash table -------------------------------------------------------------------------- */

static size_t bucket(const struct stream *stream, uint64_t seq)
{
    return (size_t)((seq ^ (uintptr_t)stream >> 6) % QUEUE_BUCKETS);
}

struct entry *queue_find(const struct queue *queue, const struct stream *stream, uint64_t seq)
{
    struct entry *entry = queue->by_seq[bucket(stream, seq)];
    while (entry && (entry->seq != seq || entry->stream != stream))
        entry = entry->same_seq_bucket;
    return entry;
}

/* Counts an entry as it is now, or with sign -1 as if it were not there. */
static void count(struct queue *queue, const struct entry *entry, int sign)
{
    uint64_t one = (uint64_t)(int64_t)sign; // sums are modulo 2^64
    struct stream *stream = entry->stream;
    bool is_done = entry->place == ENTRY_DONE;
    if (is_done)
        stream->pending.ended[entry->end] += one * entry->n_samples;
    if (entry->storage == ENTRY_STORED) {
        stream->n_stored += one;
        stream->n_stored_done += is_done ? one : 0;
        return;
    }
    stream->n_handed_over += entry->storage == ENTRY_HANDED_OVER ? one : 0;
    stream->pending.sampled += one * entry->n_samples;
    stream->unwritten_bytes += one * entry->size;
    stream->n_unwritten += is_done ? 0 : one;
    queue->n_in_memory += one;
    queue->n_bytes_in_memory += one * entry->size;
}

void queue_add(struct queue *queue, struct entry *entry)
{
    struct entry **at = &queue->by_seq[bucket(entry->stream, entry->seq)];
    entry->same_seq_bucket = *at;
    *at = entry;
    count(queue, entry, 1);
    if (entry->storage == ENTRY_UNSTORED && !entry->stream->policy.is_volatile)
        queue_put_later(queue, entry);
}

void queue_forget(struct queue *queue, struct entry *entry)
{
    struct entry **at = &queue->by_seq[bucket(entry->stream, entry->seq)];
    while (*at != entry)
        at = &(*at)->same_seq_bucket;
    *at = entry->same_seq_bucket;
    queue_put_never(queue, entry);
    struct entry_list *list = stream_list_of(entry);
    if (list)
        entry_list_remove(list, entry);
    count(queue, entry, -1);
    free(entry);
}

void queue_set_storage(struct queue *queue, struct entry *entry, enum entry_storage storage)
{
    count(queue, entry, -1);
    entry->storage = (uint8_t)storage;
    count(queue, entry, 1);
}

static void count_message(struct queue *queue, const struct entry *entry, enum ledger_end end)
{
    switch (end) {
    case LEDGER_ACKED:
        queue->n_sent++;
        break;
    case LEDGER_DROPPED:
        queue->n_dropped++;
        break;
    case LEDGER_EXPIRED:
        queue->n_expired++;
        break;
    case LEDGER_REJECTED:
        queue->n_rejected++;
        break;
    case LEDGER_FILTERED:
    case LEDGER_MERGED:
    case LEDGER_ENDS:
        break;
    }
    bool waited = !entry->this_boot || entry->moment.mono_usec < queue->outage.connected_mono_usec;
    if (waited && !entry->stream->policy.is_volatile)
        outage_count(&queue->outage, 1, end == LEDGER_ACKED,
                     end == LEDGER_DROPPED || end == LEDGER_EXPIRED || end == LEDGER_REJECTED);
}

/* --- the journey ----------------------------------------------------------------------------- */

void queue_take_off(struct queue *queue, struct entry *entry)
{
    struct stream *stream = entry->stream;
    entry_list_remove(stream_list_of(entry), entry);
    entry->was_loaded = entry->place == ENTRY_LOADED;
    entry->place = ENTRY_IN_FLIGHT;
    entry->mid = 0;
    stream->n_in_flight++;
    stream->n_in_flight_samples += entry->n_samples;
    queue->n_in_flight++;
    queue->bytes_in_flight += entry->size;
}

static void land(struct queue *queue, const struct entry *entry)
{
    entry->stream->n_in_flight--;
    entry->stream->n_in_flight_samples -= entry->n_samples;
    queue->n_in_flight--;
    queue->bytes_in_flight -= entry->size;
}

void queue_take_back(struct queue *queue, struct entry *entry)
{
    land(queue, entry);
    entry->place = entry->was_loaded ? ENTRY_LOADED : ENTRY_FRESH;
    entry_list_insert(stream_list_of(entry), entry);
}

static struct entry **mid_bucket(struct queue *queue, int mid)
{
    return &queue->by_mid[(unsigned)mid % QUEUE_MID_BUCKETS];
}

void queue_remember_mid(struct queue *queue, struct entry *entry)
{
    struct entry **at = mid_bucket(queue, entry->mid);
    entry->same_mid_bucket = *at;
    *at = entry;
}

struct entry *queue_recall_mid(struct queue *queue, int mid)
{
    struct entry **at = mid_bucket(queue, mid);
    while (*at && (*at)->mid != mid)
        at = &(*at)->same_mid_bucket;
    struct entry *entry = *at;
    if (entry)
        *at = entry->same_mid_bucket;
    return entry;
}

/* The first entry in the buckets from i on. */
static struct entry *first_from(const struct queue *queue, unsigned i)
{
    while (i < QUEUE_MID_BUCKETS && !queue->by_mid[i])
        i++;
    return i < QUEUE_MID_BUCKETS ? queue->by_mid[i] : NULL;
}

struct entry *queue_recall_any(struct queue *queue)
{
    struct entry *entry = first_from(queue, 0);
    return entry ? queue_recall_mid(queue, entry->mid) : NULL;
}

const struct entry *queue_next_in_flight(const struct queue *queue, const struct stream *stream,
                                         const struct entry *entry)
{
    do {
        if (entry && entry->same_mid_bucket)
            entry = entry->same_mid_bucket;
        else
            entry = first_from(queue, entry ? (unsigned)entry->mid % QUEUE_MID_BUCKETS + 1 : 0);
    } while (entry && entry->stream != stream);
    return entry;
}

bool queue_has_room_in_flight(const struct queue *queue)
{
    return queue->n_in_flight < queue->window && queue->bytes_in_flight < OUTBOX_MAX_WINDOW_BYTES;
}

void queue_finish(struct queue *queue, struct entry *entry, enum ledger_end end)
{
    struct stream *stream = entry->stream;
    assert(entry->place != ENTRY_DONE);
    if (entry->place == ENTRY_IN_FLIGHT)
        land(queue, entry);
    else
        entry_list_remove(stream_list_of(entry), entry);
    count_message(queue, entry, end);
    if (entry->storage == ENTRY_UNSTORED) { // no trace on disk, ever
        stream->delta.sampled += entry->n_samples;
        stream->delta.ended[end] += entry->n_samples;
        entry->place = ENTRY_IN_FLIGHT; // in no list
        queue_forget(queue, entry);
        return;
    }
    count(queue, entry, -1);
    entry->place = ENTRY_DONE;
    entry->end = (uint8_t)end;
    count(queue, entry, 1);
    if (entry->storage == ENTRY_STORED) // else what the job did puts it into the list
        entry_list_append(&queue->done, entry);
}
