// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A thread that does what may sleep, one job at a time, and hands each back to the main loop.
 *
 * struct worker_job is the first member of the caller's own job. worker_run() lends the job to the
 * thread; run() is called there; then done() on the main loop, which has the job back. A worker
 * that is freed meanwhile does not wait: when run() has returned, abandoned() is called in the
 * thread, which owns the job from then on. Who can make run() return sooner does so before.
 *
 * The thread starts with the first job. All signals are blocked in it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

/*
 * The thread's stack, small since there are many threads, and 32-bit machines. It holds four times
 * what the store takes of it at most (tests/unit/test-store-stack.c measures that).
 */
enum { WORKER_STACK_SIZE = 256 << 10 };

struct worker;

struct worker_job {
    void (*run)(struct worker_job *job);       // in the thread
    void (*done)(struct worker_job *job);      // on the main loop, after run(); may free the worker
    void (*abandoned)(struct worker_job *job); // in the thread: nobody waits any more, free it all
};

/* name: for `top -H`, cut to 15 bytes. 0, -ENOMEM, or what sd_event_add_io() returns. */
int worker_new(sd_event *event, const char *name, struct worker **ret_worker);

/* NULL is fine. Never blocks; see above. */
void worker_free(struct worker *worker);
DEFINE_CLEANUP(struct worker *, worker_free)

/* Whether a job is under way: lent to the thread and not yet done(). */
bool worker_busy(const struct worker *worker);

/* 0, -EBUSY while a job is under way, -EAGAIN or -ENOMEM if no thread can be had. */
int worker_run(struct worker *worker, struct worker_job *job);

/*
 * Waits until no thread of a freed worker is left in this process, for limit_usec at the most; how
 * many are left. With one left, exit(3) is not safe: what it tears down (OpenSSL, stdio) may be in
 * use there. Leave by _exit(2) then.
 */
unsigned worker_wait_for_orphans(uint64_t limit_usec);
