// SPDX-License-Identifier: LGPL-2.1-or-later
// The engine's decisions: evaluates rules for devices and groups, sends what follows, holds back
// what is to be held, and looks again when time alone has changed something.
#include <string.h>

#include "server/engine-internal.h"
#include "util/clock.h"
#include "util/log.h"

enum {
    MAX_HELD = 10000, // held changes that wait for their time; more wait for their next reading
    PORTION = 1000,   // devices looked at in one go
};

static const uint64_t sweep_usec = 1 * USEC_PER_SEC;
static const uint64_t portion_usec = 5 * USEC_PER_MSEC; // between two portions

/* A change that a rule holds back: to be evaluated again. */
struct held {
    struct heap_entry due;
    size_t rule;
    bool of_group;
    char name[];
};

/* --- rules ----------------------------------------------------------------------------------- */

static void hold(struct engine *engine, const struct ruleset_target *target, size_t rule,
                 uint64_t retry_mono_usec)
{
    struct fleet_rule *state = ruleset_state(engine->rules, rule, target);
    const char *name = ruleset_target_name(target);
    if (state->is_held || engine->held.n_entries >= MAX_HELD)
        return;
    struct held *held = calloc(1, sizeof(*held) + strlen(name) + 1);
    if (!held)
        return;
    held->rule = rule;
    held->of_group = target->group;
    memcpy(held->name, name, strlen(name) + 1);
    if (heap_put(&engine->held, &held->due, retry_mono_usec) < 0)
        free(held);
    else
        state->is_held = true;
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
    if (!state->applies)
        return;
    ruleset_evaluate(engine->rules, i, target, now, &result);
    if (result.retry_mono_usec > 0)
        hold(engine, target, i, result.retry_mono_usec);
    if (result.changed) {
        state->sent_epoch = 0;
        *ruleset_n_unheard(target) = 0;
    }
    if (!has_reading && !result.changed && !rule->uses_time)
        return;
    bool always = rule->config->send == SEND_ALWAYS && has_reading;
    if (result.unknown || !result.command || (state->sent_epoch == engine->epoch && !always))
        return;
    if (engine->handlers->send(engine->userdata, target, rule, result.command) == 0)
        state->sent_epoch = engine->epoch;
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

static void run_held(struct engine *engine, const struct ruleset_now *now)
{
    struct heap_entry *first;
    while ((first = heap_first(&engine->held)) && first->key <= now->mono_usec) {
        struct held *held = (struct held *)((char *)first - offsetof(struct held, due));
        struct ruleset_target target = { 0 };
        if (held->of_group)
            target.group = groups_find(engine->groups, held->name);
        else
            target.device =
                fleet_find(engine->fleet, (struct topic_slice){ held->name, strlen(held->name) });
        size_t rule = held->rule;
        heap_remove(&engine->held, first);
        free(held);
        if (!target.device && !target.group)
            continue; // forgotten meanwhile
        ruleset_state(engine->rules, rule, &target)->is_held = false;
        engine_evaluate(engine, &target, rule, now, false);
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
    return earlier(earlier(next_mono_usec, &engine->held), &engine->due);
}

void engine_free_held(struct engine *engine)
{
    struct heap_entry *first;
    while ((first = heap_first(&engine->held))) {
        heap_remove(&engine->held, first);
        free((char *)first - offsetof(struct held, due));
    }
    heap_done(&engine->held);
}
