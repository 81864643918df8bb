// SPDX-License-Identifier: LGPL-2.1-or-later
// What rules are to look at again, by time; see agenda.h.
#include "server/agenda.h"

#include <string.h>

#include "util/clock.h"

struct agenda {
    struct heap heap;
    size_t max_items;
};

bool agenda_put(struct agenda *agenda, size_t rule, bool of_group, const char *name,
                uint64_t mono_usec)
{
    _cleanup_(freep) struct agenda_item *item = NULL;
    if (agenda->heap.n_entries >= agenda->max_items)
        return false;
    item = calloc(1, sizeof(*item) + strlen(name) + 1);
    if (!item)
        return false;
    item->rule = rule;
    item->of_group = of_group;
    memcpy(item->name, name, strlen(name) + 1);
    if (heap_put(&agenda->heap, &item->due, mono_usec) < 0)
        return false;
    (void)TAKE_PTR(item);
    return true;
}

struct agenda_item *agenda_take(struct agenda *agenda, uint64_t now_mono_usec)
{
    struct heap_entry *first = heap_first(&agenda->heap);
    if (!first || first->key > now_mono_usec)
        return NULL;
    heap_remove(&agenda->heap, first);
    return (struct agenda_item *)((char *)first - offsetof(struct agenda_item, due));
}

uint64_t agenda_next_mono_usec(const struct agenda *agenda)
{
    const struct heap_entry *first = heap_first(&agenda->heap);
    return first ? first->key : USEC_INFINITY;
}

int agenda_new(size_t max_items, struct agenda **ret_agenda)
{
    struct agenda *agenda = calloc(1, sizeof(*agenda));
    if (!agenda)
        return -ENOMEM;
    agenda->max_items = max_items;
    *ret_agenda = agenda;
    return 0;
}

void agenda_free(struct agenda *agenda)
{
    if (!agenda)
        return;
    for (struct agenda_item *item; (item = agenda_take(agenda, UINT64_MAX));)
        free(item);
    heap_done(&agenda->heap);
    free(agenda);
}
