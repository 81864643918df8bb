// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An MQTT client on the main loop: connects, stays connected, publishes, subscribes. The only user
 * of libmosquitto.
 *
 * Each connection is a fresh libmosquitto client, made by a short-lived worker that reads the
 * secrets, looks up the name, connects and handshakes, and is then handed over: nothing of that can
 * hold the main loop, the library keeps nothing from one connection to the next, and what was not
 * acknowledged belongs to the caller again (disconnected()). Fails over between hosts, from MQTT 5
 * to 3.1.1, and backs off with full jitter from reconnect_min_usec to reconnect_max_usec, for ever.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

/* Strings are borrowed and must outlive the client. */
struct mqtt_options {
    const char *client_id;
    char *const *hosts; // NULL-terminated, tried in turn; paths with unix_socket
    int port;
    bool unix_socket;
    int protocol; // 0: 5, and 3.1.1 where it is refused; 5; 4 for 3.1.1
    uint64_t keepalive_usec;
    const char *username;      // NULL: none
    const char *password_file; // a path, or a name in $CREDENTIALS_DIRECTORY; read at each connect
    bool tls;
    const char *ca_file; // NULL: the system's store
    const char *cert_file, *key_file;
    const char *psk_identity, *psk_file;
    const char *alpn;
    uint64_t reconnect_min_usec, reconnect_max_usec;
    uint64_t session_expiry_usec; // 0: a clean session
    uint16_t receive_maximum;     // MQTT 5: what we announce; 0: the protocol's default
    const char *will_topic;       // NULL: no last will; retained, QoS 1
    const char *will_payload;
    uint64_t attempt_limit_usec; // from look-up to CONNACK, then the next host; 0: 20 s
};

struct mqtt_message {
    const char *topic;   // NUL-terminated
    const char *payload; // not NUL-terminated
    size_t payload_size;
    int qos;
    bool retain; // sent because it was retained, not because it is news
    const struct mqtt_properties *properties; // NULL: none; see mqtt_message_...() below
};

/* MQTT 5.0, section 3.3.2.3.7: UTF-8, NUL-terminated. */
struct mqtt_user_property {
    const char *name, *value;
};

/* A message to publish. What is behind `retain` is left out where the connection has MQTT 3.1.1. */
struct mqtt_publication {
    const char *topic;
    const void *payload;
    size_t payload_size;
    int qos;
    bool retain;
    const struct mqtt_user_property *properties;
    size_t n_properties;
    const char *response_topic; // MQTT 5.0, section 3.3.2.3.5; NULL: none
    const void *correlation;    // MQTT 5.0, section 3.3.2.3.6; NULL: none
    size_t correlation_size;    // at most 65535
};

/*
 * All on the main loop, none from within mqtt_start(), mqtt_stop() or mqtt_free(). Each may call
 * anything here, mqtt_stop() and mqtt_free() too: what must wait for the handler's return does.
 */
struct mqtt_handlers {
    // CONNACK came: subscribe now. session_present as MQTT 5.0, section 3.2.2.1.1.
    void (*connected)(void *userdata, bool session_present);
    // The connection has failed (was_connected), or an attempt has, unless it is for the reason
    // that was given last in this outage. What was published and not acknowledged is the caller's
    // again. reason is one line; retry_usec the pause before the next attempt, 0 while there is a
    // host that has not been tried. The first pause of an outage is told in any case.
    void (*disconnected)(void *userdata, bool was_connected, const char *reason,
                         uint64_t retry_usec);
    void (*message)(void *userdata, const struct mqtt_message *message);
    // QoS 1: PUBACK, QoS 2: PUBCOMP, QoS 0: written. reason_code >= 0x80: the broker refused it
    // (MQTT 5.0, section 3.4.2.1).
    void (*published)(void *userdata, int mid, int reason_code);
    // SUBACK: granted 0..2, or >= 0x80: refused.
    void (*subscribed)(void *userdata, int mid, int granted);
};

struct mqtt;

/* Connects only with mqtt_start(). 0, -ENOMEM, or what sd-event returns. */
int mqtt_new(sd_event *event, const struct mqtt_options *options,
             const struct mqtt_handlers *handlers, void *userdata, struct mqtt **ret_mqtt);

/* Drops the connection without DISCONNECT (the broker sends the last will). NULL is fine. */
void mqtt_free(struct mqtt *mqtt);
DEFINE_CLEANUP(struct mqtt *, mqtt_free)

/* Begins to connect. */
int mqtt_start(struct mqtt *mqtt);

/* Sends DISCONNECT, without waiting for anything, and does not connect again. Calls no handler. */
void mqtt_stop(struct mqtt *mqtt);

bool mqtt_is_connected(const struct mqtt *mqtt);

/* What to say of it in a status line: "connected to localhost:1883, MQTT 5", "connecting to ...",
 * "not connected: ...". Valid until the next change. */
const char *mqtt_describe(const struct mqtt *mqtt);

/* A reason code (MQTT 5.0, section 2.4) in words: "Not authorized". */
const char *mqtt_reason(int reason_code);

/* The negotiated protocol, 5 or 4; 0 while not connected. */
int mqtt_protocol(const struct mqtt *mqtt);

/* The negotiated limit of unacknowledged messages at QoS 1 and 2 (MQTT 5.0, section 3.2.2.3.3),
 * 65535 where the broker names none; 0 while not connected. */
unsigned mqtt_receive_maximum(const struct mqtt *mqtt);

/*
 * Publishes; *ret_mid (may be NULL) is what published() will name. All of publication is copied.
 * published() may come before this returns (QoS 0: it is written at once): *ret_mid is set by then,
 * also in a call that fails later. -ENOTCONN while not connected: nothing is ever handed to
 * libmosquitto then. -EMSGSIZE, -EINVAL (a bad topic or property, or a QoS that the broker has
 * not), -ENOMEM.
 */
int mqtt_publish(struct mqtt *mqtt, const struct mqtt_publication *publication, int *ret_mid);

/* Subscribes to one filter. ret_mid may be NULL. -ENOTCONN, -EINVAL, -EMSGSIZE, -ENOMEM. */
int mqtt_subscribe(struct mqtt *mqtt, const char *filter, int qos, int *ret_mid);

/*
 * Properties of a message, within the handler that was given it. Each returns 0 and a new string
 * (for correlation: bytes), -ENOENT if the message has none, or -ENOMEM.
 */
int mqtt_message_response_topic(const struct mqtt_message *message, char **ret_topic);
int mqtt_message_correlation(const struct mqtt_message *message, void **ret_bytes,
                             size_t *ret_size);
/* The first user property of that name. */
int mqtt_message_user_property(const struct mqtt_message *message, const char *name,
                               char **ret_value);
