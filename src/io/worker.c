// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The thread behind worker.h. One structure, shared under its lock; the thread is detached from
 * birth, so that nobody ever joins it, and whichever side leaves last frees the structure.
 */
#include "io/worker.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "util/clock.h"

static atomic_uint n_orphans; // threads of freed workers

struct worker {
    // The main loop's alone.
    sd_event_source *source;
    bool has_thread;

    // Shared, under lock. name never changes once the thread is there.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct worker_job *job; // lent to the thread
    bool has_run;           // run() of job has returned
    bool is_orphan;         // worker_free() was called: the thread frees all
    int event_fd;
    char name[16];
};

static void free_now(struct worker *worker)
{
    closep(&worker->event_fd);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

static void *thread_main(void *userdata)
{
    struct worker *worker = userdata;
    pthread_setname_np(pthread_self(), worker->name);

    pthread_mutex_lock(&worker->lock);
    while (!worker->is_orphan) {
        if (!worker->job || worker->has_run) {
            pthread_cond_wait(&worker->changed, &worker->lock);
            continue;
        }
        struct worker_job *job = worker->job;
        pthread_mutex_unlock(&worker->lock);
        job->run(job);
        pthread_mutex_lock(&worker->lock);
        worker->has_run = true;
        pthread_mutex_unlock(&worker->lock);
        // Cannot fail: the counter is far from its limit. The orphan's has no reader. Without the
        // lock, which the main loop would else wait for as soon as it has woken up.
        eventfd_write(worker->event_fd, 1);
        pthread_mutex_lock(&worker->lock);
    }
    struct worker_job *left_over = worker->job;
    pthread_mutex_unlock(&worker->lock);

    if (left_over)
        left_over->abandoned(left_over);
    free_now(worker);
    atomic_fetch_sub(&n_orphans, 1);
    return NULL;
}

static int start_thread(struct worker *worker)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, previous;

    int r = pthread_attr_init(&attributes);
    if (r)
        return -r;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_SIZE);

    // Inherited by the thread: signals are the main loop's.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    r = pthread_create(&thread, &attributes, thread_main, worker);
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    pthread_attr_destroy(&attributes);
    if (r)
        return -r;
    worker->has_thread = true;
    return 0;
}

static int on_event(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct worker *worker = userdata;
    eventfd_t count;
    (void)source;
    (void)revents;

    if (eventfd_read(fd, &count) < 0)
        return 0;
    pthread_mutex_lock(&worker->lock);
    struct worker_job *job = TAKE_PTR(worker->job);
    assert(job && worker->has_run);
    pthread_mutex_unlock(&worker->lock);
    job->done(job); // may free the worker
    return 0;
}

int worker_new(sd_event *event, const char *name, struct worker **ret_worker)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    if (!worker)
        return -ENOMEM;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    snprintf(worker->name, sizeof(worker->name), "%s", name);

    worker->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = worker->event_fd < 0 ? -errno
                                 : sd_event_add_io(event, &worker->source, worker->event_fd,
                                                   EPOLLIN, on_event, worker);
    if (r < 0) {
        free_now(worker);
        return r;
    }
    *ret_worker = worker;
    return 0;
}

void worker_free(struct worker *worker)
{
    if (!worker)
        return;
    sd_event_source_disable_unref(worker->source);
    if (!worker->has_thread) {
        free_now(worker);
        return;
    }
    atomic_fetch_add(&n_orphans, 1);
    pthread_mutex_lock(&worker->lock);
    worker->is_orphan = true;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

bool worker_busy(const struct worker *worker)
{
    // Only the main loop sets and clears it, so that it may read it without the lock.
    return worker->job;
}

int worker_run(struct worker *worker, struct worker_job *job)
{
    if (worker_busy(worker))
        return -EBUSY;
    if (!worker->has_thread) {
        int r = start_thread(worker);
        if (r < 0)
            return r;
    }
    pthread_mutex_lock(&worker->lock);
    worker->job = job;
    worker->has_run = false;
    pthread_mutex_unlock(&worker->lock);
    pthread_cond_signal(&worker->changed); // now: it would wake up only to wait for the lock
    return 0;
}

unsigned worker_wait_for_orphans(uint64_t limit_usec)
{
    uint64_t end_mono_usec = clock_mono_usec() + limit_usec;
    while (atomic_load(&n_orphans) > 0 && clock_mono_usec() < end_mono_usec)
        usleep(1000);
    return atomic_load(&n_orphans);
}
