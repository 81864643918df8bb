// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The libmosquitto client of the one connection, as the options have it. What the library calls
 * back with goes to the daemon as records (pair.h).
 */
#pragma once

#include <mosquitto.h>
#include <stdbool.h>

#include "core/frame.h"

struct client {
    const struct frame_options *options;
    struct mosquitto *mosq;
    char where[160];     // "host:port"
    char complaint[160]; // the library's first error line (OpenSSL's text comes only that way)
    int connack;         // its code; -1 before it comes
    int farewell;        // the code of the broker's DISCONNECT; 0: none came
    unsigned n_packets;  // grows with each sign that the library has taken a packet in
    uint64_t keepalive_usec;
    struct client_drops {
        uint64_t n; // since the daemon was last told
        char topic[256];
    } drops[2];                   // by enum frame_drop
    uint64_t told_mono_usec;      // when it was
    double allowance;             // messages that may be handed on at once
    uint64_t allowance_mono_usec; // as of then
    char error[320];              // why it cannot go on; "": it can
};

/* Makes it: reads the secrets and the certificates. 0, or -EIO with client->error. */
int client_new(struct client *client, const struct frame_options *options);

/*
 * Connects through the wire (wire.h), to a host of the options, and sends CONNECT. 0, or -EIO with
 * client->error.
 */
int client_connect(struct client *client, const char *host);

void client_publish(struct client *client, const struct frame_record *record);
void client_subscribe(struct client *client, const struct frame_record *record);

/*
 * Tells the daemon what was dropped, once a second at the most. How long until there is more to
 * tell; USEC_INFINITY: there is not.
 */
uint64_t client_tell_dropped(struct client *client, uint64_t now_mono_usec);

/*
 * Why a connection that had come up ended, in client->error, and what could mend it: rc is
 * libmosquitto's code, error the errno beside it.
 */
enum frame_failure client_explain(struct client *client, int rc, int error);

void client_done(struct client *client);
