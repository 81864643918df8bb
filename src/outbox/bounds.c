// SPDX-License-Identifier: LGPL-2.1-or-later
// See bounds.h.
#include "outbox/bounds.h"

#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"
#include "util/strings.h"

enum {
    // Of what is on disk as well, this much of each stream stays in memory to be sent next.
    MAX_FRESH = 1000,
};

/* Part of max_size: pages are never quite full, and there are the tables around them. */
static const double fill = 0.75;

static void warn_dropped(struct queue *queue, const struct stream *stream, const char *bound)
{
    unsigned n_suppressed;
    if (ratelimit_pass(&queue->drops, clock_mono_usec(), &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_QUEUE_FULL), { "STREAM", stream->name }),
                    "%s: stream %s: %s is reached with %" PRIu64 " messages waiting; the %s are "
                    "dropped and counted",
                    queue->options.name, stream->name, bound, stream_n_waiting(stream),
                    stream->policy.when_full == STREAM_DROP_OLDEST ? "oldest" : "newest");
}

/* --- room ------------------------------------------------------------------------------------ */

/* The oldest in memory that is not in flight. */
static struct entry *oldest(const struct stream *stream)
{
    return stream->loaded.first ? stream->loaded.first : stream->fresh.first;
}

/*
 * Gives up the oldest of a stream, in memory or, by the next job, on disk. false: all there is, is
 * in flight, or being given up already.
 */
static bool drop_oldest(struct queue *queue, struct stream *stream, size_t size)
{
    bool any_on_disk = stream_n_unloaded(stream) > stream->trim_messages;
    if (!stream->loaded.first && any_on_disk) {
        if (size > 0)
            stream->trim_bytes += size;
        else
            stream->trim_messages++;
        return true;
    }
    struct entry *entry = oldest(stream);
    if (!entry)
        return false;
    queue_finish(queue, entry, LEDGER_DROPPED);
    return true;
}

static uint64_t bytes_on_disk(const struct queue *queue)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < queue->n_streams; i++) {
        const struct stream *stream = queue->streams[i];
        if (stream->policy.is_volatile)
            continue;
        uint64_t stays = stream->disk.bytes + stream->unwritten_bytes;
        bytes += stays > stream->trim_bytes ? stays - stream->trim_bytes : 0;
    }
    return bytes;
}

/* Whose oldest goes when max_size is reached: the least important stream's that has something. */
static struct stream *victim(const struct queue *queue, const struct stream *stream)
{
    for (size_t i = queue->n_streams; i > 0; i--) {
        struct stream *other = queue->streams[i - 1];
        if (other->policy.priority > stream->policy.priority)
            break;
        if (!other->policy.is_volatile && other->policy.when_full == STREAM_DROP_OLDEST &&
            stream_n_waiting(other) > other->n_in_flight + other->trim_messages)
            return other;
    }
    return NULL;
}

static bool fits_in_memory(const struct queue *queue, size_t size)
{
    return queue->n_in_memory < OUTBOX_MAX_MESSAGES &&
           queue->n_bytes_in_memory + size <= OUTBOX_MAX_BYTES;
}

/*
 * Frees memory for what has not come to disk: the oldest such message of the least important
 * stream. What the store is writing just now cannot go.
 */
static bool drop_from_memory(struct queue *queue, const struct stream *stream)
{
    for (size_t i = queue->n_streams; i > 0; i--) {
        struct stream *other = queue->streams[i - 1];
        if (other->policy.priority > stream->policy.priority)
            return false;
        if (other->policy.when_full == STREAM_DROP_NEWEST)
            continue;
        struct entry *entry = other->fresh.first;
        while (entry && entry->storage != ENTRY_UNSTORED)
            entry = entry->next;
        if (entry) {
            queue_finish(queue, entry, LEDGER_DROPPED);
            return true;
        }
    }
    return false;
}

bool bounds_make_room(struct queue *queue, struct stream *stream, size_t size)
{
    const struct stream_policy *policy = &stream->policy;
    bool drops_newest = policy->when_full == STREAM_DROP_NEWEST;
    uint64_t n_waiting = stream_n_waiting(stream) - stream->trim_messages;
    if (n_waiting >= policy->max_messages) {
        warn_dropped(queue, stream, "max_messages");
        if (drops_newest || !drop_oldest(queue, stream, 0))
            return false;
    }
    while (!fits_in_memory(queue, size)) {
        warn_dropped(queue, stream, "the room in memory");
        if (drops_newest || !drop_from_memory(queue, stream))
            return false;
    }
    if (policy->is_volatile)
        return true;
    uint64_t limit = (uint64_t)((double)queue->options.max_size * fill);
    if (bytes_on_disk(queue) + size <= limit)
        return true;
    warn_dropped(queue, stream, "max_size");
    struct stream *other = victim(queue, stream);
    return !drops_newest && other && drop_oldest(queue, other, size);
}

void bounds_trim_a_part(struct queue *queue)
{
    for (size_t i = queue->n_streams; i > 0; i--) {
        struct stream *stream = queue->streams[i - 1];
        uint64_t n_messages = stream_n_unloaded(stream) / 16 + 1;
        if (stream->policy.is_volatile || stream->policy.when_full == STREAM_DROP_NEWEST ||
            stream_n_unloaded(stream) <= stream->trim_messages)
            continue;
        stream->trim_messages += n_messages;
        return;
    }
}

/* --- what is too old ------------------------------------------------------------------------- */

bool bounds_expire(struct queue *queue, struct entry *entry)
{
    uint64_t max_age_usec = entry->stream->policy.max_age_usec;
    if (max_age_usec == USEC_INFINITY)
        return false;
    uint64_t age_usec;
    if (entry->this_boot) {
        uint64_t now_mono_usec = clock_mono_usec();
        age_usec =
            now_mono_usec > entry->moment.mono_usec ? now_mono_usec - entry->moment.mono_usec : 0;
    } else {
        uint64_t now_wall_usec = clock_wall_usec();
        uint64_t wall_usec = entry_wall_usec(entry);
        if (wall_usec == 0)
            return false;
        age_usec = now_wall_usec > wall_usec ? now_wall_usec - wall_usec : 0;
    }
    if (age_usec <= max_age_usec)
        return false;
    queue_finish(queue, entry, LEDGER_EXPIRED);
    return true;
}

/* --- keep = latest --------------------------------------------------------------------------- */

/* Whether newer has every key of older, so that nobody needs older any more. */
static bool replaces(const struct entry *newer, const struct entry *older)
{
    return newer->seq > older->seq && strings_equal(newer->subject, older->subject) &&
           json_has_keys_of(newer->payload, older->payload);
}

static void merge_list(struct queue *queue, struct entry_list *list, struct entry *newer)
{
    for (struct entry *older = list->first, *next; older; older = next) {
        next = older->next;
        if (older != newer && replaces(newer, older))
            queue_finish(queue, older, LEDGER_MERGED);
    }
}

static bool is_replaced(const struct queue *queue, const struct entry *entry)
{
    const struct entry_list *lists[] = { &entry->stream->fresh, &entry->stream->loaded };
    for (size_t i = 0; i < ELEMENTS(lists); i++) {
        for (const struct entry *other = lists[i]->first; other; other = other->next) {
            if (replaces(other, entry))
                return true;
        }
    }
    const struct stream *stream = entry->stream;
    const struct entry *newer = NULL;
    while (stream->n_in_flight > 0 && (newer = queue_next_in_flight(queue, stream, newer))) {
        if (replaces(newer, entry))
            return true;
    }
    return false;
}

void bounds_merge(struct queue *queue, struct entry *entry)
{
    if (entry->stream->policy.keep != STREAM_KEEP_LATEST)
        return;
    if (is_replaced(queue, entry)) {
        queue_finish(queue, entry, LEDGER_MERGED);
        return;
    }
    merge_list(queue, &entry->stream->fresh, entry);
    merge_list(queue, &entry->stream->loaded, entry);
    KILL_POINT("merged");
}

/* --- memory ---------------------------------------------------------------------------------- */

static void evict_list(struct queue *queue, struct entry_list *list)
{
    for (struct entry *entry = list->first, *next; entry; entry = next) {
        next = entry->next;
        if (entry->storage != ENTRY_STORED)
            continue;
        stream_rewind(entry->stream, entry->seq);
        KILL_POINT("evict");
        queue_forget(queue, entry);
    }
}

/*
 * Cut off, all that is on disk goes. Connected, what is to be sent next stays; of a stream in order
 * all goes together, or what follows would overtake it. The latest always stays, to be compared.
 */
void bounds_evict(struct queue *queue, struct stream *stream)
{
    if (stream->policy.is_volatile || stream->policy.keep == STREAM_KEEP_LATEST)
        return;
    if (!queue->is_connected)
        evict_list(queue, &stream->loaded);
    bool has_older = stream->loaded.first || stream_n_unloaded(stream) > 0;
    if (!queue->is_connected || stream->fresh.n > MAX_FRESH ||
        (stream->policy.order == STREAM_IN_ORDER && has_older))
        evict_list(queue, &stream->fresh);
}
