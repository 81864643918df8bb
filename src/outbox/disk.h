// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How the disk does, and what it is given next: when messages are written, when those that are done
 * with are removed, what is synced, when a job that failed is tried again, what a stop tries, and
 * what is worth a line in the log.
 *
 *     disk_next() says whether there is to be a job now, or when to ask again; what has become of a
 * job goes to disk_done() or disk_failed(). One job at a time.
 *
 * Pure: no I/O, no clock; every call is handed the time. Plain value: set commit_interval_usec,
 * leave the rest zero, and use the functions below for everything else.
 *
 * While the disk fails, a job is tried again after 1 s, 2 s, ... 30 s. A full disk (-ENOSPC,
 * -ENOBUFS) holds back only what writes messages: what removes some may make room. A stop does not
 * wait for that pause: it tries at once and twice more, for a fifth of a second. Then the messages
 * that are left are given up, and a last job has their count.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/why.h"

enum disk_stop {
    DISK_NO_STOP,
    DISK_STOPS,    // what is to be kept is written
    DISK_GIVES_UP, // disk_next() is to say so
    DISK_COUNTS,   // no message is written any more, only counts are
    DISK_OVER,     // nothing is
};

struct disk {
    uint64_t commit_interval_usec;

    enum disk_stop stop;
    unsigned n_stop_failures;
    bool is_idle; // there was nothing to do, when disk_next() was last asked

    bool is_failing;
    char cause[sizeof(((struct why *)NULL)->text)];
    uint64_t n_written;           // messages, since it fails
    uint64_t retry_mono_usec;     // no job before
    uint64_t put_retry_mono_usec; // none that writes messages
    uint64_t retry_usec;          // the last such pause

    uint64_t flush_mono_usec; // when what is done is removed at the latest; 0: nothing is
    uint64_t synced_mono_usec, unsynced_mono_usec; // the last sync, the first write since
    bool needs_sync;                               // something was written since
    bool has_unsynced_records;
    uint64_t last_ticket, recorded_ticket;
};

/* What there is to do, as the owner finds it. */
struct disk_work {
    uint64_t put_mono_usec;   // when the first message is to be written; USEC_INFINITY: none is
    uint64_t other_mono_usec; // when there is anything else to do that is not named here; likewise
    size_t n_done;            // messages on disk that are done with
    uint64_t n_waiting;       // messages on disk that wait
    bool is_waited_for;       // something is not sent before those that are done with are gone
    bool has_counts;          // samples were counted that no message brings along
    bool is_connected;
    bool has_unsynced; // a removal was written that must not come undone, and is not synced
};

struct disk_step {
    bool runs; // there is to be a job now, with all that there is,
    bool puts; // and the messages that are due
    bool syncs;
    bool gives_up; // the owner drops, counts and tells what is not written, and asks again
    uint64_t wake_mono_usec; // when to ask again at the latest; USEC_INFINITY: not before news
};

struct disk_step disk_next(struct disk *disk, const struct disk_work *work, uint64_t now_mono_usec);

/* What was in a job. */
struct disk_job {
    size_t n_puts, n_records;
    bool removes_latest; // something that must not come back, unless the job was synced
    bool sync;           // as asked
    uint64_t ticket;     // disk_last_ticket() when it began
};

enum disk_news {
    DISK_NO_NEWS,
    DISK_FAILS,       // disk_cause() says why; messages are kept in memory
    DISK_WORKS,       // again; nothing had to be kept in memory
    DISK_HAS_WRITTEN, // likewise, and all that had to be is written
};

/*
 * It worked. is_synced, has_room: as the store says (store_job). messages_wait: some that are due
 * have not been written yet.
 */
enum disk_news disk_done(struct disk *disk, const struct disk_job *job, bool is_synced,
                         bool has_room, bool messages_wait, uint64_t now_mono_usec);

/* It failed, with result -errno, and nothing of it was done. cause: one line. */
enum disk_news disk_failed(struct disk *disk, const struct disk_job *job, int result,
                           const char *cause, uint64_t now_mono_usec);

/* A new ticket for records that are to be synced at once; never 0 and growing. */
uint64_t disk_ticket(struct disk *disk);
uint64_t disk_last_ticket(const struct disk *disk);
/* Up to which records are synced, or are not waited for since the disk fails. */
uint64_t disk_recorded(const struct disk *disk);

/* The end comes: all that is to be kept is due now. */
void disk_stop(struct disk *disk);
bool disk_is_stopping(const struct disk *disk);
/* While stopping, with no job at work: nothing more can be done. */
bool disk_is_over(const struct disk *disk);

bool disk_is_failing(const struct disk *disk);
/* What is wrong with it; NULL: nothing is. */
const char *disk_cause(const struct disk *disk);
