// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Commands from the broker: checked as a whole, carried out once and in order, answered when every
 * actuator is where it shall be, or the action has come to its end.
 *
 *     commander_configure() with each configuration, then commander_take() for each message.
 *
 * A plain command gets no answer. One that has an $id or a response topic does: done, rejected
 * (and nothing was touched), failed, expired or superseded. Only what is rejected, out of date or
 * known already is answered at once, all else from the main loop.
 *
 * Actuators are set first and then written down, since setting one again does no harm. An action
 * that must not be done twice is written down first.
 */
#pragma once

#include "core/mqtt.h"
#include "device/actions.h"
#include "device/actuators.h"
#include "device/journal.h"
#include "outbox/uplink.h"
#include "util/cleanup.h"
#include "util/ratelimit.h"

enum {
    COMMANDER_MAX_PENDING = 256, // commands that wait for their end
};

struct commander;

/* All is borrowed. story says whether a command that is carried out is logged. 0 or -ENOMEM. */
int commander_new(struct uplink *uplink, struct actuators *actuators, struct journal *journal,
                  struct actions *actions, struct ratelimit *story,
                  struct commander **ret_commander);

/* Behind actuators_free() and actions_free(): they know of what is under way. */
void commander_free(struct commander *commander);
DEFINE_CLEANUP(struct commander *, commander_free)

/* Cannot fail. replies_topic is for what has no response topic. Both are borrowed until the next.
 */
void commander_configure(struct commander *commander, struct config *config,
                         const char *replies_topic);

void commander_take(struct commander *commander, const struct mqtt_message *message);
