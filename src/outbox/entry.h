// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A message in memory, and lists of them. Its place is its journey:
 *
 *     fresh -> in flight -> done        or `loaded` instead of `fresh`, when it was read from the
 *     loaded -> in flight -> done       store
 *
 * and beside it there is what the store has of it: nothing, handed over (a job is at work), or
 * stored. A stored one that is fresh or loaded may leave memory at any time, to be loaded again. A
 * done one stays until the store has removed it, so that it is not taken for a new one when it is
 * read.
 *
 * Plain values: queue.h moves entries and counts them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct stream;

enum entry_place { ENTRY_FRESH, ENTRY_LOADED, ENTRY_IN_FLIGHT, ENTRY_DONE };
enum entry_storage { ENTRY_UNSTORED, ENTRY_HANDED_OVER, ENTRY_STORED };

struct entry {
    struct entry *previous, *next;         // in the list of its place; none in flight
    struct entry *put_previous, *put_next; // among those that are to be stored
    struct entry *same_seq_bucket, *same_mid_bucket;
    struct stream *stream;
    uint64_t seq;
    struct store_moment moment;
    uint8_t run[STORE_RUN_SIZE]; // under which it has its number
    uint64_t begin_wall_usec;    // of another boot; 0: not known
    uint64_t put_mono_usec;      // not stored before; 0: at once
    uint64_t tag;
    size_t size; // as the store counts it
    uint32_t n_samples;
    int mid;         // in flight
    uint8_t place;   // enum entry_place
    uint8_t storage; // enum entry_storage
    uint8_t end;     // done: enum ledger_end
    int8_t qos;
    uint8_t n_refusals;
    bool is_to_be_put; // in the list of those
    bool this_boot;
    bool was_sent;   // it may have arrived already
    bool was_loaded; // and not fresh, before it was in flight
    char *subject;   // behind payload; NULL: none
    char payload[];  // NUL-terminated
};

struct entry_list {
    struct entry *first, *last;
    size_t n;
};

/* Copies payload and subject; the rest is the caller's to set. NULL: out of memory. */
struct entry *entry_new(struct stream *stream, const void *payload, size_t payload_size,
                        const char *subject);

/* When its samples were taken; 0: not known. */
uint64_t entry_wall_usec(const struct entry *entry);

/* When this boot began. */
uint64_t entry_begin_wall_usec(void);

void entry_list_append(struct entry_list *list, struct entry *entry);
void entry_list_prepend(struct entry_list *list, struct entry *entry);
void entry_list_insert(struct entry_list *list, struct entry *entry); // by seq
void entry_list_remove(struct entry_list *list, struct entry *entry);
