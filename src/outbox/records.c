// SPDX-License-Identifier: LGPL-2.1-or-later
// See records.h. Each record has its name, the space and the key, behind it.
#include "outbox/records.h"

#include <stdlib.h>
#include <string.h>

// Without memory an element is not added; the default is to end the process.
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/cleanup.h"

struct record {
    UT_hash_handle hh;
    bool is_new;     // its name is not in the store
    char *value;     // NULL: it is to be removed
    const char *key; // in name
    size_t name_size;
    char name[]; // the space and the key, each with its NUL
};

static struct record *record_new(const char *space, const char *key)
{
    size_t space_size = strlen(space) + 1, key_size = strlen(key) + 1;
    struct record *record = calloc(1, sizeof(*record) + space_size + key_size);
    if (!record)
        return NULL;
    record->key = memcpy(mempcpy(record->name, space, space_size), key, key_size);
    record->name_size = space_size + key_size;
    return record;
}

static void record_free(struct record *record)
{
    if (!record)
        return;
    free(record->value);
    free(record);
}
DEFINE_CLEANUP(struct record *, record_free)

static struct record *find(struct record *records, const struct record *like)
{
    struct record *found;
    HASH_FIND(hh, records, like->name, like->name_size, found);
    return found;
}

static void forget(struct record **records, struct record *record)
{
    HASH_DEL(*records, record);
    record_free(record);
}

/* One of its name is not in there. Takes the record over; -ENOMEM: not. */
static int add(struct record **records, struct record *record)
{
    HASH_ADD(hh, *records, name, record->name_size, record);
    return record->hh.tbl ? 0 : -ENOMEM; // see HASH_NONFATAL_OOM
}

int records_put(struct record **records, const char *space, const char *key, const char *value,
                bool is_new)
{
    _cleanup_(record_freep) struct record *record = record_new(space, key);
    char *copy = value ? strdup(value) : NULL;
    if (!record || (value && !copy)) {
        free(copy);
        return -ENOMEM;
    }
    struct record *waiting = find(*records, record);
    if (waiting && waiting->is_new && !value) { // as if it had never been
        forget(records, waiting);
        return 0;
    }
    if (waiting) {
        free(waiting->value);
        waiting->value = copy;
        return 0;
    }
    record->value = copy;
    record->is_new = is_new;
    int r = add(records, record);
    if (r < 0)
        return r;
    (void)TAKE_PTR(record);
    return 1;
}

int records_list(struct record *records, struct store_job *job)
{
    struct store_record *list = calloc(HASH_COUNT(records) + 1, sizeof(*list));
    job->records = list;
    if (!list)
        return -ENOMEM;
    for (const struct record *record = records; record; record = record->hh.next)
        list[job->n_records++] = (struct store_record){ record->name, record->key, record->value };
    return 0;
}

/* What has come meanwhile is what counts, unless it takes back what was never written. */
void records_give_back(struct record **records, struct record **failed)
{
    while (*failed) {
        struct record *record = *failed;
        struct record *newer = find(*records, record);
        HASH_DEL(*failed, record);
        if (!newer && add(records, record) == 0)
            continue;
        if (newer && record->is_new && !newer->value)
            forget(records, newer);
        else if (newer)
            newer->is_new = record->is_new;
        record_free(record);
    }
}

size_t records_count(const struct record *records)
{
    return HASH_COUNT(records);
}

void records_free(struct record **records)
{
    while (*records)
        forget(records, *records);
}
