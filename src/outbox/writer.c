// SPDX-License-Identifier: LGPL-2.1-or-later
// See writer.h.
#include "outbox/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "outbox/bounds.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"

static const uint64_t clock_step_usec = 50 * USEC_PER_MSEC;

/* --- what there is to do --------------------------------------------------------------------- */

/* When the next job is to look for messages on disk that have expired. */
static uint64_t next_expiry(const struct queue *queue)
{
    uint64_t next_mono_usec = USEC_INFINITY;
    for (size_t i = 0; i < queue->n_streams; i++) {
        const struct stream *stream = queue->streams[i];
        if (!stream->policy.is_volatile && stream->policy.max_age_usec != USEC_INFINITY &&
            stream_n_unloaded(stream) > 0 && stream->expire_mono_usec < next_mono_usec)
            next_mono_usec = stream->expire_mono_usec;
    }
    return next_mono_usec;
}

/* Whether the latest value waits until the one before is off the disk; see sender.c. */
static bool latest_waits(const struct queue *queue)
{
    for (size_t i = 0; i < queue->n_streams; i++) {
        const struct stream *stream = queue->streams[i];
        if (stream->policy.keep == STREAM_KEEP_LATEST && stream->fresh.first &&
            stream->n_stored_done > 0)
            return true;
    }
    return false;
}

static struct disk_work find_work(const struct writer *writer)
{
    const struct queue *queue = writer->queue;
    bool is_stopping = disk_is_stopping(&writer->disk);
    bool has_more = writer->records || transfer_hungry(queue, is_stopping) || writer->must_ask ||
                    (is_stopping && !writer->is_sealed);
    struct disk_work work = {
        .put_mono_usec = queue->put_first ? queue->put_first->put_mono_usec : USEC_INFINITY,
        .n_done = queue->done.n,
        .is_waited_for = latest_waits(queue),
        .is_connected = queue->is_connected,
    };
    for (size_t i = 0; i < queue->n_streams; i++) {
        const struct stream *stream = queue->streams[i];
        if (stream->policy.is_volatile)
            continue;
        has_more |= !stream->is_known || stream->trim_messages > 0 || stream->trim_bytes > 0;
        work.n_waiting += stream_n_waiting(stream) - stream->n_unwritten;
        work.has_counts |= !ledger_is_zero(&stream->delta);
        work.has_unsynced |= stream->is_unsynced;
    }
    work.other_mono_usec = has_more ? 0 : next_expiry(queue);
    return work;
}

/* A stop that could not write everything: what is left is dropped, and counted. */
static void give_up(struct queue *queue)
{
    for (struct entry *entry = queue->put_first, *next; entry; entry = next) {
        next = entry->put_next;
        if (entry->place == ENTRY_IN_FLIGHT) // it may arrive yet
            continue;
        entry->stream->n_given_up++;
        queue_finish(queue, entry, LEDGER_DROPPED);
    }
}

static struct disk_step next_step(struct writer *writer, uint64_t now_mono_usec)
{
    struct disk_work work = find_work(writer);
    struct disk_step step = disk_next(&writer->disk, &work, now_mono_usec);
    if (step.gives_up) {
        give_up(writer->queue);
        work = find_work(writer);
        step = disk_next(&writer->disk, &work, now_mono_usec);
    }
    return step;
}

/* Whoever waits for a record is told by the tick, and not from within a call of theirs. */
static void wake_waiting(struct writer *writer)
{
    if (writer->woken_ticket == disk_recorded(&writer->disk))
        return;
    writer->woken_ticket = disk_recorded(&writer->disk);
    queue_wake(writer->queue, 0);
}

/* Is told to the store again once it has moved: the clock was set. */
static uint64_t begin_of_boot(struct writer *writer)
{
    uint64_t begin_wall_usec = entry_begin_wall_usec(), told_usec = writer->begin_wall_usec;
    uint64_t step_usec =
        begin_wall_usec > told_usec ? begin_wall_usec - told_usec : told_usec - begin_wall_usec;
    if (step_usec > clock_step_usec)
        writer->begin_wall_usec = begin_wall_usec;
    return writer->begin_wall_usec;
}

struct store_job *writer_next(struct writer *writer)
{
    if (writer->transfer)
        return NULL;
    uint64_t now_mono_usec = clock_mono_usec();
    struct disk_step step = next_step(writer, now_mono_usec);
    wake_waiting(writer);
    writer->wake_mono_usec = step.wake_mono_usec;
    if (!step.runs)
        return NULL;
    struct transfer *transfer;
    if (transfer_new(writer->queue, writer->records, &step, disk_is_stopping(&writer->disk),
                     begin_of_boot(writer), &transfer) < 0) {
        queue_wake(writer->queue, now_mono_usec + USEC_PER_SEC);
        return NULL;
    }
    transfer_take_over(transfer, writer->queue, &writer->records);
    transfer->ticket = disk_last_ticket(&writer->disk);
    writer->transfer = transfer;
    KILL_POINT("taken-over");
    return &transfer->store;
}

/* --- what the store says --------------------------------------------------------------------- */

/* Whether messages that should be on disk by now are not. */
static bool messages_wait(const struct writer *writer)
{
    const struct entry *entry = writer->queue->put_first;
    return entry && (entry->put_mono_usec <= clock_mono_usec() || disk_is_stopping(&writer->disk));
}

static void tell(const struct writer *writer, enum disk_news news)
{
    if (news == DISK_FAILS)
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_STORE_FAILED)),
                "%s: the queue on disk cannot be written: %s; messages are kept in memory, up to "
                "%d, until it can be",
                writer->queue->options.name, disk_cause(&writer->disk), OUTBOX_MAX_MESSAGES);
    else if (news != DISK_NO_NEWS)
        log_notice(LOG_FIELDS(LOG_ID(LOG_ID_STORE_BACK)), "%s: the queue on disk works again%s",
                   writer->queue->options.name,
                   news == DISK_HAS_WRITTEN ? "; what was kept in memory is written" : "");
}

static void take_success(struct writer *writer, struct transfer *transfer)
{
    struct queue *queue = writer->queue;
    bool is_other = writer->has_stored && transfer->store.generation != writer->generation;
    writer->has_stored = true;
    writer->generation = transfer->store.generation;
    writer->must_ask = false;
    transfer_succeeded(transfer, queue, is_other);
    writer->is_sealed |= transfer_has_sealed(transfer);
    const struct disk_job facts = transfer_facts(transfer);
    tell(writer, disk_done(&writer->disk, &facts, transfer->store.is_synced,
                           transfer->store.has_room, messages_wait(writer), clock_mono_usec()));
    for (size_t i = 0; i < queue->n_streams; i++)
        bounds_evict(queue, queue->streams[i]);
}

static void take_failure(struct writer *writer, struct transfer *transfer, int result,
                         const struct why *why)
{
    const struct disk_job facts = transfer_facts(transfer);
    const char *cause = why && why->text[0] ? why->text : strerror(-result);
    transfer_failed(transfer, writer->queue, &writer->records);
    if (result == -ENOBUFS)
        bounds_trim_a_part(writer->queue);
    tell(writer, disk_failed(&writer->disk, &facts, result, cause, clock_mono_usec()));
}

void writer_take_result(struct writer *writer, int result, const struct why *why)
{
    _cleanup_(transfer_freep) struct transfer *transfer = TAKE_PTR(writer->transfer);
    KILL_POINT("stored");
    if (result == 0)
        take_success(writer, transfer);
    else
        take_failure(writer, transfer, result, why);
}

/* --- the end --------------------------------------------------------------------------------- */

bool writer_is_committed(const struct writer *writer)
{
    bool has_news = writer->records && !disk_is_failing(&writer->disk); // the tick has it written
    return !writer->transfer && disk_is_over(&writer->disk) && !has_news;
}

/* "telemetry 113, alarms 2"; returns the sum. */
static uint64_t list_lost(const struct queue *queue, char *out, size_t size)
{
    uint64_t sum = 0;
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < queue->n_streams; i++) {
        const struct stream *stream = queue->streams[i];
        uint64_t n = stream->n_given_up + (stream->policy.is_volatile ? 0 : stream->n_unwritten);
        if (n > 0 && length < size)
            length += (size_t)snprintf(out + length, size - length, "%s%s %" PRIu64,
                                       sum > 0 ? ", " : "", stream->name, n);
        sum += n;
    }
    return sum;
}

void writer_end(struct writer *writer)
{
    char streams[256];
    const char *cause = writer->transfer ? "it does not answer" : disk_cause(&writer->disk);
    if (writer->is_ended)
        return;
    writer->is_ended = true;
    uint64_t n_messages = list_lost(writer->queue, streams, sizeof(streams));
    size_t n_records = records_count(writer->records);
    if (writer->transfer)
        n_records += records_count(writer->transfer->records);
    if (n_messages + n_records > 0)
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_STORE_LOST)),
                "%s: %" PRIu64 " messages%s%s%s and %zu records are lost with this stop: the queue "
                "on disk cannot be written: %s",
                writer->queue->options.name, n_messages, n_messages > 0 ? " (" : "", streams,
                n_messages > 0 ? ")" : "", n_records, cause ? cause : "it takes too long");
}

void writer_done(struct writer *writer)
{
    transfer_free(writer->transfer);
    records_free(&writer->records);
}
