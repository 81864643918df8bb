// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A role's way to the broker: the outbox, the link made from the configuration, the retained
 * status message with its last will, and the log lines of connecting and losing.
 *
 *     uplink_new(), then uplink_start(). handlers.connected() subscribes and publishes what a newly
 *     connected role has to say; uplink_stop() says goodbye and calls handlers.stopped().
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "outbox/connection.h"
#include "outbox/outbox.h"
#include "outbox/spool.h"
#include "util/cleanup.h"

struct uplink;
struct uplink_plan; // another configuration, prepared

/* All but add_status() are called by the loop alone, never from within a call of the role's. */
struct uplink_handlers {
    void (*connected)(void *userdata);
    void (*message)(void *userdata, const struct mqtt_message *message);
    void (*add_status)(void *userdata, struct json_object *status); // further members; may be NULL
    // What uplink_describe() says has changed; news: more than a counter.
    void (*changed)(void *userdata, bool news);
    // The broker took a message with this tag (not 0) and had nobody to give it to (MQTT 5).
    void (*unheard)(void *userdata, uint64_t tag); // may be NULL
    // outbox_recorded() has grown; NULL where outbox_sync_records() is not called.
    void (*recorded)(void *userdata, uint64_t ticket);
    void (*stopped)(void *userdata); // after uplink_stop(): free it now
};

struct uplink_options {
    struct connection_role role;         // its suffix names the outbox too: "" or "-server"
    bool adopts;                         // as spool_add()
    const struct stream_policy *streams; // $status is added
    size_t n_streams;
};

/*
 * Holds a reference to config; borrows spool and handlers, copies options. 0, -ENOMEM, or what
 * sd-event returns.
 */
int uplink_new(sd_event *event, struct spool *spool, struct config *config,
               const struct uplink_options *options, const struct uplink_handlers *handlers,
               void *userdata, struct uplink **ret_uplink);

/* What waits stays on disk. The broker publishes the last will. */
void uplink_free(struct uplink *uplink);
DEFINE_CLEANUP(struct uplink *, uplink_free)

void uplink_start(struct uplink *uplink);

/*
 * Makes what another configuration takes, and touches nothing. uplink_commit() puts it into force,
 * in the same turn of the main loop, frees it and cannot fail. The connection is renewed, with a
 * goodbye from the old one, when broker, topics, id, group or role have changed, or when the caller
 * says so; what waits to be sent stays. 0, -ENOMEM, or what sd-event returns.
 */
int uplink_prepare(struct uplink *uplink, struct config *config,
                   const struct uplink_options *options, bool must_renew,
                   struct uplink_plan **ret_plan);
void uplink_commit(struct uplink *uplink, struct uplink_plan *plan);
void uplink_plan_free(struct uplink_plan *plan);
DEFINE_CLEANUP(struct uplink_plan *, uplink_plan_free)

/*
 * Publishes the status "offline", waits for it and for what is in flight, sends DISCONNECT, brings
 * to disk what is to be kept, and calls handlers.stopped() from the main loop: at end_mono_usec at
 * the latest, of which the disk has the last 400 ms for itself.
 */
void uplink_stop(struct uplink *uplink, uint64_t end_mono_usec);

bool uplink_is_connected(const struct uplink *uplink);

/* As outbox_publish(). */
int uplink_publish(struct uplink *uplink, const struct outbox_message *message);

/* For outbox_count_samples() and outbox_put_record(). */
struct outbox *uplink_outbox(struct uplink *uplink);

/* Subscribes with QoS 1; a failure or a refusal is logged, with the filter. */
void uplink_subscribe(struct uplink *uplink, const char *filter);

/* Counts commands or messages from outside that were refused; it shows in the status message. */
void uplink_count_rejected(struct uplink *uplink, uint64_t count);

/* "connected to localhost:1883, MQTT 5; 12 sent, 0 queued, 0 dropped" */
const char *uplink_describe(const struct uplink *uplink, char *out, size_t size);
