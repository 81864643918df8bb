// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One connection to the broker, as the configuration has it: the MQTT client, its id and its last
 * will. It never changes; for another configuration a new one takes its place (uplink.h).
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "io/mqtt.h"

struct link_options {
    const char *client_suffix; // is appended to the id
    bool has_status;           // the status message and the last will are this client's to publish
    uint16_t receive_maximum;  // as io/mqtt.h
};

struct link {
    struct config *config; // the client borrows its strings
    struct mqtt *mqtt;     // NULL: there is no link
    char *client_id;
    char *status_topic;    // NULL: not ours to publish
    char *offline_payload; // the last will
};

/*
 * The way to the broker, for a client of a session of its own; its id is missing. Borrows broker's
 * strings.
 */
struct mqtt_options link_broker_options(const struct broker_config *broker);

/*
 * Holds a reference to config, borrows handlers; the client does not connect yet. 0, -ENOMEM, or
 * what sd-event returns.
 */
int link_make(sd_event *event, struct config *config, const struct link_options *options,
              const struct mqtt_handlers *handlers, void *userdata, struct link *ret_link);

/* Drops the connection without DISCONNECT. There is no link afterwards; fine if there was none. */
void link_done(struct link *link);

/* Whether config asks for another connection: broker, topics, id, group or role have changed. */
bool link_is_outdated(const struct link *link, const struct config *config);
