// SPDX-License-Identifier: LGPL-2.1-or-later
// Runs a driver's calls, in a worker where they may sleep. Owns the driver's state; must not log.
#include "device/job.h"

#include <assert.h>

static void set_state(struct job *job, void *state)
{
    pthread_mutex_lock(&job->lock);
    job->state = state;
    pthread_mutex_unlock(&job->lock);
}

static void close_driver(struct job *job)
{
    void *state = job->state;
    if (!state)
        return;
    set_state(job, NULL); // from here on nobody cancels it
    job->calls->close(job, state);
}

static void run(struct worker_job *base)
{
    struct job *job = (struct job *)base;
    job->why.text[0] = '\0';
    job->was_opened = false;
    if (job->broken)
        close_driver(job);
    job->broken = false;
    job->result = 0;
    if (!job->state) {
        void *state = NULL;
        job->result = job->calls->open(job, &state);
        if (job->result < 0)
            return;
        assert(state);
        set_state(job, state);
        job->was_opened = true;
    }
    job->result = job->calls->perform(job, job->state);
    job->broken = job->result < 0;
}

static void done(struct worker_job *base)
{
    struct job *job = (struct job *)base;
    job->finished(job);
}

/* Of a call under way; it may have returned meanwhile. */
static void cancel(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    if (job->state)
        job->calls->cancel(job, job->state);
    pthread_mutex_unlock(&job->lock);
}

static void destroy(struct worker_job *base)
{
    struct job *job = (struct job *)base;
    close_driver(job);
    pthread_mutex_destroy(&job->lock);
    config_unref(job->config);
    free(job);
}

int job_new(sd_event *event, struct config *config, const struct config_section *section,
            const struct job_calls *calls, bool blocking, void (*finished)(struct job *job),
            void *owner, struct job **ret_job)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job)
        return -ENOMEM;
    *job = (struct job){
        .base = { .run = run, .done = done, .abandoned = destroy },
        .calls = calls,
        .config = config_ref(config),
        .section = section,
        .finished = finished,
        .owner = owner,
    };
    pthread_mutex_init(&job->lock, NULL);
    int r = blocking ? worker_new(event, section->name, &job->worker) : 0;
    if (r < 0) {
        destroy(&job->base);
        return r;
    }
    *ret_job = job;
    return 0;
}

/* Closing may sleep as well as any other call: it is left to the thread. */
static void close_only(struct worker_job *base)
{
    (void)base; // abandoned() does it
}

void job_free(struct job *job)
{
    if (!job)
        return;
    struct worker *worker = job->worker;
    if (!worker) {
        destroy(&job->base);
        return;
    }
    if (worker_busy(worker)) {
        cancel(job);
    } else {
        job->base.run = close_only;
        if (!job->state || worker_run(worker, &job->base) < 0) {
            worker_free(worker);
            destroy(&job->base);
            return;
        }
    }
    worker_free(worker); // the thread owns the job now
}

bool job_busy(const struct job *job)
{
    return job->worker && worker_busy(job->worker);
}

void job_start(struct job *job)
{
    assert(!job_busy(job));
    if (!job->worker) {
        run(&job->base);
        done(&job->base);
        return;
    }
    int r = worker_run(job->worker, &job->base);
    if (r < 0) { // no thread to be had: a failure like any other
        job->result = why_set(&job->why, -r, "no thread for the driver");
        done(&job->base);
    }
}
