// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes a ruleset of a configuration: gives names, arguments of aggregates and windows their slots
// and writes down who reads what.
#include <string.h>

#include "server/ruleset-internal.h"
#include "util/clock.h"
#include "util/strings.h"

static const uint64_t idle_after_usec = 60 * USEC_PER_SEC;
static const struct ratelimit unknown_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

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
    size_t *at = ruleset_bucket(rules, name);
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
