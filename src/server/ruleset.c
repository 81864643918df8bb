// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's rules at work: who reads what, and what they say for a device or a group. The states
// are the fleet's and the groups'.
#include "server/ruleset.h"

#include <string.h>

#include "core/rule.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/ratelimit.h"
#include "util/strings.h"

static const uint64_t idle_after_usec = 60 * USEC_PER_SEC;
static const struct ratelimit unknown_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

struct ruleset {
    struct config *config;
    size_t n_rules, n_device_rules, n_slots, n_aggregates, n_series;
    struct server_rule *rules;
    struct server_slot *slots;
    struct server_aggregate *aggregates;
    struct server_series *series;
    size_t n_buckets;        // a power of two, at least twice n_slots
    size_t *buckets;         // slot + 1, 0: empty; open addressing
    uint64_t idle_mono_usec; // when a rule that was never evaluated is reported; then USEC_INFINITY
    struct ratelimit unknowns; // logged: a peer can make a value unknown and known again at will
};

/* The name's bucket: the one that holds its slot, or the empty one where it belongs. */
static size_t *bucket_of(const struct ruleset *rules, const char *name)
{
    size_t at = (size_t)hash_text(name) & (rules->n_buckets - 1);
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
    size_t at = *bucket_of(rules, name);
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

/* --- made of a configuration ------------------------------------------------------------------ */

/* Adds i unless it was the last one added: `when` and `until` of one rule come in turn. */
static int add_index(struct index_list *list, size_t i)
{
    if (list->n > 0 && list->at[list->n - 1] == i)
        return 0;
    size_t *at = reallocarray(list->at, list->n + 1, sizeof(*at));
    if (!at)
        return -ENOMEM;
    at[list->n++] = i;
    list->at = at;
    return 0;
}

static size_t slot_of(struct ruleset *rules, const char *name)
{
    size_t *at = bucket_of(rules, name);
    if (*at == 0) {
        rules->slots[rules->n_slots].name = name;
        *at = ++rules->n_slots;
    }
    return *at - 1;
}

static int bind_series(struct ruleset *rules, struct expr *expr, size_t i, size_t *ret_slot)
{
    size_t slot = slot_of(rules, expr_window_name(expr, i));
    uint64_t span_usec = expr_window_span_usec(expr, i);
    size_t k = 0;
    while (k < rules->n_series &&
           (rules->series[k].slot != slot || rules->series[k].span_usec != span_usec))
        k++;
    if (k == rules->n_series)
        rules->series[rules->n_series++] = (struct server_series){ slot, span_usec };
    expr_bind_window(expr, i, k);
    *ret_slot = slot;
    return add_index(&rules->slots[slot].series, k);
}

/* Binds what expr reads of one device, and calls for each slot of it add(). */
static int bind_readings(struct ruleset *rules, struct expr *expr, size_t reader,
                         int (*add)(struct ruleset *rules, size_t slot, size_t reader))
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < expr_n_names(expr); i++) {
        size_t slot = slot_of(rules, expr_name(expr, i));
        expr_bind(expr, i, slot);
        r = add(rules, slot, reader);
    }
    for (size_t i = 0; r == 0 && i < expr_n_windows(expr); i++) {
        size_t slot;
        r = bind_series(rules, expr, i, &slot);
        if (r == 0)
            r = add(rules, slot, reader);
    }
    return r;
}

static int add_rule_reader(struct ruleset *rules, size_t slot, size_t rule)
{
    return add_index(&rules->slots[slot].rules, rule);
}

static int add_aggregate_reader(struct ruleset *rules, size_t slot, size_t aggregate)
{
    struct server_aggregate *of = &rules->aggregates[aggregate];
    struct index_list slots = { of->n_slots, of->slots };
    int r = add_index(&slots, slot);
    of->n_slots = slots.n;
    of->slots = slots.at;
    return r < 0 ? r : add_index(&rules->slots[slot].aggregates, aggregate);
}

static bool same_list(char *const *a, char *const *b)
{
    size_t i = 0;
    while (a[i] && b[i] && strcmp(a[i], b[i]) == 0)
        i++;
    return !a[i] && !b[i];
}

static bool is_shared(const struct server_aggregate *aggregate, const struct expr *argument,
                      const struct rule_config *rule)
{
    return aggregate->rule->stale_after_usec == rule->stale_after_usec &&
           same_list(aggregate->rule->devices, rule->devices) &&
           expr_equal(aggregate->argument, argument);
}

static int bind_aggregate(struct ruleset *rules, size_t rule, struct expr *expr, size_t i)
{
    const struct rule_config *config = rules->rules[rule].config;
    struct expr *argument = expr_argument(expr, i);
    size_t k = 0;
    while (k < rules->n_aggregates && !is_shared(&rules->aggregates[k], argument, config))
        k++;
    struct server_aggregate *aggregate = &rules->aggregates[k];
    if (k == rules->n_aggregates) {
        rules->n_aggregates++;
        *aggregate = (struct server_aggregate){ .argument = argument, .rule = config };
        int r = bind_readings(rules, argument, k, add_aggregate_reader);
        if (r < 0)
            return r;
    }
    expr_bind_aggregate(expr, i, k);
    struct index_list readers = { aggregate->n_rules, aggregate->rules };
    int r = add_index(&readers, rule);
    aggregate->n_rules = readers.n;
    aggregate->rules = readers.at;
    return r;
}

static int bind(struct ruleset *rules, size_t rule, struct expr *expr)
{
    int r = 0;
    if (!expr)
        return 0;
    if (rules->rules[rule].config->scope == SCOPE_DEVICE)
        return bind_readings(rules, expr, rule, add_rule_reader);
    for (size_t i = 0; r == 0 && i < expr_n_aggregates(expr); i++)
        r = bind_aggregate(rules, rule, expr, i);
    return r;
}

static bool is_ours(const struct config_section *section)
{
    return config_rule(section)->where == WHERE_SERVER;
}

static size_t n_readings(const struct expr *expr)
{
    return expr_n_names(expr) + expr_n_windows(expr);
}

static void count(const struct expr *expr, size_t *n_names, size_t *n_aggregates)
{
    if (!expr)
        return;
    *n_names += n_readings(expr);
    *n_aggregates += expr_n_aggregates(expr);
    for (size_t i = 0; i < expr_n_aggregates(expr); i++)
        *n_names += n_readings(expr_argument(expr, i));
}

static int make_room(struct ruleset *rules)
{
    const struct config_section *section;
    size_t n_rules = 0, n_names = 0, n_aggregates = 0;
    for (size_t i = 0; (section = config_nth(rules->config, "rule", i)); i++) {
        if (!is_ours(section))
            continue;
        n_rules++;
        count(config_rule(section)->when, &n_names, &n_aggregates);
        count(config_rule(section)->until, &n_names, &n_aggregates);
    }
    rules->n_buckets = 8;
    while (rules->n_buckets < n_names * 2)
        rules->n_buckets *= 2;
    rules->rules = calloc(n_rules + 1, sizeof(*rules->rules));
    rules->slots = calloc(n_names + 1, sizeof(*rules->slots));
    rules->series = calloc(n_names + 1, sizeof(*rules->series));
    rules->aggregates = calloc(n_aggregates + 1, sizeof(*rules->aggregates));
    rules->buckets = calloc(rules->n_buckets, sizeof(*rules->buckets));
    return rules->rules && rules->slots && rules->series && rules->aggregates && rules->buckets
               ? 0
               : -ENOMEM;
}

static int add_rule(struct ruleset *rules, const struct config_section *section)
{
    const struct rule_config *rule = config_rule(section);
    size_t i = rules->n_rules++;
    rules->rules[i] = (struct server_rule){
        .section = section,
        .config = rule,
        .uses_time = expr_uses_time(rule->when) || (rule->until && expr_uses_time(rule->until)),
    };
    rules->n_device_rules += rule->scope == SCOPE_DEVICE;
    int r = bind(rules, i, rule->when);
    return r < 0 ? r : bind(rules, i, rule->until);
}

int ruleset_new(struct config *config, struct ruleset **ret_rules)
{
    _cleanup_(ruleset_freep) struct ruleset *rules = calloc(1, sizeof(*rules));
    static const int scopes[] = { SCOPE_DEVICE, SCOPE_GROUP };
    if (!rules)
        return -ENOMEM;
    rules->config = config_ref(config);
    rules->idle_mono_usec = clock_mono_usec() + idle_after_usec;
    rules->unknowns = unknown_limit;
    int r = make_room(rules);
    for (size_t k = 0; k < ELEMENTS(scopes); k++) {
        const struct config_section *section;
        for (size_t i = 0; r == 0 && (section = config_nth(config, "rule", i)); i++) {
            if (is_ours(section) && config_rule(section)->scope == scopes[k])
                r = add_rule(rules, section);
        }
    }
    if (r < 0)
        return r;
    *ret_rules = TAKE_PTR(rules);
    return 0;
}

void ruleset_free(struct ruleset *rules)
{
    if (!rules)
        return;
    for (size_t i = 0; i < rules->n_slots; i++) {
        free(rules->slots[i].rules.at);
        free(rules->slots[i].aggregates.at);
        free(rules->slots[i].series.at);
    }
    for (size_t i = 0; i < rules->n_aggregates; i++) {
        free(rules->aggregates[i].slots);
        free(rules->aggregates[i].rules);
    }
    free(rules->slots);
    free(rules->aggregates);
    free(rules->series);
    free(rules->rules);
    free(rules->buckets);
    config_unref(rules->config);
    free(rules);
}
