// SPDX-License-Identifier: LGPL-2.1-or-later
// What comes back from the store, and what to do while it fails.
#include "outbox/outbox-internal.h"

#include <inttypes.h>
#include <string.h>

#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"

/* --- what the store says --------------------------------------------------------------------- */

/*
 * The store has been opened, or made anew from what could be saved: what we took for stored may not
 * be. It is written once more, which does no harm to what is there.
 */
static void distrust_store(struct outbox *outbox)
{
    for (size_t i = 0; i < N_SEQ_BUCKETS; i++) {
        for (struct entry *entry = outbox->by_seq[i]; entry; entry = entry->same_seq_bucket) {
            if (entry->storage != ENTRY_STORED || entry->place == ENTRY_DONE)
                continue;
            outbox_set_storage(outbox, entry, ENTRY_UNSTORED);
            entry->put_mono_usec = 0;
            outbox_put_later(outbox, entry);
        }
    }
    for (size_t i = 0; i < outbox->n_streams; i++) {
        struct stream *stream = outbox->streams[i];
        stream->cursor = 0;
        stream->is_exhausted = false;
    }
}

/* What was on disk before the first job that knew the stream. */
static uint64_t n_inherited(const struct outbox_job *job, const struct stream *stream)
{
    uint64_t n_ours = 0;
    for (size_t i = 0; i < job->store.n_puts; i++)
        n_ours += job->puts[i]->stream == stream;
    return stream->disk.n_messages > n_ours ? stream->disk.n_messages - n_ours : 0;
}

/*
 * Numbers go on behind those that an earlier process may have used. What was numbered before the
 * store could be asked has numbers from the clock, far above; see outbox_publish().
 */
static void take_states(struct outbox *outbox, const struct outbox_job *job)
{
    for (size_t i = 0; i < job->store.n_streams; i++) {
        struct stream *stream = job->streams[i];
        stream->disk = job->store.streams[i].state;
        stream->job_delta = (struct ledger){ 0 };
        if (!stream->is_known)
            outbox->n_inherited += n_inherited(job, stream);
        if (!stream->is_known && stream->next_seq <= stream->disk.used_seq)
            stream->next_seq = stream->disk.used_seq + 1;
        stream->is_known = true;
    }
}

/* Whether the job has told the store of each number that was used, until now. */
static bool has_sealed(const struct outbox_job *job)
{
    for (size_t i = 0; i < job->store.n_streams; i++) {
        uint64_t next_seq = job->streams[i]->next_seq;
        if (next_seq > 1 && job->store.streams[i].used_seq + 1 != next_seq)
            return false;
    }
    return job->store.seals;
}

static void take_puts(struct outbox *outbox, const struct outbox_job *job)
{
    for (size_t i = 0; i < job->store.n_puts; i++) {
        struct entry *entry = job->puts[i];
        outbox_set_storage(outbox, entry, ENTRY_STORED);
        if (entry->place == ENTRY_DONE)
            entry_list_append(&outbox->done, entry);
        else
            entry->stream->is_exhausted = false;
    }
}

static void take_done(struct outbox *outbox, struct outbox_job *job)
{
    while (job->done.first) {
        struct entry *entry = job->done.first;
        entry_list_remove(&job->done, entry);
        outbox_forget(outbox, entry);
    }
}

static void take_trims(struct outbox *outbox, const struct outbox_job *job)
{
    for (size_t i = 0; i < job->store.n_trims; i++) {
        const struct store_trim *trim = &job->store.trims[i];
        if (trim->end == LEDGER_EXPIRED)
            outbox->n_expired += trim->n_gone;
        else
            outbox->n_dropped += trim->n_gone;
        uint64_t n_backlog = trim->n_gone < outbox->n_backlog ? trim->n_gone : outbox->n_backlog;
        outbox->n_backlog -= n_backlog;
        outbox->n_backlog_lost += n_backlog;
    }
}

static void load(struct outbox *outbox, struct stream *stream, const struct store_message *message)
{
    stream->cursor = message->seq;
    if (outbox_find(outbox, stream, message->seq))
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
    entry->this_boot = memcmp(message->moment.boot, outbox->boot, STORE_BOOT_SIZE) == 0;
    entry->n_samples = message->n_samples;
    entry->storage = ENTRY_STORED;
    entry->place = ENTRY_LOADED;
    outbox_add(outbox, entry);
    entry_list_insert(&stream->loaded, entry);
    KILL_POINT("loaded");
    outbox_merge(outbox, entry);
}

static void take_query(struct outbox *outbox, const struct outbox_job *job)
{
    struct stream *stream = job->queried;
    const struct store_query *query = &job->store.query;
    if (!stream)
        return;
    bool wanted = outbox->link || stream->policy.keep == STREAM_KEEP_LATEST;
    // The cursor may have been set back meanwhile: then these are not the next ones.
    if (!wanted || stream->cursor != query->after_seq)
        return;
    for (size_t i = 0; i < query->n_messages && stream->cursor < query->messages[i].seq; i++) {
        load(outbox, stream, &query->messages[i]);
        if (stream->cursor < query->messages[i].seq)
            return; // no memory
    }
    stream->is_exhausted = query->at_end;
}

static struct disk_job facts_of(const struct outbox_job *job)
{
    struct disk_job facts = {
        .n_puts = job->store.n_puts,
        .n_records = job->store.n_records,
        .sync = job->store.sync,
        .ticket = job->ticket,
    };
    for (size_t i = 0; i < job->store.n_ranges; i++)
        facts.removes_latest |=
            job->streams[job->store.ranges[i].stream]->policy.keep == STREAM_KEEP_LATEST;
    return facts;
}

/* keep = latest: what a power cut may bring back. */
static void note_unsynced(struct outbox *outbox, const struct outbox_job *job)
{
    bool is_synced = job->store.sync && job->store.is_synced;
    for (size_t i = 0; is_synced && i < outbox->n_streams; i++)
        outbox->streams[i]->is_unsynced = false;
    for (size_t i = 0; !is_synced && i < job->store.n_ranges; i++) {
        struct stream *stream = job->streams[job->store.ranges[i].stream];
        stream->is_unsynced |= stream->policy.keep == STREAM_KEEP_LATEST;
    }
}

/* Whether messages that should be on disk by now are not. */
static bool messages_wait(const struct outbox *outbox)
{
    return outbox->put_first && (outbox->put_first->put_mono_usec <= clock_mono_usec() ||
                                 disk_is_stopping(&outbox->disk));
}

static void tell(const struct outbox *outbox, enum disk_news news)
{
    if (news == DISK_FAILS)
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_STORE_FAILED)),
                "%s: the queue on disk cannot be written: %s; messages are kept in memory, up to "
                "%d, until it can be",
                outbox->options.name, disk_cause(&outbox->disk), OUTBOX_MAX_MESSAGES);
    else if (news != DISK_NO_NEWS)
        log_notice(LOG_FIELDS(LOG_ID(LOG_ID_STORE_BACK)), "%s: the queue on disk works again%s",
                   outbox->options.name,
                   news == DISK_HAS_WRITTEN ? "; what was kept in memory is written" : "");
}

static void take_success(struct outbox *outbox, struct outbox_job *job)
{
    bool is_first = !outbox->has_stored;
    bool is_new = job->store.generation != outbox->generation;
    outbox->has_stored = true;
    outbox->generation = job->store.generation;
    outbox->must_ask = false;
    take_states(outbox, job);
    outbox->is_sealed |= has_sealed(job);
    take_puts(outbox, job);
    take_done(outbox, job);
    take_trims(outbox, job);
    if (is_new && !is_first)
        distrust_store(outbox);
    else
        take_query(outbox, job);
    note_unsynced(outbox, job);
    const struct disk_job facts = facts_of(job);
    tell(outbox, disk_done(&outbox->disk, &facts, job->store.is_synced, job->store.has_room,
                           messages_wait(outbox), clock_mono_usec()));
    for (size_t i = 0; i < outbox->n_streams; i++)
        outbox_evict(outbox, outbox->streams[i]);
}

/* --- when it fails --------------------------------------------------------------------------- */

static void give_back(struct outbox *outbox, struct outbox_job *job)
{
    for (size_t i = 0; i < job->store.n_streams; i++) {
        struct stream *stream = job->streams[i];
        ledger_add(&stream->delta, &stream->job_delta);
        stream->job_delta = (struct ledger){ 0 };
    }
    for (size_t i = 0; i < job->store.n_trims; i++) {
        struct stream *stream = job->streams[job->store.trims[i].stream];
        stream->trim_messages += job->store.trims[i].n_messages;
        stream->trim_bytes += job->store.trims[i].bytes;
    }
    for (size_t i = 0; i < job->store.n_puts; i++) {
        struct entry *entry = job->puts[i];
        outbox_set_storage(outbox, entry, ENTRY_UNSTORED);
        if (entry->place == ENTRY_DONE) { // it never came to disk
            entry->stream->delta.sampled += entry->n_samples;
            entry->stream->delta.ended[entry->end] += entry->n_samples;
            outbox_forget(outbox, entry);
        } else {
            entry->put_mono_usec = 0;
            outbox_put_later(outbox, entry);
        }
    }
    while (job->done.last) {
        struct entry *entry = job->done.last;
        entry_list_remove(&job->done, entry);
        entry_list_prepend(&outbox->done, entry);
    }
    outbox_give_back_records(outbox, &job->records);
}

/* The file is full to max_size before our count says so: the least important gives way. */
static void trim_a_part(struct outbox *outbox)
{
    for (size_t i = outbox->n_streams; i > 0; i--) {
        struct stream *stream = outbox->streams[i - 1];
        uint64_t n_messages = stream_n_unloaded(stream) / 16 + 1;
        if (stream->policy.is_volatile || stream->policy.when_full == STREAM_DROP_NEWEST ||
            stream_n_unloaded(stream) <= stream->trim_messages)
            continue;
        stream->trim_messages += n_messages;
        return;
    }
}

static void take_failure(struct outbox *outbox, struct outbox_job *job, int result,
                         const struct why *why)
{
    const struct disk_job facts = facts_of(job);
    const char *cause = why && why->text[0] ? why->text : strerror(-result);
    give_back(outbox, job);
    if (result == -ENOBUFS)
        trim_a_part(outbox);
    tell(outbox, disk_failed(&outbox->disk, &facts, result, cause, clock_mono_usec()));
}

void outbox_stored(struct outbox *outbox, int result, const struct why *why)
{
    struct outbox_job *job = TAKE_PTR(outbox->job);
    if (outbox->is_freed) {
        give_back(outbox, job);
        outbox_job_free(job);
        outbox_free(outbox);
        return;
    }
    KILL_POINT("stored");
    if (result == 0)
        take_success(outbox, job);
    else
        take_failure(outbox, job, result, why);
    outbox_job_free(job);
    outbox_pump(outbox);
    outbox_feed_store(outbox);
    outbox_tell_drained(outbox);
}

void outbox_ask_store(struct outbox *outbox)
{
    outbox->must_ask = true;
    outbox_feed_store(outbox);
}

const char *outbox_trouble(const struct outbox *outbox)
{
    return disk_cause(&outbox->disk);
}

bool outbox_is_sealed(const struct outbox *outbox)
{
    return outbox->is_sealed;
}

uint64_t outbox_recorded(const struct outbox *outbox)
{
    return disk_recorded(&outbox->disk);
}

/* --- the end --------------------------------------------------------------------------------- */

void outbox_give_up(struct outbox *outbox)
{
    for (struct entry *entry = outbox->put_first, *next; entry; entry = next) {
        next = entry->put_next;
        if (entry->place == ENTRY_IN_FLIGHT) // it may arrive yet
            continue;
        entry->stream->n_given_up++;
        outbox_finish(outbox, entry, LEDGER_DROPPED);
    }
}

/* "telemetry 113, alarms 2"; returns the sum. */
static uint64_t list_lost(const struct outbox *outbox, char *out, size_t size)
{
    uint64_t sum = 0;
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < outbox->n_streams; i++) {
        const struct stream *stream = outbox->streams[i];
        uint64_t n = stream->n_given_up + (stream->policy.is_volatile ? 0 : stream->n_unwritten);
        if (n > 0 && length < size)
            length += (size_t)snprintf(out + length, size - length, "%s%s %" PRIu64,
                                       sum > 0 ? ", " : "", stream->name, n);
        sum += n;
    }
    return sum;
}

void outbox_end(struct outbox *outbox)
{
    char streams[256];
    const char *cause = outbox->job ? "it does not answer" : disk_cause(&outbox->disk);
    if (outbox->is_ended)
        return;
    outbox->is_ended = true;
    uint64_t n_messages = list_lost(outbox, streams, sizeof(streams));
    size_t n_records = outbox_count_records(outbox->records);
    if (outbox->job)
        n_records += outbox_count_records(outbox->job->records);
    if (n_messages + n_records > 0)
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_STORE_LOST)),
                "%s: %" PRIu64 " messages%s%s%s and %zu records are lost with this stop: the queue "
                "on disk cannot be written: %s",
                outbox->options.name, n_messages, n_messages > 0 ? " (" : "", streams,
                n_messages > 0 ? ")" : "", n_records, cause ? cause : "it takes too long");
}
