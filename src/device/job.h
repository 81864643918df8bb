// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One driver at work: opens it when needed, performs one call at a time, closes it after a failure
 * so that the next call opens it anew. A blocking driver runs in a worker of its own, any other at
 * once; either way finished() is called on the main loop.
 *
 *     job_new(), job_start() whenever !job_busy(), look at job->result in finished().
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "core/value.h"
#include "drivers/driver.h"
#include "io/worker.h"

struct job;

/* How a job speaks to its kind of driver; called where the driver runs. */
struct job_calls {
    int (*open)(struct job *job, void **ret_state);
    int (*perform)(struct job *job, void *state); // NULL state never comes here
    void (*close)(struct job *job, void *state);
    void (*cancel)(struct job *job, void *state); // main loop
};

struct job {
    struct worker_job base; // first: the worker knows no more
    const struct job_calls *calls;
    struct config *config; // keeps section alive
    const struct config_section *section;
    struct worker *worker; // NULL: the driver does not block
    void (*finished)(struct job *job);
    void *owner; // of finished()

    pthread_mutex_t lock; // for state, between the worker and job_free()'s cancel
    void *state;          // the driver's; NULL while closed
    bool broken;          // the last call failed: close before the next

    // In and out of a call:
    int result;
    struct why why;
    double reading;              // of a sensor
    struct value value;          // an actuator is to be set to it; VALUE_NONE: only open
    struct actuator_start start; // of an actuator, for open()
    bool was_opened;             // the last call opened the driver
};

/* blocking: run in a worker named after the section. 0, -ENOMEM or what sd-event returns. */
int job_new(sd_event *event, struct config *config, const struct config_section *section,
            const struct job_calls *calls, bool blocking, void (*finished)(struct job *job),
            void *owner, struct job **ret_job);

/* Never blocks: a call under way in the worker is cancelled and cleans up after itself. */
void job_free(struct job *job);

bool job_busy(const struct job *job);

/* Begins a call, which without a worker is finished() before this returns. Not while busy. */
void job_start(struct job *job);
