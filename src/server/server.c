// SPDX-License-Identifier: LGPL-2.1-or-later
// The server role. Owns the uplink and the engine; says what a message is, when it was, and where a
// command goes.
#include "server/server.h"

#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "outbox/uplink.h"
#include "server/dispatch.h"
#include "server/engine.h"
#include "server/explainer.h"
#include "server/intake.h"
#include "server/keeper.h"
#include "server/post.h"
#include "server/recorder.h"
#include "server/recording.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/ratelimit.h"
#include "util/strings.h"

enum {
    // A burst of messages for us at QoS 1: with the default of 20 in flight, mosquitto's queue of
    // 1,000 behind them drops more than half of 20,000.
    RECEIVE_MAXIMUM = 65535,
};

struct server {
    sd_event *event;
    struct spool *spool;
    struct owner owner;
    struct config *config;
    struct uplink *uplink;
    struct intake *intake;
    struct engine *engine;
    struct explainer *explainer;
    struct recorder *recorder; // NULL: none
    struct dispatch *dispatch;
    struct keeper *keeper;
    sd_event_source *time_timer; // for what the engine does with time alone
    uint64_t timer_mono_usec;    // when it fires
    sd_event_source *stop_timer;
    uint64_t stop_mono_usec; // until when a stop writes what is to be kept; 0: there is none
    uint64_t goodbye_usec;   // what the uplink then has

    uint64_t n_received;
    struct ratelimit story;    // info lines
    struct ratelimit refusals; // warnings
};

static const struct ratelimit story_limit = { .interval_usec = USEC_PER_SEC, .burst = 20 };
static const struct ratelimit refusal_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

static struct ruleset_now now(void)
{
    return (struct ruleset_now){ clock_mono_usec(), clock_wall_usec() };
}

static bool tells_story(struct server *server)
{
    return log_enabled(LOG_INFO) && ratelimit_pass(&server->story, clock_mono_usec(), NULL);
}

/* --- what changes with time alone ------------------------------------------------------------ */

/* Sets the timer when something is due earlier than it fires; while it is not, leaves it alone. */
static void arm_timer(struct server *server)
{
    uint64_t next_mono_usec = engine_next_mono_usec(server->engine);
    keeper_arm(server->keeper);
    dispatch_arm(server->dispatch);
    if (next_mono_usec >= server->timer_mono_usec || !uplink_is_connected(server->uplink))
        return;
    server->timer_mono_usec = next_mono_usec;
    sd_event_source_set_time(server->time_timer, next_mono_usec);
    sd_event_source_set_enabled(server->time_timer, SD_EVENT_ONESHOT);
}

static int on_time_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct server *server = userdata;
    const struct ruleset_now at = now();
    server->timer_mono_usec = USEC_INFINITY;
    if (!uplink_is_connected(server->uplink))
        return 0; // on_connected() sets it again
    if (engine_waits_for_room(server->engine))
        engine_make_room(server->engine, dispatch_room(server->dispatch));
    engine_run(server->engine, &at);
    arm_timer(server);
    return 0;
}

/* --- intake ---------------------------------------------------------------------------------- */

static void reject(struct server *server, const struct mqtt_message *message, const char *reason)
{
    unsigned n_suppressed;
    uplink_count_rejected(server->uplink, 1);
    if (ratelimit_pass(&server->refusals, clock_mono_usec(), &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMAND_REJECTED), { "TOPIC", message->topic }),
                    "message on %s ignored: %s%s", message->topic, reason,
                    n_suppressed ? " (and others before it)" : "");
}

/* When the readings were taken: as the JSON says, else as a user property does; 0: now. */
static uint64_t time_of(const struct mqtt_message *message, struct json_object *object)
{
    struct json_object *member;
    uint64_t wall_usec = 0;
    if (json_object_object_get_ex(object, "time", &member) &&
        json_object_is_type(member, json_type_string) &&
        parse_rfc3339(json_object_get_string(member), &wall_usec) == 0)
        return wall_usec;
    const char *property = mqtt_message_property(message, "time");
    if (property && parse_rfc3339(property, &wall_usec) == 0)
        return wall_usec;
    return 0;
}

static void tell_telemetry(struct server *server, const struct mqtt_message *message,
                           struct topic_slice id)
{
    char text[1024], name[65];
    if (!tells_story(server))
        return;
    snprintf(name, sizeof(name), "%.*s", (int)id.length, id.bytes);
    strings_printable(message->payload, message->payload_size, text, sizeof(text));
    log_info(LOG_FIELDS({ "DEVICE", name }, { "TOPIC", message->topic }), "telemetry from %s: %s",
             name, text);
}

/* Only what is a JSON object: as it is, it goes into the recording's line. */
static void record(struct server *server, const struct mqtt_message *message,
                   uint64_t taken_wall_usec)
{
    if (server->recorder)
        recorder_add(server->recorder,
                     recording_format(clock_wall_usec(), taken_wall_usec, message->topic,
                                      message->payload, message->payload_size));
}

static void take_telemetry(struct server *server, const struct mqtt_message *message,
                           struct topic_slice id, struct topic_slice group)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    struct why why = { "" };
    int r = json_parse_object(message->payload, message->payload_size, &object, &why);
    if (r >= 0) {
        const struct ruleset_now at = now();
        tell_telemetry(server, message, id);
        uint64_t taken_wall_usec = time_of(message, object);
        record(server, message, taken_wall_usec);
        issuer_heard(dispatch_issuer(server->dispatch), id, &at);
        r = engine_take(server->engine, id, group, object, taken_wall_usec, &at);
        arm_timer(server);
    }
    if (r < 0)
        reject(server, message, why.text[0] ? why.text : strerror(-r));
}

/* A device that has just come up, or come back, gets its commands again with its next reading. */
static void take_status(struct server *server, const struct mqtt_message *message,
                        struct topic_slice id)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    struct json_object *status;
    struct why why = { "" };
    if (message->payload_size == 0) { // the retained message was cleared
        issuer_withdraw(dispatch_issuer(server->dispatch), id);
        return;
    }
    if (json_parse_object(message->payload, message->payload_size, &object, &why) < 0 ||
        !json_object_object_get_ex(object, "status", &status) ||
        !json_object_is_type(status, json_type_string)) {
        reject(server, message, why.text[0] ? why.text : "a status message without a \"status\"");
        return;
    }
    bool online = strcmp(json_object_get_string(status), "online") == 0;
    if (!message->retain)
        record(server, message, 0);
    const struct ruleset_now at = now();
    issuer_announce(dispatch_issuer(server->dispatch), id, online, !message->retain, &at);
    dispatch_arm(server->dispatch);
    if (!engine_presence(server->engine, id, online, !message->retain, &at) || message->retain)
        return;
    char name[65];
    snprintf(name, sizeof(name), "%.*s", (int)id.length, id.bytes);
    log_info(LOG_FIELDS({ "DEVICE", name }), "%s is %s", name, online ? "online" : "offline");
}

static void take_reply(struct server *server, const struct mqtt_message *message,
                       struct topic_slice id)
{
    struct issuer *issuer = dispatch_issuer(server->dispatch);
    struct answer answer;
    struct why why = { "" };
    if (answer_parse(message->payload, message->payload_size, &answer, &why) < 0) {
        reject(server, message, why.text);
        return;
    }
    const struct ruleset_now at = now();
    issuer_heard(issuer, id, &at);
    issuer_reply(issuer, id, &answer, &at);
    dispatch_arm(server->dispatch);
}

/* Another server of the share, or this one, has decided for a device. */
static void take_command(struct server *server, const struct mqtt_message *message,
                         struct topic_slice id)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    const struct ruleset_now at = now();
    if (json_parse_object(message->payload, message->payload_size, &object, NULL) < 0)
        return;
    bool is_foreign = issuer_observe(dispatch_issuer(server->dispatch), id, object, &at);
    engine_observe(server->engine, id, object, is_foreign, &at);
    arm_timer(server);
}

static void take_message(struct server *server, const struct mqtt_message *message)
{
    struct topic_slice id, group;
    if (server->stop_mono_usec > 0)
        return; // what is known by now is being written
    server->n_received++;
    switch (intake_classify(server->intake, message->topic, &id, &group)) {
    case INTAKE_TELEMETRY:
        take_telemetry(server, message, id, group);
        break;
    case INTAKE_STATUS:
        take_status(server, message, id);
        break;
    case INTAKE_REPLY:
        take_reply(server, message, id);
        break;
    case INTAKE_COMMAND:
        take_command(server, message, id);
        break;
    case INTAKE_OTHER:
        log_debug(LOG_FIELDS({ "TOPIC", message->topic }), "message on %s is not for this server",
                  message->topic);
        break;
    }
}

/* --- the uplink ------------------------------------------------------------------------------ */

static void subscribe(struct server *server)
{
    _cleanup_(strings_freep) char **filters = NULL;
    if (intake_filters(server->intake, &filters) < 0) {
        log_err(NULL, "no memory to subscribe to anything: nothing comes in");
        return;
    }
    for (char **filter = filters; *filter; filter++)
        uplink_subscribe(server->uplink, *filter);
}

static void greet(struct server *server)
{
    const struct ruleset_now at = now();
    engine_reconnected(server->engine);
    subscribe(server);
    issuer_connected(dispatch_issuer(server->dispatch), &at);
    arm_timer(server);
}

static void add_status(const struct server *server, struct json_object *status)
{
    json_object_object_add(status, "received", json_object_new_uint64(server->n_received));
    json_object_object_add(status, "devices",
                           json_object_new_uint64(engine_n_devices(server->engine)));
    dispatch_add_status(server->dispatch, status);
}

static void on_uplink(void *userdata, const struct uplink_event *event)
{
    struct server *server = userdata;
    switch (event->type) {
    case UPLINK_CONNECTED:
        greet(server);
        break;
    case UPLINK_MESSAGE:
        take_message(server, event->message);
        break;
    case UPLINK_STATUS:
        add_status(server, event->status);
        break;
    case UPLINK_CHANGED:
        server->owner.told(server->owner.userdata, event->is_news ? OWNER_CHANGED : OWNER_COUNTED);
        break;
    case UPLINK_UNHEARD:
        engine_unheard(server->engine, event->tag);
        break;
    case UPLINK_RECORDED:
        issuer_recorded(dispatch_issuer(server->dispatch), event->ticket);
        keeper_recorded(server->keeper, event->ticket);
        dispatch_arm(server->dispatch);
        break;
    case UPLINK_STOPPED:
        server->owner.told(server->owner.userdata, OWNER_STOPPED);
        break;
    }
}

/* --- configuration --------------------------------------------------------------------------- */

struct server_plan {
    struct config *config;
    struct intake *intake;
    struct engine *engine;      // NULL: as it is, with all that it knows
    bool renews_recorder;       // else it stays as it is
    struct recorder *recorder;  // NULL: none
    struct uplink_plan *uplink; // NULL: the server's first configuration
};

void server_plan_free(struct server_plan *plan)
{
    if (!plan)
        return;
    intake_free(plan->intake);
    engine_free(plan->engine);
    recorder_free(plan->recorder);
    uplink_plan_free(plan->uplink);
    config_unref(plan->config);
    free(plan);
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

static int prepare_uplink(struct server *server, struct config *config,
                          struct uplink_plan **ret_plan)
{
    // Made anew when it is wanted: a device that was offline is sent what holds then.
    static const struct stream_policy commands = {
        .name = post_stream,
        .keep = STREAM_KEEP_NONE,
        .time = STREAM_TIME_NEVER,
        .is_volatile = true,
        .subject_is_topic = true,
        .max_age_usec = USEC_INFINITY,
        .max_messages = UINT64_MAX,
    };
    bool is_combined = config->daemon->role == ROLE_COMBINED; // then the device tells the status
    const struct uplink_options options = {
        .role = { .client_suffix = is_combined ? "-server" : "",
                  .has_status = !is_combined,
                  .receive_maximum = RECEIVE_MAXIMUM },
        .streams = &commands,
        .n_streams = 1,
    };
    if (!server->uplink)
        return uplink_new(server->event, server->spool, config, &options, on_uplink, server,
                          &server->uplink);
    // Other subscriptions want another connection: the old filters die with the old one.
    bool renews = !same_sections(server->config, config, "server") ||
                  !same_sections(server->config, config, "stream");
    return uplink_prepare(server->uplink, config, &options, renews, ret_plan);
}

static bool records_alike(const struct server_config *a, const struct server_config *b)
{
    return strings_equal(a->record, b->record) && a->record_max_size == b->record_max_size &&
           a->record_max_age_usec == b->record_max_age_usec;
}

static int plan_recorder(struct server *server, const struct server_config *section,
                         struct server_plan *plan)
{
    plan->renews_recorder = !server->config || !records_alike(server->config->server, section);
    if (!plan->renews_recorder || !section->record)
        return 0;
    return recorder_new(server->event, section->record, section->record_max_size,
                        section->record_max_age_usec, &plan->recorder);
}

static int make_plan(struct server *server, struct config *config, struct server_plan *plan)
{
    int r = intake_new(config, &plan->intake);
    if (r < 0)
        return r;
    // A device that is not ours any more is to be forgotten: time alone may decide for it.
    if (!server->config || !same_sections(server->config, config, "rule") ||
        !same_sections(server->config, config, "group") ||
        !same_sections(server->config, config, "server")) {
        r = engine_new(config, &dispatch_handlers, server->dispatch, &plan->engine);
        if (r < 0)
            return r;
        engine_remember(plan->engine, dispatch_decisions(server->dispatch));
        // Half of the store, lest what is known of the fleet leaves no room for messages.
        r = engine_keep(plan->engine, config->queue->max_size / 2);
    }
    if (r >= 0)
        r = plan_recorder(server, config->server, plan);
    return r < 0 ? r : prepare_uplink(server, config, &plan->uplink);
}

int server_prepare(struct server *server, struct config *config, struct server_plan **ret_plan)
{
    _cleanup_(server_plan_freep) struct server_plan *plan = calloc(1, sizeof(*plan));
    if (!plan)
        return -ENOMEM;
    plan->config = config_ref(config);
    int r = make_plan(server, config, plan);
    if (r < 0)
        return r;
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

void server_commit(struct server *server, struct server_plan *plan)
{
    if (plan->uplink)
        uplink_commit(server->uplink, TAKE_PTR(plan->uplink));
    intake_free(server->intake);
    server->intake = TAKE_PTR(plan->intake);
    if (plan->engine) {
        const struct ruleset_now at = now();
        if (server->engine) {
            dispatch_review(server->dispatch, plan->config, server->intake); // then it decides
            engine_inherit(plan->engine, server->engine, plan->config->server->devices, &at);
        }
        engine_free(server->engine);
        server->engine = TAKE_PTR(plan->engine);
        explainer_configure(server->explainer, server->engine);
    }
    if (plan->renews_recorder) {
        recorder_free(server->recorder);
        server->recorder = TAKE_PTR(plan->recorder);
    }
    dispatch_configure(server->dispatch, server->uplink, server->intake);
    keeper_configure(server->keeper, uplink_outbox(server->uplink), server->engine);
    arm_timer(server);
    config_unref(server->config);
    server->config = TAKE_PTR(plan->config);
    server_plan_free(plan);
}

/* --- life ------------------------------------------------------------------------------------ */

static void restore(struct server *server)
{
    const struct ruleset_now at = now();
    struct why why = { "" };
    if (keeper_restore(server->keeper, server->spool, server->config->server->devices, &at, &why) <
        0)
        log_warning(NULL, "what an earlier run knew of the devices is not known: %s", why.text);
}

/* A turn of a stop: what is to be kept is written, then the uplink says goodbye. */
static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)usec;
    struct server *server = userdata;
    bool is_last = clock_mono_usec() >= server->stop_mono_usec;
    bool is_kept = keeper_finish(server->keeper, is_last);
    bool is_recorded = recorder_finish(server->recorder);
    if ((is_kept && is_recorded) || is_last) {
        uplink_stop(server->uplink, clock_mono_usec() + server->goodbye_usec);
        return 0;
    }
    sd_event_source_set_time_relative(source, is_kept ? 5 * USEC_PER_MSEC : USEC_PER_MSEC);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int add_timers(struct server *server)
{
    server->timer_mono_usec = USEC_INFINITY;
    int r = sd_event_add_time(server->event, &server->time_timer, CLOCK_BOOTTIME, USEC_INFINITY,
                              10 * USEC_PER_MSEC, on_time_timer, server);
    if (r >= 0)
        r = sd_event_add_time(server->event, &server->stop_timer, CLOCK_BOOTTIME, USEC_INFINITY, 1,
                              on_stop_timer, server);
    return r;
}

int server_new(sd_event *event, struct spool *spool, struct config *config,
               const struct owner *owner, struct server **ret_server)
{
    _cleanup_(server_freep) struct server *server = calloc(1, sizeof(*server));
    struct server_plan *plan;
    if (!server)
        return -ENOMEM;
    server->event = sd_event_ref(event);
    server->spool = spool;
    server->owner = *owner;
    server->story = story_limit;
    server->refusals = refusal_limit;
    int r = add_timers(server);
    if (r >= 0)
        r = keeper_new(event, &server->keeper);
    if (r >= 0)
        r = dispatch_new(event, &server->dispatch);
    if (r >= 0)
        r = explainer_new(event, &server->explainer);
    if (r >= 0)
        r = server_prepare(server, config, &plan);
    if (r < 0)
        return r;
    server_commit(server, plan);
    *ret_server = TAKE_PTR(server);
    return 0;
}

void server_start(struct server *server)
{
    dispatch_load(server->dispatch, server->spool); // first: what a device had been told counts
    dispatch_review(server->dispatch, server->config, server->intake);
    restore(server);
    uplink_start(server->uplink);
}

void server_free(struct server *server)
{
    if (!server)
        return;
    sd_event_source_disable_unref(server->time_timer);
    sd_event_source_disable_unref(server->stop_timer);
    keeper_free(server->keeper);
    uplink_free(server->uplink);
    intake_free(server->intake);
    explainer_free(server->explainer);
    engine_free(server->engine);
    recorder_free(server->recorder);
    dispatch_free(server->dispatch);
    config_unref(server->config);
    sd_event_unref(server->event);
    free(server);
}

void server_stop(struct server *server, uint64_t goodbye_usec)
{
    server->goodbye_usec = goodbye_usec;
    server->stop_mono_usec = clock_mono_usec() + SERVER_KEEP_USEC;
    issuer_flush(dispatch_issuer(server->dispatch));
    sd_event_source_set_time_relative(server->stop_timer, 0);
    sd_event_source_set_enabled(server->stop_timer, SD_EVENT_ONESHOT);
}

const char *server_describe(const struct server *server, char *out, size_t size)
{
    char uplink[256], commands[64] = "";
    size_t n_open = dispatch_n_open(server->dispatch);
    if (n_open > 0)
        snprintf(commands, sizeof(commands), "; %zu commands wait for their reply", n_open);
    snprintf(out, size, "Server %s: %s; %zu devices%s", server->config->daemon->id,
             uplink_describe(server->uplink, uplink, sizeof(uplink)),
             engine_n_devices(server->engine), commands);
    return out;
}
