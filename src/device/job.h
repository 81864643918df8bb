// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One driver at work: opens it when needed, performs one call at a time, closes it after a failure
 * so that the next call opens it anew. A blocking driver runs in a worker of its own, any other at
 * once.
 *
 *     job_new(), set job->finished; job_start() whenever !job_busy(); look at job->result when it
 *     says so, else in finished().
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

struct job {
    struct worker_job base; // first: the worker knows no more
    struct config *config;  // keeps section alive
    const struct config_section *section;
    bool is_sensor;        // else an actuator
    struct worker *worker; // NULL: the driver does not block
    // The owner's: a call that job_start() began has ended. From the loop alone.
    void (*finished)(struct job *job);
    void *owner;

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

/*
 * section: a sensor's or an actuator's, of config. Its driver, if it blocks, gets a worker. 0,
 * -ENOMEM or what sd-event returns.
 */
int job_new(sd_event *event, struct config *config, const struct config_section *section,
            struct job **ret_job);

/* Never blocks: a call under way in the worker is cancelled and cleans up after itself. */
void job_free(struct job *job);

bool job_busy(const struct job *job);

/*
 * Begins a call: a sensor is read, an actuator set. Whether it has ended already, since the driver
 * does not block or no thread can be had; else finished() is called. Not while busy.
 */
bool job_start(struct job *job);
