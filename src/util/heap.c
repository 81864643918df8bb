// SPDX-License-Identifier: LGPL-2.1-or-later
// A binary heap with entries that know their place; see heap.h.
#include "util/heap.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_SIZE = 64 };

void heap_done(struct heap *heap)
{
    free(heap->entries);
    *heap = (struct heap){ 0 };
}

static void set(struct heap *heap, size_t place, struct heap_entry *entry)
{
    heap->entries[place - 1] = entry;
    entry->place = place;
}

static struct heap_entry *at(const struct heap *heap, size_t place)
{
    return heap->entries[place - 1];
}

static void move_up(struct heap *heap, struct heap_entry *entry)
{
    size_t place = entry->place;
    while (place > 1 && at(heap, place / 2)->key > entry->key) {
        set(heap, place, at(heap, place / 2));
        place /= 2;
    }
    set(heap, place, entry);
}

static void move_down(struct heap *heap, struct heap_entry *entry)
{
    size_t place = entry->place;
    for (;;) {
        size_t child = place * 2;
        if (child < heap->n_entries && at(heap, child + 1)->key < at(heap, child)->key)
            child++;
        if (child > heap->n_entries || at(heap, child)->key >= entry->key)
            break;
        set(heap, place, at(heap, child));
        place = child;
    }
    set(heap, place, entry);
}

static int make_room(struct heap *heap)
{
    if (heap->n_entries < heap->n_allocated)
        return 0;
    size_t n = heap->n_allocated > 0 ? heap->n_allocated * 2 : FIRST_SIZE;
    struct heap_entry **entries = reallocarray(heap->entries, n, sizeof(struct heap_entry *));
    if (!entries)
        return -ENOMEM;
    heap->entries = entries;
    heap->n_allocated = n;
    return 0;
}

int heap_put(struct heap *heap, struct heap_entry *entry, uint64_t key)
{
    if (entry->place == 0) {
        int r = make_room(heap);
        if (r < 0)
            return r;
        set(heap, ++heap->n_entries, entry);
    }
    entry->key = key;
    move_up(heap, entry);
    move_down(heap, entry);
    return 0;
}

void heap_remove(struct heap *heap, struct heap_entry *entry)
{
    if (entry->place == 0)
        return;
    struct heap_entry *last = at(heap, heap->n_entries--);
    if (last != entry) {
        set(heap, entry->place, last);
        move_up(heap, last);
        move_down(heap, last);
    }
    entry->place = 0;
}

struct heap_entry *heap_first(const struct heap *heap)
{
    return heap->n_entries > 0 ? heap->entries[0] : NULL;
}
