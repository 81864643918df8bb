// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What rules are to look at again when its time has come: a change that one holds back, a command
 * that is to be sent again. By name, so that a device or a group may go meanwhile. Bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/heap.h"

struct agenda;

struct agenda_item {
    struct heap_entry due; // the agenda's
    size_t rule;
    bool of_group;
    char name[];
};

/* 0 or -ENOMEM. */
int agenda_new(size_t max_items, struct agenda **ret_agenda);
void agenda_free(struct agenda *agenda);
DEFINE_CLEANUP(struct agenda *, agenda_free)

/* Whether it is in: else there are too many, or there is no memory. */
bool agenda_put(struct agenda *agenda, size_t rule, bool of_group, const char *name,
                uint64_t mono_usec);

/* The next one that is due by now, to be freed with free(); NULL: there is none. */
struct agenda_item *agenda_take(struct agenda *agenda, uint64_t now_mono_usec);

/* When agenda_take() has one; USEC_INFINITY: never. */
uint64_t agenda_next_mono_usec(const struct agenda *agenda);
