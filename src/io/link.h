// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An MQTT client on the main loop, whose network is in a process of its own: starts a connector
 * (src/connector/), hands it what is to be published, takes from it what has come, and starts
 * another when it has ended, with back-off and for ever.
 *
 * Whatever happens to a connector (a signal, an assertion of its libraries, a limit, silence) is a
 * lost connection here. One that is given up is killed: it cannot connect later. The next begins
 * when the last has been reaped, and all that it had said has been read; what was published and not
 * acknowledged by then is the caller's again (LINK_DISCONNECTED).
 *
 * Nothing here waits, no event is told from within a call, and what comes from the connector is
 * served in small portions, after timers, edges and signals.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "core/frame.h"
#include "util/cleanup.h"

enum {
    // Where handlers of the network come in: behind those of everything else.
    LINK_PRIORITY = SD_EVENT_PRIORITY_NORMAL + 10,
};

/* Strings are borrowed and must outlive the link. */
struct link_options {
    // What each connector is told (core/frame.h); parent, hosts, protocol and rotation are left to
    // the link.
    struct frame_options connector;
    char *const *hosts; // NULL-terminated, tried in turn; paths with unix_socket
    int protocol;       // 0: 5, and 3.1.1 where it is refused; 5; 4 for 3.1.1
    uint64_t reconnect_min_usec, reconnect_max_usec;
    uint64_t attempt_limit_usec; // from look-up to CONNACK; 0: 20 s
};

enum link_news {
    // CONNACK came: subscribe now.
    LINK_CONNECTED,
    // The connection has failed, or an attempt has, unless it is for the reason that was given last
    // in this outage. What was published and not acknowledged is the caller's again. The first
    // pause of an outage is told in any case.
    LINK_DISCONNECTED,
    LINK_MESSAGE,
    // QoS 1: PUBACK, QoS 2: PUBCOMP, QoS 0: written. code >= 0x80: the broker refused it (MQTT 5.0,
    // section 3.4.2.1), or libmosquitto did.
    LINK_PUBLISHED,
    // SUBACK: code is the QoS that is granted, or >= 0x80: refused.
    LINK_SUBSCRIBED,
    // Messages that came in were not handed on.
    LINK_DROPPED,
    // After link_stop(): the connector has ended.
    LINK_STOPPED,
};

/* What has happened. Borrowed while it is told. */
struct link_event {
    enum link_news news;
    bool session_present; // LINK_CONNECTED, as MQTT 5.0, section 3.2.2.1.1
    bool was_connected;   // LINK_DISCONNECTED: it was no attempt
    const char *reason;   // LINK_DISCONNECTED: one line
    uint64_t retry_usec;  // until the next attempt; 0 while there is a host that was not tried
    const struct mqtt_message *message; // LINK_MESSAGE
    int mid, code;                      // LINK_PUBLISHED, LINK_SUBSCRIBED
    const struct frame_record *dropped; // LINK_DROPPED: code is why, text the last one's topic
};

struct link;

/*
 * Connects only with link_start(). options are copied. on_event() is called from the main loop and
 * never from within a call; it may call anything here but link_free(). 0, -ENOMEM, -E2BIG (too many
 * hosts), or what sd-event returns.
 */
int link_new(sd_event *event, const struct link_options *options,
             void (*on_event)(void *userdata, const struct link_event *event), void *userdata,
             struct link **ret_link);

/* Kills the connector (the broker sends the last will). Not while it tells of an event. NULL is
 * fine. */
void link_free(struct link *link);
DEFINE_CLEANUP(struct link *, link_free)

/* Begins to connect. */
void link_start(struct link *link);

/*
 * Sends what was published, then DISCONNECT, and does not connect again; LINK_STOPPED follows, at
 * the latest when the connector has been killed after limit_usec.
 */
void link_stop(struct link *link, uint64_t limit_usec);

bool link_is_connected(const struct link *link);

/* What to say of it in a status line: "connected to localhost:1883, MQTT 5", "connecting to ...",
 * "not connected: ...". Valid until the next change. */
const char *link_describe(const struct link *link);

/*
 * How many messages at QoS 1 and 2 may be handed over and not yet be acknowledged: the broker's
 * receive maximum (MQTT 5.0, section 3.2.2.3.3; 65535 where it names none), and as many again, up
 * to 32, which the connector sends by itself as the broker acknowledges others. 0 while not
 * connected.
 */
unsigned link_window(const struct link *link);

/*
 * Publishes; *ret_mid (may be NULL) is what LINK_PUBLISHED will name, from the loop. All of message
 * is copied. Who publishes more than is acknowledged bounds that. With a session that does not end
 * with the connection QoS 2 becomes 1: a new client numbers its messages anew, and the broker could
 * take one for another that it has. -ENOTCONN while not connected; -EMSGSIZE, -EINVAL (a text that
 * is not UTF-8), -ENOMEM.
 */
int link_publish(struct link *link, const struct mqtt_message *message, int *ret_mid);

/* Subscribes to one filter. ret_mid may be NULL. Errors as link_publish(). */
int link_subscribe(struct link *link, const char *filter, int qos, int *ret_mid);
