// SPDX-License-Identifier: LGPL-2.1-or-later
// What comes back from the store, and what to do while it fails.
#include "outbox/outbox-internal.h"

#include <inttypes.h>
#include <string.h>

#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"

static const uint64_t retry_max_usec = 30 * USEC_PER_SEC;

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

/*
 * Numbers go on behind those that an earlier process may have used. What was numbered before the
 * store could be asked has numbers from the clock, far above; see outbox_publish().
 */
static void take_states(const struct outbox_job *job)
{
    for (size_t i = 0; i < job->store.n_streams; i++) {
        struct stream *stream = job->streams[i];
        stream->disk = job->store.streams[i].state;
        stream->job_delta = (struct ledger){ 0 };
        if (!stream->is_known && stream->next_seq < stream->disk.reserved_seq)
            stream->next_seq = stream->disk.reserved_seq;
        stream->is_known = true;
    }
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
        outbox->n_backlog -= trim->n_gone < outbox->n_backlog ? trim->n_gone : outbox->n_backlog;
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
    bool wanted = outbox->is_connected || stream->policy.keep == STREAM_KEEP_LATEST;
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

static void tell_back(struct outbox *outbox)
{
    if (outbox->is_failing)
        log_notice(LOG_FIELDS(LOG_ID(LOG_ID_STORE_BACK)),
                   "%s: the queue on disk works again; what was kept in memory is written",
                   outbox->options.name);
    outbox->is_failing = false;
    outbox->trouble_cause[0] = '\0';
    outbox->retry_usec = 0;
    outbox->retry_mono_usec = 0;
}

/* What is written and not yet through a power cut. */
static void note_sync(struct outbox *outbox, const struct outbox_job *job)
{
    bool wrote = job->store.n_puts > 0 || job->store.n_records > 0;
    uint64_t now_mono_usec = outbox_mono(outbox);
    if (job->store.sync && job->store.is_synced) {
        outbox->synced_mono_usec = now_mono_usec;
        outbox->needs_sync = outbox->has_unsynced_records = false;
        for (size_t i = 0; i < outbox->n_streams; i++)
            outbox->streams[i]->is_unsynced = false;
        return;
    }
    for (size_t i = 0; i < job->store.n_ranges; i++) {
        struct stream *stream = job->streams[job->store.ranges[i].stream];
        stream->is_unsynced |= stream->policy.keep == STREAM_KEEP_LATEST;
        wrote |= stream->is_unsynced;
    }
    if (job->store.sync || (wrote && !outbox->needs_sync))
        outbox->unsynced_mono_usec = now_mono_usec; // it failed: again after the interval
    outbox->needs_sync |= wrote || job->store.sync;
    outbox->has_unsynced_records |= job->store.n_records > 0;
}

static void take_success(struct outbox *outbox, struct outbox_job *job)
{
    bool is_first = !outbox->has_stored;
    bool is_new = job->store.generation != outbox->generation;
    outbox->has_stored = true;
    outbox->generation = job->store.generation;
    if (job->store.n_lost > outbox->n_lost_on_disk) {
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_STORE_DAMAGED)),
                "%s: the queue on disk was damaged: %" PRIu64 " messages could not be read and are "
                "counted as dropped; the damaged file is kept beside it as queue.db.damaged",
                outbox->options.name, job->store.n_lost - outbox->n_lost_on_disk);
        outbox->n_lost_on_disk = job->store.n_lost;
    }
    take_states(job);
    take_puts(outbox, job);
    take_done(outbox, job);
    take_trims(outbox, job);
    if (is_new && !is_first)
        distrust_store(outbox);
    else
        take_query(outbox, job);
    note_sync(outbox, job);
    if (job->store.n_puts > 0 || !outbox->is_failing || job->store.has_room)
        tell_back(outbox);
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

static void note_failure(struct outbox *outbox, const struct outbox_job *job, int result,
                         const struct why *why)
{
    bool is_full = result == -ENOSPC || result == -ENOBUFS;
    uint64_t pause_usec = outbox->retry_usec ? outbox->retry_usec * 2 : USEC_PER_SEC;
    outbox->retry_usec = pause_usec < retry_max_usec ? pause_usec : retry_max_usec;
    uint64_t retry_mono_usec = outbox_mono(outbox) + outbox->retry_usec;
    if (result == -ENOBUFS)
        trim_a_part(outbox);
    if (is_full && job->store.n_puts > 0)
        outbox->put_retry_mono_usec = retry_mono_usec;
    else
        outbox->retry_mono_usec = retry_mono_usec;
    const char *cause = why && why->text[0] ? why->text : strerror(-result);
    if (outbox->is_failing && strcmp(cause, outbox->trouble_cause) == 0)
        return;
    snprintf(outbox->trouble_cause, sizeof(outbox->trouble_cause), "%s", cause);
    outbox->is_failing = true;
    if (result == -ENOBUFS) // a bound of the user's, told with what is dropped
        return;
    log_err(LOG_FIELDS(LOG_ID(LOG_ID_STORE_FAILED)),
            "%s: the queue on disk cannot be written: %s; messages are kept in memory, up to %d, "
            "until it can be",
            outbox->options.name, cause, OUTBOX_MAX_MESSAGES);
}

void outbox_tell_recorded(struct outbox *outbox, uint64_t ticket)
{
    if (ticket <= outbox->told_ticket)
        return;
    outbox->told_ticket = ticket;
    outbox->ports->recorded(outbox->userdata, ticket);
}

void outbox_stored(struct outbox *outbox, int result, const struct why *why)
{
    struct outbox_job *job = TAKE_PTR(outbox->job);
    uint64_t ticket = result < 0 || job->store.sync ? job->ticket : 0;
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
        give_back(outbox, job);
    if (result < 0)
        note_failure(outbox, job, result, why);
    outbox_job_free(job);
    outbox_tell_recorded(outbox, ticket);
    outbox_pump(outbox);
    outbox_feed_store(outbox);
    outbox_tell_drained(outbox);
}

const char *outbox_trouble(const struct outbox *outbox)
{
    return outbox->is_failing ? outbox->trouble_cause : NULL;
}
