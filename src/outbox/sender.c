// SPDX-License-Identifier: LGPL-2.1-or-later
// See sender.h.
#include "outbox/sender.h"

#include <assert.h>
#include <string.h>

#include "outbox/bounds.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"
#include "util/random.h"
#include "util/strings.h"

// An older message says its time in its JSON too, and goes on the backlog's topic.
static const uint64_t late_usec = 2 * USEC_PER_SEC;
// How long the latest value waits for the disk.
static const uint64_t latest_patience_usec = 1 * USEC_PER_SEC;
// How long late messages wait, after connecting, for the clock to be set.
static const uint64_t clock_patience_usec = 20 * USEC_PER_SEC;
// How late a fleet's drains begin, at the most, where there is a drain rate.
static const uint64_t drain_start_usec = 10 * USEC_PER_SEC;

static bool is_late(const struct entry *entry, uint64_t now_mono_usec)
{
    return !entry->this_boot || entry->was_sent ||
           now_mono_usec - entry->moment.mono_usec > late_usec;
}

/* --- the message ----------------------------------------------------------------------------- */

/*
 * {"light": 250} with its time: {"light": 250, "time": "..."} in a new string; NULL. Here and below
 * not by printf(): with each message of a drain, that was a third of its instructions.
 */
static char *add_time(const char *payload, const char *time)
{
    size_t length = strlen(payload);
    while (length > 0 && payload[length - 1] != '}')
        length--;
    if (length == 0)
        return NULL; // no object; not ours to mend
    length--;
    char *text = malloc(length + sizeof(", \"time\": \"\"}") + strlen(time));
    if (!text)
        return NULL;
    bool is_empty = strspn(payload, "{ \t\n") >= length;
    char *end = mempcpy(text, payload, length);
    end = stpcpy(end, is_empty ? "" : ", ");
    end = stpcpy(end, "\"time\": \"");
    end = stpcpy(end, time);
    stpcpy(end, "\"}");
    return text;
}

enum { SEQ_SIZE = sizeof("18446744073709551615") };

/* Returns where in out the digits begin. */
static const char *format_seq(uint64_t seq, char out[SEQ_SIZE])
{
    char *begin = out + SEQ_SIZE - 1;
    *begin = '\0';
    do
        *--begin = (char)('0' + seq % 10);
    while ((seq /= 10) > 0);
    return begin;
}

/* A subject that is "TOPIC\nHEX": the topic and the correlation data, both in *ret_buffer. */
static int address(struct mqtt_message *publication, const char *subject, char **ret_buffer)
{
    const char *feed = strchr(subject, '\n');
    publication->topic = subject;
    if (!feed)
        return 0;
    char *buffer = strdup(subject);
    if (!buffer)
        return -ENOMEM;
    char *bytes = buffer + (feed + 1 - subject);
    bytes[-1] = '\0';
    publication->correlation_size = strlen(bytes) / 2;
    strings_from_hex(feed + 1, publication->correlation_size, bytes);
    publication->topic = buffer;
    publication->correlation = bytes;
    *ret_buffer = buffer;
    return 0;
}

static int hand_over(struct sender *sender, struct entry *entry, uint64_t now_mono_usec)
{
    const struct stream_policy *policy = &entry->stream->policy;
    _cleanup_(freep) char *expanded = NULL, *timed = NULL;
    char time[CLOCK_RFC3339_SIZE], seq[SEQ_SIZE], boot[33];
    struct mqtt_user_property properties[3];
    bool late = is_late(entry, now_mono_usec);
    uint64_t wall_usec = entry_wall_usec(entry);
    struct mqtt_message publication = {
        .payload = entry->payload,
        .qos = entry->qos,
        .retain = policy->retain,
        .properties = properties,
    };
    bool tells_time = wall_usec > 0 && (!policy->is_volatile || policy->time != STREAM_TIME_NEVER);
    if (tells_time) // a server's commands do not, and they are many
        clock_format_rfc3339(wall_usec, time);
    int r = policy->subject_is_topic ? address(&publication, entry->subject, &expanded)
                                     : templates_expand(sender->templates, entry, late, &expanded);
    if (r < 0)
        return r;
    if (!policy->subject_is_topic)
        publication.topic = expanded;
    if (wall_usec > 0 &&
        (policy->time == STREAM_TIME_ALWAYS || (policy->time == STREAM_TIME_LATE && late)))
        timed = add_time(entry->payload, time);
    if (timed)
        publication.payload = timed;
    publication.payload_size = strlen(publication.payload);
    if (!policy->is_volatile) {
        if (wall_usec > 0)
            properties[publication.n_properties++] = (struct mqtt_user_property){ "time", time };
        properties[publication.n_properties++] =
            (struct mqtt_user_property){ "seq", format_seq(entry->seq, seq) };
        properties[publication.n_properties++] =
            (struct mqtt_user_property){ "boot", strings_to_hex(entry->run, STORE_RUN_SIZE, boot) };
    }
    return link_publish(sender->link, &publication, &entry->mid);
}

/* --- what the broker says -------------------------------------------------------------------- */

/* What the broker refused may be taken later (0x80 and up: MQTT 5.0, section 2.4). */
enum verdict { VERDICT_TAKEN, VERDICT_RETRY, VERDICT_HOLD, VERDICT_REJECT };

enum { MAX_RETRIES = 5 };

static enum verdict judge(const struct entry *entry, int reason_code)
{
    if (reason_code < MQTT_FIRST_REFUSAL)
        return VERDICT_TAKEN;
    switch (reason_code) {
    case 0x80: // unspecified error
    case 0x83: // implementation specific error
    case 0x91: // packet identifier in use
        return entry->n_refusals < MAX_RETRIES ? VERDICT_RETRY : VERDICT_REJECT;
    case 0x87: // not authorized: somebody may mend the broker's access rules
    case 0x97: // quota exceeded
        return VERDICT_HOLD;
    default: // topic name invalid, payload format invalid, ...: it will never do
        return VERDICT_REJECT;
    }
}

static void hold(struct sender *sender, struct stream *stream)
{
    stream->hold_usec = clock_back_off(stream->hold_usec, USEC_PER_SEC, 60 * USEC_PER_SEC);
    stream->hold_mono_usec = clock_mono_usec() + stream->hold_usec;
    queue_wake(sender->queue, stream->hold_mono_usec);
}

static void warn(struct sender *sender, const struct entry *entry, int reason_code,
                 const char *consequence)
{
    unsigned n_suppressed;
    if (!ratelimit_pass(&sender->refusals, clock_mono_usec(), &n_suppressed))
        return;
    log_warning(LOG_FIELDS(LOG_ID(LOG_ID_MESSAGE_REFUSED), { "STREAM", entry->stream->name }),
                "%s: the broker refuses a message of the stream %s: %s (MQTT reason code "
                "0x%02x)%s; %s",
                sender->queue->options.name, entry->stream->name, mqtt_reason(reason_code),
                (unsigned)reason_code, n_suppressed ? ", and others before it" : "", consequence);
}

/* Returns its tag, if that is its end. */
static uint64_t settle(struct sender *sender, struct entry *entry, int reason_code)
{
    struct stream *stream = entry->stream;
    uint64_t tag = entry->tag;
    switch (judge(entry, reason_code)) {
    case VERDICT_TAKEN:
        stream->hold_usec = 0;
        queue_finish(sender->queue, entry, LEDGER_ACKED);
        break;
    case VERDICT_REJECT:
        warn(sender, entry, reason_code, "it is given up and counted as rejected");
        queue_finish(sender->queue, entry, LEDGER_REJECTED);
        break;
    case VERDICT_HOLD:
    case VERDICT_RETRY:
        if (stream->policy.is_volatile) { // made anew when it is wanted
            warn(sender, entry, reason_code, "it is given up and counted as rejected");
            queue_finish(sender->queue, entry, LEDGER_REJECTED);
            break;
        }
        entry->n_refusals += judge(entry, reason_code) == VERDICT_RETRY;
        warn(sender, entry, reason_code,
             "the stream is held and tried again; check the broker's access rules and quotas");
        queue_take_back(sender->queue, entry);
        hold(sender, stream);
        return 0;
    }
    return tag;
}

bool sender_settle(struct sender *sender, int mid, int reason_code, uint64_t *ret_tag)
{
    struct entry *entry = queue_recall_mid(sender->queue, mid);
    if (!entry)
        return false;
    KILL_POINT("acknowledged");
    uint64_t tag = settle(sender, entry, reason_code);
    if (ret_tag)
        *ret_tag = tag;
    KILL_POINT("settled");
    return true;
}

/* 0, or -ENOTCONN: the connection takes nothing more. */
static int send_entry(struct sender *sender, struct entry *entry, uint64_t now_mono_usec)
{
    queue_take_off(sender->queue, entry);
    if (entry->stream->policy.is_strict)
        KILL_POINT("strict-stored"); // and nobody has it yet
    KILL_POINT("hand-over");
    int r = hand_over(sender, entry, now_mono_usec);
    KILL_POINT("handed-over");
    if (r == -ENOTCONN || r == -ENOMEM) {
        queue_take_back(sender->queue, entry);
        return -ENOTCONN;
    }
    if (r < 0) {
        unsigned n_suppressed;
        if (ratelimit_pass(&sender->refusals, now_mono_usec, &n_suppressed))
            log_err(LOG_FIELDS(LOG_ID(LOG_ID_MESSAGE_REFUSED), { "STREAM", entry->stream->name }),
                    "%s: a message of the stream %s cannot be sent: %s; it is given up and "
                    "counted as rejected",
                    sender->queue->options.name, entry->stream->name, strerror(-r));
        queue_finish(sender->queue, entry, LEDGER_REJECTED);
    } else {
        queue_remember_mid(sender->queue, entry);
    }
    return 0;
}

/* --- the choice ------------------------------------------------------------------------------ */

/* keep = latest: an older value must not come after a newer one, so one at a time is in flight. */
static bool is_behind_another(const struct queue *queue, const struct entry *entry)
{
    if (entry->stream->policy.keep != STREAM_KEEP_LATEST || entry->stream->n_in_flight == 0)
        return false;
    const struct entry *other = NULL;
    while ((other = queue_next_in_flight(queue, entry->stream, other))) {
        if (strings_equal(other->subject, entry->subject))
            return true;
    }
    return false;
}

/*
 * keep = latest: what is on disk, though it has arrived long since, is sent again after a crash. So
 * this one must be there as well, or that one gone, before this one is sent; but a disk that hangs
 * is not waited for.
 */
static bool waits_for_disk(struct sender *sender, const struct entry *entry, uint64_t now_mono_usec)
{
    struct stream *stream = entry->stream;
    if (stream->policy.keep != STREAM_KEEP_LATEST || stream->policy.is_volatile ||
        disk_is_failing(sender->disk))
        return false;
    bool is_safe = entry->storage == ENTRY_STORED || !stream_is_on_disk(stream);
    if (is_safe && !stream->is_unsynced) {
        stream->wait_mono_usec = 0;
        return false;
    }
    // Counted for the stream: each newer value begins anew, and would wait for ever.
    if (stream->wait_mono_usec == 0)
        stream->wait_mono_usec = now_mono_usec;
    uint64_t end_mono_usec = stream->wait_mono_usec + latest_patience_usec;
    if (now_mono_usec >= end_mono_usec)
        return false;
    queue_wake(sender->queue, end_mono_usec);
    return true;
}

static bool may_go(struct sender *sender, const struct entry *entry, uint64_t now_mono_usec)
{
    const struct stream *stream = entry->stream;
    bool is_strict = stream->policy.is_strict || sender->queue->options.durability == STREAM_STRICT;
    if (is_strict && !stream->policy.is_volatile && entry->storage != ENTRY_STORED &&
        !disk_is_failing(sender->disk))
        return false;
    if (is_behind_another(sender->queue, entry) || waits_for_disk(sender, entry, now_mono_usec))
        return false;
    uint64_t clock_mono_usec = sender->queue->outage.connected_mono_usec + clock_patience_usec;
    if (entry->this_boot && !stream->policy.is_volatile && now_mono_usec < clock_mono_usec &&
        is_late(entry, now_mono_usec) && !clock_is_right()) {
        queue_wake(sender->queue, now_mono_usec + USEC_PER_SEC);
        return false;
    }
    return true;
}

static bool is_held(struct sender *sender, const struct stream *stream, uint64_t now_mono_usec)
{
    if ((sender->is_closing || disk_is_stopping(sender->disk)) && !stream->policy.urgent)
        return true;
    if (stream->hold_mono_usec <= now_mono_usec)
        return false;
    queue_wake(sender->queue, stream->hold_mono_usec);
    return true;
}

/* The first of a list that may be sent; all but `latest` go strictly in turn. */
static struct entry *first_to_go(struct sender *sender, struct entry_list *list,
                                 uint64_t now_mono_usec)
{
    for (struct entry *entry = list->first, *next; entry; entry = next) {
        next = entry->next;
        if (bounds_expire(sender->queue, entry))
            continue;
        if (may_go(sender, entry, now_mono_usec))
            return entry;
        if (entry->stream->policy.keep != STREAM_KEEP_LATEST)
            return NULL;
    }
    return NULL;
}

static struct entry *choose_fresh(struct sender *sender, uint64_t now_mono_usec)
{
    for (size_t i = 0; i < sender->queue->n_streams; i++) {
        struct stream *stream = sender->queue->streams[i];
        if (!stream->fresh.first || is_held(sender, stream, now_mono_usec))
            continue;
        // In order, or the latest alone: what is older and on disk comes before.
        bool has_older =
            stream->loaded.first || (stream_n_unloaded(stream) > 0 && !stream->is_exhausted);
        if (has_older &&
            (stream->policy.order == STREAM_IN_ORDER || stream->policy.keep == STREAM_KEEP_LATEST))
            continue;
        struct entry *entry = first_to_go(sender, &stream->fresh, now_mono_usec);
        if (entry)
            return entry;
    }
    return NULL;
}

static struct entry *choose_loaded(struct sender *sender, uint64_t now_mono_usec)
{
    if (sender->queue->options.drain_rate > 0 && now_mono_usec < sender->drain_mono_usec) {
        queue_wake(sender->queue, sender->drain_mono_usec);
        return NULL;
    }
    for (size_t i = 0; i < sender->queue->n_streams; i++) {
        struct stream *stream = sender->queue->streams[i];
        if (!stream->loaded.first || is_held(sender, stream, now_mono_usec))
            continue;
        struct entry *entry = first_to_go(sender, &stream->loaded, now_mono_usec);
        if (entry)
            return entry;
    }
    return NULL;
}

/* The distance to the next late message, a quarter longer or shorter, so that no fleet marches in
 * step. */
static void pace(struct sender *sender, uint64_t now_mono_usec)
{
    if (sender->queue->options.drain_rate == 0)
        return;
    uint64_t gap_usec = USEC_PER_SEC / sender->queue->options.drain_rate;
    // What a late timer has missed is made up for, but for a tenth of a second at most.
    uint64_t from_usec = sender->drain_mono_usec;
    if (from_usec + USEC_PER_SEC / 10 < now_mono_usec)
        from_usec = now_mono_usec - USEC_PER_SEC / 10;
    sender->drain_mono_usec = from_usec + random_jitter(&sender->random, gap_usec);
}

void sender_connected(struct sender *sender, struct link *link, unsigned max_inflight)
{
    struct queue *queue = sender->queue;
    sender->link = link;
    queue->window = max_inflight;
    sender->drain_mono_usec = queue->outage.connected_mono_usec;
    if (queue->options.drain_rate > 0 && queue->outage.n_backlog > 0)
        sender->drain_mono_usec += random_next(&sender->random) % drain_start_usec;
}

void sender_pump(struct sender *sender)
{
    if (!sender->link)
        return;
    uint64_t now_mono_usec = clock_mono_usec();
    while (queue_has_room_in_flight(sender->queue)) {
        struct entry *entry = choose_fresh(sender, now_mono_usec);
        if (!entry) {
            entry = choose_loaded(sender, now_mono_usec);
            if (entry)
                pace(sender, now_mono_usec);
        }
        if (!entry || send_entry(sender, entry, now_mono_usec) < 0)
            break;
    }
}
