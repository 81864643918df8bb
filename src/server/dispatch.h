// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How the server's commands reach their devices: plain ones are published once, the others go
 * through the issuer (server/issuer.h), which is given the clock here.
 *
 *     dispatch_new(), dispatch_configure() with each configuration, and once after the first
 *     dispatch_load(); the rest as the engine and the uplink say.
 */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "outbox/spool.h"
#include "outbox/uplink.h"
#include "server/engine.h"
#include "server/intake.h"
#include "server/issuer.h"
#include "util/cleanup.h"

struct dispatch;

/* 0, -ENOMEM, or what sd-event returns. */
int dispatch_new(sd_event *event, struct dispatch **ret_dispatch);
void dispatch_free(struct dispatch *dispatch);
DEFINE_CLEANUP(struct dispatch *, dispatch_free)

/* uplink, its outbox still there when dispatch is freed, and intake are borrowed. */
void dispatch_configure(struct dispatch *dispatch, struct uplink *uplink,
                        const struct intake *intake);

/* Takes up what an earlier run has left open. Blocks on the disk. */
void dispatch_load(struct dispatch *dispatch, struct spool *spool);

/*
 * The rules are those of config, with its intake, and decide anew: what is open and not by one of
 * them is given up.
 */
void dispatch_review(struct dispatch *dispatch, const struct config *config,
                     const struct intake *intake);

/* What the engine decides is sent; their userdata is the dispatch. */
extern const struct decider_handlers dispatch_handlers;

/* For engine_remember(). */
struct decisions *dispatch_decisions(const struct dispatch *dispatch);

/* How many commands may be sent by now that could not be for want of room. */
size_t dispatch_room(const struct dispatch *dispatch);

/*
 * Who sees commands through: he is told what devices say, and what becomes of the connection and of
 * records. dispatch_arm() behind it: then he does what is due.
 */
struct issuer *dispatch_issuer(const struct dispatch *dispatch);
void dispatch_arm(struct dispatch *dispatch);

/* How many commands wait for their reply, those of a group once for each of its devices. */
size_t dispatch_n_open(const struct dispatch *dispatch);
void dispatch_add_status(const struct dispatch *dispatch, struct json_object *status);
