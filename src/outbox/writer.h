// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the store is given, and what is told while it fails. When, is decided by disk.h; what a job
 * is made of, by transfer.h.
 *
 * Plain value: set queue, is_sealed and wake_mono_usec, leave the rest zero.
 */
#pragma once

#include "outbox/transfer.h"

struct writer {
    struct queue *queue;
    struct disk disk;
    struct transfer *transfer; // at work; NULL: none
    struct record *records;    // that wait for the store
    uint64_t wake_mono_usec;   // when the disk wants its next look, as things are
    uint64_t woken_ticket;     // up to which the tick was asked for, to tell
    uint64_t generation;       // as the store last said
    bool must_ask;             // whether it has changed
    bool is_sealed;            // the store knows all numbers that were used
    bool has_stored;           // a job has worked
    bool is_ended;             // what is lost with a stop has been told
    uint64_t begin_wall_usec;  // of this boot, as the store was last told
};

void writer_done(struct writer *writer);

/* The job that the store is to do now, if it is free and it is time; else NULL. */
struct store_job *writer_next(struct writer *writer);

/* What became of it; result as store_run(). */
void writer_take_result(struct writer *writer, int result, const struct why *why);

/* As outbox_is_committed() and outbox_end(). */
bool writer_is_committed(const struct writer *writer);
void writer_end(struct writer *writer);
