// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's rules at work: who reads what, and what they say for a device or a group. The states
// are the fleet's and the groups'.
#include "server/ruleset.h"

#include <string.h>

#include "core/rule.h"
#include "server/groups.h"
#include "server/ruleset-internal.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strings.h"

static size_t hash_name(const char *name)
{
    size_t hash = 5381;
    for (; *name; name++)
        hash = hash * 33 ^ (unsigned char)*name;
    return hash;
}

size_t *ruleset_bucket(const struct ruleset *rules, const char *name)
{
    size_t at = hash_name(name) & (rules->n_buckets - 1);
    while (rules->buckets[at] > 0 && strcmp(rules->slots[rules->buckets[at] - 1].name, name) != 0)
        at = (at + 1) & (rules->n_buckets - 1);
    return &rules->buckets[at];
}

size_t ruleset_n_rules(const struct ruleset *rules)
{
    return rules->n_rules;
}

size_t ruleset_n_device_rules(const struct ruleset *rules)
{
    return rules->n_device_rules;
}

const struct server_rule *ruleset_rule(const struct ruleset *rules, size_t i)
{
    return &rules->rules[i];
}

size_t ruleset_n_slots(const struct ruleset *rules)
{
    return rules->n_slots;
}

size_t ruleset_n_aggregates(const struct ruleset *rules)
{
    return rules->n_aggregates;
}

const struct server_aggregate *ruleset_aggregate(const struct ruleset *rules, size_t i)
{
    return &rules->aggregates[i];
}

size_t ruleset_n_series(const struct ruleset *rules)
{
    return rules->n_series;
}

const struct server_series *ruleset_series(const struct ruleset *rules, size_t i)
{
    return &rules->series[i];
}

struct fleet_shape ruleset_shape(const struct ruleset *rules)
{
    return (struct fleet_shape){
        .n_slots = rules->n_slots,
        .n_rules = rules->n_device_rules,
        .n_shares = rules->n_aggregates,
        .n_series = rules->n_series,
    };
}

size_t ruleset_slot(const struct ruleset *rules, const char *name)
{
    size_t at = *ruleset_bucket(rules, name);
    return at > 0 ? at - 1 : SIZE_MAX;
}

const struct server_slot *ruleset_slot_at(const struct ruleset *rules, size_t slot)
{
    return &rules->slots[slot];
}

void ruleset_welcome(const struct ruleset *rules, struct fleet_device *device)
{
    for (size_t i = 0; i < rules->n_device_rules; i++)
        device->rules[i].applies = strings_match_any(rules->rules[i].config->devices, device->id);
    for (size_t i = 0; i < rules->n_aggregates; i++)
        device->shares[i].applies =
            strings_match_any(rules->aggregates[i].rule->devices, device->id);
}

uint64_t ruleset_next_stale(const struct ruleset *rules, const struct fleet_device *device,
                            uint64_t now_mono_usec)
{
    uint64_t next_mono_usec = USEC_INFINITY;
    for (size_t slot = 0; slot < rules->n_slots; slot++) {
        uint64_t mono_usec = device->readings[slot].mono_usec;
        const struct index_list *readers = &rules->slots[slot].rules;
        for (size_t i = 0; mono_usec > 0 && i < readers->n; i++) {
            uint64_t stale_after_usec = rules->rules[readers->at[i]].config->stale_after_usec;
            uint64_t at_mono_usec;
            if (device->rules[readers->at[i]].applies && stale_after_usec != USEC_INFINITY &&
                !__builtin_add_overflow(mono_usec, stale_after_usec + 1, &at_mono_usec) &&
                at_mono_usec > now_mono_usec && at_mono_usec < next_mono_usec)
                next_mono_usec = at_mono_usec;
        }
    }
    return next_mono_usec;
}

const char *ruleset_target_name(const struct ruleset_target *target)
{
    return target->device ? target->device->id : target->group->name;
}

uint8_t *ruleset_n_unheard(const struct ruleset_target *target)
{
    return target->device ? &target->device->n_unheard : &target->group->n_unheard;
}

struct fleet_rule *ruleset_state(const struct ruleset *rules, size_t i,
                                 const struct ruleset_target *target)
{
    return target->device ? &target->device->rules[i]
                          : &target->group->rules[i - rules->n_device_rules];
}

const struct command *ruleset_command(const struct server_rule *rule, enum rule_outcome outcome)
{
    return outcome == RULE_THEN   ? rule->config->then_command
           : outcome == RULE_ELSE ? rule->config->else_command
                                  : NULL;
}

static void log_unknown(struct ruleset *rules, const struct server_rule *rule,
                        const struct ruleset_target *target, const struct rule_decision *decision,
                        uint64_t now_mono_usec)
{
    unsigned n_suppressed;
    const char *name = ruleset_target_name(target);
    if (!ratelimit_pass(&rules->unknowns, now_mono_usec, &n_suppressed))
        return;
    const char *others = n_suppressed ? " (and others before it)" : "";
    if (target->group)
        log_notice(LOG_FIELDS(LOG_ID(LOG_ID_RULE_UNKNOWN), { "RULE", rule->section->name },
                              { "GROUP", name }),
                   "rule %s for group %s: too few of its devices have a fresh reading; it changes "
                   "nothing until they do%s",
                   rule->section->name, name, others);
    else
        log_notice(
            LOG_FIELDS(LOG_ID(LOG_ID_RULE_UNKNOWN), { "RULE", rule->section->name },
                       { "DEVICE", name }),
            "rule %s for %s: %s%s; it changes nothing until that is known%s", rule->section->name,
            name, decision->unknown_name ? decision->unknown_name : "its value",
            decision->unknown_name ? " has no fresh reading" : " cannot be computed", others);
}

// NOLINTNEXTLINE(misc-no-recursion): an argument has no aggregates of its own
static const char *first_name(const struct expr *expr)
{
    if (expr_n_names(expr) > 0)
        return expr_name(expr, 0);
    if (expr_n_windows(expr) > 0)
        return expr_window_name(expr, 0);
    if (expr_n_aggregates(expr) > 0)
        return first_name(expr_argument(expr, 0));
    return "a reading that it looks at";
}

size_t ruleset_report_idle(struct ruleset *rules, uint64_t now_mono_usec)
{
    size_t n_idle = 0;
    if (now_mono_usec < rules->idle_mono_usec)
        return 0;
    rules->idle_mono_usec = USEC_INFINITY;
    for (size_t i = 0; i < rules->n_rules; i++) {
        const struct server_rule *rule = &rules->rules[i];
        if (rule->evaluated)
            continue;
        n_idle++;
        log_notice(
            LOG_FIELDS(LOG_ID(LOG_ID_RULE_UNKNOWN), { "RULE", rule->section->name }),
            "rule %s: no device that it is for has sent %s; it changes nothing until one does",
            rule->section->name, first_name(rule->config->when));
    }
    return n_idle;
}

static struct expr_context context_of(const struct server_rule *rule,
                                      const struct ruleset_target *target,
                                      const struct ruleset_now *now)
{
    struct expr_context context = {
        .now_mono_usec = now->mono_usec,
        .stale_after_usec = rule->config->stale_after_usec,
        .min_devices = (size_t)rule->config->min_devices,
    };
    if (target->device) {
        context.readings = target->device->readings;
        context.late = target->device->late;
        context.series = (const struct series *const *)target->device->series;
    } else {
        context.tallies = target->group->tallies;
    }
    if (rule->uses_time) {
        context.now_wall_usec = now->wall_usec;
        context.local_hour = clock_local_hour(now->wall_usec);
    }
    return context;
}

const struct expr *ruleset_condition(const struct ruleset *rules, size_t i,
                                     enum rule_outcome outcome)
{
    const struct rule_config *config = rules->rules[i].config;
    return config->until && outcome == RULE_ELSE ? config->until : config->when;
}

void ruleset_find(const struct ruleset *rules, size_t i, const struct ruleset_target *target,
                  enum rule_outcome outcome, const struct ruleset_now *now,
                  struct expr_finding *ret_findings)
{
    const struct expr_context context = context_of(&rules->rules[i], target, now);
    expr_find(ruleset_condition(rules, i, outcome), &context, ret_findings);
}

void ruleset_evaluate(struct ruleset *rules, size_t i, const struct ruleset_target *target,
                      const struct ruleset_now *now, struct ruleset_result *ret_result)
{
    struct server_rule *rule = &rules->rules[i];
    struct fleet_rule *state = ruleset_state(rules, i, target);
    rule->evaluated = true;
    const struct rule_spec spec = config_rule_spec(rule->config);
    const struct expr_context context = context_of(rule, target, now);
    struct rule_decision decision;
    rule_evaluate(&spec, &state->state, &context, &decision);
    if (decision.unknown && !state->unknown_logged)
        log_unknown(rules, rule, target, &decision, now->mono_usec);
    state->unknown_logged = decision.unknown;
    *ret_result = (struct ruleset_result){
        .command = ruleset_command(rule, state->state.outcome),
        .changed = decision.changed,
        .unknown = decision.unknown,
        .retry_mono_usec = decision.retry_mono_usec,
    };
}
