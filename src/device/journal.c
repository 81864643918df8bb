// SPDX-License-Identifier: LGPL-2.1-or-later
// A hash table over a list from the oldest entry to the newest. A record's value is the entry's
// number, its time and the reply.
#include "device/journal.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "util/clock.h"
#include "util/log.h"

const char journal_space[] = "command";

enum { BUCKETS = 1024 };

// Before it no device of ours was made: such a time is one of a clock that was not set.
static const uint64_t clock_set_usec = 1704067200 * USEC_PER_SEC; // 2024-01-01

struct entry {
    struct entry *next; // in the bucket
    struct entry *newer;
    uint64_t number;    // in order
    uint64_t mono_usec; // when it was added; 0: by a run before this one
    uint64_t wall_usec; // likewise, which is all that is known of an earlier run
    char *reply;
    char id[];
};

struct journal {
    struct outbox *outbox;
    struct entry *buckets[BUCKETS];
    struct entry *oldest, *newest;
    size_t n_entries, n_bytes;
    uint64_t next_number;
};

/* FNV-1a; an id is chosen by whoever commands us, and may do worse than fill a bucket. */
static size_t bucket_of(const char *id)
{
    uint32_t hash = 2166136261U;
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    return hash % BUCKETS;
}

static size_t size_of(const struct entry *entry)
{
    return strlen(entry->id) + strlen(entry->reply);
}

static void entry_free(struct entry *entry)
{
    if (entry)
        free(entry->reply);
    free(entry);
}
DEFINE_CLEANUP(struct entry *, entry_free)

static struct entry *new_entry(const char *id, const char *reply)
{
    size_t id_size = strlen(id) + 1;
    _cleanup_(entry_freep) struct entry *entry = calloc(1, sizeof(*entry) + id_size);
    if (!entry)
        return NULL;
    memcpy(entry->id, id, id_size);
    entry->reply = strdup(reply);
    return entry->reply ? TAKE_PTR(entry) : NULL;
}

static void append(struct journal *journal, struct entry *entry)
{
    struct entry **bucket = &journal->buckets[bucket_of(entry->id)];
    entry->next = *bucket;
    *bucket = entry;
    if (journal->newest)
        journal->newest->newer = entry;
    else
        journal->oldest = entry;
    journal->newest = entry;
    journal->n_entries++;
    journal->n_bytes += size_of(entry);
}

/* Takes the oldest out of memory; the record is not touched. */
static struct entry *take_oldest(struct journal *journal)
{
    struct entry *entry = journal->oldest;
    struct entry **place = &journal->buckets[bucket_of(entry->id)];
    while (*place != entry)
        place = &(*place)->next;
    *place = entry->next;
    journal->oldest = entry->newer;
    if (!journal->oldest)
        journal->newest = NULL;
    journal->n_entries--;
    journal->n_bytes -= size_of(entry);
    entry->newer = NULL;
    return entry;
}

static void remove_record(struct journal *journal, const char *id)
{
    if (outbox_put_record(journal->outbox, journal_space, id, NULL) < 0)
        log_err(LOG_FIELDS({ "COMMAND", id }), "command %s: its record cannot be removed: %s", id,
                strerror(ENOMEM));
}

/* A clock that is set forward, by mistake or at last, makes nothing of this run old. */
static bool is_too_old(struct entry *entry, uint64_t now_mono_usec, uint64_t now_wall_usec)
{
    if (entry->mono_usec > 0)
        return now_mono_usec - entry->mono_usec > JOURNAL_MAX_AGE_USEC;
    if (entry->wall_usec < clock_set_usec)
        entry->wall_usec = now_wall_usec; // its age counts from now on
    return now_wall_usec > entry->wall_usec &&
           now_wall_usec - entry->wall_usec > JOURNAL_MAX_AGE_USEC;
}

static void forget_old(struct journal *journal, uint64_t now_mono_usec, uint64_t now_wall_usec)
{
    while (journal->oldest &&
           (journal->n_entries > JOURNAL_MAX_ENTRIES || journal->n_bytes > JOURNAL_MAX_BYTES ||
            is_too_old(journal->oldest, now_mono_usec, now_wall_usec))) {
        _cleanup_(entry_freep) struct entry *entry = take_oldest(journal);
        remove_record(journal, entry->id);
    }
}

static struct entry *find(const struct journal *journal, const char *id)
{
    struct entry *entry = journal->buckets[bucket_of(id)];
    while (entry && strcmp(entry->id, id) != 0)
        entry = entry->next;
    return entry;
}

const char *journal_find(const struct journal *journal, const char *id)
{
    const struct entry *entry = find(journal, id);
    return entry ? entry->reply : NULL;
}

static struct entry *add(struct journal *journal, const char *id, const char *reply,
                         uint64_t mono_usec, uint64_t wall_usec)
{
    struct entry *entry = new_entry(id, reply);
    if (!entry)
        return NULL;
    entry->number = journal->next_number++;
    entry->mono_usec = mono_usec;
    entry->wall_usec = wall_usec;
    append(journal, entry);
    return entry;
}

static struct entry *replace(struct journal *journal, struct entry *entry, const char *reply)
{
    char *copy = strdup(reply);
    if (!copy)
        return NULL;
    journal->n_bytes -= size_of(entry);
    free(entry->reply);
    entry->reply = copy;
    journal->n_bytes += size_of(entry);
    return entry;
}

static int put_record(struct journal *journal, const struct entry *entry, bool is_new)
{
    _cleanup_(freep) char *value = NULL;
    if (asprintf(&value, "%" PRIu64 " %" PRIu64 " %s", entry->number, entry->wall_usec,
                 entry->reply) < 0) {
        value = NULL;
        return -ENOMEM;
    }
    return is_new ? outbox_add_record(journal->outbox, journal_space, entry->id, value)
                  : outbox_put_record(journal->outbox, journal_space, entry->id, value);
}

void journal_add(struct journal *journal, const char *id, const char *reply, uint64_t mono_usec,
                 uint64_t wall_usec)
{
    struct entry *known = find(journal, id);
    const struct entry *entry =
        known ? replace(journal, known, reply) : add(journal, id, reply, mono_usec, wall_usec);
    if (!entry)
        return;
    if (put_record(journal, entry, !known) < 0)
        log_err(LOG_FIELDS({ "COMMAND", id }), "command %s: its record cannot be kept: %s", id,
                strerror(ENOMEM));
    forget_old(journal, mono_usec, wall_usec);
}

/* --- an earlier run -------------------------------------------------------------------------- */

/* Reads digits and a space off *text; false if there are none. */
static bool take_count(const char **text, uint64_t *ret_count)
{
    uint64_t count = 0;
    const char *at = *text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(count, 10, &count) ||
            __builtin_add_overflow(count, (uint64_t)(*at - '0'), &count))
            return false;
    }
    if (at == *text || *at != ' ')
        return false;
    *text = at + 1;
    *ret_count = count;
    return true;
}

void journal_recall(struct journal *journal, const char *key, const char *value)
{
    uint64_t number, wall_usec;
    struct entry *entry = NULL;
    if (take_count(&value, &number) && take_count(&value, &wall_usec) && *value &&
        number < UINT64_MAX && !journal_find(journal, key))
        entry = new_entry(key, value);
    if (!entry) {
        remove_record(journal, key);
        return;
    }
    entry->number = number;
    entry->wall_usec = wall_usec;
    append(journal, entry);
    if (number >= journal->next_number)
        journal->next_number = number + 1;
}

static int compare(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    return x->number < y->number ? -1 : x->number > y->number;
}

void journal_recalled(struct journal *journal)
{
    size_t n = 0;
    _cleanup_(freep) struct entry **entries =
        calloc(journal->n_entries + 1, sizeof(struct entry *));
    if (!entries)
        return; // in a strange order, which only decides who goes first
    while (journal->oldest) {
        entries[n++] = take_oldest(journal);
        entries[n - 1]->next = NULL;
    }
    qsort(entries, n, sizeof(struct entry *), compare);
    for (size_t i = 0; i < n; i++)
        append(journal, entries[i]);
}

int journal_new(struct outbox *outbox, struct journal **ret_journal)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    if (!journal)
        return -ENOMEM;
    journal->outbox = outbox;
    *ret_journal = journal;
    return 0;
}

void journal_free(struct journal *journal)
{
    if (!journal)
        return;
    while (journal->oldest)
        entry_free(take_oldest(journal));
    free(journal);
}
