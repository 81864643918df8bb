// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's rules, bound to slots. Owns names, slots and their readers; the devices' states are
// the fleet's.
#include "server/ruleset.h"

#include <string.h>

#include "core/rule.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"
#include "util/strings.h"

struct slot {
    const char *name; // the expression's
    size_t n_readers;
    size_t *readers;
};

struct ruleset {
    struct config *config;
    size_t n_rules, n_slots;
    struct server_rule *rules;
    struct slot *slots;
    size_t n_buckets; // a power of two, at least twice n_slots
    size_t *buckets;  // slot + 1, 0: empty; open addressing
    bool any_ages;
    uint64_t idle_mono_usec; // when a rule that was never evaluated is reported; then USEC_INFINITY
    struct ratelimit unknowns; // logged: a peer can make a value unknown and known again at will
};

static const uint64_t idle_after_usec = 60 * USEC_PER_SEC;
static const struct ratelimit unknown_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

static size_t hash_name(const char *name)
{
    size_t hash = 5381;
    for (; *name; name++)
        hash = hash * 33 ^ (unsigned char)*name;
    return hash;
}

/* The name's bucket: the one that holds its slot, or the empty one where it belongs. */
static size_t *find_bucket(const struct ruleset *rules, const char *name)
{
    size_t at = hash_name(name) & (rules->n_buckets - 1);
    while (rules->buckets[at] > 0 && strcmp(rules->slots[rules->buckets[at] - 1].name, name) != 0)
        at = (at + 1) & (rules->n_buckets - 1);
    return &rules->buckets[at];
}

static int add_reader(struct slot *slot, size_t rule)
{
    if (slot->n_readers > 0 && slot->readers[slot->n_readers - 1] == rule)
        return 0; // `when` and `until` of one rule
    size_t *readers = reallocarray(slot->readers, slot->n_readers + 1, sizeof(*readers));
    if (!readers)
        return -ENOMEM;
    readers[slot->n_readers++] = rule;
    slot->readers = readers;
    return 0;
}

static int bind(struct ruleset *rules, size_t rule, struct expr *expr)
{
    for (size_t i = 0; expr && i < expr_n_names(expr); i++) {
        size_t *at = find_bucket(rules, expr_name(expr, i));
        if (*at == 0) {
            rules->slots[rules->n_slots].name = expr_name(expr, i);
            *at = ++rules->n_slots;
        }
        expr_bind(expr, i, *at - 1);
        int r = add_reader(&rules->slots[*at - 1], rule);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_ours(const struct config_section *section)
{
    return config_rule(section)->where == WHERE_SERVER;
}

static int make_room(struct ruleset *rules)
{
    const struct config_section *section;
    size_t n_rules = 0, n_names = 0;
    for (size_t i = 0; (section = config_nth(rules->config, "rule", i)); i++) {
        const struct rule_config *rule = config_rule(section);
        if (!is_ours(section))
            continue;
        n_rules++;
        n_names += expr_n_names(rule->when) + (rule->until ? expr_n_names(rule->until) : 0);
    }
    rules->n_buckets = 8;
    while (rules->n_buckets < n_names * 2)
        rules->n_buckets *= 2;
    rules->rules = calloc(n_rules + 1, sizeof(*rules->rules));
    rules->slots = calloc(n_names + 1, sizeof(*rules->slots));
    rules->buckets = calloc(rules->n_buckets, sizeof(*rules->buckets));
    return rules->rules && rules->slots && rules->buckets ? 0 : -ENOMEM;
}

int ruleset_new(struct config *config, struct ruleset **ret_rules)
{
    _cleanup_(ruleset_freep) struct ruleset *rules = calloc(1, sizeof(*rules));
    const struct config_section *section;
    if (!rules)
        return -ENOMEM;
    rules->config = config_ref(config);
    rules->idle_mono_usec = clock_mono_usec() + idle_after_usec;
    rules->unknowns = unknown_limit;
    int r = make_room(rules);
    for (size_t i = 0; r == 0 && (section = config_nth(config, "rule", i)); i++) {
        if (!is_ours(section))
            continue;
        const struct rule_config *rule = config_rule(section);
        bool uses_time = expr_uses_time(rule->when) || (rule->until && expr_uses_time(rule->until));
        bool ages = uses_time || rule->stale_after_usec != USEC_INFINITY;
        rules->rules[rules->n_rules] = (struct server_rule){
            .section = section, .config = rule, .uses_time = uses_time, .ages = ages
        };
        rules->any_ages |= ages;
        r = bind(rules, rules->n_rules, rule->when);
        if (r == 0)
            r = bind(rules, rules->n_rules, rule->until);
        rules->n_rules++;
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
    for (size_t i = 0; i < rules->n_slots; i++)
        free(rules->slots[i].readers);
    free(rules->slots);
    free(rules->rules);
    free(rules->buckets);
    config_unref(rules->config);
    free(rules);
}

size_t ruleset_n_slots(const struct ruleset *rules)
{
    return rules->n_slots;
}

size_t ruleset_n_rules(const struct ruleset *rules)
{
    return rules->n_rules;
}

const struct server_rule *ruleset_rule(const struct ruleset *rules, size_t i)
{
    return &rules->rules[i];
}

bool ruleset_any_ages(const struct ruleset *rules)
{
    return rules->any_ages;
}

size_t ruleset_slot(const struct ruleset *rules, const char *name)
{
    size_t at = *find_bucket(rules, name);
    return at > 0 ? at - 1 : SIZE_MAX;
}

const size_t *ruleset_readers(const struct ruleset *rules, size_t slot, size_t *ret_n)
{
    *ret_n = rules->slots[slot].n_readers;
    return rules->slots[slot].readers;
}

void ruleset_welcome(const struct ruleset *rules, struct fleet_device *device)
{
    for (size_t i = 0; i < rules->n_rules; i++)
        device->rules[i].applies = strings_match_any(rules->rules[i].config->devices, device->id);
}

static void log_unknown(struct ruleset *rules, const struct server_rule *rule,
                        struct fleet_device *device, const struct rule_decision *decision,
                        uint64_t now_mono_usec)
{
    unsigned n_suppressed;
    if (ratelimit_pass(&rules->unknowns, now_mono_usec, &n_suppressed))
        log_notice(LOG_FIELDS(LOG_ID(LOG_ID_RULE_UNKNOWN), { "RULE", rule->section->name },
                              { "DEVICE", device->id }),
                   "rule %s for %s: %s%s; it changes nothing until that is known%s",
                   rule->section->name, device->id,
                   decision->unknown_name ? decision->unknown_name : "its value",
                   decision->unknown_name ? " has no fresh reading" : " cannot be computed",
                   n_suppressed ? " (and others before it)" : "");
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
        const struct expr *when = rule->config->when;
        n_idle++;
        log_notice(
            LOG_FIELDS(LOG_ID(LOG_ID_RULE_UNKNOWN), { "RULE", rule->section->name }),
            "rule %s: no device that it is for has sent %s; it changes nothing until one does",
            rule->section->name,
            expr_n_names(when) > 0 ? expr_name(when, 0) : "a reading that it looks at");
    }
    return n_idle;
}

void ruleset_evaluate(struct ruleset *rules, size_t i, struct fleet_device *device,
                      uint64_t now_mono_usec, struct ruleset_result *ret_result)
{
    struct server_rule *rule = &rules->rules[i];
    struct fleet_rule *state = &device->rules[i];
    rule->evaluated = true;
    const struct rule_spec spec = config_rule_spec(rule->config);
    struct expr_context context = {
        .readings = device->readings,
        .now_mono_usec = now_mono_usec,
        .stale_after_usec = spec.stale_after_usec,
    };
    if (rule->uses_time) {
        context.now_wall_usec = clock_wall_usec();
        context.local_hour = clock_local_hour(context.now_wall_usec);
    }
    struct rule_decision decision;
    rule_evaluate(&spec, &state->state, &context, &decision);
    if (decision.unknown && !state->unknown_logged)
        log_unknown(rules, rule, device, &decision, now_mono_usec);
    state->unknown_logged = decision.unknown;
    *ret_result = (struct ruleset_result){
        .command = state->state.outcome == RULE_THEN   ? rule->config->then_command
                   : state->state.outcome == RULE_ELSE ? rule->config->else_command
                                                       : NULL,
        .changed = decision.changed,
        .unknown = decision.unknown,
        .retry_mono_usec = decision.retry_mono_usec,
    };
}
