// SPDX-License-Identifier: LGPL-2.1-or-later
// The device role. Owns the actuators, the uplink and the topics; brings together what comes from
// sensors, rules and the broker.
#include "device/device.h"

#include <assert.h>
#include <string.h>
#include <sys/inotify.h>

#include "core/command.h"
#include "core/topic.h"
#include "device/actions.h"
#include "device/actuators.h"
#include "device/commander.h"
#include "device/journal.h"
#include "device/localrules.h"
#include "device/streams.h"
#include "device/telemetry.h"
#include "outbox/uplink.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"

struct topics {
    char *commands, *group_commands, *replies, *state;
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
    struct journal *journal;
    struct commander *commander;
    struct actions *actions;
    uint64_t lost_mono_usec; // the connection; 0 while there is one
    bool has_recalled;       // what an earlier run wrote down
    bool stopping;
    sd_event_source *nodes_source;  // watches /dev
    sd_event_source *goodbye_timer; // until it is said, stopping
    uint64_t end_mono_usec;         // of the stop
    struct ratelimit story;         // info lines
    struct ratelimit refusals;      // warnings
};

// Spaces of records.
static const char actuators_space[] = "actuator";
static const char journal_space[] = "command";

// Messages a second that come in for a device: an order of magnitude beyond what actuators follow.
enum {
    MAX_COMMAND_RATE = 1000,
    RECEIVE_MAXIMUM = 100, // and what libmosquitto keeps of those at QoS 2
};
// How long a stop waits for actuators that are set to `safe`.
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
        uplink_publish(device->uplink, &(struct outbox_message){ .stream = streams_state,
                                                                 .subject = device->topics.state,
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
    device->handlers->changed(device->userdata, true);
    if (device->goodbye_timer)
        say_goodbye(device);
}

static void on_settled(void *userdata, struct actuator *actuator)
{
    struct device *device = userdata;
    commander_settled(device->commander, actuator);
}

static void log_no_record(const char *space, const char *key)
{
    log_err(NULL, "cannot keep the record of %s '%s': %s", space, key, strerror(ENOMEM));
}

static void put_record(const struct device *device, const char *space, const char *key,
                       const char *value)
{
    if (outbox_put_record(uplink_outbox(device->uplink), space, key, value) < 0)
        log_no_record(space, key);
}

static void on_save(void *userdata, const char *name, const char *record)
{
    put_record(userdata, actuators_space, name, record);
}

static bool is_decided(void *userdata, const char *name)
{
    struct device *device = userdata;
    return localrules_decide(device->rules, name);
}

static const struct actuators_handlers actuators_handlers = {
    .rested = on_rested,
    .settled = on_settled,
    .save = on_save,
    .is_decided = is_decided,
};

/* --- commands -------------------------------------------------------------------------------- */

static void on_accepted(void *userdata, const struct mqtt_message *message, const char *id)
{
    struct device *device = userdata;
    if (ratelimit_pass(&device->story, clock_mono_usec(), NULL))
        log_info(LOG_FIELDS({ "DEVICE", device->config->daemon->id }, { "TOPIC", message->topic },
                            { "COMMAND", id[0] ? id : NULL }),
                 "command %.*s", (int)message->payload_size, message->payload);
}

static void on_rejected(void *userdata, const struct mqtt_message *message, const char *id,
                        const char *reason)
{
    struct device *device = userdata;
    unsigned n_suppressed;
    uplink_count_rejected(device->uplink, 1);
    if (ratelimit_pass(&device->refusals, clock_mono_usec(), &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMAND_REJECTED), { "TOPIC", message->topic },
                               { "COMMAND", id[0] ? id : NULL }),
                    "command on %s rejected, nothing is changed: %s%s", message->topic, reason,
                    n_suppressed ? " (and others before it)" : "");
}

/* What a stream with subject_is_topic takes: the topic, and the correlation data in hexadecimal. */
static char *format_subject(const char *topic, const struct commander_address *to)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *correlation = to->correlation;
    size_t length = strlen(topic);
    char *subject = malloc(length + 2 + 2 * to->correlation_size);
    if (!subject)
        return NULL;
    memcpy(subject, topic, length + 1);
    if (to->correlation_size == 0)
        return subject;
    subject[length++] = '\n';
    for (size_t i = 0; i < to->correlation_size; i++) {
        subject[length++] = digits[correlation[i] >> 4];
        subject[length++] = digits[correlation[i] & 0xf];
    }
    subject[length] = '\0';
    return subject;
}

static void on_reply(void *userdata, const struct commander_address *to, const char *payload,
                     bool is_final)
{
    struct device *device = userdata;
    _cleanup_(freep) char *subject =
        format_subject(to->topic ? to->topic : device->topics.replies, to);
    if (subject)
        uplink_publish(device->uplink, &(struct outbox_message){
                                           .stream = is_final ? streams_replies : streams_refusals,
                                           .subject = subject,
                                           .payload = payload,
                                           .qos = -1 });
}

static int on_act(void *userdata, const struct envelope *envelope, uint64_t token, struct why *why)
{
    struct device *device = userdata;
    int r = actions_begin(device->actions, device->config, envelope, token, why);
    return r == ACTIONS_ONCE ? COMMANDER_ONCE : r;
}

static void on_begun(void *userdata, uint64_t token)
{
    struct device *device = userdata;
    actions_await(device->actions, token, outbox_sync_records(uplink_outbox(device->uplink)));
}

static const struct commander_handlers commander_handlers = {
    .reply = on_reply,
    .act = on_act,
    .begun = on_begun,
    .accepted = on_accepted,
    .rejected = on_rejected,
};

static void on_acted(void *userdata, uint64_t token, enum reply_status status, const char *reason,
                     const char *readings)
{
    struct device *device = userdata;
    commander_acted(device->commander, token, status, reason, readings);
}

static void on_sample(void *userdata, char *const *names)
{
    struct device *device = userdata;
    telemetry_publish_now(device->telemetry, names);
}

static void on_reload(void *userdata)
{
    struct device *device = userdata;
    device->handlers->reload(device->userdata);
}

static const struct actions_handlers actions_handlers = {
    .acted = on_acted,
    .sample = on_sample,
    .reload = on_reload,
};

static void on_journal(void *userdata, const char *key, const char *value)
{
    struct device *device = userdata;
    struct outbox *outbox = uplink_outbox(device->uplink);
    if (!value) // it has left the journal
        put_record(device, journal_space, key, NULL);
    else if (outbox_add_record(outbox, journal_space, key, value) < 0)
        log_no_record(journal_space, key);
}

/* A rule's decision. */
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
    actions_reading(device->actions, config_nth(device->config, "sensor", i)->name, value);
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

static void on_connected(void *userdata)
{
    struct device *device = userdata;
    set_lost(device, 0);
    uplink_subscribe(device->uplink, device->topics.commands);
    uplink_subscribe(device->uplink, device->topics.group_commands);
    publish_state(device);
    telemetry_publish_now(device->telemetry, NULL);
}

static void on_message(void *userdata, const struct mqtt_message *message)
{
    struct device *device = userdata;
    commander_take(device->commander, message); // nothing else is subscribed to
}

static void on_changed(void *userdata, bool news)
{
    struct device *device = userdata;
    if (device->lost_mono_usec == 0 && !uplink_is_connected(device->uplink) && !device->stopping)
        set_lost(device, clock_mono_usec());
    device->handlers->changed(device->userdata, news);
}

static void on_recorded(void *userdata, uint64_t ticket)
{
    struct device *device = userdata;
    actions_recorded(device->actions, ticket);
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
    .recorded = on_recorded,
    .stopped = on_stopped,
};

/* --- configuration --------------------------------------------------------------------------- */

static void topics_done(struct topics *topics)
{
    free(topics->commands);
    free(topics->group_commands);
    free(topics->replies);
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
        r = expand(config, config->topics->replies, &topics.replies);
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
    if (device->has_recalled)
        return;
    device->has_recalled = true;
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
    recall(device);
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
        r = actuators_new(event, spool_boot(spool), &actuators_handlers, device,
                          &device->actuators);
    if (r >= 0)
        r = journal_new(on_journal, device, &device->journal);
    if (r >= 0)
        r = commander_new(device->actuators, device->journal, &commander_handlers, device,
                          &device->commander);
    if (r >= 0)
        r = actions_new(event, &actions_handlers, device, &device->actions);
    if (r >= 0)
        r = device_reload(device, config);
    if (r < 0)
        return r;
    uplink_start(device->uplink);
    set_lost(device, device->lost_mono_usec);
    watch_nodes(device);
    *ret_device = TAKE_PTR(device);
    return 0;
}

void device_free(struct device *device)
{
    if (!device)
        return;
    sd_event_source_disable_unref(device->nodes_source);
    sd_event_source_disable_unref(device->goodbye_timer);
    telemetry_free(device->telemetry);
    localrules_free(device->rules);
    commander_free(device->commander);
    actions_free(device->actions);
    journal_free(device->journal);
    actuators_free(device->actuators);
    uplink_free(device->uplink);
    topics_done(&device->topics);
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
