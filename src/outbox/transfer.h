// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A job of the store: what it is made of, and what becomes of that. One at a time; what comes up
 * meanwhile is gathered for the next, so that a slow disk makes larger transactions and holds
 * nobody up.
 *
 *     transfer_new(), transfer_take_over(), then transfer_succeeded() or transfer_failed(),
 * transfer_free().
 */
#pragma once

#include "outbox/disk.h"
#include "outbox/queue.h"
#include "outbox/records.h"
#include "util/cleanup.h"

struct transfer {
    struct store_job store;
    struct stream **streams;        // of store.streams
    struct entry **puts;            // of store.puts
    struct store_message *messages; // likewise
    struct entry_list done;         // of store.ranges
    size_t n_done;
    struct record *records; // of store.records
    uint64_t ticket;        // the last one whose records are in it, or were in one before
    struct stream *queried;
};

/*
 * Touches nothing yet, and borrows records. step: what disk.h wants to be in it; begin_wall_usec:
 * when this boot began. -ENOMEM.
 */
int transfer_new(struct queue *queue, struct record *records, const struct disk_step *step,
                 bool is_stopping, uint64_t begin_wall_usec, struct transfer **ret_transfer);
void transfer_free(struct transfer *transfer);
DEFINE_CLEANUP(struct transfer *, transfer_free)

/* The first stream whose messages should be read ahead; NULL: none. */
struct stream *transfer_hungry(const struct queue *queue, bool is_stopping);

/* From here on nothing fails: what the job has is not the queue's to hand over again. */
void transfer_take_over(struct transfer *transfer, struct queue *queue, struct record **records);

/* What disk.h wants to know of it. */
struct disk_job transfer_facts(const struct transfer *transfer);

/*
 * It worked. is_other: the store has been opened, or made anew from what could be saved, since the
 * job before: what was taken for stored may not be.
 */
void transfer_succeeded(struct transfer *transfer, struct queue *queue, bool is_other);

/* Whether it has told the store of each number that was used, until now. */
bool transfer_has_sealed(const struct transfer *transfer);

/* Nothing of it was done. */
void transfer_failed(struct transfer *transfer, struct queue *queue, struct record **records);
