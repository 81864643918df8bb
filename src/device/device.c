// SPDX-License-Identifier: LGPL-2.1-or-later
// The device role. Owns the actuators, the uplink and the topics; brings together what comes from
// sensors, rules and the broker.
#include "device/device.h"

#include <assert.h>
#include <string.h>

#include "core/command.h"
#include "core/json.h"
#include "core/topic.h"
#include "device/actuators.h"
#include "device/localrules.h"
#include "device/telemetry.h"
#include "outbox/uplink.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"

struct topics {
    char *commands, *group_commands, *state;
};

struct device {
    sd_event *event;
    struct spool *spool;
    const struct device_handlers *handlers;
    void *userdata;
    struct config *config;
    struct topics topics;
    struct uplink *uplink;
    struct telemetry *telemetry;
    struct localrules *rules;
    struct actuators *actuators;
    uint64_t lost_mono_usec; // the connection; 0 while there is one
    bool stopping;
    sd_event_source *goodbye_timer; // until it is said, stopping
    struct ratelimit story;         // info lines
    struct ratelimit refusals;      // warnings
};

static const char state_stream[] = "$state";

// How long a stop waits for actuators that are set to `safe`; daemon.c has a limit for all of it.
static const uint64_t safe_limit_usec = 400 * USEC_PER_MSEC;
static const struct ratelimit story_limit = { .interval_usec = USEC_PER_SEC, .burst = 20 };
static const struct ratelimit refusal_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

/* --- state ----------------------------------------------------------------------------------- */

static void publish_state(struct device *device)
{
    if (actuators_count(device->actuators) == 0 || !uplink_is_connected(device->uplink))
        return;
    _cleanup_(freep) char *payload = actuators_state(device->actuators);
    if (payload)
        uplink_publish(device->uplink, &(struct outbox_message){ .stream = state_stream,
                                                                 .subject = device->topics.state,
                                                                 .payload = payload,
                                                                 .qos = -1 });
}

static void say_goodbye(struct device *device)
{
    device->goodbye_timer = sd_event_source_disable_unref(device->goodbye_timer);
    uplink_stop(device->uplink);
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
    device->handlers->changed(device->userdata, true);
    if (device->goodbye_timer)
        say_goodbye(device);
}

static bool is_decided(void *userdata, const char *name)
{
    struct device *device = userdata;
    return localrules_decide(device->rules, name);
}

static const struct actuators_handlers actuators_handlers = {
    .rested = on_rested,
    .is_decided = is_decided,
};

/* --- commands -------------------------------------------------------------------------------- */

/* Every key is checked before the first actuator moves. */
static int check_command(const struct device *device, const struct command *command,
                         struct why *why)
{
    for (size_t i = 0; i < command->n_items; i++) {
        const struct command_item *item = &command->items[i];
        const struct actuator *actuator = actuators_find(device->actuators, item->key);
        if (!actuator)
            return why_set(why, ENOENT, "there is no actuator '%s'", item->key);
        int r = command_check_item(item, &config_actuator(actuator_section(actuator))->limits, why);
        if (r < 0)
            return r;
    }
    return 0;
}

static void apply_command(struct device *device, const struct command *command)
{
    actuators_begin(device->actuators);
    for (size_t i = 0; i < command->n_items; i++) {
        const struct command_item *item = &command->items[i];
        struct actuator *actuator = actuators_find(device->actuators, item->key);
        actuators_set(device->actuators, actuator, &item->value, 0, 0);
    }
    actuators_end(device->actuators);
}

static void take_command(struct device *device, const struct mqtt_message *message)
{
    _cleanup_(command_freep) struct command *command = NULL;
    struct why why = { "" };
    unsigned n_suppressed;
    int r = command_parse(message->payload, message->payload_size, &command, &why);
    if (r >= 0)
        r = check_command(device, command, &why);
    if (r < 0) {
        uplink_count_rejected(device->uplink);
        if (ratelimit_pass(&device->refusals, clock_mono_usec(), &n_suppressed))
            log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMAND_REJECTED), { "TOPIC", message->topic }),
                        "command on %s rejected, nothing is changed: %s%s", message->topic,
                        why.text, n_suppressed ? " (and others before it)" : "");
        return;
    }
    if (ratelimit_pass(&device->story, clock_mono_usec(), NULL))
        log_info(LOG_FIELDS({ "DEVICE", device->config->daemon->id }, { "TOPIC", message->topic }),
                 "command %s", command->json);
    apply_command(device, command);
}

static void on_rule(void *userdata, const char *rule, const struct command *command)
{
    struct device *device = userdata;
    if (ratelimit_pass(&device->story, clock_mono_usec(), NULL))
        log_info(LOG_FIELDS({ "DEVICE", device->config->daemon->id }, { "RULE", rule }),
                 "rule %s decides %s", rule, command->json);
    apply_command(device, command);
}

/* --- telemetry ------------------------------------------------------------------------------- */

static void on_reading(void *userdata, size_t i, double value, uint64_t mono_usec)
{
    struct device *device = userdata;
    localrules_reading(device->rules, i, value, mono_usec);
}

static void on_publish(void *userdata, const char *stream, const char *sensor, const char *payload,
                       uint32_t n_samples, uint64_t mono_usec)
{
    struct device *device = userdata;
    int r = uplink_publish(device->uplink, &(struct outbox_message){ .stream = stream,
                                                                     .subject = sensor,
                                                                     .payload = payload,
                                                                     .n_samples = n_samples,
                                                                     .mono_usec = mono_usec,
                                                                     .qos = -1 });
    if (!ratelimit_pass(&device->story, clock_mono_usec(), NULL))
        return;
    log_info(LOG_FIELDS({ "DEVICE", device->config->daemon->id }, { "STREAM", stream }),
             "telemetry %s%s", payload,
             r < 0                                 ? " (dropped)"
             : uplink_is_connected(device->uplink) ? ""
                                                   : " (not connected: queued)");
}

static void on_counted(void *userdata, const char *stream, const struct ledger *delta)
{
    struct device *device = userdata;
    outbox_count_samples(uplink_outbox(device->uplink), stream, delta);
}

static void on_telemetry_changed(void *userdata)
{
    struct device *device = userdata;
    device->handlers->changed(device->userdata, true);
}

static const struct telemetry_handlers telemetry_handlers = {
    .reading = on_reading,
    .publish = on_publish,
    .counted = on_counted,
    .changed = on_telemetry_changed,
};

/* --- the uplink ------------------------------------------------------------------------------ */

/* 0: there is a connection. */
static void set_lost(struct device *device, uint64_t lost_mono_usec)
{
    device->lost_mono_usec = lost_mono_usec;
    localrules_set_lost(device->rules, lost_mono_usec);
    actuators_set_lost(device->actuators, lost_mono_usec);
}

static void on_connected(void *userdata)
{
    struct device *device = userdata;
    set_lost(device, 0);
    uplink_subscribe(device->uplink, device->topics.commands);
    uplink_subscribe(device->uplink, device->topics.group_commands);
    publish_state(device);
    telemetry_publish_now(device->telemetry);
}

static void on_message(void *userdata, const struct mqtt_message *message)
{
    take_command(userdata, message); // nothing else is subscribed to
}

static void on_changed(void *userdata, bool news)
{
    struct device *device = userdata;
    if (device->lost_mono_usec == 0 && !uplink_is_connected(device->uplink) && !device->stopping)
        set_lost(device, clock_mono_usec());
    device->handlers->changed(device->userdata, news);
}

static int on_topic(void *userdata, const char *stream, const char *subject, bool is_late,
                    char **ret_topic)
{
    struct device *device = userdata;
    return telemetry_topic(device->telemetry, stream, subject, is_late, ret_topic);
}

static void on_stopped(void *userdata)
{
    struct device *device = userdata;
    device->handlers->stopped(device->userdata);
}

static const struct uplink_handlers uplink_handlers = {
    .connected = on_connected,
    .message = on_message,
    .changed = on_changed,
    .topic = on_topic,
    .stopped = on_stopped,
};

/* A policy for each stream of the configuration, and those for what the device itself says. */
static struct stream_policy *make_policies(const struct config *config, size_t *ret_n)
{
    const struct config_section *section;
    size_t n = 0;
    while (config_nth(config, "stream", n))
        n++;
    struct stream_policy *policies = calloc(n + 1, sizeof(*policies));
    if (!policies)
        return NULL;
    for (size_t i = 0; (section = config_nth(config, "stream", i)); i++) {
        const struct stream_config *stream = config_stream(section);
        policies[i] = (struct stream_policy){
            .name = section->name,
            .keep = (enum stream_keep)stream->keep,
            .when_full = (enum stream_full)stream->when_full,
            .order = (enum stream_order)stream->order,
            .time = (enum stream_time)stream->time,
            .qos = (int)stream->qos,
            .retain = stream->retain,
            .priority = stream->priority,
            .max_age_usec = stream->max_age_usec,
            .max_messages = stream->max_messages > 0 ? (uint64_t)stream->max_messages : UINT64_MAX,
        };
    }
    policies[n] = (struct stream_policy){
        .name = state_stream,
        .keep = STREAM_KEEP_LATEST,
        .time = STREAM_TIME_NEVER,
        .is_volatile = true, // it is told anew with each connection
        .subject_is_topic = true,
        .qos = 1,
        .retain = true,
        .priority = INT64_MAX,
        .max_age_usec = USEC_INFINITY,
        .max_messages = UINT64_MAX,
    };
    *ret_n = n + 1;
    return policies;
}

/* --- configuration --------------------------------------------------------------------------- */

static void topics_done(struct topics *topics)
{
    free(topics->commands);
    free(topics->group_commands);
    free(topics->state);
    *topics = (struct topics){ 0 };
}

static int expand(const struct config *config, const char *text, char **ret_topic)
{
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    int r = topic_parse(text, 1u << TOPIC_ID | 1u << TOPIC_GROUP, &template, NULL);
    if (r < 0)
        return r;
    return topic_expand(
        template,
        &(struct topic_values){
            .field = { [TOPIC_ID] = config->daemon->id, [TOPIC_GROUP] = config->daemon->group } },
        ret_topic);
}

static int make_topics(const struct config *config, struct topics *ret_topics)
{
    struct topics topics = { 0 };
    int r = expand(config, config->topics->commands, &topics.commands);
    if (r >= 0)
        r = expand(config, config->topics->group_commands, &topics.group_commands);
    if (r >= 0)
        r = expand(config, config->topics->state, &topics.state);
    if (r < 0) {
        topics_done(&topics);
        return r;
    }
    *ret_topics = topics;
    return 0;
}

/* What a configuration needs that can fail to be made, made before anything in force is touched. */
struct plan {
    struct topics topics;
    struct localrules *rules;
    struct actuators_plan *actuators;
};

static void plan_done(struct plan *plan)
{
    topics_done(&plan->topics);
    localrules_free(plan->rules);
    actuators_plan_free(plan->actuators);
}

static int configure_uplink(struct device *device, struct config *config)
{
    size_t n_policies;
    _cleanup_(freep) struct stream_policy *policies = make_policies(config, &n_policies);
    if (!policies)
        return -ENOMEM;
    const struct uplink_options options = {
        .client_suffix = "",
        .has_status = true,
        .adopts = true,
        .streams = policies,
        .n_streams = n_policies,
    };
    if (device->uplink)
        return uplink_configure(device->uplink, config, &options, false);
    return uplink_new(device->event, device->spool, config, &options, &uplink_handlers, device,
                      &device->uplink);
}

static int make_plan(struct device *device, struct config *config, struct plan *plan)
{
    int r = make_topics(config, &plan->topics);
    if (r < 0)
        return r;
    r = localrules_new(device->event, config, device->rules, on_rule, device, &plan->rules);
    if (r < 0)
        return r;
    r = actuators_prepare(device->actuators, config, &plan->actuators);
    if (r < 0)
        return r;
    r = configure_uplink(device, config);
    if (r < 0)
        return r;
    return telemetry_configure(device->telemetry, config); // fails whole
}

int device_reload(struct device *device, struct config *config)
{
    _cleanup_(plan_done) struct plan plan = { 0 };
    int r = make_plan(device, config, &plan);
    if (r < 0)
        return r;
    topics_done(&device->topics);
    device->topics = plan.topics;
    plan.topics = (struct topics){ 0 };
    localrules_free(device->rules);
    device->rules = TAKE_PTR(plan.rules);
    actuators_take(device->actuators, config, TAKE_PTR(plan.actuators));
    config_unref(device->config);
    device->config = config_ref(config);
    actuators_start(device->actuators);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

int device_new(sd_event *event, struct spool *spool, struct config *config,
               const struct device_handlers *handlers, void *userdata, struct device **ret_device)
{
    _cleanup_(device_freep) struct device *device = calloc(1, sizeof(*device));
    if (!device)
        return -ENOMEM;
    device->event = sd_event_ref(event);
    device->spool = spool;
    device->handlers = handlers;
    device->userdata = userdata;
    device->story = story_limit;
    device->refusals = refusal_limit;
    device->lost_mono_usec = clock_mono_usec();
    int r = telemetry_new(event, &telemetry_handlers, device, &device->telemetry);
    if (r >= 0)
        r = actuators_new(event, &actuators_handlers, device, &device->actuators);
    if (r >= 0)
        r = device_reload(device, config);
    if (r >= 0)
        r = uplink_start(device->uplink);
    if (r < 0)
        return r;
    set_lost(device, device->lost_mono_usec);
    *ret_device = TAKE_PTR(device);
    return 0;
}

void device_free(struct device *device)
{
    if (!device)
        return;
    sd_event_source_disable_unref(device->goodbye_timer);
    telemetry_free(device->telemetry);
    localrules_free(device->rules);
    actuators_free(device->actuators);
    uplink_free(device->uplink);
    topics_done(&device->topics);
    config_unref(device->config);
    sd_event_unref(device->event);
    free(device);
}

void device_stop(struct device *device)
{
    device->stopping = true;
    bool wait = actuators_exit(device->actuators);
    if (wait && sd_event_add_time_relative(device->event, &device->goodbye_timer, CLOCK_BOOTTIME,
                                           safe_limit_usec, 0, on_goodbye_timer, device) >= 0)
        return; // the last that is said of them is what they are
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
