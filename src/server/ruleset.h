// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The server's rules, bound to slots: every name that some rule reads has one, and knows the rules
 * that read it, so that a message costs what its own keys cost. Evaluates a rule for a device.
 */
#pragma once

#include <stdint.h>

#include "config/config.h"
#include "server/fleet.h"
#include "util/cleanup.h"

struct ruleset;

struct server_rule {
    const struct config_section *section;
    const struct rule_config *config;
    bool uses_time; // its conditions change without a reading
    bool ages;      // so, or its readings go stale, which is to be logged
    bool evaluated; // for some device
};

/* The rules with where = server. config is referenced; its expressions are bound to the slots. */
int ruleset_new(struct config *config, struct ruleset **ret_rules);
void ruleset_free(struct ruleset *rules);
DEFINE_CLEANUP(struct ruleset *, ruleset_free)

size_t ruleset_n_slots(const struct ruleset *rules);
size_t ruleset_n_rules(const struct ruleset *rules);
const struct server_rule *ruleset_rule(const struct ruleset *rules, size_t i);
bool ruleset_any_ages(const struct ruleset *rules);

/* The slot of a name, SIZE_MAX if no rule reads it. */
size_t ruleset_slot(const struct ruleset *rules, const char *name);

/* Indices of the rules that read slot. */
const size_t *ruleset_readers(const struct ruleset *rules, size_t slot, size_t *ret_n);

/* Sets `applies` in each of a new device's rules. */
void ruleset_welcome(const struct ruleset *rules, struct fleet_device *device);

struct ruleset_result {
    const struct command *command; // what its outcome says now; NULL: nothing
    bool changed;                  // the outcome has just changed
    bool unknown;             // the condition is not known: nothing changes, nothing is repeated
    uint64_t retry_mono_usec; // when a held change is to be evaluated; 0
};

/*
 * Names, once, the rules that no device has sent a reading for within a minute of ruleset_new(), as
 * when a sensor's name is misspelt, or `devices` fits none. Does nothing earlier. To be called
 * when a device has been heard. Returns how many it has named.
 */
size_t ruleset_report_idle(struct ruleset *rules, uint64_t now_mono_usec);

/* Evaluates the i-th rule for device; an unknown condition is logged once, and not in floods. */
void ruleset_evaluate(struct ruleset *rules, size_t i, struct fleet_device *device,
                      uint64_t now_mono_usec, struct ruleset_result *ret_result);
