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
    MAX_SENT_AT_ONCE = 100,
};

static const uint64_t room_pause_usec = 1 * USEC_PER_SEC;   // until there may be room again
static const uint64_t quota_pause_usec = 30 * USEC_PER_SEC; // for one device

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

void engine_wait_for_room(struct engine *engine, const struct ruleset_target *target, int r,
                          const struct ruleset_now *now)
{
    uint64_t pause_usec = r == -EDQUOT ? quota_pause_usec : 0;
    if (r != -ENOBUFS && r != -EDQUOT)
        return;
    if (r == -ENOBUFS) {
        engine->room = 0;
        engine->room_mono_usec = now->mono_usec + room_pause_usec;
    }
    if (target->group)
        engine->any_group_unsent = true;
    else if (target->device->unsent.place == 0) // without memory, with the next reading
        (void)heap_put(&engine->unsent, &target->device->unsent, now->mono_usec + pause_usec);
}

static void send_command(struct engine *engine, const struct ruleset_target *target, size_t i,
                         const struct command *command, const struct ruleset_now *now)
{
    const struct server_rule *rule = ruleset_rule(engine->rules, i);
    struct fleet_rule *state = ruleset_state(engine->rules, i, target);
    int r = engine->handlers->send(engine->userdata, target, rule, command);
    state->is_unsent = r == -ENOBUFS || r == -EDQUOT;
    if (r < 0) {
        engine_wait_for_room(engine, target, r, now);
        return;
    }
    state->sent_epoch = r > 0 ? FLEET_ASSURED : engine->epoch;
    state->is_mine = true;
    tell_decision(engine, target, rule, state);
    engine_refresh_later(engine, target, i, now->mono_usec);
}

/*
 * What is sent: a change, and with send = always every reading's outcome. What was sent over a
 * connection that has broken since is sent with the next reading, and what could not be sent for
 * want of room also when there is some.
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
        pages_note(engine->pages, target->device ? target->device : target->group->first, true,
                   now->mono_usec);
    }
    if (!has_reading && !result.changed && !rule->uses_time)
        return;
    bool always = rule->config->send == SEND_ALWAYS && has_reading;
    if (result.changed && !result.command)
        tell_decision(engine, target, rule, state);
    if (result.unknown || !result.command || (engine_has_sent(engine, state) && !always) ||
        (state->is_unsent && engine->room == 0))
        return;
    send_command(engine, target, i, result.command, now);
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

static void sweep_groups(struct engine *engine, const struct ruleset_now *now)
{
    size_t cursor = 0, n_device_rules = ruleset_n_device_rules(engine->rules);
    struct ruleset_target target = { 0 };
    while ((target.group = groups_next(engine->groups, &cursor))) {
        for (; target.group; target.group = target.group->next) {
            for (size_t i = n_device_rules;
                 target.group->is_ours && i < ruleset_n_rules(engine->rules); i++) {
                if (ruleset_rule(engine->rules, i)->uses_time)
                    engine_evaluate(engine, &target, i, now, false);
            }
        }
    }
}

/* A portion of the devices; returns whether there are more. */
static bool sweep_devices(struct engine *engine, const struct ruleset_now *now)
{
    struct fleet_device *device;
    for (size_t n = 0; n < PORTION;) {
        device = fleet_next(engine->fleet, &engine->sweep_cursor);
        if (!device)
            return false;
        for (; device; device = device->next, n++)
            evaluate_device(engine, device, false, now);
    }
    return true;
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
            sweep_groups(engine, now);
    }
    engine->is_sweeping = engine->any_time && sweep_devices(engine, now);
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
        engine_forget_oldest(engine, now);
}

/* --- what waits for room --------------------------------------------------------------------- */

void engine_make_room(struct engine *engine, size_t n)
{
    engine->room = n;
}

bool engine_waits_for_room(const struct engine *engine)
{
    return engine->any_group_unsent || heap_first(&engine->unsent);
}

/* As it was decided, whatever is known of the readings by now. */
static void send_unsent(struct engine *engine, const struct ruleset_target *target, size_t first,
                        size_t end, const struct ruleset_now *now)
{
    for (size_t i = first; i < end && engine->room > 0; i++) {
        struct fleet_rule *state = ruleset_state(engine->rules, i, target);
        const struct command *command =
            ruleset_command(ruleset_rule(engine->rules, i), state->state.outcome);
        bool is_wanted = state->is_unsent && command && !engine_has_sent(engine, state);
        if (is_wanted && !state->is_elsewhere) {
            engine->room--;
            send_command(engine, target, i, command, now);
        } else {
            state->is_unsent = false;
        }
    }
}

static void send_unsent_to_groups(struct engine *engine, const struct ruleset_now *now)
{
    size_t cursor = 0;
    struct ruleset_target target = { 0 };
    engine->any_group_unsent = false;
    while (engine->room > 0 && (target.group = groups_next(engine->groups, &cursor))) {
        for (; target.group; target.group = target.group->next)
            send_unsent(engine, &target, ruleset_n_device_rules(engine->rules),
                        ruleset_n_rules(engine->rules), now);
    }
    engine->any_group_unsent |= engine->room == 0;
}

static void run_unsent(struct engine *engine, const struct ruleset_now *now)
{
    struct heap_entry *first;
    if (now->mono_usec < engine->room_mono_usec || !engine_waits_for_room(engine))
        return;
    if (engine->any_group_unsent)
        send_unsent_to_groups(engine, now);
    for (size_t n = 0; n < MAX_SENT_AT_ONCE && engine->room > 0 &&
                       (first = heap_first(&engine->unsent)) && first->key <= now->mono_usec;
         n++) {
        struct ruleset_target target = {
            .device = (struct fleet_device *)((char *)first - offsetof(struct fleet_device, unsent))
        };
        heap_remove(&engine->unsent, first);
        if (target.device->missed_group)
            engine_catch_up(engine, target.device, now);
        send_unsent(engine, &target, 0, ruleset_n_device_rules(engine->rules), now);
        if (engine->room == 0) // not all of its rules may have had their turn
            (void)heap_put(&engine->unsent, &target.device->unsent, now->mono_usec);
    }
    if (engine->room == 0)
        engine->room_mono_usec = now->mono_usec + room_pause_usec;
}

static uint64_t unsent_mono_usec(const struct engine *engine)
{
    const struct heap_entry *first = heap_first(&engine->unsent);
    uint64_t mono_usec = engine->any_group_unsent ? 0 : first ? first->key : USEC_INFINITY;
    return mono_usec > engine->room_mono_usec ? mono_usec : engine->room_mono_usec;
}

/* --- the clock ------------------------------------------------------------------------------- */

void engine_run(struct engine *engine, const struct ruleset_now *now)
{
    engine->now = *now;
    run_held(engine, now);
    run_refreshes(engine, now);
    run_silent(engine, now);
    run_stale(engine, now);
    run_sweep(engine, now);
    run_forget(engine, now);
    run_unsent(engine, now);
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
    if (forget_mono_usec(engine) < next_mono_usec)
        next_mono_usec = forget_mono_usec(engine);
    if (engine_waits_for_room(engine) && unsent_mono_usec(engine) < next_mono_usec)
        next_mono_usec = unsent_mono_usec(engine);
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
