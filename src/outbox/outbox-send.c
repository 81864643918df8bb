// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is sent next, and how. At any time the urgent comes first, then what is fresh, then what
 * has waited on disk; within each the higher priority.
 */
#include "outbox/outbox-internal.h"

#include <assert.h>
#include <string.h>

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

static int hand_over(struct outbox *outbox, struct entry *entry, uint64_t now_mono_usec)
{
    const struct stream_policy *policy = &entry->stream->policy;
    _cleanup_(freep) char *expanded = NULL, *timed = NULL;
    char time[CLOCK_RFC3339_SIZE], seq[SEQ_SIZE], boot[33];
    struct mqtt_user_property properties[3];
    bool late = is_late(entry, now_mono_usec);
    uint64_t wall_usec = entry_wall(entry);
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
                                     : outbox_topic(outbox, entry, late, &expanded);
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
    return link_publish(outbox->link, &publication, &entry->mid);
}

/* --- in flight ------------------------------------------------------------------------------- */

static struct entry **mid_bucket(struct outbox *outbox, int mid)
{
    return &outbox->by_mid[(unsigned)mid % N_MID_BUCKETS];
}

static void take_off(struct outbox *outbox, struct entry *entry)
{
    struct stream *stream = entry->stream;
    entry_list_remove(entry_list_of(entry), entry);
    entry->was_loaded = entry->place == ENTRY_LOADED;
    entry->place = ENTRY_IN_FLIGHT;
    entry->mid = 0;
    stream->n_in_flight++;
    stream->n_in_flight_samples += entry->n_samples;
    outbox->n_in_flight++;
    outbox->bytes_in_flight += entry->size;
}

/* Its flight is over, one way or the other. */
static void land(struct outbox *outbox, const struct entry *entry)
{
    outbox->n_in_flight--;
    outbox->bytes_in_flight -= entry->size;
}

/* Back to where it came from, not delivered. */
void outbox_take_back(struct outbox *outbox, struct entry *entry)
{
    struct stream *stream = entry->stream;
    stream->n_in_flight--;
    stream->n_in_flight_samples -= entry->n_samples;
    land(outbox, entry);
    entry->place = entry->was_loaded ? ENTRY_LOADED : ENTRY_FRESH;
    entry_list_insert(entry_list_of(entry), entry);
}

static void remember_mid(struct outbox *outbox, struct entry *entry)
{
    struct entry **at = mid_bucket(outbox, entry->mid);
    entry->same_mid_bucket = *at;
    *at = entry;
}

static struct entry *recall_mid(struct outbox *outbox, int mid)
{
    struct entry **at = mid_bucket(outbox, mid);
    while (*at && (*at)->mid != mid)
        at = &(*at)->same_mid_bucket;
    struct entry *entry = *at;
    if (entry)
        *at = entry->same_mid_bucket;
    return entry;
}

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

static void hold(struct outbox *outbox, struct stream *stream)
{
    stream->hold_usec = clock_back_off(stream->hold_usec, USEC_PER_SEC, 60 * USEC_PER_SEC);
    stream->hold_mono_usec = clock_mono_usec() + stream->hold_usec;
    outbox_arm(outbox, stream->hold_mono_usec);
}

static void warn(struct outbox *outbox, const struct entry *entry, int reason_code,
                 const char *consequence)
{
    unsigned n_suppressed;
    if (!ratelimit_pass(&outbox->refusals, clock_mono_usec(), &n_suppressed))
        return;
    log_warning(LOG_FIELDS(LOG_ID(LOG_ID_MESSAGE_REFUSED), { "STREAM", entry->stream->name }),
                "%s: the broker refuses a message of the stream %s: %s (MQTT reason code "
                "0x%02x)%s; %s",
                outbox->options.name, entry->stream->name, mqtt_reason(reason_code),
                (unsigned)reason_code, n_suppressed ? ", and others before it" : "", consequence);
}

/* Returns its tag, if that is its end. */
static uint64_t settle(struct outbox *outbox, struct entry *entry, int reason_code)
{
    struct stream *stream = entry->stream;
    uint64_t tag = entry->tag;
    switch (judge(entry, reason_code)) {
    case VERDICT_TAKEN:
        stream->hold_usec = 0;
        land(outbox, entry);
        outbox_finish(outbox, entry, LEDGER_ACKED);
        break;
    case VERDICT_REJECT:
        warn(outbox, entry, reason_code, "it is given up and counted as rejected");
        land(outbox, entry);
        outbox_finish(outbox, entry, LEDGER_REJECTED);
        break;
    case VERDICT_HOLD:
    case VERDICT_RETRY:
        if (stream->policy.is_volatile) { // made anew when it is wanted
            warn(outbox, entry, reason_code, "it is given up and counted as rejected");
            land(outbox, entry);
            outbox_finish(outbox, entry, LEDGER_REJECTED);
            break;
        }
        entry->n_refusals += judge(entry, reason_code) == VERDICT_RETRY;
        warn(outbox, entry, reason_code,
             "the stream is held and tried again; check the broker's access rules and quotas");
        outbox_take_back(outbox, entry);
        hold(outbox, stream);
        return 0;
    }
    return tag;
}

bool outbox_published(struct outbox *outbox, int mid, int reason_code, uint64_t *ret_tag)
{
    struct entry *entry = recall_mid(outbox, mid);
    if (!entry)
        return false;
    KILL_POINT("acknowledged");
    uint64_t tag = settle(outbox, entry, reason_code);
    if (ret_tag)
        *ret_tag = tag;
    KILL_POINT("settled");
    outbox_pump(outbox);
    outbox_feed_store(outbox);
    outbox_tell_drained(outbox);
    return true;
}

/* 0, or -ENOTCONN: the connection takes nothing more. */
static int send_entry(struct outbox *outbox, struct entry *entry, uint64_t now_mono_usec)
{
    take_off(outbox, entry);
    if (entry->stream->policy.is_strict)
        KILL_POINT("strict-stored"); // and nobody has it yet
    KILL_POINT("hand-over");
    int r = hand_over(outbox, entry, now_mono_usec);
    KILL_POINT("handed-over");
    if (r == -ENOTCONN || r == -ENOMEM) {
        outbox_take_back(outbox, entry);
        return -ENOTCONN;
    }
    if (r < 0) {
        unsigned n_suppressed;
        if (ratelimit_pass(&outbox->refusals, now_mono_usec, &n_suppressed))
            log_err(LOG_FIELDS(LOG_ID(LOG_ID_MESSAGE_REFUSED), { "STREAM", entry->stream->name }),
                    "%s: a message of the stream %s cannot be sent: %s; it is given up and "
                    "counted as rejected",
                    outbox->options.name, entry->stream->name, strerror(-r));
        land(outbox, entry);
        outbox_finish(outbox, entry, LEDGER_REJECTED);
    } else {
        remember_mid(outbox, entry);
    }
    return 0;
}

/* --- the choice ------------------------------------------------------------------------------ */

/* keep = latest: an older value must not come after a newer one, so one at a time is in flight. */
static bool is_behind_another(const struct outbox *outbox, const struct entry *entry)
{
    if (entry->stream->policy.keep != STREAM_KEEP_LATEST || entry->stream->n_in_flight == 0)
        return false;
    for (size_t i = 0; i < N_MID_BUCKETS; i++) {
        for (const struct entry *other = outbox->by_mid[i]; other; other = other->same_mid_bucket) {
            if (other->stream == entry->stream && strings_equal(other->subject, entry->subject))
                return true;
        }
    }
    return false;
}

/*
 * keep = latest: what is on disk, though it has arrived long since, is sent again after a crash. So
 * this one must be there as well, or that one gone, before this one is sent; but a disk that hangs
 * is not waited for.
 */
static bool waits_for_disk(struct outbox *outbox, const struct entry *entry, uint64_t now_mono_usec)
{
    struct stream *stream = entry->stream;
    if (stream->policy.keep != STREAM_KEEP_LATEST || stream->policy.is_volatile ||
        disk_is_failing(&outbox->disk))
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
    outbox_arm(outbox, end_mono_usec);
    return true;
}

static bool may_go(struct outbox *outbox, const struct entry *entry, uint64_t now_mono_usec)
{
    const struct stream *stream = entry->stream;
    bool is_strict = stream->policy.is_strict || outbox->options.durability == STREAM_STRICT;
    if (is_strict && !stream->policy.is_volatile && entry->storage != ENTRY_STORED &&
        !disk_is_failing(&outbox->disk))
        return false;
    if (is_behind_another(outbox, entry) || waits_for_disk(outbox, entry, now_mono_usec))
        return false;
    uint64_t clock_mono_usec = outbox->connected_mono_usec + clock_patience_usec;
    if (entry->this_boot && !stream->policy.is_volatile && now_mono_usec < clock_mono_usec &&
        is_late(entry, now_mono_usec) && !clock_is_right()) {
        outbox_arm(outbox, now_mono_usec + USEC_PER_SEC);
        return false;
    }
    return true;
}

static bool is_held(struct outbox *outbox, const struct stream *stream, uint64_t now_mono_usec)
{
    if ((outbox->is_closing || disk_is_stopping(&outbox->disk)) && !stream->policy.urgent)
        return true;
    if (stream->hold_mono_usec <= now_mono_usec)
        return false;
    outbox_arm(outbox, stream->hold_mono_usec);
    return true;
}

/* The first of a list that may be sent; all but `latest` go strictly in turn. */
static struct entry *first_to_go(struct outbox *outbox, struct entry_list *list,
                                 uint64_t now_mono_usec)
{
    for (struct entry *entry = list->first, *next; entry; entry = next) {
        next = entry->next;
        if (outbox_expire(outbox, entry))
            continue;
        if (may_go(outbox, entry, now_mono_usec))
            return entry;
        if (entry->stream->policy.keep != STREAM_KEEP_LATEST)
            return NULL;
    }
    return NULL;
}

static struct entry *choose_fresh(struct outbox *outbox, uint64_t now_mono_usec)
{
    for (size_t i = 0; i < outbox->n_streams; i++) {
        struct stream *stream = outbox->streams[i];
        if (!stream->fresh.first || is_held(outbox, stream, now_mono_usec))
            continue;
        // In order, or the latest alone: what is older and on disk comes before.
        bool has_older =
            stream->loaded.first || (stream_n_unloaded(stream) > 0 && !stream->is_exhausted);
        if (has_older &&
            (stream->policy.order == STREAM_IN_ORDER || stream->policy.keep == STREAM_KEEP_LATEST))
            continue;
        struct entry *entry = first_to_go(outbox, &stream->fresh, now_mono_usec);
        if (entry)
            return entry;
    }
    return NULL;
}

static struct entry *choose_loaded(struct outbox *outbox, uint64_t now_mono_usec)
{
    if (outbox->options.drain_rate > 0 && now_mono_usec < outbox->drain_mono_usec) {
        outbox_arm(outbox, outbox->drain_mono_usec);
        return NULL;
    }
    for (size_t i = 0; i < outbox->n_streams; i++) {
        struct stream *stream = outbox->streams[i];
        if (!stream->loaded.first || is_held(outbox, stream, now_mono_usec))
            continue;
        struct entry *entry = first_to_go(outbox, &stream->loaded, now_mono_usec);
        if (entry)
            return entry;
    }
    return NULL;
}

/* The distance to the next late message, a quarter longer or shorter, so that no fleet marches in
 * step. */
static void pace(struct outbox *outbox, uint64_t now_mono_usec)
{
    if (outbox->options.drain_rate == 0)
        return;
    uint64_t gap_usec = USEC_PER_SEC / outbox->options.drain_rate;
    // What a late timer has missed is made up for, but for a tenth of a second at most.
    uint64_t from_usec = outbox->drain_mono_usec;
    if (from_usec + USEC_PER_SEC / 10 < now_mono_usec)
        from_usec = now_mono_usec - USEC_PER_SEC / 10;
    outbox->drain_mono_usec = from_usec + random_jitter(&outbox->random, gap_usec);
}

void outbox_pump(struct outbox *outbox)
{
    if (!outbox->link)
        return;
    uint64_t now_mono_usec = clock_mono_usec();
    while (outbox->n_in_flight < outbox->window &&
           outbox->bytes_in_flight < OUTBOX_MAX_WINDOW_BYTES) {
        struct entry *entry = choose_fresh(outbox, now_mono_usec);
        if (!entry) {
            entry = choose_loaded(outbox, now_mono_usec);
            if (entry)
                pace(outbox, now_mono_usec);
        }
        if (!entry || send_entry(outbox, entry, now_mono_usec) < 0)
            break;
    }
}
