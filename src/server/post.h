// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The way out of the server: how a command gets its topic and reaches the outbox, what is logged of
 * it, and where the records of open commands are kept. Who sees commands through knows no more of
 * the world than this; tests put another in its place.
 */
#pragma once

#include "outbox/spool.h"
#include "outbox/uplink.h"
#include "server/intake.h"
#include "server/letter.h"
#include "util/ratelimit.h"

struct post {
    struct uplink *uplink; // borrowed, as intake
    const struct intake *intake;
    struct ratelimit story; // info lines
};

/* The server's stream, a volatile one, and the space of the records. */
extern const char post_stream[], post_space[];

/* Writes a record, or with value NULL removes it. 0 or -ENOMEM. */
int post_save(struct post *post, const char *key, const char *value);
/* What was saved is to come to disk: a ticket, growing, for issuer_recorded(). */
uint64_t post_sync(struct post *post);

/* How many more may wait to be sent: far fewer than the outbox would drop. */
size_t post_room(const struct post *post);

/*
 * Publishes payload, what rule says, to a device, or with device NULL to a group, which is else
 * what the device's topic names; id: of the command, or NULL. -ENOBUFS: later; -ENOMEM, or as
 * outbox_publish().
 */
int post_publish(struct post *post, const char *device, const char *group, const char *rule,
                 const char *id, const char *payload, int qos, uint64_t tag);

/* A letter, to device or with NULL to its group. -ENOTCONN: after issuer_connected(). */
int post_send(struct post *post, const struct letter *letter, const char *device);
