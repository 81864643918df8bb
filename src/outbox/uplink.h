// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A role's connection to the broker: the MQTT client made from the configuration, its outbox, the
 * retained status message with its last will, and the log lines of connecting and losing.
 *
 *     uplink_new(), then uplink_start(). handlers.connected() subscribes and publishes what a newly
 *     connected role has to say; uplink_stop() says goodbye and calls handlers.stopped().
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "io/mqtt.h"
#include "outbox/outbox.h"
#include "util/cleanup.h"

struct uplink;

struct uplink_handlers {
    void (*connected)(void *userdata);
    void (*message)(void *userdata, const struct mqtt_message *message);
    void (*add_status)(void *userdata, struct json_object *status); // further members; may be NULL
    // What uplink_describe() says has changed; news: more than a counter.
    void (*changed)(void *userdata, bool news);
    // The broker took a message with this tag (not 0) and had nobody to give it to (MQTT 5).
    void (*unheard)(void *userdata, uint64_t tag);          // may be NULL
    void (*stopped)(void *userdata, struct uplink *uplink); // after uplink_stop(): free it now
};

/*
 * client_suffix ("" or "-server") is appended to the id; with has_status the status message and the
 * last will are this uplink's to publish. receive_maximum as in io/mqtt.h. Holds a reference to
 * config. 0, -ENOMEM, or what sd-event returns.
 */
int uplink_new(sd_event *event, struct config *config, const char *client_suffix, bool has_status,
               uint16_t receive_maximum, const struct uplink_handlers *handlers, void *userdata,
               struct uplink **ret_uplink);
void uplink_free(struct uplink *uplink);
DEFINE_CLEANUP(struct uplink *, uplink_free)

int uplink_start(struct uplink *uplink);

/*
 * Publishes the status "offline", waits for it and for what is in flight, for 1 s at the most,
 * sends DISCONNECT and calls handlers.stopped() from the main loop.
 */
void uplink_stop(struct uplink *uplink);

bool uplink_is_connected(const struct uplink *uplink);

/* As outbox_publish(). */
int uplink_publish(struct uplink *uplink, const char *topic, const char *payload, int qos,
                   bool retain, uint64_t tag);

/* Subscribes with QoS 1; a failure or a refusal is logged, with the filter. */
void uplink_subscribe(struct uplink *uplink, const char *filter);

/* Counts a command or a message from outside that was refused; it shows in the status message. */
void uplink_count_rejected(struct uplink *uplink);

/* "connected to localhost:1883, MQTT 5; 12 sent, 0 queued, 0 dropped" */
const char *uplink_describe(const struct uplink *uplink, char *out, size_t size);

/* Whether a new configuration needs a new uplink: broker, topics, id, group or role differ. */
bool uplink_outdated(const struct uplink *uplink, const struct config *config);
