// SPDX-License-Identifier: LGPL-2.1-or-later
// The engine's decisions: evaluates rules for devices and groups, sends what follows, holds back
// what is to be held, and looks again when time alone has changed something.
#include <string.h>

#include "server/engine-internal.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    MAX_HELD = 10000, // held changes that wait for their time; more wait for their next reading
    MAX_REFRESHES = 250000,
    PORTION = 1000, // devices looked at in one go
};

static const uint64_t sweep_usec = 1 * USEC_PER_SEC;
static const uint64_t portion_usec = 5 * USEC_PER_MSEC; // between two portions

/* What a rule is to look at again: a change that it holds back, or a command to be sent again. */
struct held {
    struct heap_entry due;
    size_t rule;
    bool of_group;
    char name[];
};

/* --- rules ----------------------------------------------------------------------------------- */

/* Returns whether it is in heap now. */
static bool put_held(struct heap *heap, const struct ruleset_target *target, size_t rule,
                     uint64_t mono_usec)
{
    const char *name = ruleset_target_name(target);
    struct held *held = calloc(1, sizeof(*held) + strlen(name) + 1);
    if (!held)
        return false;
    held->rule = rule;
    held->of_group = target->group;
    memcpy(held->name, name, strlen(name) + 1);
    if (heap_put(heap, &held->due, mono_usec) == 0)
        return true;
    free(held);
    return false;
}

static void hold(struct engine *engine, const struct ruleset_target *target, size_t rule,
                 uint64_t retry_mono_usec)
{
    struct fleet_rule *state = ruleset_state(engine->rules, rule, target);
    if (!state->is_held && engine->held.n_entries < MAX_HELD)
        state->is_held = put_held(&engine->held, target, rule, retry_mono_usec);
}

/*
 * A lease is renewed when two thirds of it are left. A server that has seen another do so waits a
 * little longer: it takes over in time for the lease when the other does not.
 */
void engine_refresh_later(struct engine *engine, const struct ruleset_target *target, size_t i,
                          uint64_t now_mono_usec)
{
    const struct rule_config *rule = ruleset_rule(engine->rules, i)->config;
    struct fleet_rule *state = ruleset_state(engine->rules, i, target);
    uint64_t span_usec = rule->refresh_usec;
    if (span_usec == USEC_INFINITY && rule->lease_usec != USEC_INFINITY)
        span_usec = rule->lease_usec / 3;
    if (span_usec == USEC_INFINITY || state->is_refreshing ||
        engine->refreshes.n_entries >= MAX_REFRESHES)
        return;
    if (!state->is_mine)
        span_usec += span_usec / 4;
    state->is_refreshing = put_held(&engine->refreshes, target, i, now_mono_usec + span_usec);
}

bool engine_has_sent(const struct engine *engine, const struct fleet_rule *state)
{
    return state->sent_epoch == engine->epoch || state->sent_epoch == FLEET_ASSURED;
}

static void tell_decision(struct engine *engine, const struct ruleset_target *target,
                          const struct server_rule *rule, const struct fleet_rule *state)
{
    if (rule->config->delivery == DELIVERY_ORDERED && engine->handlers->decided)
        engine->handlers->decided(engine->userdata, target->device->id, rule, state->state.outcome);
}

/*
 * What is sent: a change, and with send = always every reading's outcome. What could not be sent,
 * and what was sent over a connection that has broken since, is sent with the next reading.
 */
void engine_evaluate(struct engine *engine, const struct ruleset_target *target, size_t i,
                     const struct ruleset_now *now, bool has_reading)
{
    const struct server_rule *rule = ruleset_rule(engine->rules, i);
    struct fleet_rule *state = ruleset_state(engine->rules, i, target);
    struct ruleset_result result;
    if (!state->applies || (state->is_elsewhere && !has_reading))
        return;
    state->is_elsewhere = false;
    ruleset_evaluate(engine->rules, i, target, now, &result);
    if (result.retry_mono_usec > 0)
        hold(engine, target, i, result.retry_mono_usec);
    if (result.changed) {
        state->sent_epoch = 0;
        *ruleset_n_unheard(target) = 0;
        reasons_put(engine->reasons, i, target, now, true);
    }
    if (!has_reading && !result.changed && !rule->uses_time)
        return;
    bool always = rule->config->send == SEND_ALWAYS && has_reading;
    if (result.changed && !result.command)
        tell_decision(engine, target, rule, state);
    if (result.unknown || !result.command || (engine_has_sent(engine, state) && !always))
        return;
    int r = engine->handlers->send(engine->userdata, target, rule, result.command);
    if (r < 0)
        return;
    state->sent_epoch = r > 0 ? FLEET_ASSURED : engine->epoch;
    state->is_mine = true;
    tell_decision(engine, target, rule, state);
    engine_refresh_later(engine, target, i, now->mono_usec);
}

void engine_evaluate_once(struct engine *engine, const struct ruleset_target *target, size_t i,
                          const struct ruleset_now *now, bool has_reading)
{
    if (engine->visited[i] == engine->serial)
        return;
    engine->visited[i] = engine->serial;
    engine_evaluate(engine, target, i, now, has_reading);
}

void engine_evaluate_aggregate(struct engine *engine, struct group *group, size_t aggregate,
                               const struct ruleset_now *now, bool has_reading)
{
    const struct server_aggregate *of = ruleset_aggregate(engine->rules, aggregate);
    const struct ruleset_target target = { .group = group };
    for (size_t i = 0; group && group->is_ours && i < of->n_rules; i++)
        engine_evaluate_once(engine, &target, of->rules[i], now, has_reading);
}

/* All that it is asked, since one of its devices has gone. */
void engine_evaluate_group(struct engine *engine, struct group *group,
                           const struct ruleset_now *now)
{
    engine->serial++;
    for (size_t i = 0; i < ruleset_n_aggregates(engine->rules); i++)
        engine_evaluate_aggregate(engine, group, i, now, false);
}

/* --- what is due with time alone ------------------------------------------------------------- */

/* The next one that is due, freed; false: none is. Of one that is forgotten both are NULL. */
static bool take_held(struct engine *engine, struct heap *heap, const struct ruleset_now *now,
                      struct ruleset_target *ret_target, size_t *ret_rule)
{
    struct heap_entry *first = heap_first(heap);
    if (!first || first->key > now->mono_usec)
        return false;
    struct held *held = (struct held *)((char *)first - offsetof(struct held, due));
    struct ruleset_target target = { 0 };
    if (held->of_group)
        target.group = groups_find(engine->groups, held->name);
    else
        target.device =
            fleet_find(engine->fleet, (struct topic_slice){ held->name, strlen(held->name) });
    *ret_target = target;
    *ret_rule = held->rule;
    heap_remove(heap, first);
    free(held);
    return true;
}

static void run_held(struct engine *engine, const struct ruleset_now *now)
{
    struct ruleset_target target;
    size_t i;
    while (take_held(engine, &engine->held, now, &target, &i)) {
        if (!target.device && !target.group)
            continue;
        ruleset_state(engine->rules, i, &target)->is_held = false;
        engine_evaluate(engine, &target, i, now, false);
    }
}

static void refresh(struct engine *engine, const struct ruleset_target *target, size_t i,
                    const struct ruleset_now *now)
{
    struct fleet_rule *state = ruleset_state(engine->rules, i, target);
    bool is_done = state->was_renewed && !state->is_mine; // by another server
    state->is_refreshing = state->was_renewed = false;
    if (is_done) {
        engine_refresh_later(engine, target, i, now->mono_usec);
        return;
    }
    state->sent_epoch = 0;
    if (!state->is_elsewhere) // else with the next reading, that of here being an old one
        engine_evaluate(engine, target, i, now, true);
}

/* While a condition is unknown nothing is repeated: then a lease runs out. */
static void run_refreshes(struct engine *engine, const struct ruleset_now *now)
{
    struct ruleset_target target;
    size_t i;
    for (size_t n = 0; n < PORTION; n++) {
        if (!take_held(engine, &engine->refreshes, now, &target, &i))
            return;
        if (!target.device && !target.group)
            continue;
        refresh(engine, &target, i, now);
    }
}

static void run_silent(struct engine *engine, const struct ruleset_now *now)
{
    struct fleet_device *device;
    size_t aggregate;
    while (groups_expire(engine->groups, now, &device, &aggregate)) {
        engine_log_silence(engine, device, "is silent", now->mono_usec);
        engine->serial++;
        engine_evaluate_aggregate(engine, device->group, aggregate, now, false);
    }
}

static void evaluate_device(struct engine *engine, struct fleet_device *device, bool stale,
                            const struct ruleset_now *now)
{
    const struct ruleset_target target = { .device = device };
    for (size_t i = 0; i < ruleset_n_device_rules(engine->rules); i++) {
        const struct server_rule *rule = ruleset_rule(engine->rules, i);
        if (stale ? rule->config->stale_after_usec != USEC_INFINITY : rule->uses_time)
            engine_evaluate(engine, &target, i, now, false);
    }
}

/* Rules whose readings have gone stale say so, once. */
static void run_stale(struct engine *engine, const struct ruleset_now *now)
{
    struct heap_entry *first;
    while ((first = heap_first(&engine->due)) && first->key <= now->mono_usec) {
        struct fleet_device *device =
            (struct fleet_device *)((char *)first - offsetof(struct fleet_device, due));
        heap_remove(&engine->due, first);
        evaluate_device(engine, device, true, now);
        engine_watch(engine, device, now->mono_usec);
    }
}

static void sweep_device(struct fleet_device *device, void *userdata)
{
    struct engine *engine = userdata;
    evaluate_device(engine, device, false, &engine->now);
}

static void sweep_group(struct group *group, void *userdata)
{
    struct engine *engine = userdata;
    const struct ruleset_target target = { .group = group };
    for (size_t i = ruleset_n_device_rules(engine->rules);
         group->is_ours && i < ruleset_n_rules(engine->rules); i++) {
        if (ruleset_rule(engine->rules, i)->uses_time)
            engine_evaluate(engine, &target, i, &engine->now, false);
    }
}

/* Rules that look at the clock: every device has its turn once a second, if they are not too many.
 */
static void run_sweep(struct engine *engine, const struct ruleset_now *now)
{
    if (now->mono_usec < engine->sweep_mono_usec || (!engine->any_time && !engine->any_group_time))
        return;
    if (!engine->is_sweeping) {
        engine->is_sweeping = true;
        engine->sweep_cursor = 0;
        engine->swept_mono_usec = now->mono_usec;
        if (engine->any_group_time)
            groups_each(engine->groups, sweep_group, engine);
    }
    engine->is_sweeping = engine->any_time && fleet_visit(engine->fleet, &engine->sweep_cursor,
                                                          PORTION, sweep_device, engine);
    engine->sweep_mono_usec =
        engine->is_sweeping ? now->mono_usec + portion_usec : engine->swept_mono_usec + sweep_usec;
}

/* When the device heard of longest ago is to be forgotten. */
static uint64_t forget_mono_usec(const struct engine *engine)
{
    const struct fleet_device *oldest = fleet_oldest(engine->fleet);
    if (!oldest || engine->forget_after_usec == USEC_INFINITY)
        return USEC_INFINITY;
    return oldest->heard_mono_usec + engine->forget_after_usec;
}

static void run_forget(struct engine *engine, const struct ruleset_now *now)
{
    for (size_t i = 0; i < PORTION && forget_mono_usec(engine) <= now->mono_usec; i++)
        fleet_forget_oldest(engine->fleet);
}

void engine_run(struct engine *engine, const struct ruleset_now *now)
{
    engine->now = *now;
    run_held(engine, now);
    run_refreshes(engine, now);
    run_silent(engine, now);
    run_stale(engine, now);
    run_sweep(engine, now);
    run_forget(engine, now);
    engine_run_keep(engine);
}

static uint64_t earlier(uint64_t mono_usec, const struct heap *heap)
{
    const struct heap_entry *first = heap_first(heap);
    return first && first->key < mono_usec ? first->key : mono_usec;
}

uint64_t engine_next_mono_usec(const struct engine *engine)
{
    uint64_t next_mono_usec = groups_next_mono_usec(engine->groups);
    if ((engine->any_time || engine->any_group_time) && engine->sweep_mono_usec < next_mono_usec)
        next_mono_usec = engine->sweep_mono_usec;
    if (engine_keep_mono_usec(engine) < next_mono_usec)
        next_mono_usec = engine_keep_mono_usec(engine);
    if (forget_mono_usec(engine) < next_mono_usec)
        next_mono_usec = forget_mono_usec(engine);
    next_mono_usec = earlier(next_mono_usec, &engine->refreshes);
    return earlier(earlier(next_mono_usec, &engine->held), &engine->due);
}

static void free_heap(struct heap *heap)
{
    struct heap_entry *first;
    while ((first = heap_first(heap))) {
        heap_remove(heap, first);
        free((char *)first - offsetof(struct held, due));
    }
    heap_done(heap);
}

void engine_free_held(struct engine *engine)
{
    free_heap(&engine->held);
    free_heap(&engine->refreshes);
}
