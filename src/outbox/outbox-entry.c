// SPDX-License-Identifier: LGPL-2.1-or-later
// Entries, where they are and how they are counted. Decides nothing.
#include "outbox/outbox-internal.h"

#include <assert.h>
#include <string.h>

#include "util/clock.h"

struct entry *entry_new(struct stream *stream, const void *payload, size_t payload_size,
                        const char *subject)
{
    size_t subject_size = subject ? strlen(subject) + 1 : 0;
    struct entry *entry = malloc(sizeof(*entry) + payload_size + 1 + subject_size);
    if (!entry)
        return NULL;
    *entry = (struct entry){
        .stream = stream,
        .qos = (int8_t)stream->policy.qos,
        .size = payload_size + (subject ? subject_size - 1 : 0) + STORE_MESSAGE_OVERHEAD,
    };
    memcpy(entry->payload, payload, payload_size);
    entry->payload[payload_size] = '\0';
    if (subject)
        entry->subject = memcpy(entry->payload + payload_size + 1, subject, subject_size);
    return entry;
}

/* --- lists ----------------------------------------------------------------------------------- */

static void insert_behind(struct entry_list *list, struct entry *previous, struct entry *entry)
{
    entry->previous = previous;
    entry->next = previous ? previous->next : list->first;
    *(entry->next ? &entry->next->previous : &list->last) = entry;
    *(previous ? &previous->next : &list->first) = entry;
    list->n++;
}

void entry_list_append(struct entry_list *list, struct entry *entry)
{
    insert_behind(list, list->last, entry);
}

void entry_list_prepend(struct entry_list *list, struct entry *entry)
{
    insert_behind(list, NULL, entry);
}

void entry_list_insert(struct entry_list *list, struct entry *entry)
{
    struct entry *previous = list->last;
    if (list->first && entry->seq < list->first->seq)
        previous = NULL; // what comes back from flight
    while (previous && previous->seq > entry->seq)
        previous = previous->previous;
    insert_behind(list, previous, entry);
}

void entry_list_remove(struct entry_list *list, struct entry *entry)
{
    *(entry->previous ? &entry->previous->next : &list->first) = entry->next;
    *(entry->next ? &entry->next->previous : &list->last) = entry->previous;
    entry->previous = entry->next = NULL;
    list->n--;
}

struct entry_list *entry_list_of(struct entry *entry)
{
    switch ((enum entry_place)entry->place) {
    case ENTRY_FRESH:
        return &entry->stream->fresh;
    case ENTRY_LOADED:
        return &entry->stream->loaded;
    case ENTRY_IN_FLIGHT:
    case ENTRY_DONE:
        break;
    }
    return NULL;
}

/* In the order of when they are due, and of their coming. */
void outbox_put_later(struct outbox *outbox, struct entry *entry)
{
    struct entry *previous = outbox->put_last;
    assert(!entry->is_to_be_put);
    if (outbox->put_first && outbox->put_first->put_mono_usec > entry->put_mono_usec)
        previous = NULL;
    while (previous && previous->put_mono_usec > entry->put_mono_usec)
        previous = previous->put_previous;
    entry->is_to_be_put = true;
    entry->put_previous = previous;
    entry->put_next = previous ? previous->put_next : outbox->put_first;
    *(entry->put_previous ? &entry->put_previous->put_next : &outbox->put_first) = entry;
    *(entry->put_next ? &entry->put_next->put_previous : &outbox->put_last) = entry;
}

void outbox_put_never(struct outbox *outbox, struct entry *entry)
{
    if (!entry->is_to_be_put)
        return;
    entry->is_to_be_put = false;
    *(entry->put_previous ? &entry->put_previous->put_next : &outbox->put_first) = entry->put_next;
    *(entry->put_next ? &entry->put_next->put_previous : &outbox->put_last) = entry->put_previous;
}

/* --- the hash table -------------------------------------------------------------------------- */

static size_t bucket(const struct stream *stream, uint64_t seq)
{
    return (size_t)((seq ^ (uintptr_t)stream >> 6) % N_SEQ_BUCKETS);
}

struct entry *outbox_find(const struct outbox *outbox, const struct stream *stream, uint64_t seq)
{
    struct entry *entry = outbox->by_seq[bucket(stream, seq)];
    while (entry && (entry->seq != seq || entry->stream != stream))
        entry = entry->same_seq_bucket;
    return entry;
}

/* Counts an entry as it is now, or with sign -1 as if it were not there. */
static void count(struct outbox *outbox, const struct entry *entry, int sign)
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
    outbox->n_in_memory += one;
    outbox->n_bytes_in_memory += one * entry->size;
}

void outbox_add(struct outbox *outbox, struct entry *entry)
{
    struct entry **at = &outbox->by_seq[bucket(entry->stream, entry->seq)];
    entry->same_seq_bucket = *at;
    *at = entry;
    count(outbox, entry, 1);
    if (entry->storage == ENTRY_UNSTORED && !entry->stream->policy.is_volatile)
        outbox_put_later(outbox, entry);
}

void outbox_forget(struct outbox *outbox, struct entry *entry)
{
    struct entry **at = &outbox->by_seq[bucket(entry->stream, entry->seq)];
    while (*at != entry)
        at = &(*at)->same_seq_bucket;
    *at = entry->same_seq_bucket;
    outbox_put_never(outbox, entry);
    if (entry_list_of(entry))
        entry_list_remove(entry_list_of(entry), entry);
    count(outbox, entry, -1);
    free(entry);
}

void outbox_set_storage(struct outbox *outbox, struct entry *entry, enum entry_storage storage)
{
    count(outbox, entry, -1);
    entry->storage = (uint8_t)storage;
    count(outbox, entry, 1);
}

static void count_message(struct outbox *outbox, const struct entry *entry, enum ledger_end end)
{
    switch (end) {
    case LEDGER_ACKED:
        outbox->n_sent++;
        break;
    case LEDGER_DROPPED:
        outbox->n_dropped++;
        break;
    case LEDGER_EXPIRED:
        outbox->n_expired++;
        break;
    case LEDGER_REJECTED:
        outbox->n_rejected++;
        break;
    case LEDGER_FILTERED:
    case LEDGER_MERGED:
    case LEDGER_ENDS:
        break;
    }
    bool waited = !entry->this_boot || entry->moment.mono_usec < outbox->connected_mono_usec;
    if (waited && outbox->n_backlog > 0 && !entry->stream->policy.is_volatile) {
        outbox->n_backlog--;
        outbox->n_backlog_sent += end == LEDGER_ACKED;
        outbox->n_backlog_lost +=
            end == LEDGER_DROPPED || end == LEDGER_EXPIRED || end == LEDGER_REJECTED;
    }
}

void outbox_finish(struct outbox *outbox, struct entry *entry, enum ledger_end end)
{
    struct stream *stream = entry->stream;
    assert(entry->place != ENTRY_DONE);
    if (entry->place == ENTRY_IN_FLIGHT) {
        stream->n_in_flight--;
        stream->n_in_flight_samples -= entry->n_samples;
    } else {
        entry_list_remove(entry_list_of(entry), entry);
    }
    count_message(outbox, entry, end);
    if (entry->storage == ENTRY_UNSTORED) { // no trace on disk, ever
        stream->delta.sampled += entry->n_samples;
        stream->delta.ended[end] += entry->n_samples;
        entry->place = ENTRY_IN_FLIGHT; // in no list
        outbox_forget(outbox, entry);
        return;
    }
    count(outbox, entry, -1);
    entry->place = ENTRY_DONE;
    entry->end = (uint8_t)end;
    count(outbox, entry, 1);
    if (entry->storage == ENTRY_STORED) // else outbox_stored() puts it into the list
        entry_list_append(&outbox->done, entry);
}

/* --- time and counts ------------------------------------------------------------------------- */

uint64_t outbox_begin_wall(void)
{
    uint64_t wall_usec = clock_wall_usec(), mono_usec = clock_mono_usec();
    return wall_usec > mono_usec ? wall_usec - mono_usec : 1;
}

uint64_t entry_wall(const struct entry *entry)
{
    uint64_t begin_wall_usec = entry->this_boot ? outbox_begin_wall() : entry->begin_wall_usec;
    return begin_wall_usec > 0 ? begin_wall_usec + entry->moment.mono_usec : 0;
}

void outbox_arm(struct outbox *outbox, uint64_t mono_usec)
{
    if (mono_usec < outbox->armed_mono_usec)
        outbox->armed_mono_usec = mono_usec;
}

uint64_t stream_n_waiting(const struct stream *stream)
{
    uint64_t on_disk = stream->disk.n_messages > stream->n_stored_done
                           ? stream->disk.n_messages - stream->n_stored_done
                           : 0;
    return on_disk + stream->n_unwritten;
}

uint64_t stream_n_unloaded(const struct stream *stream)
{
    return stream->disk.n_messages > stream->n_stored ? stream->disk.n_messages - stream->n_stored
                                                      : 0;
}

bool stream_is_on_disk(const struct stream *stream)
{
    return stream->disk.n_messages > 0 || stream->n_handed_over > 0;
}

void stream_rewind(struct stream *stream, uint64_t seq)
{
    if (stream->cursor >= seq)
        stream->cursor = seq - 1;
    stream->is_exhausted = false;
}

struct ledger stream_ledger(const struct stream *stream)
{
    struct ledger ledger = stream->disk.ledger;
    ledger_add(&ledger, &stream->delta);
    ledger_add(&ledger, &stream->job_delta);
    ledger_add(&ledger, &stream->pending);
    return ledger;
}
