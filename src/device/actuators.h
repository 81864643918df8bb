// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All actuators of a device, and what keeps them safe: leases, what happens while the device is cut
 * off and at its end, and what is written down of each so that the next run goes on from there.
 *
 *     actuators_prepare(), then actuators_commit(): a configuration. actuators_recall() in between
 *     for what was written down, then actuators_start().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "core/guard.h"
#include "core/value.h"
#include "device/actuator.h"
#include "device/localrules.h"
#include "outbox/outbox.h"
#include "util/cleanup.h"
#include "util/why.h"

struct actuators;
struct actuators_plan;

/* The space of their records, each named as its actuator. */
extern const char actuators_space[];

/*
 * outbox keeps the records, borrowed. boot: the id of this one, by which a lease of another is
 * known. rested: none is moving, and what they are may have changed; from the loop alone.
 */
int actuators_new(sd_event *event, struct outbox *outbox,
                  const uint8_t boot[static GUARD_BOOT_SIZE], void (*rested)(void *userdata),
                  void *userdata, struct actuators **ret_actuators);

/* Nobody hears of his wishes any more. */
void actuators_free(struct actuators *actuators);
DEFINE_CLEANUP(struct actuators *, actuators_free)

/*
 * Makes what config needs and is not there yet, and touches nothing. 0, or -errno, with why if it
 * is an actuator's.
 */
int actuators_prepare(struct actuators *actuators, struct config *config,
                      struct actuators_plan **ret_plan, struct why *why);
void actuators_plan_free(struct actuators_plan *plan);
DEFINE_CLEANUP(struct actuators_plan *, actuators_plan_free)

/*
 * Puts a plan into force and frees it; cannot fail. The new ones wait for actuators_start(). rules,
 * borrowed, are asked before one falls back because the device is cut off; NULL: there are none.
 */
void actuators_commit(struct actuators *actuators, const struct config *config,
                      struct localrules *rules, struct actuators_plan *plan);

/* Before the first start: an actuator's record; what is of no use is passed over. */
void actuators_recall(struct actuators *actuators, const char *name, const char *record);

/* Opens those that have not been started yet, as they were, as they shall be at first, or safe. */
void actuators_start(struct actuators *actuators);

/*
 * Sets one: value fits its limits. span_usec: it falls back to `safe`, which it has, unless it is
 * set again within; 0: it stays. seq: the number of the command in its sender's order, 0 for none.
 * wish, NULL if nobody waits for it, hears what becomes of this (wish.h).
 */
void actuators_set(struct actuators *actuators, struct actuator *actuator,
                   const struct value *value, uint64_t span_usec, uint64_t seq, struct wish *wish);

/* A node of that name in /dev has come, gone or changed its mode: see actuator_node_changed(). */
void actuators_node_changed(struct actuators *actuators, const char *name);

/* The highest number that actuators_set() was given for this one, in earlier runs too; 0: none. */
uint64_t actuators_seq(const struct actuators *actuators, const struct actuator *actuator);

/* When the connection was lost, or the device began without one; 0 while connected, as at first. */
void actuators_set_lost(struct actuators *actuators, uint64_t lost_mono_usec);

/* A clean end of the daemon: those with `on_exit = safe` are set to it. Whether there are any. */
bool actuators_exit(struct actuators *actuators);

struct actuator *actuators_find(const struct actuators *actuators, const char *name);
bool actuators_are_moving(const struct actuators *actuators);
size_t actuators_count(const struct actuators *actuators);
size_t actuators_n_failed(const struct actuators *actuators);

/* {"led_on": true, "speed": null}: what each is now. A new string, NULL without memory. */
char *actuators_state(const struct actuators *actuators);
