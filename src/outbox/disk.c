// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"

enum {
    FLUSH_DONE = 256, // so many are removed without waiting for other work
    STOP_TRIES = 3,
};

// What was acknowledged mostly leaves the disk with the next message's commit, which then writes
// the pages that they share once, and nothing wakes up for it; but not later than this: a crash
// sends again what is still there.
static const uint64_t removal_usec = 10 * USEC_PER_SEC;
static const uint64_t retry_min_usec = 1 * USEC_PER_SEC;
static const uint64_t retry_max_usec = 30 * USEC_PER_SEC;
static const uint64_t stop_retry_usec = 50 * USEC_PER_MSEC;

/* --- what is due ----------------------------------------------------------------------------- */

/* The time that is asked about; the earliest that is not due yet is when to ask again. */
struct look {
    uint64_t now_mono_usec, wake_mono_usec;
};

static bool is_due(struct look *look, uint64_t due_mono_usec)
{
    if (due_mono_usec <= look->now_mono_usec)
        return true;
    if (due_mono_usec < look->wake_mono_usec)
        look->wake_mono_usec = due_mono_usec;
    return false;
}

static bool put_is_due(const struct disk *disk, const struct disk_work *work, struct look *look)
{
    if (work->put_mono_usec == USEC_INFINITY || disk->stop >= DISK_COUNTS)
        return false;
    uint64_t due_mono_usec = disk_is_stopping(disk) ? 0 : work->put_mono_usec;
    if (due_mono_usec < disk->put_retry_mono_usec)
        due_mono_usec = disk->put_retry_mono_usec;
    return is_due(look, due_mono_usec);
}

static bool removal_is_due(struct disk *disk, const struct disk_work *work, struct look *look)
{
    if (work->n_done == 0)
        return false;
    uint64_t pause_usec = disk->commit_interval_usec;
    if (pause_usec < removal_usec)
        pause_usec = removal_usec;
    if (disk->flush_mono_usec == 0)
        disk->flush_mono_usec = look->now_mono_usec + pause_usec;
    return disk_is_stopping(disk) || work->n_done >= FLUSH_DONE || work->is_waited_for ||
           is_due(look, disk->flush_mono_usec);
}

/* Whether what was written and not synced is still of worth. */
static bool sync_is_due(struct disk *disk, const struct disk_work *work, struct look *look)
{
    bool is_urgent = disk_is_stopping(disk) || (work->is_connected && work->has_unsynced);
    if (disk->last_ticket > disk->recorded_ticket)
        return true;
    if (!disk->needs_sync)
        return false;
    if (work->n_waiting == 0 && !disk->has_unsynced_records && !is_urgent) {
        // All that was written has been delivered: what is written next has its own interval.
        disk->needs_sync = work->has_unsynced;
        return false;
    }
    return is_urgent || is_due(look, disk->unsynced_mono_usec + disk->commit_interval_usec);
}

struct disk_step disk_next(struct disk *disk, const struct disk_work *work, uint64_t now_mono_usec)
{
    struct look look = { now_mono_usec, USEC_INFINITY };
    struct disk_step step = { .wake_mono_usec = USEC_INFINITY };
    disk->is_idle = false;
    if (disk->stop == DISK_OVER)
        return step;
    if (disk->stop == DISK_GIVES_UP) {
        disk->stop = DISK_COUNTS;
        step.gives_up = true;
        return step;
    }
    if (now_mono_usec < disk->retry_mono_usec) {
        step.wake_mono_usec = disk->retry_mono_usec;
        disk->recorded_ticket = disk->last_ticket;
        return step;
    }
    bool puts = put_is_due(disk, work, &look);
    bool removes = removal_is_due(disk, work, &look);
    bool syncs = sync_is_due(disk, work, &look);
    bool others = is_due(&look, work->other_mono_usec);
    // Counters alone are no reason to write, but at the end.
    step.runs = puts || removes || syncs || others || (disk_is_stopping(disk) && work->has_counts);
    // After a full disk only what makes room goes, until it is time to try again.
    step.puts = disk->stop < DISK_COUNTS && now_mono_usec >= disk->put_retry_mono_usec;
    // Cut off, what is written stays: the sync that would follow comes along.
    step.syncs = syncs || disk_is_stopping(disk) ||
                 (puts && !work->is_connected &&
                  now_mono_usec >= disk->synced_mono_usec + disk->commit_interval_usec);
    step.wake_mono_usec = look.wake_mono_usec;
    disk->is_idle =
        !step.runs && (work->put_mono_usec == USEC_INFINITY || disk->stop >= DISK_COUNTS);
    if (step.runs)
        disk->flush_mono_usec = 0;
    return step;
}

/* --- what became of it ----------------------------------------------------------------------- */

static void note_recorded(struct disk *disk, uint64_t ticket)
{
    if (disk->recorded_ticket < ticket)
        disk->recorded_ticket = ticket;
}

/* When to try again, while stopping; 0: not, since it has been tried often enough. */
static uint64_t stop_pause(struct disk *disk)
{
    uint64_t pause_usec = stop_retry_usec << disk->n_stop_failures;
    return ++disk->n_stop_failures < STOP_TRIES ? pause_usec : 0;
}

/* What is written and not yet through a power cut. */
static void note_sync(struct disk *disk, const struct disk_job *job, bool is_synced,
                      uint64_t now_mono_usec)
{
    bool wrote = job->n_puts > 0 || job->n_records > 0 || job->removes_latest;
    if (job->sync && is_synced) {
        disk->synced_mono_usec = now_mono_usec;
        disk->needs_sync = disk->has_unsynced_records = false;
        return;
    }
    if (job->sync || (wrote && !disk->needs_sync))
        disk->unsynced_mono_usec = now_mono_usec; // it failed: again after the interval
    disk->needs_sync |= wrote || job->sync;
    disk->has_unsynced_records |= job->n_records > 0;
    if (!job->sync || !disk_is_stopping(disk))
        return;
    uint64_t pause_usec = stop_pause(disk);
    disk->retry_mono_usec = now_mono_usec + pause_usec;
    disk->needs_sync = pause_usec > 0;
}

enum disk_news disk_done(struct disk *disk, const struct disk_job *job, bool is_synced,
                         bool has_room, bool messages_wait, uint64_t now_mono_usec)
{
    disk->retry_mono_usec = 0;
    note_sync(disk, job, is_synced, now_mono_usec);
    if (job->sync)
        note_recorded(disk, job->ticket);
    if (!disk->is_failing)
        return DISK_NO_NEWS;
    disk->n_written += job->n_puts;
    // Room that nothing was written to may be too little.
    if (messages_wait || disk->stop >= DISK_GIVES_UP || (job->n_puts == 0 && !has_room))
        return DISK_NO_NEWS;
    disk->is_failing = false;
    disk->cause[0] = '\0';
    disk->retry_usec = disk->put_retry_mono_usec = 0;
    return disk->n_written > 0 ? DISK_HAS_WRITTEN : DISK_WORKS;
}

static uint64_t pause_after_failure(struct disk *disk)
{
    if (disk->stop == DISK_STOPS)
        return stop_pause(disk);
    disk->retry_usec = clock_back_off(disk->retry_usec, retry_min_usec, retry_max_usec);
    return disk->retry_usec;
}

enum disk_news disk_failed(struct disk *disk, const struct disk_job *job, int result,
                           const char *cause, uint64_t now_mono_usec)
{
    bool is_full = result == -ENOSPC || result == -ENOBUFS;
    uint64_t pause_usec = pause_after_failure(disk);
    if (is_full && job->n_puts > 0)
        disk->put_retry_mono_usec = now_mono_usec + pause_usec;
    else
        disk->retry_mono_usec = now_mono_usec + pause_usec;
    if (disk->stop == DISK_COUNTS)
        disk->stop = DISK_OVER;
    else if (disk->stop == DISK_STOPS && pause_usec == 0)
        disk->stop = DISK_GIVES_UP;
    note_recorded(disk, job->ticket);
    if (!disk->is_failing)
        disk->n_written = 0;
    bool is_known = disk->is_failing && strcmp(cause, disk->cause) == 0;
    disk->is_failing = true;
    snprintf(disk->cause, sizeof(disk->cause), "%s", cause);
    // max_size is a bound of the user's: that is told with what is dropped.
    return is_known || result == -ENOBUFS ? DISK_NO_NEWS : DISK_FAILS;
}

/* --- tickets --------------------------------------------------------------------------------- */

uint64_t disk_ticket(struct disk *disk)
{
    return ++disk->last_ticket;
}

uint64_t disk_last_ticket(const struct disk *disk)
{
    return disk->last_ticket;
}

uint64_t disk_recorded(const struct disk *disk)
{
    return disk->recorded_ticket;
}

/* --- a stop ---------------------------------------------------------------------------------- */

void disk_stop(struct disk *disk)
{
    if (disk_is_stopping(disk))
        return;
    disk->stop = DISK_STOPS;
    disk->is_idle = false; // until disk_next() has seen it
    disk->retry_mono_usec = disk->put_retry_mono_usec = 0;
}

bool disk_is_stopping(const struct disk *disk)
{
    return disk->stop != DISK_NO_STOP;
}

bool disk_is_over(const struct disk *disk)
{
    return disk->stop == DISK_OVER || (disk_is_stopping(disk) && disk->is_idle);
}

bool disk_is_failing(const struct disk *disk)
{
    return disk->is_failing;
}

const char *disk_cause(const struct disk *disk)
{
    return disk->is_failing ? disk->cause : NULL;
}
