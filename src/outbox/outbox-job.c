// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What goes to the store. One job is at work at a time; what comes up meanwhile is gathered for the
 * next, so that a slow disk makes larger transactions and holds nobody up.
 */
#include "outbox/outbox-internal.h"

#include <string.h>

#include "util/clock.h"
#include "util/killpoint.h"

enum {
    MAX_PUTS = 2000,  // a job: what it costs in time and memory stays small
    MAX_DONE = 4000,  // likewise
    LOAD_BELOW = 500, // messages read ahead
    LOAD_MESSAGES = 1000,
    LOAD_BYTES = 512 * 1024,
};

static const uint64_t clock_step_usec = 50 * USEC_PER_MSEC;

static bool is_durable(const struct stream *stream)
{
    return !stream->policy.is_volatile;
}

/* --- what there is to do --------------------------------------------------------------------- */

/* The first stream whose messages should be read ahead. */
static struct stream *hungry(const struct outbox *outbox)
{
    if (disk_is_stopping(&outbox->disk))
        return NULL;
    for (size_t i = 0; i < outbox->n_streams; i++) {
        struct stream *stream = outbox->streams[i];
        if (is_durable(stream) && (outbox->link || stream->policy.keep == STREAM_KEEP_LATEST) &&
            !stream->is_exhausted && stream->loaded.n < LOAD_BELOW && stream_n_unloaded(stream) > 0)
            return stream;
    }
    return NULL;
}

/* When the next job is to look for messages on disk that have expired. */
static uint64_t next_expiry(const struct outbox *outbox)
{
    uint64_t next_mono_usec = USEC_INFINITY;
    for (size_t i = 0; i < outbox->n_streams; i++) {
        const struct stream *stream = outbox->streams[i];
        if (is_durable(stream) && stream->policy.max_age_usec != USEC_INFINITY &&
            stream_n_unloaded(stream) > 0 && stream->expire_mono_usec < next_mono_usec)
            next_mono_usec = stream->expire_mono_usec;
    }
    return next_mono_usec;
}

/* Whether the latest value waits until the one before is off the disk; see outbox-send.c. */
static bool latest_waits(const struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->n_streams; i++) {
        const struct stream *stream = outbox->streams[i];
        if (stream->policy.keep == STREAM_KEEP_LATEST && stream->fresh.first &&
            stream->n_stored_done > 0)
            return true;
    }
    return false;
}

static struct disk_work find_work(const struct outbox *outbox)
{
    bool has_more = outbox->records || hungry(outbox) || outbox->must_ask ||
                    (disk_is_stopping(&outbox->disk) && !outbox->is_sealed);
    struct disk_work work = {
        .put_mono_usec = outbox->put_first ? outbox->put_first->put_mono_usec : USEC_INFINITY,
        .n_done = outbox->done.n,
        .is_waited_for = latest_waits(outbox),
        .is_connected = outbox->link,
    };
    for (size_t i = 0; i < outbox->n_streams; i++) {
        const struct stream *stream = outbox->streams[i];
        if (!is_durable(stream))
            continue;
        has_more |= !stream->is_known || stream->trim_messages > 0 || stream->trim_bytes > 0;
        work.n_waiting += stream_n_waiting(stream) - stream->n_unwritten;
        work.has_counts |= !ledger_is_zero(&stream->delta);
        work.has_unsynced |= stream->is_unsynced;
    }
    work.other_mono_usec = has_more ? 0 : next_expiry(outbox);
    return work;
}

/* --- the job --------------------------------------------------------------------------------- */

static size_t index_in(const struct outbox_job *job, const struct stream *stream)
{
    size_t i = 0;
    while (job->streams[i] != stream)
        i++;
    return i;
}

static int add_streams(struct outbox *outbox, struct outbox_job *job)
{
    job->streams = calloc(outbox->n_streams + 1, sizeof(struct stream *));
    job->store.streams = calloc(outbox->n_streams + 1, sizeof(*job->store.streams));
    if (!job->streams || !job->store.streams)
        return -ENOMEM;
    for (size_t i = 0; i < outbox->n_streams; i++) {
        struct stream *stream = outbox->streams[i];
        if (!is_durable(stream))
            continue;
        struct store_stream *row = &job->store.streams[job->store.n_streams];
        job->streams[job->store.n_streams++] = stream;
        row->name = stream->name;
        row->delta = stream->delta;
        if (stream->is_known && stream->next_seq > 1)
            row->used_seq = stream->next_seq - 1;
    }
    job->store.seals = disk_is_stopping(&outbox->disk);
    return 0;
}

/*
 * keep = latest: connected, what is written and removed must hold through a power cut, or an older
 * value would be found on disk, and sent, after a newer one. Cut off, it is made up for at once
 * when there is a connection: see sync_is_due().
 */
static bool must_not_come_back(const struct outbox *outbox, const struct entry *entry)
{
    return entry->stream->policy.keep == STREAM_KEEP_LATEST && outbox->link;
}

/* Taken out of the list only once nothing can fail any more: see take_over(). */
static int add_puts(struct outbox *outbox, struct outbox_job *job, uint64_t now_mono_usec)
{
    size_t n = 0;
    for (const struct entry *entry = outbox->put_first; entry && n < MAX_PUTS;
         entry = entry->put_next)
        n++;
    job->puts = calloc(n + 1, sizeof(struct entry *));
    struct store_message *messages = calloc(n + 1, sizeof(*messages));
    const struct store_message **pointers = calloc(n + 1, sizeof(struct store_message *));
    job->store.puts = pointers;
    job->messages = messages;
    if (!job->puts || !messages || !pointers)
        return -ENOMEM;
    for (struct entry *entry = outbox->put_first; entry && job->store.n_puts < n;
         entry = entry->put_next) {
        if (entry->put_mono_usec > now_mono_usec && !disk_is_stopping(&outbox->disk))
            break;
        size_t i = job->store.n_puts++;
        job->puts[i] = entry;
        pointers[i] = &messages[i];
        messages[i] = (struct store_message){
            .stream = index_in(job, entry->stream),
            .seq = entry->seq,
            .moment = entry->moment,
            .n_samples = entry->n_samples,
            .subject = entry->subject,
            .payload = entry->payload,
            .payload_size = strlen(entry->payload),
        };
        memcpy(messages[i].run, entry->run, STORE_RUN_SIZE);
        job->store.sync |= entry->stream->policy.is_strict ||
                           outbox->options.durability == STREAM_STRICT ||
                           must_not_come_back(outbox, entry);
    }
    return 0;
}

/* What is done mostly ended in turn, so that a range or two say it all. */
static int add_ranges(struct outbox *outbox, struct outbox_job *job)
{
    size_t n = outbox->done.n < MAX_DONE ? outbox->done.n : MAX_DONE;
    struct store_range *ranges = calloc(n + 1, sizeof(*ranges));
    job->store.ranges = ranges;
    if (!ranges)
        return -ENOMEM;
    for (const struct entry *entry = outbox->done.first; entry && job->n_done < n;
         entry = entry->next) {
        size_t i = index_in(job, entry->stream);
        struct store_range *last =
            job->store.n_ranges > 0 ? &ranges[job->store.n_ranges - 1] : NULL;
        job->n_done++;
        job->store.sync |= must_not_come_back(outbox, entry);
        if (last && last->stream == i && last->end == (enum ledger_end)entry->end &&
            last->last_seq + 1 == entry->seq)
            last->last_seq = entry->seq;
        else
            ranges[job->store.n_ranges++] =
                (struct store_range){ i, entry->seq, entry->seq, (enum ledger_end)entry->end };
    }
    return 0;
}

/* What is in memory behind the cursor must not be trimmed behind its back. */
static uint64_t first_in_memory(const struct outbox *outbox, const struct stream *stream)
{
    uint64_t seq = 0;
    for (size_t i = 0; i < N_SEQ_BUCKETS; i++) {
        for (const struct entry *entry = outbox->by_seq[i]; entry; entry = entry->same_seq_bucket) {
            // Those that end are removed by this very job.
            if (entry->stream == stream && entry->place != ENTRY_DONE &&
                entry->seq > stream->cursor && (seq == 0 || entry->seq < seq))
                seq = entry->seq;
        }
    }
    return seq;
}

static int add_trims(struct outbox *outbox, struct outbox_job *job, uint64_t now_mono_usec)
{
    job->store.trims = calloc(2 * job->store.n_streams + 1, sizeof(*job->store.trims));
    if (!job->store.trims)
        return -ENOMEM;
    for (size_t i = 0; i < job->store.n_streams; i++) {
        struct stream *stream = job->streams[i];
        const struct store_trim base = { .stream = i,
                                         .after_seq = stream->cursor,
                                         .before_seq = first_in_memory(outbox, stream) };
        bool expires =
            stream->policy.max_age_usec != USEC_INFINITY && stream_n_unloaded(stream) > 0;
        if (expires) {
            struct store_trim *trim = &job->store.trims[job->store.n_trims++];
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
        if (stream->trim_messages > 0 || stream->trim_bytes > 0) {
            struct store_trim *trim = &job->store.trims[job->store.n_trims++];
            *trim = base;
            trim->n_messages = stream->trim_messages;
            trim->bytes = stream->trim_bytes;
            trim->end = LEDGER_DROPPED;
        }
    }
    return 0;
}

/* From here on nothing fails: what the job has is not the outbox's to hand over again. */
static void take_over(struct outbox *outbox, struct outbox_job *job)
{
    for (size_t i = 0; i < job->store.n_puts; i++) {
        outbox_put_never(outbox, job->puts[i]);
        outbox_set_storage(outbox, job->puts[i], ENTRY_HANDED_OVER);
    }
    for (size_t i = 0; i < job->n_done; i++) {
        struct entry *entry = outbox->done.first;
        entry_list_remove(&outbox->done, entry);
        entry_list_append(&job->done, entry);
    }
    for (size_t i = 0; i < job->store.n_streams; i++) {
        struct stream *stream = job->streams[i];
        stream->job_delta = stream->delta;
        stream->delta = (struct ledger){ 0 };
        stream->trim_messages = stream->trim_bytes = 0;
    }
    job->ticket = disk_last_ticket(&outbox->disk);
    job->records = TAKE_PTR(outbox->records);
}

void outbox_job_free(struct outbox_job *job)
{
    if (!job)
        return;
    outbox_free_records(&job->records);
    store_messages_free(job->store.query.messages, job->store.query.n_messages);
    free((void *)job->store.puts);
    free((void *)job->store.ranges);
    free((void *)job->store.records);
    free(job->store.trims);
    free(job->store.streams);
    free(job->messages);
    free(job->puts);
    free(job->streams);
    free(job);
}
DEFINE_CLEANUP(struct outbox_job *, outbox_job_free)

static int build(struct outbox *outbox, const struct disk_step *step, uint64_t now_mono_usec,
                 struct outbox_job **ret_job)
{
    _cleanup_(outbox_job_freep) struct outbox_job *job = calloc(1, sizeof(*job));
    if (!job)
        return -ENOMEM;
    int r = add_streams(outbox, job);
    if (r == 0 && step->puts)
        r = add_puts(outbox, job, now_mono_usec);
    if (r == 0)
        r = add_ranges(outbox, job);
    if (r == 0)
        r = add_trims(outbox, job, now_mono_usec);
    if (r == 0)
        r = outbox_list_records(outbox->records, &job->store);
    if (r < 0)
        return r;
    job->store.sync |= step->syncs;
    uint64_t begin_wall_usec = outbox_begin_wall();
    uint64_t step_usec = begin_wall_usec > outbox->begin_wall_usec
                             ? begin_wall_usec - outbox->begin_wall_usec
                             : outbox->begin_wall_usec - begin_wall_usec;
    if (step_usec > clock_step_usec)
        outbox->begin_wall_usec = begin_wall_usec;
    job->store.begin_wall_usec = outbox->begin_wall_usec;
    job->store.max_size = outbox->options.max_size;
    job->queried = hungry(outbox);
    if (job->queried)
        job->store.query = (struct store_query){
            .stream = index_in(job, job->queried),
            .after_seq = job->queried->cursor,
            .max_messages = LOAD_MESSAGES,
            .max_bytes = LOAD_BYTES,
        };
    *ret_job = TAKE_PTR(job);
    return 0;
}

/* Whoever waits for a record is told by the tick, and not from within a call of theirs. */
static void wake_waiting(struct outbox *outbox)
{
    if (outbox->woken_ticket == disk_recorded(&outbox->disk))
        return;
    outbox->woken_ticket = disk_recorded(&outbox->disk);
    outbox_arm(outbox, 0);
}

static struct disk_step next_step(struct outbox *outbox, uint64_t now_mono_usec)
{
    struct disk_work work = find_work(outbox);
    struct disk_step step = disk_next(&outbox->disk, &work, now_mono_usec);
    if (step.gives_up) {
        outbox_give_up(outbox);
        work = find_work(outbox);
        step = disk_next(&outbox->disk, &work, now_mono_usec);
    }
    return step;
}

void outbox_feed_store(struct outbox *outbox)
{
    uint64_t now_mono_usec = clock_mono_usec();
    if (outbox->job || outbox->is_freed)
        return;
    struct disk_step step = next_step(outbox, now_mono_usec);
    wake_waiting(outbox);
    outbox->disk_mono_usec = step.wake_mono_usec;
    if (!step.runs)
        return;
    struct outbox_job *job;
    int r = build(outbox, &step, now_mono_usec, &job);
    if (r == 0) {
        take_over(outbox, job);
        KILL_POINT("taken-over");
        outbox->job = job;
        r = outbox->run_job(outbox->userdata, &job->store);
    }
    if (r < 0 && outbox->job)
        outbox_stored(outbox, r, NULL);
    else if (r < 0)
        outbox_arm(outbox, now_mono_usec + USEC_PER_SEC);
}
