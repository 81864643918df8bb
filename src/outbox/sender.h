// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is sent next, and how. At any time the urgent comes first, then what is fresh, then what has
 * waited on disk; within each the higher priority.
 *
 * Plain value: set queue, disk, random and templates, leave the rest zero. link is set while there
 * is a connection.
 */
#pragma once

#include "io/link.h"
#include "outbox/disk.h"
#include "outbox/queue.h"
#include "outbox/templates.h"

struct sender {
    struct queue *queue;
    const struct disk *disk;
    const struct templates *templates;
    struct link *link; // NULL: not connected
    bool is_closing;
    uint64_t drain_mono_usec;  // with a drain rate: when the next late message may go
    uint64_t random;           // the state of random_next()
    struct ratelimit refusals; // as logged
};

/* max_inflight: as outbox_connected(). */
void sender_connected(struct sender *sender, struct link *link, unsigned max_inflight);

/* Sends what may be sent. */
void sender_pump(struct sender *sender);

/* As outbox_published(). */
bool sender_settle(struct sender *sender, int mid, int reason_code, uint64_t *ret_tag);
