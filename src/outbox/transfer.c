// SPDX-License-Identifier: LGPL-2.1-or-later
// See transfer.h.
#include "outbox/transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "outbox/bounds.h"
#include "util/clock.h"
#include "util/killpoint.h"

enum {
    MAX_PUTS = 2000,  // a job: what it costs in time and memory stays small
    MAX_DONE = 4000,  // likewise
    LOAD_BELOW = 500, // messages read ahead
    LOAD_MESSAGES = 1000,
    LOAD_BYTES = 512 * 1024,
};

struct stream *transfer_hungry(const struct queue *queue, bool is_stopping)
{
    if (is_stopping)
        return NULL;
    for (size_t i = 0; i < queue->n_streams; i++) {
        struct stream *stream = queue->streams[i];
        if (!stream->policy.is_volatile &&
            (queue->is_connected || stream->policy.keep == STREAM_KEEP_LATEST) &&
            !stream->is_exhausted && stream->loaded.n < LOAD_BELOW && stream_n_unloaded(stream) > 0)
            return stream;
    }
    return NULL;
}

static size_t index_in(const struct transfer *transfer, const struct stream *stream)
{
    size_t i = 0;
    while (transfer->streams[i] != stream)
        i++;
    return i;
}

static int add_streams(struct queue *queue, struct transfer *transfer)
{
    transfer->streams = calloc(queue->n_streams + 1, sizeof(struct stream *));
    transfer->store.streams = calloc(queue->n_streams + 1, sizeof(*transfer->store.streams));
    if (!transfer->streams || !transfer->store.streams)
        return -ENOMEM;
    for (size_t i = 0; i < queue->n_streams; i++) {
        struct stream *stream = queue->streams[i];
        if (stream->policy.is_volatile)
            continue;
        struct store_stream *row = &transfer->store.streams[transfer->store.n_streams];
        transfer->streams[transfer->store.n_streams++] = stream;
        row->name = stream->name;
        row->delta = stream->delta;
        if (stream->is_known && stream->next_seq > 1)
            row->used_seq = stream->next_seq - 1;
    }
    return 0;
}

/*
 * keep = latest: connected, what is written and removed must hold through a power cut, or an older
 * value would be found on disk, and sent, after a newer one. Cut off, it is made up for at once
 * when there is a connection: see sync_is_due().
 */
static bool must_not_come_back(const struct queue *queue, const struct entry *entry)
{
    return entry->stream->policy.keep == STREAM_KEEP_LATEST && queue->is_connected;
}

/* Taken out of the list only once nothing can fail any more: see transfer_take_over(). */
static int add_puts(struct queue *queue, struct transfer *transfer, uint64_t until_mono_usec)
{
    size_t n = 0;
    for (const struct entry *entry = queue->put_first; entry && n < MAX_PUTS;
         entry = entry->put_next)
        n++;
    transfer->puts = calloc(n + 1, sizeof(struct entry *));
    struct store_message *messages = calloc(n + 1, sizeof(*messages));
    const struct store_message **pointers = calloc(n + 1, sizeof(struct store_message *));
    transfer->store.puts = pointers;
    transfer->messages = messages;
    if (!transfer->puts || !messages || !pointers)
        return -ENOMEM;
    for (struct entry *entry = queue->put_first; entry && transfer->store.n_puts < n;
         entry = entry->put_next) {
        if (entry->put_mono_usec > until_mono_usec)
            break;
        size_t i = transfer->store.n_puts++;
        transfer->puts[i] = entry;
        pointers[i] = &messages[i];
        messages[i] = (struct store_message){
            .stream = index_in(transfer, entry->stream),
            .seq = entry->seq,
            .moment = entry->moment,
            .n_samples = entry->n_samples,
            .subject = entry->subject,
            .payload = entry->payload,
            .payload_size = strlen(entry->payload),
        };
        memcpy(messages[i].run, entry->run, STORE_RUN_SIZE);
        transfer->store.sync |= entry->stream->policy.is_strict ||
                                queue->options.durability == STREAM_STRICT ||
                                must_not_come_back(queue, entry);
    }
    return 0;
}

/* What is done mostly ended in turn, so that a range or two say it all. */
static int add_ranges(struct queue *queue, struct transfer *transfer)
{
    size_t n = queue->done.n < MAX_DONE ? queue->done.n : MAX_DONE;
    struct store_range *ranges = calloc(n + 1, sizeof(*ranges));
    transfer->store.ranges = ranges;
    if (!ranges)
        return -ENOMEM;
    for (const struct entry *entry = queue->done.first; entry && transfer->n_done < n;
         entry = entry->next) {
        size_t i = index_in(transfer, entry->stream);
        struct store_range *last =
            transfer->store.n_ranges > 0 ? &ranges[transfer->store.n_ranges - 1] : NULL;
        transfer->n_done++;
        transfer->store.sync |= must_not_come_back(queue, entry);
        if (last && last->stream == i && last->end == (enum ledger_end)entry->end &&
            last->last_seq + 1 == entry->seq)
            last->last_seq = entry->seq;
        else
            ranges[transfer->store.n_ranges++] =
                (struct store_range){ i, entry->seq, entry->seq, (enum ledger_end)entry->end };
    }
    return 0;
}

/* What is in memory behind the cursor must not be trimmed behind its back. */
static uint64_t first_in_memory(const struct queue *queue, const struct stream *stream)
{
    uint64_t seq = 0;
    for (size_t i = 0; i < QUEUE_BUCKETS; i++) {
        for (const struct entry *entry = queue->by_seq[i]; entry; entry = entry->same_seq_bucket) {
            // Those that end are removed by this very job.
            if (entry->stream == stream && entry->place != ENTRY_DONE &&
                entry->seq > stream->cursor && (seq == 0 || entry->seq < seq))
                seq = entry->seq;
        }
    }
    return seq;
}

static int add_trims(struct queue *queue, struct transfer *transfer, uint64_t now_mono_usec)
{
    transfer->store.trims =
        calloc(2 * transfer->store.n_streams + 1, sizeof(*transfer->store.trims));
    if (!transfer->store.trims)
        return -ENOMEM;
    for (size_t i = 0; i < transfer->store.n_streams; i++) {
        struct stream *stream = transfer->streams[i];
        bool drops = stream->trim_messages > 0 || stream->trim_bytes > 0;
        bool expires =
            stream->policy.max_age_usec != USEC_INFINITY && stream_n_unloaded(stream) > 0;
        if (!drops && !expires)
            continue; // most jobs: they need not look through what is in memory
        const struct store_trim base = { .stream = i,
                                         .after_seq = stream->cursor,
                                         .before_seq = first_in_memory(queue, stream) };
        if (expires) {
            struct store_trim *trim = &transfer->store.trims[transfer->store.n_trims++];
            uint64_t now_wall_usec = clock_wall_usec();
            uint64_t age_usec = stream->policy.max_age_usec;
            *trim = base;
            trim->before_wall_usec = now_wall_usec > age_usec ? now_wall_usec - age_usec : 0;
            trim->end = LEDGER_EXPIRED;
            uint64_t pause_usec = age_usec / 16;
            if (pause_usec < USEC_PER_SEC)
                pause_usec = USEC_PER_SEC;
            if (pause_usec > 600 * USEC_PER_SEC)
                pause_usec = 600 * USEC_PER_SEC;
            stream->expire_mono_usec = now_mono_usec + pause_usec;
        }
        if (drops) {
            struct store_trim *trim = &transfer->store.trims[transfer->store.n_trims++];
            *trim = base;
            trim->n_messages = stream->trim_messages;
            trim->bytes = stream->trim_bytes;
            trim->end = LEDGER_DROPPED;
        }
    }
    return 0;
}

void transfer_take_over(struct transfer *transfer, struct queue *queue, struct record **records)
{
    for (size_t i = 0; i < transfer->store.n_puts; i++) {
        queue_put_never(queue, transfer->puts[i]);
        queue_set_storage(queue, transfer->puts[i], ENTRY_HANDED_OVER);
    }
    for (size_t i = 0; i < transfer->n_done; i++) {
        struct entry *entry = queue->done.first;
        entry_list_remove(&queue->done, entry);
        entry_list_append(&transfer->done, entry);
    }
    for (size_t i = 0; i < transfer->store.n_streams; i++) {
        struct stream *stream = transfer->streams[i];
        stream->job_delta = stream->delta;
        stream->delta = (struct ledger){ 0 };
        stream->trim_messages = stream->trim_bytes = 0;
    }
    transfer->records = TAKE_PTR(*records);
}

void transfer_free(struct transfer *transfer)
{
    if (!transfer)
        return;
    records_free(&transfer->records);
    store_messages_free(transfer->store.query.messages, transfer->store.query.n_messages);
    free((void *)transfer->store.puts);
    free((void *)transfer->store.ranges);
    free((void *)transfer->store.records);
    free(transfer->store.trims);
    free(transfer->store.streams);
    free(transfer->messages);
    free(transfer->puts);
    free(transfer->streams);
    free(transfer);
}

int transfer_new(struct queue *queue, struct record *records, const struct disk_step *step,
                 bool is_stopping, uint64_t begin_wall_usec, struct transfer **ret_transfer)
{
    _cleanup_(transfer_freep) struct transfer *transfer = calloc(1, sizeof(*transfer));
    if (!transfer)
        return -ENOMEM;
    uint64_t now_mono_usec = clock_mono_usec();
    int r = add_streams(queue, transfer);
    if (r == 0 && step->puts)
        r = add_puts(queue, transfer, is_stopping ? USEC_INFINITY : now_mono_usec);
    if (r == 0)
        r = add_ranges(queue, transfer);
    if (r == 0)
        r = add_trims(queue, transfer, now_mono_usec);
    if (r == 0)
        r = records_list(records, &transfer->store);
    if (r < 0)
        return r;
    transfer->store.seals = is_stopping;
    transfer->store.sync |= step->syncs;
    transfer->store.begin_wall_usec = begin_wall_usec;
    transfer->store.max_size = queue->options.max_size;
    transfer->queried = transfer_hungry(queue, is_stopping);
    if (transfer->queried)
        transfer->store.query = (struct store_query){
            .stream = index_in(transfer, transfer->queried),
            .after_seq = transfer->queried->cursor,
            .max_messages = LOAD_MESSAGES,
            .max_bytes = LOAD_BYTES,
        };
    *ret_transfer = TAKE_PTR(transfer);
    return 0;
}

/* --- what becomes of it ---------------------------------------------------------------------- */

/*
 * The store has been opened, or made anew from what could be saved: what we took for stored may not
 * be. It is written once more, which does no harm to what is there.
 */
static void distrust_store(struct queue *queue)
{
    for (size_t i = 0; i < QUEUE_BUCKETS; i++) {
        for (struct entry *entry = queue->by_seq[i]; entry; entry = entry->same_seq_bucket) {
            if (entry->storage != ENTRY_STORED || entry->place == ENTRY_DONE)
                continue;
            queue_set_storage(queue, entry, ENTRY_UNSTORED);
            entry->put_mono_usec = 0;
            queue_put_later(queue, entry);
        }
    }
    for (size_t i = 0; i < queue->n_streams; i++) {
        struct stream *stream = queue->streams[i];
        stream->cursor = 0;
        stream->is_exhausted = false;
    }
}

/* What was on disk before the first job that knew the stream. */
static uint64_t n_inherited(const struct transfer *transfer, const struct stream *stream)
{
    uint64_t n_ours = 0;
    for (size_t i = 0; i < transfer->store.n_puts; i++)
        n_ours += transfer->puts[i]->stream == stream;
    return stream->disk.n_messages > n_ours ? stream->disk.n_messages - n_ours : 0;
}

/*
 * Numbers go on behind those that an earlier process may have used. What was numbered before the
 * store could be asked has numbers from the clock, far above; see outbox.c.
 */
static void take_states(struct queue *queue, const struct transfer *transfer)
{
    for (size_t i = 0; i < transfer->store.n_streams; i++) {
        struct stream *stream = transfer->streams[i];
        stream->disk = transfer->store.streams[i].state;
        stream->job_delta = (struct ledger){ 0 };
        if (!stream->is_known)
            queue->outage.n_inherited += n_inherited(transfer, stream);
        if (!stream->is_known && stream->next_seq <= stream->disk.used_seq)
            stream->next_seq = stream->disk.used_seq + 1;
        stream->is_known = true;
    }
}

static void take_puts(struct queue *queue, const struct transfer *transfer)
{
    for (size_t i = 0; i < transfer->store.n_puts; i++) {
        struct entry *entry = transfer->puts[i];
        queue_set_storage(queue, entry, ENTRY_STORED);
        if (entry->place == ENTRY_DONE)
            entry_list_append(&queue->done, entry);
        else
            entry->stream->is_exhausted = false;
    }
}

static void take_done(struct queue *queue, struct transfer *transfer)
{
    while (transfer->done.first) {
        struct entry *entry = transfer->done.first;
        entry_list_remove(&transfer->done, entry);
        queue_forget(queue, entry);
    }
}

static void take_trims(struct queue *queue, const struct transfer *transfer)
{
    for (size_t i = 0; i < transfer->store.n_trims; i++) {
        const struct store_trim *trim = &transfer->store.trims[i];
        if (trim->end == LEDGER_EXPIRED)
            queue->n_expired += trim->n_gone;
        else
            queue->n_dropped += trim->n_gone;
        outage_count(&queue->outage, trim->n_gone, false, true);
    }
}

static void load(struct queue *queue, struct stream *stream, const struct store_message *message)
{
    stream->cursor = message->seq;
    if (queue_find(queue, stream, message->seq))
        return; // fresh, in flight or done
    struct entry *entry =
        entry_new(stream, message->payload, message->payload_size, message->subject);
    if (!entry) {
        stream->cursor = message->seq - 1; // later
        return;
    }
    entry->seq = message->seq;
    entry->moment = message->moment;
    entry->begin_wall_usec = message->begin_wall_usec;
    memcpy(entry->run, message->run, STORE_RUN_SIZE);
    entry->this_boot = memcmp(message->moment.boot, queue->boot, STORE_BOOT_SIZE) == 0;
    entry->n_samples = message->n_samples;
    entry->qos = (int8_t)stream->policy.qos;
    entry->storage = ENTRY_STORED;
    entry->place = ENTRY_LOADED;
    queue_add(queue, entry);
    entry_list_insert(&stream->loaded, entry);
    KILL_POINT("loaded");
    bounds_merge(queue, entry);
}

static void take_query(struct queue *queue, const struct transfer *transfer)
{
    struct stream *stream = transfer->queried;
    const struct store_query *query = &transfer->store.query;
    if (!stream)
        return;
    bool wanted = queue->is_connected || stream->policy.keep == STREAM_KEEP_LATEST;
    // The cursor may have been set back meanwhile: then these are not the next ones.
    if (!wanted || stream->cursor != query->after_seq)
        return;
    for (size_t i = 0; i < query->n_messages && stream->cursor < query->messages[i].seq; i++) {
        load(queue, stream, &query->messages[i]);
        if (stream->cursor < query->messages[i].seq)
            return; // no memory
    }
    stream->is_exhausted = query->at_end;
}

/* keep = latest: what a power cut may bring back. */
static void note_unsynced(struct queue *queue, const struct transfer *transfer)
{
    bool is_synced = transfer->store.sync && transfer->store.is_synced;
    for (size_t i = 0; is_synced && i < queue->n_streams; i++)
        queue->streams[i]->is_unsynced = false;
    for (size_t i = 0; !is_synced && i < transfer->store.n_ranges; i++) {
        struct stream *stream = transfer->streams[transfer->store.ranges[i].stream];
        stream->is_unsynced |= stream->policy.keep == STREAM_KEEP_LATEST;
    }
}

struct disk_job transfer_facts(const struct transfer *transfer)
{
    struct disk_job facts = {
        .n_puts = transfer->store.n_puts,
        .n_records = transfer->store.n_records,
        .sync = transfer->store.sync,
        .ticket = transfer->ticket,
    };
    for (size_t i = 0; i < transfer->store.n_ranges; i++)
        facts.removes_latest |=
            transfer->streams[transfer->store.ranges[i].stream]->policy.keep == STREAM_KEEP_LATEST;
    return facts;
}

void transfer_succeeded(struct transfer *transfer, struct queue *queue, bool is_other)
{
    take_states(queue, transfer);
    take_puts(queue, transfer);
    take_done(queue, transfer);
    take_trims(queue, transfer);
    if (is_other)
        distrust_store(queue);
    else
        take_query(queue, transfer);
    note_unsynced(queue, transfer);
}

bool transfer_has_sealed(const struct transfer *transfer)
{
    for (size_t i = 0; i < transfer->store.n_streams; i++) {
        uint64_t next_seq = transfer->streams[i]->next_seq;
        if (next_seq > 1 && transfer->store.streams[i].used_seq + 1 != next_seq)
            return false;
    }
    return transfer->store.seals;
}

void transfer_failed(struct transfer *transfer, struct queue *queue, struct record **records)
{
    for (size_t i = 0; i < transfer->store.n_streams; i++) {
        struct stream *stream = transfer->streams[i];
        ledger_add(&stream->delta, &stream->job_delta);
        stream->job_delta = (struct ledger){ 0 };
    }
    for (size_t i = 0; i < transfer->store.n_trims; i++) {
        struct stream *stream = transfer->streams[transfer->store.trims[i].stream];
        stream->trim_messages += transfer->store.trims[i].n_messages;
        stream->trim_bytes += transfer->store.trims[i].bytes;
    }
    for (size_t i = 0; i < transfer->store.n_puts; i++) {
        struct entry *entry = transfer->puts[i];
        queue_set_storage(queue, entry, ENTRY_UNSTORED);
        if (entry->place == ENTRY_DONE) { // it never came to disk
            entry->stream->delta.sampled += entry->n_samples;
            entry->stream->delta.ended[entry->end] += entry->n_samples;
            queue_forget(queue, entry);
        } else {
            entry->put_mono_usec = 0;
            queue_put_later(queue, entry);
        }
    }
    while (transfer->done.last) {
        struct entry *entry = transfer->done.last;
        entry_list_remove(&transfer->done, entry);
        entry_list_prepend(&queue->done, entry);
    }
    records_give_back(records, &transfer->records);
}
