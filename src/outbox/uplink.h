// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A role's way to the broker: the outbox, the link made from the configuration, the retained
 * status message with its last will, and the log lines of connecting and losing.
 *
 *     uplink_new(), then uplink_start(). With UPLINK_CONNECTED the role subscribes;
 *     uplink_stop() says goodbye, and UPLINK_STOPPED comes.
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

enum uplink_event_type {
    UPLINK_CONNECTED, // the role subscribes, and publishes what it has to say
    UPLINK_MESSAGE,   // one has come in
    UPLINK_STATUS,    // the status message is made: the role may add members
    UPLINK_CHANGED,   // what uplink_describe() says
    UPLINK_UNHEARD,   // the broker took a message and had nobody to give it to (MQTT 5)
    UPLINK_RECORDED,  // outbox_recorded() has grown
    UPLINK_STOPPED,   // after uplink_stop(): free it now
};

/* All but UPLINK_STATUS come from the loop alone, never from within a call of the role's. */
struct uplink_event {
    enum uplink_event_type type;
    const struct mqtt_message *message; // UPLINK_MESSAGE
    struct json_object *status;         // UPLINK_STATUS
    bool is_news;                       // UPLINK_CHANGED: more than a counter
    uint64_t tag;                       // UPLINK_UNHEARD: the message's, not 0
    uint64_t ticket;                    // UPLINK_RECORDED
};

struct uplink_options {
    struct connection_role role;         // its suffix names the outbox too: "" or "-server"
    bool adopts;                         // as spool_add()
    const struct stream_policy *streams; // $status is added
    size_t n_streams;
};

/*
 * Holds a reference to config; borrows spool, copies options. 0, -ENOMEM, or what sd-event returns.
 */
int uplink_new(sd_event *event, struct spool *spool, struct config *config,
               const struct uplink_options *options,
               void (*tell)(void *userdata, const struct uplink_event *event), void *userdata,
               struct uplink **ret_uplink);

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
 * to disk what is to be kept, and tells UPLINK_STOPPED from the main loop: at end_mono_usec at the
 * latest, of which the disk has the last 400 ms for itself.
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
