// SPDX-License-Identifier: LGPL-2.1-or-later
// One actuator. Owns its driver's state (through a job), the wish that waits and the retries.
#include "device/actuator.h"

#include <string.h>

#include "device/job.h"
#include "drivers/driver.h"
#include "util/clock.h"
#include "util/log.h"

static const uint64_t retry_min_usec = 1 * USEC_PER_SEC;
static const uint64_t retry_max_usec = 60 * USEC_PER_SEC;

struct actuator {
    struct job *job;
    const struct actuator_handlers *handlers;
    void *userdata;
    sd_event_source *retry_timer;
    uint64_t retry_usec; // the distance to the next attempt

    bool started;
    uint64_t wish_ticket;  // of the newest wish
    uint64_t job_ticket;   // of the one that the driver is or was at
    struct value wish;     // VALUE_NONE: none yet
    bool wish_waits;       // newer than what the driver is doing or has done
    struct value restored; // becomes the wish with the first opening; VALUE_NONE
    struct value now;
    bool failed;
    uint64_t failed_mono_usec;
};

static void begin(struct actuator *actuator)
{
    sd_event_source_set_enabled(actuator->retry_timer, SD_EVENT_OFF);
    actuator->wish_waits = false;
    actuator->job_ticket = actuator->wish_ticket;
    // Without a wish: what it is, once more, or it is only opened.
    actuator->job->value = actuator->wish.type != VALUE_NONE ? actuator->wish : actuator->now;
    actuator->job->start = (struct actuator_start){
        .last = actuator->wish.type != VALUE_NONE ? actuator->wish : actuator->restored,
    };
    job_start(actuator->job);
}

static void fail(struct actuator *actuator)
{
    if (!actuator->failed) {
        actuator->failed = true;
        actuator->failed_mono_usec = clock_mono_usec();
        actuator->retry_usec = 0;
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_ACTUATOR_FAILED), { "ACTUATOR", actuator_name(actuator) }),
                "actuator %s: %s; trying again until it works", actuator_name(actuator),
                actuator_failure(actuator));
    }
    actuator->now = (struct value){ .type = VALUE_NONE };
    actuator->retry_usec = clock_back_off(actuator->retry_usec, retry_min_usec, retry_max_usec);
    sd_event_source_set_time_relative(actuator->retry_timer, actuator->retry_usec);
    sd_event_source_set_enabled(actuator->retry_timer, SD_EVENT_ONESHOT);
}

/* What was restored is the wish from now on, unless there is one or the actuator was held. */
static void take_restored(struct actuator *actuator)
{
    const struct actuator_start *start = &actuator->job->start;
    if (actuator->wish.type == VALUE_NONE) {
        actuator->wish = start->held ? start->now : actuator->restored;
        actuator->wish_waits =
            !value_equal(&actuator->wish, &start->now) && actuator->wish.type != VALUE_NONE;
    }
    actuator->restored = (struct value){ .type = VALUE_NONE };
}

static void succeed(struct actuator *actuator)
{
    const struct job *job = actuator->job;
    char span[32];
    if (job->value.type != VALUE_NONE)
        actuator->now = job->value;
    else if (job->was_opened)
        actuator->now = job->start.now;
    if (job->was_opened)
        take_restored(actuator);
    if (!actuator->failed)
        return;
    actuator->failed = false;
    log_notice(
        LOG_FIELDS(LOG_ID(LOG_ID_ACTUATOR_BACK), { "ACTUATOR", actuator_name(actuator) }),
        "actuator %s works again after %s", actuator_name(actuator),
        clock_format_span(clock_mono_usec() - actuator->failed_mono_usec, span, sizeof(span)));
}

static void on_finished(struct job *job)
{
    struct actuator *actuator = job->owner;
    if (job->result < 0)
        fail(actuator);
    else
        succeed(actuator);
    actuator->handlers->settled(actuator->userdata, actuator);
    if (actuator->wish_waits) // a newer wish does not wait for the retry
        begin(actuator);
    else
        actuator->handlers->rested(actuator->userdata, actuator);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct actuator *actuator = userdata;
    if (!job_busy(actuator->job))
        begin(actuator);
    return 0;
}

/* --- what a job asks of an actuator's driver ------------------------------------------------- */

static const struct actuator_driver *driver_of(const struct job *job)
{
    return job->section->driver;
}

static int job_open(struct job *job, void **ret_state)
{
    return driver_of(job)->open(job->section->driver_data,
                                config_actuator(job->section)->limits.type, ret_state, &job->start,
                                &job->why);
}

static int job_set(struct job *job, void *state)
{
    return job->value.type == VALUE_NONE ? 0 : driver_of(job)->set(state, &job->value, &job->why);
}

static void job_close(struct job *job, void *state)
{
    driver_of(job)->close(state);
}

static void job_cancel(struct job *job, void *state)
{
    if (driver_of(job)->cancel)
        driver_of(job)->cancel(state);
}

static const struct job_calls actuator_calls = { job_open, job_set, job_close, job_cancel };

/* --- life and use ---------------------------------------------------------------------------- */

int actuator_new(sd_event *event, struct config *config, const struct config_section *section,
                 const struct actuator_handlers *handlers, void *userdata,
                 struct actuator **ret_actuator)
{
    _cleanup_(actuator_freep) struct actuator *actuator = calloc(1, sizeof(*actuator));
    if (!actuator)
        return -ENOMEM;
    const struct actuator_driver *driver = section->driver;
    actuator->handlers = handlers;
    actuator->userdata = userdata;
    int r = job_new(event, config, section, &actuator_calls, driver->blocking, on_finished,
                    actuator, &actuator->job);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(event, &actuator->retry_timer, CLOCK_BOOTTIME, retry_min_usec,
                                   USEC_PER_SEC / 10, on_retry, actuator);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(actuator->retry_timer, SD_EVENT_OFF);
    *ret_actuator = TAKE_PTR(actuator);
    return 0;
}

void actuator_free(struct actuator *actuator)
{
    if (!actuator)
        return;
    sd_event_source_disable_unref(actuator->retry_timer);
    job_free(actuator->job);
    free(actuator);
}

void actuator_start(struct actuator *actuator)
{
    if (actuator->started)
        return;
    actuator->started = true;
    begin(actuator); // without a wish this only opens the driver
}

static bool fits(const struct actuator *actuator, const struct value *value)
{
    const struct command_limits *limits = &config_actuator(actuator_section(actuator))->limits;
    const struct command_item item = { .value = *value };
    return command_check_item(&item, limits, NULL) == 0;
}

void actuator_inherit(struct actuator *actuator, const struct actuator *previous)
{
    if (fits(actuator, &previous->wish))
        actuator->wish = previous->wish;
}

void actuator_restore(struct actuator *actuator, const struct value *value)
{
    if (fits(actuator, value))
        actuator->restored = *value;
}

uint64_t actuator_set(struct actuator *actuator, const struct value *value)
{
    uint64_t ticket = ++actuator->wish_ticket;
    actuator->wish = *value;
    if (job_busy(actuator->job))
        actuator->wish_waits = true;
    else
        begin(actuator);
    return ticket;
}

void actuator_node_changed(struct actuator *actuator, const char *name)
{
    const struct actuator_driver *driver = actuator->job->section->driver;
    if (actuator->started && driver_has_node(driver->node, name) && !job_busy(actuator->job))
        begin(actuator);
}

void actuator_drop(struct actuator *actuator, uint64_t ticket)
{
    if (ticket != actuator->wish_ticket)
        return;
    bool waits = actuator->wish_waits;
    actuator->wish_waits = false;
    actuator->wish = waits ? actuator->job->value : (struct value){ .type = VALUE_NONE };
    actuator->wish_ticket++; // nobody's
}

enum actuator_outcome actuator_outcome(const struct actuator *actuator, uint64_t ticket)
{
    if (ticket == actuator->job_ticket) {
        if (job_busy(actuator->job))
            return ACTUATOR_PENDING;
        return actuator->job->result < 0 ? ACTUATOR_FAILED : ACTUATOR_REACHED;
    }
    return ticket == actuator->wish_ticket ? ACTUATOR_PENDING : ACTUATOR_SUPERSEDED;
}

const char *actuator_failure(const struct actuator *actuator)
{
    const struct job *job = actuator->job;
    return job->why.text[0] ? job->why.text : strerror(-job->result);
}

const struct value *actuator_wish(const struct actuator *actuator)
{
    return &actuator->wish;
}

const struct config_section *actuator_section(const struct actuator *actuator)
{
    return actuator->job->section;
}

const char *actuator_name(const struct actuator *actuator)
{
    return actuator->job->section->name;
}

bool actuator_has_failed(const struct actuator *actuator)
{
    return actuator->failed;
}

bool actuator_is_moving(const struct actuator *actuator)
{
    return job_busy(actuator->job);
}

const struct value *actuator_now(const struct actuator *actuator)
{
    return &actuator->now;
}
