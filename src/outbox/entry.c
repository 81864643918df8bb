// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/entry.h"

#include <string.h>

#include "util/clock.h"

struct entry *entry_new(struct stream *stream, const void *payload, size_t payload_size,
                        const char *subject)
{
    size_t subject_size = subject ? strlen(subject) + 1 : 0;
    struct entry *entry = malloc(sizeof(*entry) + payload_size + 1 + subject_size);
    if (!entry)
        return NULL;
    *entry = (struct entry){
        .stream = stream,
        .size = payload_size + (subject ? subject_size - 1 : 0) + STORE_MESSAGE_OVERHEAD,
    };
    memcpy(entry->payload, payload, payload_size);
    entry->payload[payload_size] = '\0';
    if (subject)
        entry->subject = memcpy(entry->payload + payload_size + 1, subject, subject_size);
    return entry;
}

static void insert_behind(struct entry_list *list, struct entry *previous, struct entry *entry)
{
    entry->previous = previous;
    entry->next = previous ? previous->next : list->first;
    *(entry->next ? &entry->next->previous : &list->last) = entry;
    *(previous ? &previous->next : &list->first) = entry;
    list->n++;
}

void entry_list_append(struct entry_list *list, struct entry *entry)
{
    insert_behind(list, list->last, entry);
}

void entry_list_prepend(struct entry_list *list, struct entry *entry)
{
    insert_behind(list, NULL, entry);
}

void entry_list_insert(struct entry_list *list, struct entry *entry)
{
    struct entry *previous = list->last;
    if (list->first && entry->seq < list->first->seq)
        previous = NULL; // what comes back from flight
    while (previous && previous->seq > entry->seq)
        previous = previous->previous;
    insert_behind(list, previous, entry);
}

void entry_list_remove(struct entry_list *list, struct entry *entry)
{
    *(entry->previous ? &entry->previous->next : &list->first) = entry->next;
    *(entry->next ? &entry->next->previous : &list->last) = entry->previous;
    entry->previous = entry->next = NULL;
    list->n--;
}

/* --- time ------------------------------------------------------------------------------------ */

uint64_t entry_begin_wall_usec(void)
{
    uint64_t wall_usec = clock_wall_usec(), mono_usec = clock_mono_usec();
    return wall_usec > mono_usec ? wall_usec - mono_usec : 1;
}

uint64_t entry_wall_usec(const struct entry *entry)
{
    uint64_t begin_wall_usec = entry->this_boot ? entry_begin_wall_usec() : entry->begin_wall_usec;
    return begin_wall_usec > 0 ? begin_wall_usec + entry->moment.mono_usec : 0;
}
