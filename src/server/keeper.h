// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the server knows of its fleet, over a restart: takes the engine's records to the store as
 * they come due, all that is left at a stop, and back at the start.
 *
 *     keeper_new(), keeper_configure() with each engine, keeper_restore() once. keeper_arm() when
 * the engine has been at work; at a stop keeper_finish() until it says that it is done.
 *
 * It writes little at a time: neither the loop nor other records wait long for it.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "outbox/outbox.h"
#include "outbox/spool.h"
#include "server/engine.h"
#include "util/cleanup.h"

struct keeper;

/* 0, -ENOMEM, or what sd-event returns. */
int keeper_new(sd_event *event, struct keeper **ret_keeper);
void keeper_free(struct keeper *keeper);
DEFINE_CLEANUP(struct keeper *, keeper_free)

/* Both are borrowed. */
void keeper_configure(struct keeper *keeper, struct outbox *outbox, struct engine *engine);

/*
 * Gives the engine what the store has, of the devices that fit patterns. Blocks on the disk: at the
 * start only. As spool_records().
 */
int keeper_restore(struct keeper *keeper, struct spool *spool, char *const *patterns,
                   const struct ruleset_now *now, struct why *why);

/* Sees to it that what is due is written. */
void keeper_arm(struct keeper *keeper);

/* As outbox_recorded(). */
void keeper_recorded(struct keeper *keeper, uint64_t ticket);

/*
 * At a stop, for each turn of the loop: writes the next of what has changed. Returns whether that
 * was all, or no more can be written, which is logged; is_last: there is no more time.
 */
bool keeper_finish(struct keeper *keeper, bool is_last);
