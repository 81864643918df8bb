// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Things to be looked at when their time has come, the first one always at hand: a binary heap of
 * entries that the caller embeds, so that each can be moved and taken out in O(log n).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* All zeros: in no heap. Must not move while it is in one. */
struct heap_entry {
    uint64_t key;
    size_t place; // from 1; 0: in no heap
};

/* All zeros: empty. */
struct heap {
    struct heap_entry **entries;
    size_t n_entries, n_allocated;
};

/* Frees the heap, not the entries. */
void heap_done(struct heap *heap);

/* Puts entry in, or moves it, to key. -ENOMEM, and it is in as it was. */
int heap_put(struct heap *heap, struct heap_entry *entry, uint64_t key);

/* Takes entry out, if it is in. */
void heap_remove(struct heap *heap, struct heap_entry *entry);

/* The entry with the least key, or NULL. */
struct heap_entry *heap_first(const struct heap *heap);
