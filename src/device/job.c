// SPDX-License-Identifier: LGPL-2.1-or-later
// Runs a driver's calls, in a worker where they may sleep. Owns the driver's state; must not log.
#include "device/job.h"

#include <assert.h>
#include <string.h>

/* --- the driver, whose kind the section says ------------------------------------------------- */

static const struct driver *driver_of(const struct job *job)
{
    return job->section->driver;
}

static int call_open(struct job *job, void **ret_state)
{
    const struct config_section *section = job->section;
    if (job->is_sensor) {
        const struct sensor_driver *driver = section->driver;
        return driver->open(section->driver_data, ret_state, &job->why);
    }
    const struct actuator_driver *driver = section->driver;
    return driver->open(section->driver_data, config_actuator(section)->limits.type, ret_state,
                        &job->start, &job->why);
}

static int call(struct job *job)
{
    if (job->is_sensor) {
        const struct sensor_driver *driver = job->section->driver;
        return driver->read(job->state, &job->reading, &job->why);
    }
    if (job->value.type == VALUE_NONE)
        return 0; // it was to be opened
    const struct actuator_driver *driver = job->section->driver;
    return driver->set(job->state, &job->value, &job->why);
}

/* --- calls ----------------------------------------------------------------------------------- */

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
    driver_of(job)->close(state);
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
        job->result = call_open(job, &state);
        if (job->result < 0)
            return;
        assert(state);
        set_state(job, state);
        job->was_opened = true;
    }
    job->result = call(job);
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
    const struct driver *driver = driver_of(job);
    pthread_mutex_lock(&job->lock);
    if (job->state && driver->cancel)
        driver->cancel(job->state);
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
            struct job **ret_job)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job)
        return -ENOMEM;
    *job = (struct job){
        .base = { .run = run, .done = done, .abandoned = destroy },
        .config = config_ref(config),
        .section = section,
        .is_sensor = strcmp(section->schema->name, "sensor") == 0,
    };
    pthread_mutex_init(&job->lock, NULL);
    int r = driver_of(job)->blocking ? worker_new(event, section->name, &job->worker) : 0;
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

bool job_start(struct job *job)
{
    assert(!job_busy(job));
    if (!job->worker) {
        run(&job->base);
        return true;
    }
    int r = worker_run(job->worker, &job->base);
    if (r == 0)
        return false;
    // No thread to be had: a failure like any other.
    job->was_opened = false;
    job->result = why_set(&job->why, -r, "no thread for the driver");
    return true;
}
