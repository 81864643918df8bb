// SPDX-License-Identifier: LGPL-2.1-or-later
// The device role. Owns the actuators, the uplink and the topics; brings together what comes from
// sensors, rules and the broker.
#include "device/device.h"

#include <assert.h>
#include <string.h>
#include <sys/inotify.h>

#include "core/command.h"
#include "device/actions.h"
#include "device/actuators.h"
#include "device/commander.h"
#include "device/journal.h"
#include "device/localrules.h"
#include "device/streams.h"
#include "device/telemetry.h"
#include "device/topics.h"
#include "outbox/uplink.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"

struct device {
    sd_event *event;
    struct spool *spool;
    struct owner owner;
    struct config *config;
    struct topics *topics;
    struct uplink *uplink;
    struct telemetry *telemetry;
    struct localrules *rules;
    struct actuators *actuators;
    struct journal *journal;
    struct commander *commander;
    struct actions *actions;
    uint64_t lost_mono_usec; // the connection; 0 while there is one
    bool stopping;
    sd_event_source *nodes_source;  // watches /dev
    sd_event_source *goodbye_timer; // until it is said, stopping
    uint64_t end_mono_usec;         // of the stop
    struct ratelimit story;         // info lines
};

// Messages a second that come in for a device: an order of magnitude beyond what actuators follow.
enum {
    MAX_COMMAND_RATE = 1000,
    RECEIVE_MAXIMUM = 100, // and what libmosquitto keeps of those at QoS 2
};
// How long a stop waits for actuators that are set to `safe`; daemon.c has a limit for all of it.
static const uint64_t safe_limit_usec = 400 * USEC_PER_MSEC;
static const struct ratelimit story_limit = { .interval_usec = USEC_PER_SEC, .burst = 20 };

/* --- state ----------------------------------------------------------------------------------- */

static void tell(const struct device *device, enum owner_event event)
{
    device->owner.told(device->owner.userdata, event);
}

static void publish_state(struct device *device)
{
    if (actuators_count(device->actuators) == 0 || !uplink_is_connected(device->uplink))
        return;
    _cleanup_(freep) char *payload = actuators_state(device->actuators);
    if (payload)
        uplink_publish(device->uplink, &(struct outbox_message){
                                           .stream = streams_state,
                                           .subject = topics_own(device->topics, TOPICS_STATE),
                                           .payload = payload,
                                           .qos = -1 });
}

static void say_goodbye(struct device *device)
{
    device->goodbye_timer = sd_event_source_disable_unref(device->goodbye_timer);
    uplink_stop(device->uplink, device->end_mono_usec);
}

static int on_goodbye_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    say_goodbye(userdata);
    return 0;
}

static void on_rested(void *userdata)
{
    struct device *device = userdata;
    publish_state(device);
    tell(device, OWNER_CHANGED);
    if (device->goodbye_timer)
        say_goodbye(device);
}

static void on_rule(void *userdata, const char *rule, const struct command *command)
{
    struct device *device = userdata;
    if (ratelimit_pass(&device->story, clock_mono_usec(), NULL))
        log_info(LOG_FIELDS({ "DEVICE", device->config->daemon->id }, { "RULE", rule }),
                 "rule %s decides %s", rule, command->json);
    for (size_t i = 0; i < command->n_items; i++) {
        const struct command_item *item = &command->items[i];
        actuators_set(device->actuators, actuators_find(device->actuators, item->key), &item->value,
                      0, 0, NULL);
    }
}

/* --- telemetry ------------------------------------------------------------------------------- */

static void on_reading(void *userdata, size_t i, double value, uint64_t mono_usec)
{
    struct device *device = userdata;
    localrules_reading(device->rules, i, value, mono_usec);
    actions_reading(device->actions, config_nth(device->config, "sensor", i)->name, value);
}

/* --- hardware that comes and goes ------------------------------------------------------------ */

static int on_node(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
    (void)source;
    struct device *device = userdata;
    if (event->len == 0 || device->stopping)
        return 0;
    telemetry_node_changed(device->telemetry, event->name);
    actuators_node_changed(device->actuators, event->name);
    return 0;
}

/*
 * Linux 6.1 does not wake who waits for an edge of a chip that is pulled out, and no kernel wakes
 * who drives an output; that the chip's node goes, all can see. One that comes is of use once udev
 * has handed it over, which changes its attributes.
 */
static void watch_nodes(struct device *device)
{
    int r = sd_event_add_inotify(device->event, &device->nodes_source, "/dev",
                                 IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR, on_node, device);
    if (r < 0)
        log_warning(NULL,
                    "cannot watch /dev (%s): a GPIO chip that goes is noticed when it is used",
                    strerror(-r));
}

/* --- the uplink ------------------------------------------------------------------------------ */

/* 0: there is a connection. */
static void set_lost(struct device *device, uint64_t lost_mono_usec)
{
    device->lost_mono_usec = lost_mono_usec;
    localrules_set_lost(device->rules, lost_mono_usec);
    actuators_set_lost(device->actuators, lost_mono_usec);
}

static void greet(struct device *device)
{
    set_lost(device, 0);
    uplink_subscribe(device->uplink, topics_own(device->topics, TOPICS_COMMANDS));
    uplink_subscribe(device->uplink, topics_own(device->topics, TOPICS_GROUP_COMMANDS));
    publish_state(device);
    telemetry_publish_now(device->telemetry, NULL);
}

static void on_uplink(void *userdata, const struct uplink_event *event)
{
    struct device *device = userdata;
    switch (event->type) {
    case UPLINK_CONNECTED:
        greet(device);
        break;
    case UPLINK_MESSAGE:
        commander_take(device->commander, event->message); // nothing else is subscribed to
        break;
    case UPLINK_CHANGED:
        if (device->lost_mono_usec == 0 && !uplink_is_connected(device->uplink) &&
            !device->stopping)
            set_lost(device, clock_mono_usec());
        tell(device, event->is_news ? OWNER_CHANGED : OWNER_COUNTED);
        break;
    case UPLINK_RECORDED:
        actions_recorded(device->actions, event->ticket);
        break;
    case UPLINK_STOPPED:
        tell(device, OWNER_STOPPED);
        break;
    case UPLINK_STATUS:
    case UPLINK_UNHEARD:
        break;
    }
}

/* --- configuration --------------------------------------------------------------------------- */

struct device_plan {
    struct config *config;
    struct topics *topics;
    struct localrules *rules;
    struct actuators_plan *actuators;
    struct telemetry_plan *telemetry;
    struct uplink_plan *uplink;
};

void device_plan_free(struct device_plan *plan)
{
    if (!plan)
        return;
    topics_free(plan->topics);
    localrules_free(plan->rules);
    actuators_plan_free(plan->actuators);
    telemetry_plan_free(plan->telemetry);
    uplink_plan_free(plan->uplink);
    config_unref(plan->config);
    free(plan);
}

/* Makes the uplink, if there is none yet. */
static int prepare_uplink(struct device *device, struct config *config,
                          struct uplink_plan **ret_plan)
{
    size_t n_policies;
    _cleanup_(freep) struct stream_policy *policies = streams_make(config, &n_policies);
    if (!policies)
        return -ENOMEM;
    const struct uplink_options options = {
        .role = { .client_suffix = "",
                  .has_status = true,
                  .receive_maximum = RECEIVE_MAXIMUM,
                  .max_rate = MAX_COMMAND_RATE },
        .adopts = true,
        .streams = policies,
        .n_streams = n_policies,
    };
    if (device->uplink)
        return uplink_prepare(device->uplink, config, &options, false, ret_plan);
    return uplink_new(device->event, device->spool, config, &options, on_uplink, device,
                      &device->uplink);
}

int device_prepare(struct device *device, struct config *config, struct device_plan **ret_plan,
                   struct why *why)
{
    _cleanup_(device_plan_freep) struct device_plan *plan = calloc(1, sizeof(*plan));
    if (!plan)
        return -ENOMEM;
    plan->config = config_ref(config);
    int r = topics_new(config, &plan->topics);
    if (r == 0)
        r = localrules_new(device->event, config, device->rules, on_rule, device, &plan->rules);
    if (r == 0)
        r = actuators_prepare(device->actuators, config, &plan->actuators, why);
    if (r == 0)
        r = telemetry_prepare(device->telemetry, config, &plan->telemetry, why);
    if (r == 0)
        r = prepare_uplink(device, config, &plan->uplink);
    if (r < 0)
        return r;
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

/* Puts a plan into force and frees it; new actuators wait for actuators_start(). */
static void take_plan(struct device *device, struct device_plan *plan)
{
    topics_free(device->topics);
    device->topics = TAKE_PTR(plan->topics);
    uplink_commit(device->uplink, TAKE_PTR(plan->uplink));
    telemetry_commit(device->telemetry, TAKE_PTR(plan->telemetry));
    localrules_free(device->rules);
    device->rules = TAKE_PTR(plan->rules);
    actuators_commit(device->actuators, plan->config, device->rules, TAKE_PTR(plan->actuators));
    config_unref(device->config);
    device->config = TAKE_PTR(plan->config);
    commander_configure(device->commander, device->config,
                        topics_own(device->topics, TOPICS_REPLIES));
    device_plan_free(plan);
}

void device_commit(struct device *device, struct device_plan *plan)
{
    take_plan(device, plan);
    actuators_start(device->actuators);
}

static void recall_actuator(void *userdata, const char *key, const char *value)
{
    struct device *device = userdata;
    actuators_recall(device->actuators, key, value);
}

static void recall_command(void *userdata, const char *key, const char *value)
{
    struct device *device = userdata;
    journal_recall(device->journal, key, value);
}

/* What an earlier run has written down, before the first actuator is opened. */
static void recall(struct device *device)
{
    struct why why = { "" };
    int r = spool_records(device->spool, actuators_space, recall_actuator, device, &why);
    if (r >= 0)
        r = spool_records(device->spool, journal_space, recall_command, device, &why);
    journal_recalled(device->journal);
    if (r < 0)
        log_warning(NULL,
                    "what the actuators were last, and which commands were carried out, is not "
                    "known: %s",
                    why.text);
}

/* --- life ------------------------------------------------------------------------------------ */

static int make_objects(struct device *device, struct config *config)
{
    int r = prepare_uplink(device, config, NULL);
    if (r < 0)
        return r;
    struct outbox *outbox = uplink_outbox(device->uplink);
    r = telemetry_new(device->event, device->uplink, &device->story, &device->owner, on_reading,
                      device, &device->telemetry);
    if (r >= 0)
        r = actuators_new(device->event, outbox, spool_boot(device->spool), on_rested, device,
                          &device->actuators);
    if (r >= 0)
        r = journal_new(outbox, &device->journal);
    if (r >= 0)
        r = actions_new(device->event, device->telemetry, &device->owner, &device->actions);
    if (r >= 0)
        r = commander_new(device->uplink, device->actuators, device->journal, device->actions,
                          &device->story, &device->commander);
    return r;
}

int device_new(sd_event *event, struct spool *spool, struct config *config,
               const struct owner *owner, struct device **ret_device, struct why *why)
{
    struct device_plan *plan;
    _cleanup_(device_freep) struct device *device = calloc(1, sizeof(*device));
    if (!device)
        return -ENOMEM;
    device->event = sd_event_ref(event);
    device->spool = spool;
    device->owner = *owner;
    device->story = story_limit;
    device->lost_mono_usec = clock_mono_usec();
    int r = make_objects(device, config);
    if (r >= 0)
        r = device_prepare(device, config, &plan, why);
    if (r < 0)
        return r;
    take_plan(device, plan);
    *ret_device = TAKE_PTR(device);
    return 0;
}

void device_start(struct device *device)
{
    recall(device);
    actuators_start(device->actuators);
    uplink_start(device->uplink);
    set_lost(device, device->lost_mono_usec);
    watch_nodes(device);
}

void device_free(struct device *device)
{
    if (!device)
        return;
    sd_event_source_disable_unref(device->nodes_source);
    sd_event_source_disable_unref(device->goodbye_timer);
    localrules_free(device->rules);
    actions_free(device->actions);
    actuators_free(device->actuators);
    commander_free(device->commander);
    journal_free(device->journal);
    telemetry_free(device->telemetry);
    uplink_free(device->uplink);
    topics_free(device->topics);
    config_unref(device->config);
    sd_event_unref(device->event);
    free(device);
}

void device_reloaded(struct device *device, const char *failure)
{
    actions_reloaded(device->actions, failure);
}

void device_stop(struct device *device, uint64_t end_mono_usec)
{
    device->stopping = true;
    device->end_mono_usec = end_mono_usec;
    bool any_set = actuators_exit(device->actuators);
    if (any_set && actuators_are_moving(device->actuators) &&
        sd_event_add_time_relative(device->event, &device->goodbye_timer, CLOCK_BOOTTIME,
                                   safe_limit_usec, 0, on_goodbye_timer, device) >= 0)
        return; // the last that is said of them is what they are
    if (any_set)
        publish_state(device);
    say_goodbye(device);
}

bool device_is_settled(const struct device *device)
{
    if (actuators_are_moving(device->actuators))
        return false;
    return telemetry_is_settled(device->telemetry);
}

const char *device_describe(const struct device *device, char *out, size_t size)
{
    char uplink[256];
    size_t n_failed_actuators = actuators_n_failed(device->actuators);
    size_t n_failed_sensors = telemetry_n_failed(device->telemetry);
    int length = snprintf(out, size, "Device %s: %s", device->config->daemon->id,
                          uplink_describe(device->uplink, uplink, sizeof(uplink)));
    if (n_failed_sensors > 0 && length > 0 && (size_t)length < size)
        length += snprintf(out + length, size - (size_t)length, "; %zu of %zu sensors failed",
                           n_failed_sensors, telemetry_n_sensors(device->telemetry));
    if (n_failed_actuators > 0 && length > 0 && (size_t)length < size)
        snprintf(out + length, size - (size_t)length, "; %zu of %zu actuators failed",
                 n_failed_actuators, actuators_count(device->actuators));
    return out;
}
