// SPDX-License-Identifier: LGPL-2.1-or-later
// The server role. Owns the uplink, the fleet and the rules at work; decides what is sent and when
// it is sent again.
#include "server/server.h"

#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "outbox/uplink.h"
#include "server/fleet.h"
#include "server/intake.h"
#include "server/ruleset.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"
#include "util/strings.h"

enum {
    // A burst of messages for us at QoS 1: with the default of 20 in flight, mosquitto's queue of
    // 1,000 behind them drops more than half of 20,000.
    RECEIVE_MAXIMUM = 65535,
    MAX_UNHEARD = 5,  // commands in a row that a device is sent again since nobody got them
    MAX_HELD = 10000, // held changes with a timer of their own; more wait for their next reading
};

struct server {
    sd_event *event;
    struct spool *spool;
    const struct server_handlers *handlers;
    void *userdata;
    struct config *config;
    struct uplink *uplink;
    struct intake *intake;
    struct ruleset *rules;
    struct fleet *fleet;
    sd_event_source *time_timer; // evaluates what changes with time alone, every second
    bool stopping;

    // Grows with each connection: a command sent before it may have been lost with the old one.
    uint32_t epoch;
    uint64_t serial;   // of the message at work, so that each rule is evaluated once for it
    uint64_t *visited; // by rule: serial of the last message that evaluated it
    struct held *held; // changes that wait for `hold` to be over, each with its timer
    size_t n_held;

    uint64_t n_received;
    struct ratelimit story;    // info lines
    struct ratelimit refusals; // warnings
};

/* A change that a rule holds back: to be evaluated again. */
struct held {
    struct held *next;
    struct server *server;
    sd_event_source *timer;
    size_t rule;
    char id[];
};

static const char command_stream[] = "$commands";

static const struct ratelimit story_limit = { .interval_usec = USEC_PER_SEC, .burst = 20 };
static const struct ratelimit refusal_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

static void evaluate(struct server *server, struct fleet_device *device, size_t i,
                     uint64_t now_mono_usec, bool has_reading);

/* --- commands -------------------------------------------------------------------------------- */

static int send_command(struct server *server, const struct fleet_device *device,
                        const struct server_rule *rule, const struct command *command)
{
    _cleanup_(freep) char *topic = NULL;
    int r = intake_command_topic(server->intake, device->id, device->group, &topic);
    if (r >= 0)
        r = uplink_publish(server->uplink, &(struct outbox_message){ .stream = command_stream,
                                                                     .subject = topic,
                                                                     .payload = command->json,
                                                                     .qos = (int)rule->config->qos,
                                                                     .tag = device->hash });
    if (r == 0 && ratelimit_pass(&server->story, clock_mono_usec(), NULL))
        log_info(LOG_FIELDS({ "DEVICE", device->id }, { "RULE", rule->section->name },
                            { "TOPIC", topic }),
                 "rule %s: command %s to %s", rule->section->name, command->json, device->id);
    return r;
}

static void free_held(struct held *held)
{
    sd_event_source_disable_unref(held->timer);
    free(held);
}

static void remove_held(struct server *server, struct held *held)
{
    struct held **at = &server->held;
    while (*at != held)
        at = &(*at)->next;
    *at = held->next;
    server->n_held--;
    free_held(held);
}

static int on_held(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct held *held = userdata;
    struct server *server = held->server;
    size_t rule = held->rule;
    const struct topic_slice id = { held->id, strlen(held->id) };
    struct fleet_device *device = fleet_find(server->fleet, id);
    remove_held(server, held);
    if (!device) // forgotten meanwhile
        return 0;
    device->rules[rule].is_held = false;
    evaluate(server, device, rule, clock_mono_usec(), false);
    return 0;
}

/* Looks again when the hold is over, in case no reading comes by then. */
static void hold(struct server *server, struct fleet_device *device, size_t rule,
                 uint64_t retry_mono_usec)
{
    if (device->rules[rule].is_held || server->n_held >= MAX_HELD)
        return;
    struct held *held = calloc(1, sizeof(*held) + strlen(device->id) + 1);
    if (!held)
        return;
    held->server = server;
    held->rule = rule;
    strcpy(held->id, device->id); // NOLINT(clang-analyzer-security.insecureAPI.strcpy): has room
    if (sd_event_add_time(server->event, &held->timer, CLOCK_BOOTTIME, retry_mono_usec,
                          10 * USEC_PER_MSEC, on_held, held) < 0) {
        free(held);
        return;
    }
    held->next = server->held;
    server->held = held;
    server->n_held++;
    device->rules[rule].is_held = true;
}

/*
 * What is sent: a change, and with send = always every reading's outcome. What could not be sent,
 * and what was sent over a connection that has broken since, is sent with the next reading.
 */
static void evaluate(struct server *server, struct fleet_device *device, size_t i,
                     uint64_t now_mono_usec, bool has_reading)
{
    const struct server_rule *rule = ruleset_rule(server->rules, i);
    struct fleet_rule *state = &device->rules[i];
    if (!state->applies)
        return;
    struct ruleset_result result;
    ruleset_evaluate(server->rules, i, device, now_mono_usec, &result);
    if (result.retry_mono_usec > 0)
        hold(server, device, i, result.retry_mono_usec);
    if (result.changed) {
        state->sent_epoch = 0;
        device->n_unheard = 0;
    }
    if (!has_reading && !result.changed && !rule->uses_time)
        return;
    bool always = rule->config->send == SEND_ALWAYS && has_reading;
    if (result.unknown || !result.command || (state->sent_epoch == server->epoch && !always))
        return;
    if (send_command(server, device, rule, result.command) == 0)
        state->sent_epoch = server->epoch;
}

/* --- intake ---------------------------------------------------------------------------------- */

/* Numbers that some rule reads become readings; all else, of whatever type, is not ours to judge.
 */
static size_t take_readings(struct server *server, struct fleet_device *device,
                            struct json_object *object, uint64_t now_mono_usec)
{
    size_t n_readings = 0;
    json_object_object_foreach(object, key, member)
    {
        enum json_type type = json_object_get_type(member);
        size_t slot = ruleset_slot(server->rules, key);
        if (slot == SIZE_MAX)
            continue;
        if (type != json_type_int && type != json_type_double) {
            device->readings[slot] = (struct expr_reading){ 0 }; // not a number: not known
        } else {
            device->readings[slot] = (struct expr_reading){
                .value = json_object_get_double(member),
                .mono_usec = now_mono_usec,
            };
        }
        n_readings++;
    }
    return n_readings;
}

static void evaluate_readers(struct server *server, struct fleet_device *device,
                             struct json_object *object, uint64_t now_mono_usec)
{
    server->serial++;
    json_object_object_foreach(object, key, member)
    {
        (void)member;
        size_t n_readers, slot = ruleset_slot(server->rules, key);
        if (slot == SIZE_MAX)
            continue;
        const size_t *readers = ruleset_readers(server->rules, slot, &n_readers);
        for (size_t i = 0; i < n_readers; i++) {
            if (server->visited[readers[i]] == server->serial)
                continue;
            server->visited[readers[i]] = server->serial;
            evaluate(server, device, readers[i], now_mono_usec, true);
        }
    }
}

static void set_group(struct fleet_device *device, struct topic_slice group)
{
    if (!group.bytes || !topic_valid_value(group.bytes, group.length))
        return;
    if (device->group && strlen(device->group) == group.length &&
        memcmp(device->group, group.bytes, group.length) == 0)
        return;
    char *copy = strndup(group.bytes, group.length);
    if (!copy)
        return;
    free(device->group);
    device->group = copy;
}

static void reject(struct server *server, const struct mqtt_message *message, const char *reason)
{
    unsigned n_suppressed;
    uplink_count_rejected(server->uplink);
    if (ratelimit_pass(&server->refusals, clock_mono_usec(), &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMAND_REJECTED), { "TOPIC", message->topic }),
                    "message on %s ignored: %s%s", message->topic, reason,
                    n_suppressed ? " (and others before it)" : "");
}

static void take_telemetry(struct server *server, const struct mqtt_message *message,
                           struct topic_slice id, struct topic_slice group)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    struct fleet_device *device;
    struct why why = { "" };
    bool is_new;
    int r = json_parse_object(message->payload, message->payload_size, &object, &why);
    if (r >= 0)
        r = fleet_hear(server->fleet, id, &device, &is_new);
    if (r < 0) {
        reject(server, message, why.text[0] ? why.text : strerror(-r));
        return;
    }
    if (is_new)
        ruleset_welcome(server->rules, device);
    set_group(device, group);
    if (ratelimit_pass(&server->story, clock_mono_usec(), NULL)) {
        char text[1024];
        strings_printable(message->payload, message->payload_size, text, sizeof(text));
        log_info(LOG_FIELDS({ "DEVICE", device->id }, { "TOPIC", message->topic }),
                 "telemetry from %s: %s", device->id, text);
    }
    uint64_t now_mono_usec = clock_mono_usec();
    if (take_readings(server, device, object, now_mono_usec) > 0)
        evaluate_readers(server, device, object, now_mono_usec);
    ruleset_report_idle(server->rules, now_mono_usec);
}

/* A device that has just come up, or come back, gets its commands again with its next reading. */
static void take_status(struct server *server, const struct mqtt_message *message,
                        struct topic_slice id)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    struct json_object *status;
    struct fleet_device *device = fleet_find(server->fleet, id);
    struct why why = { "" };
    if (message->payload_size == 0) // the retained message was cleared
        return;
    if (json_parse_object(message->payload, message->payload_size, &object, &why) < 0 ||
        !json_object_object_get_ex(object, "status", &status) ||
        !json_object_is_type(status, json_type_string)) {
        reject(server, message, why.text[0] ? why.text : "a status message without a \"status\"");
        return;
    }
    bool online = strcmp(json_object_get_string(status), "online") == 0;
    if (!device)
        return;
    if (device->online != online && !message->retain) {
        log_info(LOG_FIELDS({ "DEVICE", device->id }), "%s is %s", device->id,
                 online ? "online" : "offline");
    }
    if (online && !device->online) {
        device->n_unheard = 0;
        for (size_t i = 0; i < ruleset_n_rules(server->rules); i++)
            device->rules[i].sent_epoch = 0;
    }
    device->online = online;
}

static void on_message(void *userdata, const struct mqtt_message *message)
{
    struct server *server = userdata;
    struct topic_slice id, group;
    server->n_received++;
    switch (intake_classify(server->intake, message->topic, &id, &group)) {
    case INTAKE_TELEMETRY:
        take_telemetry(server, message, id, group);
        break;
    case INTAKE_STATUS:
        take_status(server, message, id);
        break;
    case INTAKE_OTHER:
        log_debug(LOG_FIELDS({ "TOPIC", message->topic }), "message on %s is not for this server",
                  message->topic);
        break;
    }
}

/* --- what changes with time alone ------------------------------------------------------------ */

static void evaluate_ageing(struct fleet_device *device, void *userdata)
{
    struct server *server = userdata;
    uint64_t now_mono_usec = clock_mono_usec();
    for (size_t i = 0; i < ruleset_n_rules(server->rules); i++) {
        if (ruleset_rule(server->rules, i)->ages)
            evaluate(server, device, i, now_mono_usec, false);
    }
}

static int on_time_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)usec;
    struct server *server = userdata;
    if (uplink_is_connected(server->uplink))
        fleet_each(server->fleet, evaluate_ageing, server);
    sd_event_source_set_time_relative(source, USEC_PER_SEC);
    return 0;
}

/* --- the uplink ------------------------------------------------------------------------------ */

static void subscribe(void *userdata, const char *filter)
{
    struct server *server = userdata;
    uplink_subscribe(server->uplink, filter);
}

static void on_connected(void *userdata)
{
    struct server *server = userdata;
    server->epoch++;
    intake_filters(server->intake, subscribe, server);
}

/*
 * Nobody had subscribed to a device's commands: a plain one may publish before it subscribes. It
 * gets them again with its next readings, but not for ever: it may be one that never listens.
 */
static void on_unheard(void *userdata, uint64_t tag)
{
    struct server *server = userdata;
    struct fleet_device *device = fleet_find_hash(server->fleet, tag);
    if (!device || device->n_unheard == MAX_UNHEARD)
        return;
    device->n_unheard++;
    for (size_t i = 0; i < ruleset_n_rules(server->rules); i++)
        device->rules[i].sent_epoch = 0;
}

static void add_status(void *userdata, struct json_object *status)
{
    struct server *server = userdata;
    json_object_object_add(status, "received", json_object_new_uint64(server->n_received));
    json_object_object_add(status, "devices", json_object_new_uint64(fleet_count(server->fleet)));
}

static void on_changed(void *userdata, bool news)
{
    struct server *server = userdata;
    server->handlers->changed(server->userdata, news);
}

static void on_stopped(void *userdata)
{
    struct server *server = userdata;
    server->handlers->stopped(server->userdata);
}

static const struct uplink_handlers uplink_handlers = {
    .connected = on_connected,
    .message = on_message,
    .add_status = add_status,
    .changed = on_changed,
    .unheard = on_unheard,
    .stopped = on_stopped,
};

/* --- configuration --------------------------------------------------------------------------- */

/* What a configuration needs that can fail to be made, made before anything in force is touched. */
struct plan {
    struct intake *intake;
    struct ruleset *rules; // NULL: as they are, and the fleet with them
    struct fleet *fleet;
    uint64_t *visited;
};

static void plan_done(struct plan *plan)
{
    intake_free(plan->intake);
    ruleset_free(plan->rules);
    fleet_free(plan->fleet);
    free(plan->visited);
}

static bool same_sections(const struct config *a, const struct config *b, const char *kind)
{
    for (size_t i = 0;; i++) {
        const struct config_section *one = config_nth(a, kind, i), *other = config_nth(b, kind, i);
        if (!one || !other)
            return one == other;
        if (strcmp(one->name, other->name) != 0 || !config_section_equal(one, other))
            return false;
    }
}

static int configure_uplink(struct server *server, struct config *config)
{
    // Made anew when it is wanted: a device that was offline is sent what holds then.
    static const struct stream_policy commands = {
        .name = command_stream,
        .keep = STREAM_KEEP_NONE,
        .time = STREAM_TIME_NEVER,
        .is_volatile = true,
        .subject_is_topic = true,
        .max_age_usec = USEC_INFINITY,
        .max_messages = UINT64_MAX,
    };
    bool is_combined = config->daemon->role == ROLE_COMBINED; // then the device tells the status
    const struct uplink_options options = {
        .client_suffix = is_combined ? "-server" : "",
        .has_status = !is_combined,
        .receive_maximum = RECEIVE_MAXIMUM,
        .streams = &commands,
        .n_streams = 1,
    };
    if (!server->uplink)
        return uplink_new(server->event, server->spool, config, &options, &uplink_handlers, server,
                          &server->uplink);
    // Other subscriptions want another connection: the old filters die with the old one.
    bool renews = !same_sections(server->config, config, "server") ||
                  !same_sections(server->config, config, "stream");
    return uplink_configure(server->uplink, config, &options, renews);
}

static int make_plan(struct server *server, struct config *config, struct plan *plan)
{
    int r = intake_new(config, &plan->intake);
    if (r < 0)
        return r;
    // A device that is not ours any more is to be forgotten: time alone may decide for it.
    if (!server->config || !same_sections(server->config, config, "rule") ||
        !same_sections(server->config, config, "server")) {
        r = ruleset_new(config, &plan->rules);
        if (r < 0)
            return r;
        size_t n_rules = ruleset_n_rules(plan->rules);
        r = fleet_new(ruleset_n_slots(plan->rules), n_rules, &plan->fleet);
        plan->visited = calloc(n_rules + 1, sizeof(*plan->visited));
        if (r < 0 || !plan->visited)
            return -ENOMEM;
    }
    return configure_uplink(server, config);
}

static void drop_held(struct server *server)
{
    while (server->held)
        remove_held(server, server->held);
}

/* Cannot fail. */
static void carry_out(struct server *server, struct plan *plan)
{
    intake_free(server->intake);
    server->intake = TAKE_PTR(plan->intake);
    if (plan->rules) {
        drop_held(server);
        ruleset_free(server->rules);
        fleet_free(server->fleet);
        free(server->visited);
        server->rules = TAKE_PTR(plan->rules);
        server->fleet = TAKE_PTR(plan->fleet);
        server->visited = TAKE_PTR(plan->visited);
        server->serial = 0;
    }
    sd_event_source_set_enabled(server->time_timer,
                                ruleset_any_ages(server->rules) ? SD_EVENT_ON : SD_EVENT_OFF);
}

int server_reload(struct server *server, struct config *config)
{
    _cleanup_(plan_done) struct plan plan = { 0 };
    int r = make_plan(server, config, &plan);
    if (r < 0)
        return r;
    carry_out(server, &plan);
    config_unref(server->config);
    server->config = config_ref(config);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

int server_new(sd_event *event, struct spool *spool, struct config *config,
               const struct server_handlers *handlers, void *userdata, struct server **ret_server)
{
    _cleanup_(server_freep) struct server *server = calloc(1, sizeof(*server));
    if (!server)
        return -ENOMEM;
    server->event = sd_event_ref(event);
    server->spool = spool;
    server->handlers = handlers;
    server->userdata = userdata;
    server->story = story_limit;
    server->refusals = refusal_limit;
    int r = sd_event_add_time_relative(event, &server->time_timer, CLOCK_BOOTTIME, USEC_PER_SEC,
                                       100 * USEC_PER_MSEC, on_time_timer, server);
    if (r >= 0)
        r = server_reload(server, config);
    if (r >= 0)
        r = uplink_start(server->uplink);
    if (r < 0)
        return r;
    *ret_server = TAKE_PTR(server);
    return 0;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    drop_held(server);
    sd_event_source_disable_unref(server->time_timer);
    uplink_free(server->uplink);
    intake_free(server->intake);
    ruleset_free(server->rules);
    fleet_free(server->fleet);
    free(server->visited);
    config_unref(server->config);
    sd_event_unref(server->event);
    free(server);
}

void server_stop(struct server *server)
{
    server->stopping = true;
    uplink_stop(server->uplink);
}

const char *server_describe(const struct server *server, char *out, size_t size)
{
    char uplink[256];
    snprintf(out, size, "Server %s: %s; %zu devices", server->config->daemon->id,
             uplink_describe(server->uplink, uplink, sizeof(uplink)), fleet_count(server->fleet));
    return out;
}
