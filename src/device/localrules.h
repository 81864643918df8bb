// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The rules that the device decides by itself, with no broker in the way: always (where = device),
 * or once it has been cut off for long enough (where = offline), until the connection is back and
 * the server's word counts again.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "util/cleanup.h"

struct localrules;

/*
 * Makes the rules of config. What previous (NULL at the start) knows goes on: readings by the
 * sensors' names, decisions by the rules' names where the rule is the same. previous is not freed.
 * apply: a rule has decided, set the actuators. 0 or -errno.
 */
int localrules_new(sd_event *event, struct config *config, const struct localrules *previous,
                   void (*apply)(void *userdata, const char *rule, const struct command *command),
                   void *userdata, struct localrules **ret_rules);
void localrules_free(struct localrules *rules);
DEFINE_CLEANUP(struct localrules *, localrules_free)

/* When the connection was lost, or the device began without one; 0 while connected, as at first. */
void localrules_set_lost(struct localrules *rules, uint64_t lost_mono_usec);

/*
 * Evaluates what is due by now; then whether a rule with where = offline is in force that has
 * decided something for that actuator.
 */
bool localrules_decide(struct localrules *rules, const char *actuator);

/* A reading of the sensor that is number i of config's sensors: evaluates what reads it. */
void localrules_reading(struct localrules *rules, size_t i, double value, uint64_t mono_usec);
