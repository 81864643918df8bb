// SPDX-License-Identifier: LGPL-2.1-or-later
// The outbox's life, and what comes in: messages, connections, time. See outbox-internal.h.
#include "outbox/outbox.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "outbox/outbox-internal.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"
#include "util/random.h"

static const struct ratelimit warning_limit = { .interval_usec = 600 * USEC_PER_SEC, .burst = 6 };
// How late a fleet's drains begin, at the most, where there is a drain rate.
static const uint64_t drain_start_usec = 10 * USEC_PER_SEC;

/* --- streams --------------------------------------------------------------------------------- */

static struct stream *find_stream(const struct outbox *outbox, const char *name)
{
    for (size_t i = 0; i < outbox->n_streams; i++) {
        if (strcmp(outbox->streams[i]->name, name) == 0)
            return outbox->streams[i];
    }
    return NULL;
}

static struct stream *stream_new(const struct stream_policy *policy)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        return NULL;
    stream->name = strdup(policy->name);
    if (!stream->name) {
        free(stream);
        return NULL;
    }
    stream->policy = *policy;
    stream->policy.name = stream->name;
    stream->policy.topic = NULL;
    return stream;
}

static void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    free(stream->name);
    free(stream);
}

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
    struct outbox_topics topics;
    struct stream_policy *policies;
    size_t n_policies;
    struct stream **streams; // the outbox's, and behind them those that are new
    size_t n_streams, n_old;
};

static int plan_streams(const struct outbox *outbox, struct outbox_plan *plan)
{
    plan->streams = calloc(outbox->n_streams + plan->n_policies + 1, sizeof(struct stream *));
    if (!plan->streams)
        return -ENOMEM;
    for (size_t i = 0; i < outbox->n_streams; i++)
        plan->streams[i] = outbox->streams[i];
    plan->n_streams = plan->n_old = outbox->n_streams;
    for (size_t i = 0; i < plan->n_policies; i++) {
        if (find_stream(outbox, plan->policies[i].name))
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
    plan->options = (struct outbox_options){
        .durability = options->durability,
        .commit_interval_usec = options->commit_interval_usec,
        .max_size = options->max_size,
        .drain_rate = options->drain_rate,
    };
    plan->name = strdup(options->name);
    plan->policies = calloc(n_policies + 1, sizeof(*policies));
    if (!plan->name || !plan->policies)
        return -ENOMEM;
    for (size_t i = 0; i < n_policies; i++)
        plan->policies[i] = policies[i];
    plan->n_policies = n_policies;
    int r = outbox_topics_make(options, policies, n_policies, &plan->topics);
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
    outbox_topics_done(&plan->topics);
    free(plan->streams);
    free(plan->policies);
    free(plan->name);
    free(plan);
}

void outbox_commit(struct outbox *outbox, struct outbox_plan *plan)
{
    assert(plan->n_old == outbox->n_streams);
    free(outbox->streams);
    outbox->streams = TAKE_PTR(plan->streams);
    outbox->n_streams = plan->n_streams;
    plan->n_old = plan->n_streams; // none is the plan's any more
    outbox_topics_done(&outbox->topics);
    outbox->topics = plan->topics;
    plan->topics = (struct outbox_topics){ 0 };
    for (size_t i = 0; i < outbox->n_streams; i++) {
        outbox->streams[i]->is_configured = false;
        outbox->streams[i]->topic = outbox->topics.other;
    }
    for (size_t i = 0; i < plan->n_policies; i++) {
        struct stream *stream = find_stream(outbox, plan->policies[i].name);
        assert(stream->policy.is_volatile == plan->policies[i].is_volatile);
        stream->policy = plan->policies[i];
        stream->policy.name = stream->name;
        stream->policy.topic = NULL; // the caller's
        stream->topic = outbox->topics.streams[i];
        stream->is_configured = true;
    }
    free(outbox->name);
    outbox->name = TAKE_PTR(plan->name);
    outbox->options = plan->options;
    outbox->options.name = outbox->name;
    outbox->disk.commit_interval_usec = outbox->options.commit_interval_usec;
    outbox_plan_free(plan);
    qsort(outbox->streams, outbox->n_streams, sizeof(struct stream *), compare_streams);
    outbox_feed_store(outbox);
}

int outbox_configure(struct outbox *outbox, const struct outbox_options *options,
                     const struct stream_policy *policies, size_t n_policies)
{
    struct outbox_plan *plan;
    int r = outbox_prepare(outbox, options, policies, n_policies, &plan);
    if (r == 0)
        outbox_commit(outbox, plan);
    return r;
}

static int add_stream(struct outbox *outbox, const struct stream_policy *policy)
{
    struct stream **streams =
        reallocarray(outbox->streams, outbox->n_streams + 1, sizeof(struct stream *));
    if (!streams)
        return -ENOMEM;
    outbox->streams = streams;
    struct stream *stream = stream_new(policy);
    if (!stream)
        return -ENOMEM;
    streams[outbox->n_streams++] = stream;
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
        if (find_stream(outbox, names[i]))
            continue;
        if (add_stream(outbox, &policy) < 0)
            return; // until the next start
        outbox->streams[outbox->n_streams - 1]->topic = outbox->topics.other;
    }
    outbox_feed_store(outbox);
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
    outbox->is_sealed &= stream->policy.is_volatile;
    return stream->next_seq++;
}

static int drop(struct outbox *outbox, struct stream *stream, uint32_t n_samples, int result)
{
    stream->delta.sampled += n_samples;
    stream->delta.ended[LEDGER_DROPPED] += n_samples;
    outbox->n_dropped++;
    return result;
}

static uint64_t when_to_put(const struct outbox *outbox, const struct stream *stream,
                            uint64_t now_mono_usec)
{
    // The latest value is out of date soon: while all goes well it need not be written at all.
    bool may_wait =
        outbox->options.durability == STREAM_OUTAGE ||
        (outbox->options.durability == STREAM_BATCHED && stream->policy.keep == STREAM_KEEP_LATEST);
    bool waits = may_wait && outbox->link && !stream->policy.is_strict;
    return waits ? now_mono_usec + outbox->options.commit_interval_usec : 0;
}

int outbox_publish(struct outbox *outbox, const struct outbox_message *message)
{
    struct stream *stream = find_stream(outbox, message->stream);
    assert(stream && stream->is_configured);
    if (disk_is_stopping(&outbox->disk))
        return -ESHUTDOWN;
    size_t payload_size = strlen(message->payload);
    if (stream->policy.keep == STREAM_KEEP_NONE && !outbox->link)
        return drop(outbox, stream, message->n_samples, -ENOTCONN);
    if (!outbox_make_room(outbox, stream, payload_size + STORE_MESSAGE_OVERHEAD))
        return drop(outbox, stream, message->n_samples, -ENOBUFS);
    struct entry *entry = entry_new(stream, message->payload, payload_size, message->subject);
    if (!entry)
        return drop(outbox, stream, message->n_samples, -ENOMEM);
    uint64_t now_mono_usec = clock_mono_usec();
    entry->seq = next_seq(outbox, stream);
    entry->this_boot = true;
    memcpy(entry->moment.boot, outbox->boot, STORE_BOOT_SIZE);
    memcpy(entry->run, outbox->run, STORE_RUN_SIZE);
    entry->moment.mono_usec = message->mono_usec > 0 ? message->mono_usec : now_mono_usec;
    entry->n_samples = message->n_samples;
    entry->tag = message->tag;
    if (message->qos >= 0)
        entry->qos = (int8_t)message->qos;
    entry->put_mono_usec = when_to_put(outbox, stream, now_mono_usec);
    outbox_add(outbox, entry);
    entry_list_append(&stream->fresh, entry);
    KILL_POINT("accepted");
    outbox_merge(outbox, entry);
    outbox_pump(outbox);
    outbox_feed_store(outbox);
    return 0;
}

void outbox_count_samples(struct outbox *outbox, const char *stream_name,
                          const struct ledger *delta)
{
    struct stream *stream = find_stream(outbox, stream_name);
    assert(stream);
    if (!disk_is_stopping(&outbox->disk))
        ledger_add(&stream->delta, delta);
}

uint64_t outbox_sync_records(struct outbox *outbox)
{
    outbox_arm(outbox, 0);
    return disk_ticket(&outbox->disk);
}

/* --- the connection -------------------------------------------------------------------------- */

static uint64_t n_lost(const struct outbox *outbox)
{
    return outbox->n_dropped + outbox->n_expired + outbox->n_rejected;
}

void outbox_connected(struct outbox *outbox, struct link *link, unsigned max_inflight)
{
    uint64_t now_mono_usec = clock_mono_usec();
    outbox->link = link;
    outbox->window = max_inflight;
    outbox->connected_mono_usec = now_mono_usec;
    outbox->outage_usec = now_mono_usec - outbox->lost_mono_usec;
    outbox->lost_mono_usec = 0;
    outbox->n_backlog = outbox->n_backlog_sent = outbox->n_backlog_lost = 0;
    outbox->n_lost_meanwhile = n_lost(outbox) - outbox->n_lost_before;
    for (size_t i = 0; i < outbox->n_streams; i++) {
        struct stream *stream = outbox->streams[i];
        stream->hold_mono_usec = stream->hold_usec = stream->wait_mono_usec = 0;
        if (!stream->policy.is_volatile)
            outbox->n_backlog += stream_n_waiting(stream);
    }
    KILL_POINT("connected");
    // The first sample mostly precedes the first connection: that is no outage.
    bool is_outage = outbox->was_connected || outbox->n_inherited > 0;
    outbox->was_connected = true;
    outbox->backlog_is_told = outbox->n_backlog == 0 || !is_outage;
    outbox->drain_mono_usec = now_mono_usec;
    if (outbox->options.drain_rate > 0 && outbox->n_backlog > 0) {
        outbox->drain_mono_usec += random_next(&outbox->random) % drain_start_usec;
    }
    outbox_pump(outbox);
    outbox_feed_store(outbox);
}

static void come_back(struct outbox *outbox, struct entry *entry)
{
    outbox_take_back(outbox, entry);
    entry->was_sent = true;
    entry->put_mono_usec = 0;
    if (entry->stream->policy.keep == STREAM_KEEP_NONE)
        outbox_finish(outbox, entry, LEDGER_DROPPED);
    else
        outbox_merge(outbox, entry);
}

void outbox_disconnected(struct outbox *outbox)
{
    outbox->is_closing = false;
    if (!outbox->link)
        return;
    outbox->link = NULL;
    outbox->lost_mono_usec = clock_mono_usec();
    outbox->n_lost_before = n_lost(outbox);
    for (size_t i = 0; i < N_MID_BUCKETS; i++) {
        struct entry *entry = outbox->by_mid[i];
        outbox->by_mid[i] = NULL;
        while (entry) {
            struct entry *next = entry->same_mid_bucket;
            entry->same_mid_bucket = NULL;
            come_back(outbox, entry);
            entry = next;
        }
    }
    KILL_POINT("came-back");
    // What was to be spared the disk is not any more.
    for (struct entry *entry = outbox->put_first; entry; entry = entry->put_next)
        entry->put_mono_usec = 0;
    for (size_t i = 0; i < outbox->n_streams; i++) {
        struct stream *stream = outbox->streams[i];
        while (stream->policy.keep == STREAM_KEEP_NONE && stream->fresh.first)
            outbox_finish(outbox, stream->fresh.first, LEDGER_DROPPED);
        outbox_evict(outbox, stream);
    }
    outbox_feed_store(outbox);
}

/* --- time ------------------------------------------------------------------------------------ */

/* In memory; what is on disk, outbox-job.c sees to. */
static void expire(struct outbox *outbox, struct stream *stream)
{
    while (stream->fresh.first && outbox_expire(outbox, stream->fresh.first))
        continue;
    while (stream->loaded.first && outbox_expire(outbox, stream->loaded.first))
        continue;
    const struct entry *entry = stream->fresh.first;
    if (entry && entry->this_boot && stream->policy.max_age_usec != USEC_INFINITY)
        outbox_arm(outbox, entry->moment.mono_usec + stream->policy.max_age_usec + 1);
}

/* The end of the story that connecting began. */
void outbox_tell_drained(struct outbox *outbox)
{
    char span[32];
    if (outbox->backlog_is_told || outbox->n_backlog > 0 || !outbox->link)
        return;
    outbox->backlog_is_told = true;
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_DRAINED), { "DEVICE", outbox->options.name }),
               "%s: back after %s: %" PRIu64 " sent, %" PRIu64 " lost", outbox->options.name,
               clock_format_span(outbox->outage_usec, span, sizeof(span)), outbox->n_backlog_sent,
               outbox->n_lost_meanwhile + outbox->n_backlog_lost);
}

void outbox_tick(struct outbox *outbox)
{
    outbox->armed_mono_usec = outbox->disk_mono_usec = USEC_INFINITY;
    for (size_t i = 0; i < outbox->n_streams; i++)
        expire(outbox, outbox->streams[i]);
    outbox_tell_drained(outbox);
    outbox_pump(outbox);
    outbox_feed_store(outbox);
}

uint64_t outbox_wake_mono_usec(const struct outbox *outbox)
{
    return outbox->armed_mono_usec < outbox->disk_mono_usec ? outbox->armed_mono_usec
                                                            : outbox->disk_mono_usec;
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
    memcpy(outbox->boot, boot, STORE_BOOT_SIZE);
    memcpy(outbox->run, run, STORE_RUN_SIZE);
    outbox->is_sealed = true; // none was used
    outbox->armed_mono_usec = outbox->disk_mono_usec = USEC_INFINITY;
    outbox->lost_mono_usec = clock_mono_usec();
    outbox->random = clock_wall_usec();
    outbox->refusals = warning_limit;
    outbox->drops = warning_limit;
    *ret_outbox = outbox;
    return 0;
}

static void free_entries(struct outbox *outbox)
{
    for (size_t i = 0; i < N_SEQ_BUCKETS; i++) {
        struct entry *entry = outbox->by_seq[i];
        while (entry) {
            struct entry *next = entry->same_seq_bucket;
            free(entry);
            entry = next;
        }
    }
}

void outbox_free(struct outbox *outbox)
{
    if (!outbox)
        return;
    if (outbox->job) { // the store reads what is ours
        outbox->is_freed = true;
        return;
    }
    free_entries(outbox);
    outbox_free_records(&outbox->records);
    for (size_t i = 0; i < outbox->n_streams; i++)
        stream_free(outbox->streams[i]);
    free(outbox->streams);
    outbox_topics_done(&outbox->topics);
    free(outbox->name);
    free(outbox);
}

void outbox_close(struct outbox *outbox)
{
    outbox->is_closing = true;
}

void outbox_quiesce(struct outbox *outbox)
{
    disk_stop(&outbox->disk);
    KILL_POINT("quiesce");
    outbox_pump(outbox);
    outbox_feed_store(outbox);
}

bool outbox_is_quiet(const struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->n_streams; i++) {
        if (outbox->streams[i]->policy.urgent && outbox->streams[i]->fresh.first)
            return false;
    }
    return outbox->n_in_flight == 0;
}

bool outbox_is_committed(const struct outbox *outbox)
{
    bool has_news = outbox->records && !disk_is_failing(&outbox->disk); // the tick has it written
    return !outbox->job && disk_is_over(&outbox->disk) && !has_news;
}

/* --- counts ---------------------------------------------------------------------------------- */

void outbox_count(const struct outbox *outbox, struct outbox_counters *ret_counters)
{
    uint64_t n_waiting = 0;
    for (size_t i = 0; i < outbox->n_streams; i++)
        n_waiting += stream_n_waiting(outbox->streams[i]) - outbox->streams[i]->trim_messages;
    *ret_counters = (struct outbox_counters){
        .sent = outbox->n_sent,
        .dropped = outbox->n_dropped,
        .expired = outbox->n_expired,
        .rejected = outbox->n_rejected,
        .queued = n_waiting - outbox->n_in_flight,
        .in_flight = outbox->n_in_flight,
    };
}

bool outbox_ledger(const struct outbox *outbox, size_t i, const char **ret_name,
                   struct ledger *ret_ledger, uint64_t *ret_in_flight)
{
    if (i >= outbox->n_streams)
        return false;
    const struct stream *stream = outbox->streams[i];
    *ret_name = stream->name;
    *ret_ledger = stream_ledger(stream);
    *ret_in_flight = stream->n_in_flight_samples;
    return true;
}
