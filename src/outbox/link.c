// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/topic.h"
#include "outbox/status.h"
#include "util/strings.h"

struct mqtt_options link_broker_options(const struct broker_config *broker)
{
    static const int protocols[] = { [PROTOCOL_AUTO] = 0, [PROTOCOL_5] = 5, [PROTOCOL_311] = 4 };
    return (struct mqtt_options){
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
    };
}

static int make_status(struct link *link)
{
    const struct daemon_config *daemon = link->config->daemon;
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    int r = topic_parse(link->config->topics->status, 1u << TOPIC_ID | 1u << TOPIC_GROUP, &template,
                        NULL);
    if (r < 0)
        return r;
    r = topic_expand(template,
                     &(struct topic_values){
                         .field = { [TOPIC_ID] = daemon->id, [TOPIC_GROUP] = daemon->group } },
                     &link->status_topic);
    if (r < 0)
        return r;
    link->offline_payload = status_format(daemon, "offline", NULL);
    return link->offline_payload ? 0 : -ENOMEM;
}

int link_make(sd_event *event, struct config *config, const struct link_options *options,
              const struct mqtt_handlers *handlers, void *userdata, struct link *ret_link)
{
    struct link link = { .config = config_ref(config) };
    int r = 0;
    if (asprintf(&link.client_id, "%s%s", config->daemon->id, options->client_suffix) < 0) {
        link.client_id = NULL;
        r = -ENOMEM;
    }
    if (r == 0 && options->has_status)
        r = make_status(&link);
    if (r == 0) {
        struct mqtt_options client = link_broker_options(config->broker);
        client.client_id = link.client_id;
        client.session_expiry_usec = config->broker->session_expiry_usec;
        client.receive_maximum = options->receive_maximum;
        client.will_topic = link.status_topic;
        client.will_payload = link.offline_payload;
        r = mqtt_new(event, &client, handlers, userdata, &link.mqtt);
    }
    if (r < 0) {
        link_done(&link);
        return r;
    }
    *ret_link = link;
    return 0;
}

void link_done(struct link *link)
{
    mqtt_free(link->mqtt);
    free(link->client_id);
    free(link->status_topic);
    free(link->offline_payload);
    config_unref(link->config);
    *link = (struct link){ 0 };
}

static bool sections_equal(const struct config *a, const struct config *b, const char *kind)
{
    return config_section_equal(config_nth(a, kind, 0), config_nth(b, kind, 0));
}

bool link_is_outdated(const struct link *link, const struct config *config)
{
    const struct daemon_config *old = link->config->daemon, *new = config->daemon;
    return old->role != new->role || !strings_equal(old->id, new->id) ||
           !strings_equal(old->group, new->group) ||
           !sections_equal(link->config, config, "broker") ||
           !sections_equal(link->config, config, "topics");
}
