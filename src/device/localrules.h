// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The rules that the device decides by itself (where = device), with no broker in the way.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "util/cleanup.h"

struct localrules;

/* A rule has decided: set the actuators. */
typedef void (*localrules_apply_fn)(void *userdata, const char *rule,
                                    const struct command *command);

/*
 * Makes the rules of config. What previous (NULL at the start) knows goes on: readings by the
 * sensors' names, decisions by the rules' names where the rule is the same. previous is not freed.
 * 0 or -errno.
 */
int localrules_new(sd_event *event, struct config *config, const struct localrules *previous,
                   localrules_apply_fn apply, void *userdata, struct localrules **ret_rules);
void localrules_free(struct localrules *rules);
DEFINE_CLEANUP(struct localrules *, localrules_free)

/* A reading of the sensor that is number i of config's sensors: evaluates what reads it. */
void localrules_reading(struct localrules *rules, size_t i, double value, uint64_t mono_usec);
