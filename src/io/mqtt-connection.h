// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One connection to one host over one version of the protocol, from the name look-up to its end;
 * internal to io/mqtt.c.
 *
 *     mqtt_connection_new(), then lend it to a worker; run() makes a fresh libmosquitto client,
 * connects it and sends CONNECT. The owner sets done() before. When it comes back, error[0] tells
 * whether it failed; else mosq is the main loop's to service. An abandoned one frees itself.
 *
 * It holds copies of all its options: a thread that hangs in a look-up outlives the client and the
 * configuration.
 */
#pragma once

#include <mosquitto.h>
#include <stdbool.h>

#include "io/mqtt-retry.h"
#include "io/mqtt.h"
#include "io/worker.h"
#include "util/cleanup.h"

/* MQTT 5.0, section 2.4: reason codes from here on are failures. */
enum { MQTT_FIRST_REFUSAL = 0x80 };

struct mqtt_connection {
    struct worker_job base;
    struct mqtt_options options; // strings are owned; hosts is not used
    char *host;
    char *where; // "host:port", or the socket's path; never NULL
    int protocol;
    struct mosquitto *mosq; // NULL until it is connected
    struct mqtt *mqtt;      // the main loop's, for its callbacks; the thread does not look at it
    bool is_counted;        // among the abandoned

    char error[256];     // run() failed: one line that says why; "" if it did not
    char complaint[160]; // the library's first error line (OpenSSL's text comes only that way)
    int connack;         // its code; -1 before it comes
    int farewell;        // the code of the broker's DISCONNECT; 0: none came
    unsigned n_packets;  // grows with each sign that the library has taken a packet in
};

/* Copies what it needs. 0 or -ENOMEM. */
int mqtt_connection_new(const struct mqtt_options *options, const char *host, int protocol,
                        struct mqtt_connection **ret_connection);

/* Closes without DISCONNECT. NULL is fine. */
void mqtt_connection_free(struct mqtt_connection *connection);
DEFINE_CLEANUP(struct mqtt_connection *, mqtt_connection_free)

/*
 * Why a connection that had come up ended, as one line, and whether another version of the protocol
 * may mend it: rc is libmosquitto's code, error the errno beside it.
 */
enum mqtt_failure mqtt_connection_explain(const struct mqtt_connection *connection, int rc,
                                          int error, char *reason, size_t size);

/* How many threads still hang in a connection that was abandoned, in this process. */
unsigned mqtt_connection_count_abandoned(void);
