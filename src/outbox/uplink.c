// SPDX-License-Identifier: LGPL-2.1-or-later
// A role's connection to the broker. Owns the MQTT client, the outbox and the status message; knows
// nothing of sensors and rules.
#include "outbox/uplink.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "core/topic.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"
#include "util/strings.h"

enum {
    NO_MATCHING_SUBSCRIBERS = 0x10, // MQTT 5.0, section 3.4.2.1
    MAX_SUBSCRIPTIONS = 8,          // names of those whose SUBACK is awaited
};

static const uint64_t status_interval_usec = 60 * USEC_PER_SEC;
static const uint64_t status_soon_usec = 1 * USEC_PER_SEC;
static const uint64_t stop_limit_usec = 1 * USEC_PER_SEC;
static const struct ratelimit failure_limit = { .interval_usec = 600 * USEC_PER_SEC, .burst = 6 };

struct subscription {
    int mid;
    char *filter;
};

struct uplink {
    sd_event *event;
    struct config *config;
    const struct uplink_handlers *handlers;
    void *userdata;

    struct mqtt *mqtt;
    struct outbox *outbox;
    char *client_id;
    char *status_topic;    // NULL: not ours to publish
    char *offline_payload; // the last will
    sd_event_source *status_timer;
    sd_event_source *stop_timer;

    bool stopping;
    bool status_is_soon; // the timer runs for a change, not for its interval
    uint64_t since_wall_usec;
    uint64_t lost_mono_usec; // when the connection broke, 0 while connected or before the first
    uint64_t n_rejected;
    struct ratelimit failures; // to connect, as logged
    struct ratelimit refusals; // of messages, likewise
    size_t next_subscription;
    struct subscription subscriptions[MAX_SUBSCRIPTIONS]; // the last ones, a ring
};

static char *format_status(const struct uplink *uplink, const char *status)
{
    char since[CLOCK_RFC3339_SIZE];
    _cleanup_(json_object_putp) struct json_object *object = json_object_new_object();
    if (!object)
        return NULL;
    json_object_object_add(object, "status", json_object_new_string(status));
    json_object_object_add(object, "role",
                           json_object_new_string(config_role_names[uplink->config->daemon->role]));
    json_object_object_add(object, "version", json_object_new_string(NIGHTLIGHT_VERSION));
    if (uplink->outbox) { // the last will is written before there is anything to count
        struct outbox_counters counters;
        outbox_count(uplink->outbox, &counters);
        clock_format_rfc3339(uplink->since_wall_usec, since);
        json_object_object_add(object, "since", json_object_new_string(since));
        json_object_object_add(object, "sent", json_object_new_uint64(counters.sent));
        json_object_object_add(object, "queued",
                               json_object_new_uint64(counters.queued + counters.in_flight));
        json_object_object_add(object, "dropped",
                               json_object_new_uint64(counters.dropped + counters.rejected));
        json_object_object_add(object, "rejected", json_object_new_uint64(uplink->n_rejected));
        if (uplink->handlers->add_status)
            uplink->handlers->add_status(uplink->userdata, object);
    }
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE);
    return text ? strdup(text) : NULL;
}

static void publish_status(struct uplink *uplink, const char *status)
{
    if (!uplink->status_topic || !mqtt_is_connected(uplink->mqtt))
        return;
    _cleanup_(freep) char *payload = format_status(uplink, status);
    if (payload)
        outbox_publish(uplink->outbox, uplink->status_topic, payload, 1, true, 0);
}

static void schedule_status(struct uplink *uplink, uint64_t delay_usec)
{
    if (!uplink->status_timer)
        return;
    sd_event_source_set_time_relative(uplink->status_timer, delay_usec);
    sd_event_source_set_enabled(uplink->status_timer, SD_EVENT_ONESHOT);
}

static int on_status_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct uplink *uplink = userdata;
    uplink->status_is_soon = false;
    if (!uplink->stopping)
        publish_status(uplink, "online");
    schedule_status(uplink, status_interval_usec);
    return 0;
}

/* The goodbye is over by the next turn of the loop: not from within the client's own handlers. */
static void finish_soon(struct uplink *uplink)
{
    sd_event_source_set_time_relative(uplink->stop_timer, 0);
    sd_event_source_set_enabled(uplink->stop_timer, SD_EVENT_ONESHOT);
}

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct uplink *uplink = userdata;
    mqtt_stop(uplink->mqtt);
    uplink->handlers->stopped(uplink->userdata, uplink);
    return 0;
}

/* --- the client's handlers ------------------------------------------------------------------- */

static void on_connected(void *userdata, bool session_present)
{
    struct uplink *uplink = userdata;
    char span[32], back[64] = "";
    if (uplink->stopping)
        return;
    if (uplink->lost_mono_usec > 0)
        snprintf(back, sizeof(back), ", after %s without",
                 clock_format_span(clock_mono_usec() - uplink->lost_mono_usec, span, sizeof(span)));
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_CONNECTED), { "DEVICE", uplink->config->daemon->id }),
               "%s as %s%s%s", mqtt_describe(uplink->mqtt), uplink->client_id, back,
               session_present ? ", session resumed" : "");
    uplink->lost_mono_usec = 0;
    uplink->failures = failure_limit;
    uplink->since_wall_usec = clock_wall_usec();
    outbox_connected(uplink->outbox);
    uplink->status_is_soon = false;
    publish_status(uplink, "online");
    schedule_status(uplink, status_interval_usec);
    uplink->handlers->connected(uplink->userdata);
    uplink->handlers->changed(uplink->userdata, true);
}

static void on_disconnected(void *userdata, bool was_connected, const char *reason,
                            uint64_t retry_usec)
{
    struct uplink *uplink = userdata;
    char span[32];
    outbox_disconnected(uplink->outbox);
    if (uplink->stopping) {
        finish_soon(uplink);
        return;
    }
    if (uplink->lost_mono_usec == 0)
        uplink->lost_mono_usec = clock_mono_usec();
    clock_format_span(retry_usec, span, sizeof(span));
    // Several hosts may fail in turn, each for a reason of its own.
    bool passes = ratelimit_pass(&uplink->failures, clock_mono_usec(), NULL);
    int level = was_connected || passes ? LOG_WARNING : LOG_DEBUG;
    if (was_connected)
        log_at(level, LOG_FIELDS(LOG_ID(LOG_ID_DISCONNECTED)),
               "%s: connection to the broker lost: %s; trying again in %s", uplink->client_id,
               reason, span);
    else
        log_at(level, LOG_FIELDS(LOG_ID(LOG_ID_CONNECT_FAILED)),
               "%s: cannot connect to the broker: %s; trying again in %s, and for ever",
               uplink->client_id, reason, span);
    uplink->handlers->changed(uplink->userdata, true);
}

static void on_message(void *userdata, const struct mqtt_message *message)
{
    struct uplink *uplink = userdata;
    if (!uplink->stopping)
        uplink->handlers->message(uplink->userdata, message);
}

static void on_published(void *userdata, int mid, int reason_code)
{
    struct uplink *uplink = userdata;
    unsigned n_suppressed;
    uint64_t tag = 0;
    outbox_published(uplink->outbox, mid, reason_code, &tag);
    if (reason_code == NO_MATCHING_SUBSCRIBERS && tag > 0 && uplink->handlers->unheard)
        uplink->handlers->unheard(uplink->userdata, tag);
    if (reason_code >= 0x80 && ratelimit_pass(&uplink->refusals, clock_mono_usec(), &n_suppressed))
        log_warning(LOG_FIELDS({ "DEVICE", uplink->config->daemon->id }),
                    "%s: the broker refused a message: %s (MQTT reason code 0x%02x)%s; it is lost",
                    uplink->client_id, mqtt_reason(reason_code), (unsigned)reason_code,
                    n_suppressed ? ", and others before it" : "");
    if (uplink->stopping && outbox_is_empty(uplink->outbox))
        finish_soon(uplink);
    else
        uplink->handlers->changed(uplink->userdata, false);
}

static void on_subscribed(void *userdata, int mid, int granted)
{
    struct uplink *uplink = userdata;
    if (granted < 0x80)
        return;
    const char *filter = "a filter";
    for (size_t i = 0; i < MAX_SUBSCRIPTIONS; i++) {
        if (uplink->subscriptions[i].filter && uplink->subscriptions[i].mid == mid)
            filter = uplink->subscriptions[i].filter;
    }
    log_err(LOG_FIELDS({ "TOPIC", filter }),
            "%s: the broker refuses the subscription to %s: %s (MQTT reason code 0x%02x); nothing "
            "will come in there, check its access rules",
            uplink->client_id, filter, mqtt_reason(granted), (unsigned)granted);
}

static const struct mqtt_handlers mqtt_handlers = {
    .connected = on_connected,
    .disconnected = on_disconnected,
    .message = on_message,
    .published = on_published,
    .subscribed = on_subscribed,
};

/* --- life ------------------------------------------------------------------------------------ */

static int make_status(struct uplink *uplink)
{
    const struct daemon_config *daemon = uplink->config->daemon;
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    int r = topic_parse(uplink->config->topics->status, 1u << TOPIC_ID | 1u << TOPIC_GROUP,
                        &template, NULL);
    if (r < 0)
        return r;
    r = topic_expand(template,
                     &(struct topic_values){
                         .field = { [TOPIC_ID] = daemon->id, [TOPIC_GROUP] = daemon->group } },
                     &uplink->status_topic);
    if (r < 0)
        return r;
    uplink->offline_payload = format_status(uplink, "offline");
    return uplink->offline_payload ? 0 : -ENOMEM;
}

static int make_client(struct uplink *uplink, uint16_t receive_maximum)
{
    const struct broker_config *broker = uplink->config->broker;
    static const int protocols[] = { [PROTOCOL_AUTO] = 0, [PROTOCOL_5] = 5, [PROTOCOL_311] = 4 };
    const struct mqtt_options options = {
        .client_id = uplink->client_id,
        .hosts = broker->host,
        .port = (int)broker->port,
        .unix_socket = broker->transport == TRANSPORT_UNIX,
        .protocol = protocols[broker->protocol],
        .keepalive_usec = broker->keepalive_usec,
        .username = broker->username,
        .password_file = broker->password_file,
        .tls = broker->tls,
        .ca_file = broker->ca_file,
        .cert_file = broker->cert_file,
        .key_file = broker->key_file,
        .psk_identity = broker->psk_identity,
        .psk_file = broker->psk_file,
        .alpn = broker->alpn,
        .reconnect_min_usec = broker->reconnect_min_usec,
        .reconnect_max_usec = broker->reconnect_max_usec,
        .session_expiry_usec = broker->session_expiry_usec,
        .receive_maximum = receive_maximum,
        .will_topic = uplink->status_topic,
        .will_payload = uplink->offline_payload,
    };
    int r = mqtt_new(uplink->event, &options, &mqtt_handlers, uplink, &uplink->mqtt);
    if (r < 0)
        return r;
    return outbox_new(uplink->mqtt, (unsigned)broker->max_inflight, &uplink->outbox);
}

static int make_timers(struct uplink *uplink)
{
    int r = sd_event_add_time_relative(uplink->event, &uplink->status_timer, CLOCK_BOOTTIME,
                                       status_interval_usec, USEC_PER_SEC, on_status_timer, uplink);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(uplink->event, &uplink->stop_timer, CLOCK_BOOTTIME,
                                   stop_limit_usec, 0, on_stop_timer, uplink);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(uplink->status_timer, SD_EVENT_OFF);
    return sd_event_source_set_enabled(uplink->stop_timer, SD_EVENT_OFF);
}

int uplink_new(sd_event *event, struct config *config, const char *client_suffix, bool has_status,
               uint16_t receive_maximum, const struct uplink_handlers *handlers, void *userdata,
               struct uplink **ret_uplink)
{
    _cleanup_(uplink_freep) struct uplink *uplink = calloc(1, sizeof(*uplink));
    if (!uplink)
        return -ENOMEM;
    uplink->event = sd_event_ref(event);
    uplink->config = config_ref(config);
    uplink->handlers = handlers;
    uplink->userdata = userdata;
    uplink->failures = failure_limit;
    uplink->refusals = failure_limit;
    if (asprintf(&uplink->client_id, "%s%s", config->daemon->id, client_suffix) < 0) {
        uplink->client_id = NULL;
        return -ENOMEM;
    }
    int r = has_status ? make_status(uplink) : 0;
    if (r == 0)
        r = make_client(uplink, receive_maximum);
    if (r == 0)
        r = make_timers(uplink);
    if (r < 0)
        return r;
    *ret_uplink = TAKE_PTR(uplink);
    return 0;
}

void uplink_free(struct uplink *uplink)
{
    if (!uplink)
        return;
    sd_event_source_disable_unref(uplink->status_timer);
    sd_event_source_disable_unref(uplink->stop_timer);
    mqtt_free(uplink->mqtt);
    outbox_free(uplink->outbox);
    for (size_t i = 0; i < MAX_SUBSCRIPTIONS; i++)
        free(uplink->subscriptions[i].filter);
    free(uplink->client_id);
    free(uplink->status_topic);
    free(uplink->offline_payload);
    config_unref(uplink->config);
    sd_event_unref(uplink->event);
    free(uplink);
}

int uplink_start(struct uplink *uplink)
{
    return mqtt_start(uplink->mqtt);
}

void uplink_stop(struct uplink *uplink)
{
    if (uplink->stopping)
        return;
    publish_status(uplink, "offline");
    uplink->stopping = true;
    finish_soon(uplink);
    if (mqtt_is_connected(uplink->mqtt) && !outbox_is_empty(uplink->outbox))
        sd_event_source_set_time_relative(uplink->stop_timer, stop_limit_usec);
}

/* --- use ------------------------------------------------------------------------------------- */

bool uplink_is_connected(const struct uplink *uplink)
{
    return mqtt_is_connected(uplink->mqtt) && !uplink->stopping;
}

int uplink_publish(struct uplink *uplink, const char *topic, const char *payload, int qos,
                   bool retain, uint64_t tag)
{
    int r = outbox_publish(uplink->outbox, topic, payload, qos, retain, tag);
    if (r < 0)
        uplink->handlers->changed(uplink->userdata, false);
    return r;
}

void uplink_subscribe(struct uplink *uplink, const char *filter)
{
    struct subscription *subscription =
        &uplink->subscriptions[uplink->next_subscription++ % MAX_SUBSCRIPTIONS];
    free(subscription->filter);
    subscription->filter = strdup(filter);
    int r = mqtt_subscribe(uplink->mqtt, filter, 1, &subscription->mid);
    if (r < 0)
        log_err(LOG_FIELDS({ "TOPIC", filter }), "cannot subscribe to %s: %s", filter,
                strerror(-r));
    else
        log_debug(LOG_FIELDS({ "TOPIC", filter }), "subscribing to %s", filter);
}

void uplink_count_rejected(struct uplink *uplink)
{
    uplink->n_rejected++;
    if (!uplink->status_is_soon && mqtt_is_connected(uplink->mqtt)) {
        uplink->status_is_soon = true;
        schedule_status(uplink, status_soon_usec);
    }
    uplink->handlers->changed(uplink->userdata, false);
}

const char *uplink_describe(const struct uplink *uplink, char *out, size_t size)
{
    struct outbox_counters counters;
    outbox_count(uplink->outbox, &counters);
    snprintf(out, size, "%s; %" PRIu64 " sent, %" PRIu64 " queued, %" PRIu64 " dropped",
             mqtt_describe(uplink->mqtt), counters.sent, counters.queued + counters.in_flight,
             counters.dropped + counters.rejected);
    return out;
}

static bool sections_equal(const struct config *a, const struct config *b, const char *kind)
{
    return config_section_equal(config_nth(a, kind, 0), config_nth(b, kind, 0));
}

bool uplink_outdated(const struct uplink *uplink, const struct config *config)
{
    const struct daemon_config *old = uplink->config->daemon, *new = config->daemon;
    return old->role != new->role || !strings_equal(old->id, new->id) ||
           !strings_equal(old->group, new->group) ||
           !sections_equal(uplink->config, config, "broker") ||
           !sections_equal(uplink->config, config, "topics");
}
