// SPDX-License-Identifier: LGPL-2.1-or-later
// One actuator. Owns its driver's state (through a job), what is wanted and the retries.
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
    struct wishes *wishes;
    sd_event_source *retry_timer;
    uint64_t retry_usec; // the distance to the next attempt

    bool started;
    struct value wanted;   // the newest; VALUE_NONE: none yet
    bool wanted_waits;     // newer than what the driver is doing or has done
    bool has_dropped;      // what was wanted is not any more, since actuator_take_dropped()
    struct wish *waiting;  // of wanted, while it waits; NULL: nobody's
    struct wish *working;  // of what the driver is at; likewise
    struct value restored; // becomes what is wanted with the first opening; VALUE_NONE
    struct value now;
    bool failed;
    uint64_t failed_mono_usec;
};

static const char *failure_of(const struct actuator *actuator)
{
    const struct job *job = actuator->job;
    return job->why.text[0] ? job->why.text : strerror(-job->result);
}

static void fail(struct actuator *actuator)
{
    if (!actuator->failed) {
        actuator->failed = true;
        actuator->failed_mono_usec = clock_mono_usec();
        actuator->retry_usec = 0;
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_ACTUATOR_FAILED), { "ACTUATOR", actuator_name(actuator) }),
                "actuator %s: %s; trying again until it works", actuator_name(actuator),
                failure_of(actuator));
    }
    actuator->now = (struct value){ .type = VALUE_NONE };
    actuator->retry_usec = clock_back_off(actuator->retry_usec, retry_min_usec, retry_max_usec);
    sd_event_source_set_time_relative(actuator->retry_timer, actuator->retry_usec);
    sd_event_source_set_enabled(actuator->retry_timer, SD_EVENT_ONESHOT);
}

/* What was restored is wanted from now on, unless there is one or the actuator was held. */
static void take_restored(struct actuator *actuator)
{
    const struct actuator_start *start = &actuator->job->start;
    if (actuator->wanted.type == VALUE_NONE) {
        actuator->wanted = start->held ? start->now : actuator->restored;
        actuator->wanted_waits =
            !value_equal(&actuator->wanted, &start->now) && actuator->wanted.type != VALUE_NONE;
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

/* What the driver has been set to, if anything, is what is wanted again. */
static void drop(struct actuator *actuator, const struct value *instead)
{
    actuator->wanted = *instead;
    actuator->wanted_waits = false;
    actuator->has_dropped = true;
}

static void end_failed(struct actuator *actuator, struct wish *wish)
{
    if (wish->why && !wish->why->text[0])
        why_set(wish->why, EIO, "%s: %s", actuator_name(actuator), failure_of(actuator));
    // Tried again, it would be too late.
    if (wish->expires_wall_usec != USEC_INFINITY && !actuator->wanted_waits)
        drop(actuator, &(struct value){ .type = VALUE_NONE });
    wish_end(actuator->wishes, wish, WISH_FAILED);
}

/* A call of the driver has ended. */
static void end_call(struct actuator *actuator)
{
    struct wish *wish = TAKE_PTR(actuator->working);
    const struct job *job = actuator->job;
    if (job->result < 0)
        fail(actuator);
    else
        succeed(actuator);
    if (wish && job->result < 0)
        end_failed(actuator, wish);
    else
        wish_end(actuator->wishes, wish, WISH_REACHED);
    wishes_note(actuator->wishes);
    if (actuator->waiting && clock_wall_usec() > actuator->waiting->expires_wall_usec) {
        drop(actuator, &job->value);
        wish_end(actuator->wishes, TAKE_PTR(actuator->waiting), WISH_EXPIRED);
    }
}

static void begin(struct actuator *actuator)
{
    do {
        sd_event_source_set_enabled(actuator->retry_timer, SD_EVENT_OFF);
        actuator->wanted_waits = false;
        actuator->working = TAKE_PTR(actuator->waiting);
        // Nothing is wanted: what it is, once more, or it is only opened.
        bool is_wanted = actuator->wanted.type != VALUE_NONE;
        actuator->job->value = is_wanted ? actuator->wanted : actuator->now;
        actuator->job->start = (struct actuator_start){
            .last = is_wanted ? actuator->wanted : actuator->restored,
        };
        if (!job_start(actuator->job))
            return;
        end_call(actuator);
    } while (actuator->wanted_waits);
}

static void on_finished(struct job *job)
{
    struct actuator *actuator = job->owner;
    end_call(actuator);
    if (actuator->wanted_waits) // what is newer does not wait for the retry
        begin(actuator);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct actuator *actuator = userdata;
    if (!job_busy(actuator->job))
        begin(actuator);
    return 0;
}

/* --- life and use ---------------------------------------------------------------------------- */

int actuator_new(sd_event *event, struct config *config, const struct config_section *section,
                 struct wishes *wishes, struct actuator **ret_actuator)
{
    _cleanup_(actuator_freep) struct actuator *actuator = calloc(1, sizeof(*actuator));
    if (!actuator)
        return -ENOMEM;
    actuator->wishes = wishes;
    int r = job_new(event, config, section, &actuator->job);
    if (r < 0)
        return r;
    actuator->job->finished = on_finished;
    actuator->job->owner = actuator;
    r = sd_event_add_time(event, &actuator->retry_timer, CLOCK_BOOTTIME, USEC_INFINITY,
                          USEC_PER_SEC / 10, on_retry, actuator);
    if (r < 0)
        return r;
    *ret_actuator = TAKE_PTR(actuator);
    return 0;
}

void actuator_free(struct actuator *actuator)
{
    if (!actuator)
        return;
    wish_end(actuator->wishes, actuator->working, WISH_SUPERSEDED);
    wish_end(actuator->wishes, actuator->waiting, WISH_SUPERSEDED);
    sd_event_source_disable_unref(actuator->retry_timer);
    job_free(actuator->job);
    free(actuator);
}

void actuator_start(struct actuator *actuator)
{
    if (actuator->started)
        return;
    actuator->started = true;
    begin(actuator);
}

static bool fits(const struct actuator *actuator, const struct value *value)
{
    const struct command_limits *limits = &config_actuator(actuator_section(actuator))->limits;
    const struct command_item item = { .value = *value };
    return command_check_item(&item, limits, NULL) == 0;
}

void actuator_inherit(struct actuator *actuator, const struct actuator *previous)
{
    if (fits(actuator, &previous->wanted))
        actuator->wanted = previous->wanted;
}

void actuator_restore(struct actuator *actuator, const struct value *value)
{
    if (fits(actuator, value))
        actuator->restored = *value;
}

void actuator_set(struct actuator *actuator, const struct value *value, struct wish *wish)
{
    wish_end(actuator->wishes, actuator->waiting, WISH_SUPERSEDED);
    actuator->waiting = wish;
    actuator->wanted = *value;
    if (job_busy(actuator->job))
        actuator->wanted_waits = true;
    else
        begin(actuator);
}

void actuator_node_changed(struct actuator *actuator, const char *name)
{
    const struct driver *driver = actuator->job->section->driver;
    if (actuator->started && driver_has_node(driver, name) && !job_busy(actuator->job))
        begin(actuator);
}

bool actuator_take_dropped(struct actuator *actuator)
{
    bool has_dropped = actuator->has_dropped;
    actuator->has_dropped = false;
    return has_dropped;
}

const struct value *actuator_wanted(const struct actuator *actuator)
{
    return &actuator->wanted;
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
