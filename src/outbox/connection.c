// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/connection.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mqtt.h"
#include "core/topic.h"
#include "outbox/status.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strings.h"

struct link_options connection_options(const struct broker_config *broker)
{
    static const int protocols[] = { [PROTOCOL_AUTO] = 0, [PROTOCOL_5] = 5, [PROTOCOL_311] = 4 };
    return (struct link_options){
        .connector = {
            .port = broker->port,
            .unix_socket = broker->transport == TRANSPORT_UNIX,
            .keepalive_sec = broker->keepalive_usec / USEC_PER_SEC,
            .username = broker->username,
            .password_file = broker->password_file,
            .tls = broker->tls,
            .ca_file = broker->ca_file,
            .cert_file = broker->cert_file,
            .key_file = broker->key_file,
            .psk_identity = broker->psk_identity,
            .psk_file = broker->psk_file,
            .alpn = broker->alpn,
            .receive_maximum = UINT16_MAX,
            .max_message = broker->max_message,
        },
        .hosts = broker->host,
        .protocol = protocols[broker->protocol],
        .reconnect_min_usec = broker->reconnect_min_usec,
        .reconnect_max_usec = broker->reconnect_max_usec,
    };
}

static int make_status(struct connection *connection)
{
    const struct daemon_config *daemon = connection->config->daemon;
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    int r = topic_parse(connection->config->topics->status, 1u << TOPIC_ID | 1u << TOPIC_GROUP,
                        &template, NULL);
    if (r < 0)
        return r;
    r = topic_expand(template,
                     &(struct topic_values){
                         .field = { [TOPIC_ID] = daemon->id, [TOPIC_GROUP] = daemon->group } },
                     &connection->status_topic);
    if (r < 0)
        return r;
    _cleanup_(json_object_putp) struct json_object *status = status_new(daemon, "offline", NULL);
    const char *text = status ? status_text(status) : NULL;
    connection->offline_payload = text ? strdup(text) : NULL;
    return connection->offline_payload ? 0 : -ENOMEM;
}

int connection_make(sd_event *event, struct config *config, const struct connection_role *role,
                    void (*on_event)(void *userdata, const struct link_event *event),
                    void *userdata, struct connection *ret_connection)
{
    struct connection connection = { .config = config_ref(config) };
    int r = 0;
    if (asprintf(&connection.client_id, "%s%s", config->daemon->id, role->client_suffix) < 0) {
        connection.client_id = NULL;
        r = -ENOMEM;
    }
    if (r == 0 && role->has_status)
        r = make_status(&connection);
    if (r == 0) {
        struct link_options options = connection_options(config->broker);
        struct frame_options *connector = &options.connector;
        connector->client_id = connection.client_id;
        // Rounded up: 0 would be a clean session.
        connector->session_expiry_sec =
            (config->broker->session_expiry_usec + USEC_PER_SEC - 1) / USEC_PER_SEC;
        connector->receive_maximum = role->receive_maximum;
        connector->max_rate = role->max_rate;
        connector->will_topic = connection.status_topic;
        connector->will_payload = connection.offline_payload;
        r = link_new(event, &options, on_event, userdata, &connection.link);
    }
    if (r < 0) {
        connection_done(&connection);
        return r;
    }
    *ret_connection = connection;
    return 0;
}

void connection_done(struct connection *connection)
{
    link_free(connection->link);
    free(connection->client_id);
    free(connection->status_topic);
    free(connection->offline_payload);
    config_unref(connection->config);
    *connection = (struct connection){ 0 };
}

void connection_tell_connected(const struct connection *connection, uint64_t lost_mono_usec,
                               bool session_present)
{
    char span[32], back[64] = "";
    if (lost_mono_usec > 0)
        snprintf(back, sizeof(back), ", after %s without",
                 clock_format_span(clock_mono_usec() - lost_mono_usec, span, sizeof(span)));
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_CONNECTED), { "DEVICE", connection->config->daemon->id }),
               "%s as %s%s%s", link_describe(connection->link), connection->client_id, back,
               session_present ? ", session resumed" : "");
}

void connection_tell_lost(const struct connection *connection, const struct link_event *event,
                          bool passes)
{
    char span[32];
    int level = event->was_connected || passes ? LOG_WARNING : LOG_DEBUG;
    clock_format_span(event->retry_usec, span, sizeof(span));
    if (event->was_connected)
        log_at(level, LOG_FIELDS(LOG_ID(LOG_ID_DISCONNECTED)),
               "%s: connection to the broker lost: %s; trying again in %s", connection->client_id,
               event->reason, span);
    else
        log_at(level, LOG_FIELDS(LOG_ID(LOG_ID_CONNECT_FAILED)),
               "%s: cannot connect to the broker: %s; trying again in %s, and for ever",
               connection->client_id, event->reason, span);
}

void connection_tell_refused(const struct connection *connection, const char *filter, int code)
{
    log_err(LOG_FIELDS({ "TOPIC", filter }),
            "%s: the broker refuses the subscription to %s: %s (MQTT reason code 0x%02x); nothing "
            "will come in there, check its access rules",
            connection->client_id, filter, mqtt_reason(code), (unsigned)code);
}

void connection_tell_dropped(const struct connection *connection,
                             const struct frame_record *dropped)
{
    const struct broker_config *broker = connection->config->broker;
    const char *topic = dropped->text, *plural = dropped->count == 1 ? "" : "s";
    const struct log_field *fields =
        LOG_FIELDS(LOG_ID(LOG_ID_MESSAGES_DROPPED), { "TOPIC", topic });
    if (dropped->code == FRAME_DROP_TOO_LARGE)
        log_warning(fields,
                    "%s: %" PRIu64
                    " message%s dropped and counted as rejected, the last on %s: larger "
                    "than max_message, which is %" PRIu64 " bytes",
                    connection->client_id, dropped->count, plural, topic, broker->max_message);
    else
        log_warning(fields,
                    "%s: %" PRIu64
                    " message%s dropped and counted as rejected, the last on %s: they "
                    "come faster than a device takes commands",
                    connection->client_id, dropped->count, plural, topic);
}

static bool sections_equal(const struct config *a, const struct config *b, const char *kind)
{
    return config_section_equal(config_nth(a, kind, 0), config_nth(b, kind, 0));
}

bool connection_is_outdated(const struct connection *connection, const struct config *config)
{
    const struct daemon_config *old = connection->config->daemon, *new = config->daemon;
    return old->role != new->role || !strings_equal(old->id, new->id) ||
           !strings_equal(old->group, new->group) ||
           !sections_equal(connection->config, config, "broker") ||
           !sections_equal(connection->config, config, "topics");
}
