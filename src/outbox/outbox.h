// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What waits to be sent: a bounded queue in memory in front of one MQTT client, and the window in
 * flight. Telemetry that cannot be sent now is dropped and counted; nothing is kept across an
 * outage.
 *
 *     outbox_publish() whenever; outbox_connected(), outbox_disconnected() and outbox_published()
 * from the client's handlers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/mqtt.h"
#include "util/cleanup.h"

enum {
    OUTBOX_MAX_MESSAGES = 10000,
    OUTBOX_MAX_BYTES = 4 << 20, // topics and payloads
};

struct outbox_counters {
    uint64_t sent; // acknowledged (QoS 1 and 2) or written (QoS 0)
    uint64_t
        dropped; // not connected, or a bound was reached, or in flight when the connection broke
    uint64_t rejected;  // refused by the broker (reason code >= 0x80)
    uint64_t queued;    // waiting for the window
    uint64_t in_flight; // handed over, not acknowledged
};

struct outbox;

/* max_inflight: 1..65535. mqtt is borrowed. */
int outbox_new(struct mqtt *mqtt, unsigned max_inflight, struct outbox **ret_outbox);
void outbox_free(struct outbox *outbox);
DEFINE_CLEANUP(struct outbox *, outbox_free)

/*
 * Takes a message. 0 if it is sent or waits for the window; else it was dropped and counted:
 * -ENOTCONN, -ENOBUFS (a bound was reached), -ENOMEM, or what mqtt_publish() says. tag is given
 * back with the acknowledgement; 0 for none.
 */
int outbox_publish(struct outbox *outbox, const char *topic, const char *payload, int qos,
                   bool retain, uint64_t tag);

void outbox_connected(struct outbox *outbox);

/* Drops and counts what waits and what is in flight. */
void outbox_disconnected(struct outbox *outbox);

/*
 * Takes an acknowledgement and sends what waited for its place. Returns whether mid was one of
 * ours; then *ret_tag (may be NULL) is the message's tag, or 0 if it is not remembered: what is in
 * flight for a very long time may lose its tag.
 */
bool outbox_published(struct outbox *outbox, int mid, int reason_code, uint64_t *ret_tag);

bool outbox_is_empty(const struct outbox *outbox);
void outbox_count(const struct outbox *outbox, struct outbox_counters *ret_counters);
