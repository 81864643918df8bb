// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The server's rules, bound to slots: every name that some rule reads has one, and knows the rules,
 * aggregates and series that read it, so that a message costs what its own keys cost. Evaluates a
 * rule for a device or a group.
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
    bool evaluated; // for some device or group
};

/* What the devices of a group say to one argument; shared by the rules that ask for the same. */
struct server_aggregate {
    const struct expr *argument;
    const struct rule_config *rule; // the first that asks: its `devices` and `stale_after` count
    size_t n_slots, *slots;         // that the argument reads, directly or by a series
    size_t n_rules, *rules;         // that ask for it
};

/* The readings of a name over time; shared likewise. */
struct server_series {
    size_t slot;
    uint64_t span_usec;
};

/* Indices, of rules or the like. */
struct index_list {
    size_t n, *at;
};

/* What reads a slot. */
struct server_slot {
    const char *name;             // an expression's
    struct index_list rules;      // with scope = device
    struct index_list aggregates; // those of groups
    struct index_list series;
};

/* The rules with where = server. config is referenced; its expressions are bound to the slots. */
int ruleset_new(struct config *config, struct ruleset **ret_rules);
void ruleset_free(struct ruleset *rules);
DEFINE_CLEANUP(struct ruleset *, ruleset_free)

/* Those with scope = device come first. */
size_t ruleset_n_rules(const struct ruleset *rules);
size_t ruleset_n_device_rules(const struct ruleset *rules);
const struct server_rule *ruleset_rule(const struct ruleset *rules, size_t i);

size_t ruleset_n_aggregates(const struct ruleset *rules);
const struct server_aggregate *ruleset_aggregate(const struct ruleset *rules, size_t i);
size_t ruleset_n_series(const struct ruleset *rules);
const struct server_series *ruleset_series(const struct ruleset *rules, size_t i);

/* What a device needs room for. */
struct fleet_shape ruleset_shape(const struct ruleset *rules);

/* The slot of a name, SIZE_MAX if no rule reads it. */
size_t ruleset_slot(const struct ruleset *rules, const char *name);
const struct server_slot *ruleset_slot_at(const struct ruleset *rules, size_t slot);

/* Sets `applies` in each of a new device's rules and shares. */
void ruleset_welcome(const struct ruleset *rules, struct fleet_device *device);

/*
 * When a reading of a device goes stale next that some device rule asks to be fresh; USEC_INFINITY:
 * none does.
 */
uint64_t ruleset_next_stale(const struct ruleset *rules, const struct fleet_device *device,
                            uint64_t now_mono_usec);

/* Whom a rule is evaluated for: one of the two is not NULL. */
struct ruleset_target {
    struct fleet_device *device;
    struct group *group;
};

const char *ruleset_target_name(const struct ruleset_target *target);

/* Commands in a row that nobody was there for. */
uint8_t *ruleset_n_unheard(const struct ruleset_target *target);

/* The state of the i-th rule there. */
struct fleet_rule *ruleset_state(const struct ruleset *rules, size_t i,
                                 const struct ruleset_target *target);

/* What an outcome says; NULL: nothing. */
const struct command *ruleset_command(const struct server_rule *rule, enum rule_outcome outcome);

struct ruleset_now {
    uint64_t mono_usec, wall_usec;
};

struct ruleset_result {
    const struct command *command; // what its outcome says now; NULL: nothing
    bool changed;                  // the outcome has just changed
    bool unknown;             // the condition is not known: nothing changes, nothing is repeated
    uint64_t retry_mono_usec; // when a held change is to be evaluated; 0
};

/* Evaluates the i-th rule; an unknown condition is logged once, and not in floods. */
void ruleset_evaluate(struct ruleset *rules, size_t i, const struct ruleset_target *target,
                      const struct ruleset_now *now, struct ruleset_result *ret_result);

/* The condition that an outcome of the i-th rule comes from. */
const struct expr *ruleset_condition(const struct ruleset *rules, size_t i,
                                     enum rule_outcome outcome);

/* What that condition finds now, as expr_find(); outcome is the present one, or another. */
void ruleset_find(const struct ruleset *rules, size_t i, const struct ruleset_target *target,
                  enum rule_outcome outcome, const struct ruleset_now *now,
                  struct expr_finding *ret_findings);

/*
 * Names, once, the rules that no device has sent a reading for within a minute of ruleset_new(), as
 * when a sensor's name is misspelt, or `devices` fits none. Does nothing earlier. To be called
 * when a device has been heard. Returns how many it has named.
 */
size_t ruleset_report_idle(struct ruleset *rules, uint64_t now_mono_usec);
