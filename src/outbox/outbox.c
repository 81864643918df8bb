// SPDX-License-Identifier: LGPL-2.1-or-later
// The outbox's life, and what comes in: messages, connections, time. Its messages are in a queue,
// which a sender and a writer take from.
#include "outbox/outbox.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "outbox/bounds.h"
#include "outbox/sender.h"
#include "outbox/writer.h"
#include "util/clock.h"
#include "util/killpoint.h"

static const struct ratelimit warning_limit = { .interval_usec = 600 * USEC_PER_SEC, .burst = 6 };

struct outbox {
    struct queue queue;
    struct sender sender;
    struct writer writer;
    struct templates *templates;
    char *name;                  // of the options
    uint8_t run[STORE_RUN_SIZE]; // under which numbers are used
    int (*run_job)(void *userdata, struct store_job *job);
    void *userdata;
    bool is_freed;
};

/* Hands the store what there is for it. */
static void feed_store(struct outbox *outbox)
{
    struct store_job *job;
    int r = -EAGAIN;
    while (r < 0 && !outbox->is_freed && (job = writer_next(&outbox->writer))) {
        r = outbox->run_job(outbox->userdata, job);
        if (r < 0) {
            writer_take_result(&outbox->writer, r, NULL);
            sender_pump(&outbox->sender);
        }
    }
}

static void tell_drained(struct outbox *outbox)
{
    if (outbox->sender.link)
        outage_tell(&outbox->queue.outage, outbox->name);
}

/* --- streams --------------------------------------------------------------------------------- */

static int compare_streams(const void *a, const void *b)
{
    const struct stream_policy *one = &(*(struct stream *const *)a)->policy;
    const struct stream_policy *other = &(*(struct stream *const *)b)->policy;
    if (one->urgent != other->urgent)
        return other->urgent - one->urgent;
    if (one->priority != other->priority)
        return one->priority < other->priority ? 1 : -1;
    return strcmp(one->name, other->name);
}

struct outbox_plan {
    struct outbox_options options;
    char *name;
    struct templates *templates;
    struct stream_policy *policies;
    size_t n_policies;
    struct stream **streams; // the outbox's, and behind them those that are new
    size_t n_streams, n_old;
};

static int plan_streams(const struct outbox *outbox, struct outbox_plan *plan)
{
    plan->streams = calloc(outbox->queue.n_streams + plan->n_policies + 1, sizeof(struct stream *));
    if (!plan->streams)
        return -ENOMEM;
    for (size_t i = 0; i < outbox->queue.n_streams; i++)
        plan->streams[i] = outbox->queue.streams[i];
    plan->n_streams = plan->n_old = outbox->queue.n_streams;
    for (size_t i = 0; i < plan->n_policies; i++) {
        if (queue_find_stream(&outbox->queue, plan->policies[i].name))
            continue;
        struct stream *stream = stream_new(&plan->policies[i]);
        if (!stream)
            return -ENOMEM;
        plan->streams[plan->n_streams++] = stream;
    }
    return 0;
}

int outbox_prepare(const struct outbox *outbox, const struct outbox_options *options,
                   const struct stream_policy *policies, size_t n_policies,
                   struct outbox_plan **ret_plan)
{
    _cleanup_(outbox_plan_freep) struct outbox_plan *plan = calloc(1, sizeof(*plan));
    if (!plan)
        return -ENOMEM;
    plan->options = *options;
    plan->name = strdup(options->name);
    plan->policies = calloc(n_policies + 1, sizeof(*policies));
    if (!plan->name || !plan->policies)
        return -ENOMEM;
    for (size_t i = 0; i < n_policies; i++)
        plan->policies[i] = policies[i];
    plan->n_policies = n_policies;
    int r = templates_new(options, policies, n_policies, &plan->templates);
    if (r == 0)
        r = plan_streams(outbox, plan);
    if (r < 0)
        return r;
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

void outbox_plan_free(struct outbox_plan *plan)
{
    if (!plan)
        return;
    while (plan->n_streams > plan->n_old)
        stream_free(plan->streams[--plan->n_streams]);
    templates_free(plan->templates);
    free(plan->streams);
    free(plan->policies);
    free(plan->name);
    free(plan);
}

/* The streams that the plan has are the outbox's now. */
static void take_streams(struct outbox *outbox, struct outbox_plan *plan)
{
    struct queue *queue = &outbox->queue;
    assert(plan->n_old == queue->n_streams);
    free(queue->streams);
    queue->streams = TAKE_PTR(plan->streams);
    queue->n_streams = plan->n_streams;
    plan->n_old = plan->n_streams; // none is the plan's any more
    for (size_t i = 0; i < queue->n_streams; i++) {
        queue->streams[i]->is_configured = false;
        queue->streams[i]->topic = templates_of_others(outbox->templates);
    }
    for (size_t i = 0; i < plan->n_policies; i++) {
        struct stream *stream = queue_find_stream(queue, plan->policies[i].name);
        assert(stream->policy.is_volatile == plan->policies[i].is_volatile);
        stream_set_policy(stream, &plan->policies[i]);
        stream->topic = templates_of_policy(outbox->templates, i);
        stream->is_configured = true;
    }
    qsort(queue->streams, queue->n_streams, sizeof(struct stream *), compare_streams);
}

void outbox_commit(struct outbox *outbox, struct outbox_plan *plan)
{
    templates_free(outbox->templates);
    outbox->templates = TAKE_PTR(plan->templates);
    outbox->sender.templates = outbox->templates;
    take_streams(outbox, plan);
    free(outbox->name);
    outbox->name = TAKE_PTR(plan->name);
    outbox->queue.options = plan->options;
    outbox->queue.options.name = outbox->name;
    outbox->writer.disk.commit_interval_usec = plan->options.commit_interval_usec;
    outbox_plan_free(plan);
    feed_store(outbox);
}

static int add_stream(struct queue *queue, const struct stream_policy *policy)
{
    struct stream **streams =
        reallocarray(queue->streams, queue->n_streams + 1, sizeof(struct stream *));
    if (!streams)
        return -ENOMEM;
    queue->streams = streams;
    struct stream *stream = stream_new(policy);
    if (!stream)
        return -ENOMEM;
    streams[queue->n_streams++] = stream;
    return 0;
}

/* What is left over from another configuration. */
static struct stream_policy orphan_policy(const char *name)
{
    return (struct stream_policy){
        .name = name,
        .qos = 1,
        .priority = -1,
        .max_age_usec = USEC_INFINITY,
        .max_messages = UINT64_MAX,
    };
}

void outbox_adopt(struct outbox *outbox, char *const *names)
{
    for (size_t i = 0; names && names[i]; i++) {
        const struct stream_policy policy = orphan_policy(names[i]);
        if (queue_find_stream(&outbox->queue, names[i]))
            continue;
        if (add_stream(&outbox->queue, &policy) < 0)
            return; // until the next start
        outbox->queue.streams[outbox->queue.n_streams - 1]->topic =
            templates_of_others(outbox->templates);
    }
    feed_store(outbox);
}

/* --- messages -------------------------------------------------------------------------------- */

static uint64_t next_seq(struct outbox *outbox, struct stream *stream)
{
    // The store has not said which numbers were used: count from where none can have been. A number
    // a millisecond since 1970 is beyond what any stream reaches.
    if (!stream->policy.is_volatile && !stream->is_known && stream->next_seq < 2)
        stream->next_seq = clock_wall_usec() / USEC_PER_MSEC;
    if (stream->next_seq == 0)
        stream->next_seq = 1;
    outbox->writer.is_sealed &= stream->policy.is_volatile;
    return stream->next_seq++;
}

static int drop(struct outbox *outbox, struct stream *stream, uint32_t n_samples, int result)
{
    stream->delta.sampled += n_samples;
    stream->delta.ended[LEDGER_DROPPED] += n_samples;
    outbox->queue.n_dropped++;
    return result;
}

static uint64_t when_to_put(const struct outbox *outbox, const struct stream *stream,
                            uint64_t now_mono_usec)
{
    // The latest value is out of date soon: while all goes well it need not be written at all.
    bool may_wait = outbox->queue.options.durability == STREAM_OUTAGE ||
                    (outbox->queue.options.durability == STREAM_BATCHED &&
                     stream->policy.keep == STREAM_KEEP_LATEST);
    bool waits = may_wait && outbox->queue.is_connected && !stream->policy.is_strict;
    return waits ? now_mono_usec + outbox->queue.options.commit_interval_usec : 0;
}

int outbox_publish(struct outbox *outbox, const struct outbox_message *message)
{
    struct stream *stream = queue_find_stream(&outbox->queue, message->stream);
    assert(stream && stream->is_configured);
    if (disk_is_stopping(&outbox->writer.disk))
        return -ESHUTDOWN;
    size_t payload_size = strlen(message->payload);
    if (stream->policy.keep == STREAM_KEEP_NONE && !outbox->queue.is_connected)
        return drop(outbox, stream, message->n_samples, -ENOTCONN);
    if (!bounds_make_room(&outbox->queue, stream, payload_size + STORE_MESSAGE_OVERHEAD))
        return drop(outbox, stream, message->n_samples, -ENOBUFS);
    struct entry *entry = entry_new(stream, message->payload, payload_size, message->subject);
    if (!entry)
        return drop(outbox, stream, message->n_samples, -ENOMEM);
    uint64_t now_mono_usec = clock_mono_usec();
    entry->seq = next_seq(outbox, stream);
    entry->this_boot = true;
    memcpy(entry->moment.boot, outbox->queue.boot, STORE_BOOT_SIZE);
    memcpy(entry->run, outbox->run, STORE_RUN_SIZE);
    entry->moment.mono_usec = message->mono_usec > 0 ? message->mono_usec : now_mono_usec;
    entry->n_samples = message->n_samples;
    entry->tag = message->tag;
    entry->qos = (int8_t)(message->qos >= 0 ? message->qos : stream->policy.qos);
    entry->put_mono_usec = when_to_put(outbox, stream, now_mono_usec);
    queue_add(&outbox->queue, entry);
    entry_list_append(&stream->fresh, entry);
    KILL_POINT("accepted");
    bounds_merge(&outbox->queue, entry);
    sender_pump(&outbox->sender);
    feed_store(outbox);
    return 0;
}

void outbox_count_samples(struct outbox *outbox, const char *stream_name,
                          const struct ledger *delta)
{
    struct stream *stream = queue_find_stream(&outbox->queue, stream_name);
    assert(stream);
    if (!disk_is_stopping(&outbox->writer.disk))
        ledger_add(&stream->delta, delta);
}

static int put_record(struct outbox *outbox, const char *space, const char *key, const char *value,
                      bool is_new)
{
    int r = records_put(&outbox->writer.records, space, key, value, is_new);
    if (r > 0)
        queue_wake(&outbox->queue, 0); // with what else this turn of the loop brings
    return r < 0 ? r : 0;
}

int outbox_put_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    return put_record(outbox, space, key, value, false);
}

int outbox_add_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    return put_record(outbox, space, key, value, true);
}

uint64_t outbox_sync_records(struct outbox *outbox)
{
    queue_wake(&outbox->queue, 0);
    return disk_ticket(&outbox->writer.disk);
}

uint64_t outbox_recorded(const struct outbox *outbox)
{
    return disk_recorded(&outbox->writer.disk);
}

void outbox_stored(struct outbox *outbox, int result, const struct why *why)
{
    if (outbox->is_freed) {
        transfer_free(TAKE_PTR(outbox->writer.transfer));
        outbox_free(outbox);
        return;
    }
    writer_take_result(&outbox->writer, result, why);
    sender_pump(&outbox->sender);
    feed_store(outbox);
    tell_drained(outbox);
}

void outbox_ask_store(struct outbox *outbox)
{
    outbox->writer.must_ask = true;
    feed_store(outbox);
}

/* --- the connection -------------------------------------------------------------------------- */

void outbox_connected(struct outbox *outbox, struct link *link, unsigned max_inflight)
{
    struct queue *queue = &outbox->queue;
    uint64_t n_backlog = 0;
    queue->is_connected = true;
    for (size_t i = 0; i < queue->n_streams; i++) {
        struct stream *stream = queue->streams[i];
        stream->hold_mono_usec = stream->hold_usec = stream->wait_mono_usec = 0;
        if (!stream->policy.is_volatile)
            n_backlog += stream_n_waiting(stream);
    }
    KILL_POINT("connected");
    outage_end(&queue->outage, n_backlog, queue_n_lost(queue), clock_mono_usec());
    sender_connected(&outbox->sender, link, max_inflight);
    sender_pump(&outbox->sender);
    feed_store(outbox);
}

static void come_back(struct queue *queue, struct entry *entry)
{
    queue_take_back(queue, entry);
    entry->was_sent = true;
    entry->put_mono_usec = 0;
    if (entry->stream->policy.keep == STREAM_KEEP_NONE)
        queue_finish(queue, entry, LEDGER_DROPPED);
    else
        bounds_merge(queue, entry);
}

void outbox_disconnected(struct outbox *outbox)
{
    struct queue *queue = &outbox->queue;
    struct entry *back;
    outbox->sender.is_closing = false;
    if (!queue->is_connected)
        return;
    queue->is_connected = false;
    outbox->sender.link = NULL;
    outage_begin(&queue->outage, queue_n_lost(queue), clock_mono_usec());
    while ((back = queue_recall_any(queue)))
        come_back(queue, back);
    KILL_POINT("came-back");
    // What was to be spared the disk is not any more.
    for (struct entry *entry = queue->put_first; entry; entry = entry->put_next)
        entry->put_mono_usec = 0;
    for (size_t i = 0; i < queue->n_streams; i++) {
        struct stream *stream = queue->streams[i];
        while (stream->policy.keep == STREAM_KEEP_NONE && stream->fresh.first)
            queue_finish(queue, stream->fresh.first, LEDGER_DROPPED);
        bounds_evict(queue, stream);
    }
    feed_store(outbox);
}

bool outbox_published(struct outbox *outbox, int mid, int reason_code, uint64_t *ret_tag)
{
    if (!sender_settle(&outbox->sender, mid, reason_code, ret_tag))
        return false;
    sender_pump(&outbox->sender);
    feed_store(outbox);
    tell_drained(outbox);
    return true;
}

/* --- time ------------------------------------------------------------------------------------ */

/* In memory; what is on disk, transfer.c sees to. */
static void expire(struct queue *queue, struct stream *stream)
{
    while (stream->fresh.first && bounds_expire(queue, stream->fresh.first))
        continue;
    while (stream->loaded.first && bounds_expire(queue, stream->loaded.first))
        continue;
    const struct entry *entry = stream->fresh.first;
    if (entry && entry->this_boot && stream->policy.max_age_usec != USEC_INFINITY)
        queue_wake(queue, entry->moment.mono_usec + stream->policy.max_age_usec + 1);
}

void outbox_tick(struct outbox *outbox)
{
    struct queue *queue = &outbox->queue;
    queue->wake_mono_usec = outbox->writer.wake_mono_usec = USEC_INFINITY;
    for (size_t i = 0; i < queue->n_streams; i++)
        expire(queue, queue->streams[i]);
    tell_drained(outbox);
    sender_pump(&outbox->sender);
    feed_store(outbox);
}

uint64_t outbox_wake_mono_usec(const struct outbox *outbox)
{
    uint64_t queue_mono_usec = outbox->queue.wake_mono_usec;
    uint64_t disk_mono_usec = outbox->writer.wake_mono_usec;
    return queue_mono_usec < disk_mono_usec ? queue_mono_usec : disk_mono_usec;
}

/* --- life ------------------------------------------------------------------------------------ */

int outbox_new(const uint8_t boot[STORE_BOOT_SIZE], const uint8_t run[STORE_RUN_SIZE],
               int (*run_job)(void *userdata, struct store_job *job), void *userdata,
               struct outbox **ret_outbox)
{
    struct outbox *outbox = calloc(1, sizeof(*outbox));
    if (!outbox)
        return -ENOMEM;
    outbox->run_job = run_job;
    outbox->userdata = userdata;
    memcpy(outbox->run, run, STORE_RUN_SIZE);
    memcpy(outbox->queue.boot, boot, STORE_BOOT_SIZE);
    outbox->queue.drops = warning_limit;
    outbox->queue.wake_mono_usec = USEC_INFINITY;
    outbox->queue.outage.lost_mono_usec = clock_mono_usec();
    outbox->sender = (struct sender){
        .queue = &outbox->queue,
        .disk = &outbox->writer.disk,
        .random = clock_wall_usec(),
        .refusals = warning_limit,
    };
    outbox->writer = (struct writer){
        .queue = &outbox->queue,
        .is_sealed = true, // none was used
        .wake_mono_usec = USEC_INFINITY,
    };
    *ret_outbox = outbox;
    return 0;
}

void outbox_free(struct outbox *outbox)
{
    if (!outbox)
        return;
    if (outbox->writer.transfer) { // the store reads what is ours
        outbox->is_freed = true;
        return;
    }
    writer_done(&outbox->writer);
    queue_done(&outbox->queue);
    templates_free(outbox->templates);
    free(outbox->name);
    free(outbox);
}

void outbox_close(struct outbox *outbox)
{
    outbox->sender.is_closing = true;
}

void outbox_quiesce(struct outbox *outbox)
{
    disk_stop(&outbox->writer.disk);
    KILL_POINT("quiesce");
    sender_pump(&outbox->sender);
    feed_store(outbox);
}

bool outbox_is_quiet(const struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->queue.n_streams; i++) {
        if (outbox->queue.streams[i]->policy.urgent && outbox->queue.streams[i]->fresh.first)
            return false;
    }
    return outbox->queue.n_in_flight == 0;
}

bool outbox_is_sealed(const struct outbox *outbox)
{
    return outbox->writer.is_sealed;
}

bool outbox_is_committed(const struct outbox *outbox)
{
    return writer_is_committed(&outbox->writer);
}

void outbox_end(struct outbox *outbox)
{
    writer_end(&outbox->writer);
}

/* --- counts ---------------------------------------------------------------------------------- */

void outbox_count(const struct outbox *outbox, struct outbox_counters *ret_counters)
{
    const struct queue *queue = &outbox->queue;
    uint64_t n_waiting = 0;
    for (size_t i = 0; i < queue->n_streams; i++)
        n_waiting += stream_n_waiting(queue->streams[i]) - queue->streams[i]->trim_messages;
    *ret_counters = (struct outbox_counters){
        .sent = queue->n_sent,
        .dropped = queue->n_dropped,
        .expired = queue->n_expired,
        .rejected = queue->n_rejected,
        .queued = n_waiting - queue->n_in_flight,
        .in_flight = queue->n_in_flight,
    };
}

bool outbox_ledger(const struct outbox *outbox, size_t i, const char **ret_name,
                   struct ledger *ret_ledger, uint64_t *ret_in_flight)
{
    const struct queue *queue = &outbox->queue;
    if (i >= queue->n_streams)
        return false;
    const struct stream *stream = queue->streams[i];
    *ret_name = stream->name;
    *ret_ledger = stream_ledger(stream);
    *ret_in_flight = stream->n_in_flight_samples;
    return true;
}

const char *outbox_trouble(const struct outbox *outbox)
{
    return disk_cause(&outbox->writer.disk);
}
