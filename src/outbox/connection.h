// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One connection to the broker, as the configuration has it: the link, its client id and its last
 * will. It never changes; for another configuration a new one takes its place (uplink.h).
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "io/link.h"

/* What a role wants of its connection. */
struct connection_role {
    const char *client_suffix; // is appended to the id
    bool has_status;           // the status message and the last will are this client's to publish
    uint16_t receive_maximum;  // as core/frame.h
    unsigned max_rate;         // likewise
};

struct connection {
    struct config *config; // the link borrows its strings
    struct link *link;     // NULL: there is no connection
    char *client_id;
    char *status_topic;    // NULL: not ours to publish
    char *offline_payload; // the last will
};

/*
 * The way to the broker, for a client of a session of its own; its id is missing. Borrows broker's
 * strings.
 */
struct link_options connection_options(const struct broker_config *broker);

/*
 * Holds a reference to config; the link is not started yet. 0, -ENOMEM, or what
 * sd-event returns.
 */
int connection_make(sd_event *event, struct config *config, const struct connection_role *role,
                    void (*on_event)(void *userdata, const struct link_event *event),
                    void *userdata, struct connection *ret_connection);

/* Kills the connector. There is no connection afterwards; fine if there was none. */
void connection_done(struct connection *connection);

/* Whether config asks for another one: broker, topics, id, group or role have changed. */
bool connection_is_outdated(const struct connection *connection, const struct config *config);

/* Logs that it is up. lost_mono_usec: since when there was none; 0: there was none before. */
void connection_tell_connected(const struct connection *connection, uint64_t lost_mono_usec,
                               bool session_present);

/* Logs why it broke or failed, as LINK_DISCONNECTED tells; passes: not for debugging alone. */
void connection_tell_lost(const struct connection *connection, const struct link_event *event,
                          bool passes);

/* Logs that a subscription was refused; code: as LINK_SUBSCRIBED tells. */
void connection_tell_refused(const struct connection *connection, const char *filter, int code);

/* Logs that messages which came in were dropped, as LINK_DROPPED tells. */
void connection_tell_dropped(const struct connection *connection,
                             const struct frame_record *dropped);
