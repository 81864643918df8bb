// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Records that wait for the store, by name and in the order in which they came. A record that waits
 * is replaced by the next one of its name, so that a flood of commands waits for a slow disk as
 * what is true at its end, and not as each of its steps.
 */
#include <assert.h>
#include <string.h>

#include "outbox/outbox-internal.h"

static struct outbox_record *record_new(const char *space, const char *key)
{
    size_t space_size = strlen(space) + 1, key_size = strlen(key) + 1;
    struct outbox_record *record = calloc(1, sizeof(*record) + space_size + key_size);
    if (!record)
        return NULL;
    record->key = memcpy(mempcpy(record->name, space, space_size), key, key_size);
    record->name_size = space_size + key_size;
    return record;
}

static void record_free(struct outbox_record *record)
{
    if (!record)
        return;
    free(record->value);
    free(record);
}
DEFINE_CLEANUP(struct outbox_record *, record_free)

static struct outbox_record *find(struct outbox_record *records, const struct outbox_record *like)
{
    struct outbox_record *found;
    HASH_FIND(hh, records, like->name, like->name_size, found);
    return found;
}

static void forget(struct outbox_record **records, struct outbox_record *record)
{
    HASH_DEL(*records, record);
    record_free(record);
}

/* One of its name is not in there. Takes the record over; -ENOMEM: not. */
static int add(struct outbox_record **records, struct outbox_record *record)
{
    HASH_ADD(hh, *records, name, record->name_size, record);
    return record->hh.tbl ? 0 : -ENOMEM; // see HASH_NONFATAL_OOM
}

static int put(struct outbox *outbox, const char *space, const char *key, const char *value,
               bool is_new)
{
    _cleanup_(record_freep) struct outbox_record *record = record_new(space, key);
    char *copy = value ? strdup(value) : NULL;
    if (!record || (value && !copy)) {
        free(copy);
        return -ENOMEM;
    }
    struct outbox_record *waiting = find(outbox->records, record);
    if (waiting && waiting->is_new && !value) { // as if it had never been
        forget(&outbox->records, waiting);
        return 0;
    }
    if (waiting) {
        free(waiting->value);
        waiting->value = copy;
        return 0;
    }
    record->value = copy;
    record->is_new = is_new;
    int r = add(&outbox->records, record);
    if (r < 0)
        return r;
    (void)TAKE_PTR(record);
    outbox_arm(outbox, 0); // with what else this turn of the loop brings
    return 0;
}

int outbox_put_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    return put(outbox, space, key, value, false);
}

int outbox_add_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    return put(outbox, space, key, value, true);
}

int outbox_list_records(struct outbox_record *records, struct store_job *job)
{
    struct store_record *list = calloc(HASH_COUNT(records) + 1, sizeof(*list));
    job->records = list;
    if (!list)
        return -ENOMEM;
    for (const struct outbox_record *record = records; record; record = record->hh.next)
        list[job->n_records++] = (struct store_record){ record->name, record->key, record->value };
    return 0;
}

/* What has come meanwhile is what counts, unless it takes back what was never written. */
void outbox_give_back_records(struct outbox *outbox, struct outbox_record **records)
{
    while (*records) {
        struct outbox_record *record = *records;
        struct outbox_record *newer = find(outbox->records, record);
        HASH_DEL(*records, record);
        if (!newer && add(&outbox->records, record) == 0)
            continue;
        if (newer && record->is_new && !newer->value)
            forget(&outbox->records, newer);
        else if (newer)
            newer->is_new = record->is_new;
        record_free(record);
    }
}

size_t outbox_count_records(const struct outbox_record *records)
{
    return HASH_COUNT(records);
}

void outbox_free_records(struct outbox_record **records)
{
    while (*records)
        forget(records, *records);
}
