// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's work without a broker and a clock; see engine.h. Owns the fleet, the groups, the
// rules, and what waits for its time; logs what devices do, never sends by itself.
#include "server/engine.h"

#include <math.h>
#include <string.h>

#include "server/engine-internal.h"
#include "util/clock.h"
#include "util/log.h"

enum { MAX_UNHEARD = 5 }; // commands in a row that a target is sent again since nobody got them

static const struct ratelimit notice_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

/* --- readings -------------------------------------------------------------------------------- */

static void take_series(struct engine *engine, struct fleet_device *device, size_t slot,
                        double value, uint64_t taken_wall_usec, uint64_t now_wall_usec)
{
    const struct index_list *list = &ruleset_slot_at(engine->rules, slot)->series;
    for (size_t i = 0; i < list->n; i++) {
        struct series **series = &device->series[list->at[i]];
        uint64_t span_usec = ruleset_series(engine->rules, list->at[i])->span_usec;
        if (!*series && series_new(span_usec, series) < 0)
            continue;
        series_add(*series, value, taken_wall_usec, now_wall_usec);
    }
    if (list->n > 0)
        pages_note(engine->pages, device, true, engine->now.mono_usec);
}

/* Numbers that some rule reads become readings; all else, of whatever type, is not ours to judge.
 */
static void take_readings(struct engine *engine, struct fleet_device *device,
                          struct json_object *object, const struct ruleset_now *taken,
                          const struct ruleset_now *now)
{
    engine->n_touched = 0;
    json_object_object_foreach(object, key, member)
    {
        size_t slot = ruleset_slot(engine->rules, key);
        enum json_type type = json_object_get_type(member);
        if (slot == SIZE_MAX)
            continue;
        struct expr_reading *reading = &device->readings[slot];
        bool is_number = type == json_type_int || type == json_type_double;
        double value = is_number ? json_object_get_double(member) : NAN;
        if (is_number)
            take_series(engine, device, slot, value, taken->wall_usec, now->wall_usec);
        engine->touched[engine->n_touched++] = slot;
        if (taken->mono_usec < reading->mono_usec)
            continue; // an older one never replaces a newer one
        *reading = is_number ? (struct expr_reading){ value, taken->mono_usec }
                             : (struct expr_reading){ 0 }; // not known
        device->late[slot] = now->mono_usec - taken->mono_usec > ENGINE_LATE_USEC;
    }
}

/* When the readings were taken, on both clocks. */
static struct ruleset_now time_taken(uint64_t taken_wall_usec, const struct ruleset_now *now)
{
    struct ruleset_now taken = *now;
    if (taken_wall_usec == 0 || taken_wall_usec >= now->wall_usec)
        return taken; // a clock that is ahead of ours is no news from the future
    uint64_t age_usec = now->wall_usec - taken_wall_usec;
    taken.wall_usec = taken_wall_usec;
    taken.mono_usec = now->mono_usec > age_usec ? now->mono_usec - age_usec : 1; // 0 is none
    return taken;
}

static void note_delay(struct engine *engine, struct fleet_device *device,
                       const struct ruleset_now *taken, const struct ruleset_now *now)
{
    uint64_t age_usec = now->mono_usec - taken->mono_usec;
    bool was_behind = device->is_behind;
    char span[32];
    device->is_behind = age_usec > ENGINE_LATE_USEC;
    if (device->is_behind && !was_behind && ratelimit_pass(&engine->delays, now->mono_usec, NULL))
        log_notice(LOG_FIELDS({ "DEVICE", device->id }),
                   "readings of %s were taken %s ago, by its own clock; rules without stale_after "
                   "do not act on such",
                   device->id, clock_format_span(age_usec, span, sizeof(span)));
}

static void work_on_readings(struct engine *engine, struct fleet_device *device,
                             const struct ruleset_now *now)
{
    const struct ruleset_target target = { .device = device };
    engine->serial++;
    for (size_t i = 0; i < engine->n_touched; i++) {
        const struct server_slot *slot = ruleset_slot_at(engine->rules, engine->touched[i]);
        for (size_t k = 0; k < slot->aggregates.n; k++)
            groups_update(engine->groups, device, slot->aggregates.at[k], now);
    }
    for (size_t i = 0; i < engine->n_touched; i++) {
        const struct server_slot *slot = ruleset_slot_at(engine->rules, engine->touched[i]);
        for (size_t k = 0; k < slot->rules.n; k++)
            engine_evaluate_once(engine, &target, slot->rules.at[k], now, true);
        for (size_t k = 0; k < slot->aggregates.n; k++)
            engine_evaluate_aggregate(engine, device->group, slot->aggregates.at[k], now, true);
    }
}

void engine_catch_up(struct engine *engine, struct fleet_device *device,
                     const struct ruleset_now *now)
{
    const struct ruleset_target own = { .device = device }, common = { .group = device->group };
    device->missed_group = false;
    if (!device->group || !device->group->is_ours)
        return;
    for (size_t i = ruleset_n_device_rules(engine->rules); i < ruleset_n_rules(engine->rules);
         i++) {
        const struct server_rule *rule = ruleset_rule(engine->rules, i);
        const struct fleet_rule *state = ruleset_state(engine->rules, i, &common);
        const struct command *command = ruleset_command(rule, state->state.outcome);
        if (!command || !engine_has_sent(engine, state) ||
            state->state.changed_mono_usec >= device->online_mono_usec)
            continue;
        int r = engine->handlers->send(engine->userdata, &own, rule, command);
        if (r >= 0)
            continue;
        device->missed_group = true; // with the next reading, if not before
        engine_wait_for_room(engine, &own, r, now);
    }
}

/* Whether a device that is new came online lately: then it may have missed something. */
static void recall(const struct engine *engine, struct fleet_device *device)
{
    for (size_t i = 0; i < ENGINE_MAX_NEWCOMERS; i++) {
        const struct newcomer *newcomer = &engine->newcomers[i];
        if (newcomer->mono_usec > device->online_mono_usec && newcomer->hash == device->hash)
            device->online_mono_usec = newcomer->mono_usec;
    }
    device->missed_group = device->online_mono_usec > 0;
}

/* What is carried out in order is not carried out again since the server has been started anew. */
static void recall_decisions(const struct engine *engine, struct fleet_device *device)
{
    for (size_t i = 0; engine->handlers->recall && i < ruleset_n_device_rules(engine->rules); i++) {
        const struct server_rule *rule = ruleset_rule(engine->rules, i);
        struct fleet_rule *state = &device->rules[i];
        if (!state->applies || rule->config->delivery != DELIVERY_ORDERED)
            continue;
        state->state.outcome = engine->handlers->recall(engine->userdata, device->id, rule);
        state->sent_epoch = FLEET_ASSURED;
    }
}

static void join_group(struct engine *engine, struct fleet_device *device, struct topic_slice group,
                       const struct ruleset_now *now)
{
    struct group *old = device->group;
    bool was_last = old && old->n_devices == 1; // then it is gone
    int r = groups_join(engine->groups, device, group, now);
    if (r != 0)
        pages_note(engine->pages, device, true, now->mono_usec);
    if (r != 0 && old && !was_last)
        engine_evaluate_group(engine, old, now);
    if (r < 0 && ratelimit_pass(&engine->quotas, now->mono_usec, NULL))
        log_warning(LOG_FIELDS({ "DEVICE", device->id }),
                    "%s is of no group: %s; no group's rule looks at it", device->id,
                    r == -EDQUOT ? "there are too many" : strerror(-r));
}

void engine_watch(struct engine *engine, struct fleet_device *device, uint64_t now_mono_usec)
{
    if (!engine->any_stale ||
        device->due.place > 0) // else looked at then, however fresh it is by now
        return;
    uint64_t next_mono_usec = ruleset_next_stale(engine->rules, device, now_mono_usec);
    if (next_mono_usec != USEC_INFINITY)
        heap_put(&engine->due, &device->due, next_mono_usec);
}

/* A device is now the last one heard of; at FLEET_MAX_DEVICES another makes room for a new one. */
static int hear(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
                struct fleet_device **ret_device, bool *ret_new)
{
    engine->now = *now;
    int r = fleet_hear(engine->fleet, id, ret_device, ret_new);
    if (r == -ENOBUFS) {
        engine_forget_oldest(engine, now);
        r = fleet_hear(engine->fleet, id, ret_device, ret_new);
    }
    if (r < 0)
        return r;
    (*ret_device)->heard_mono_usec = now->mono_usec;
    if (*ret_new) {
        ruleset_welcome(engine->rules, *ret_device);
        recall(engine, *ret_device);
        recall_decisions(engine, *ret_device);
    }
    return 0;
}

int engine_make(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
                struct fleet_device **ret_device)
{
    bool is_new;
    return hear(engine, id, now, ret_device, &is_new);
}

int engine_hear(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
                struct fleet_device **ret_device)
{
    bool is_new;
    int r = hear(engine, id, now, ret_device, &is_new);
    if (r == 0)
        pages_note(engine->pages, *ret_device, is_new, now->mono_usec);
    return r;
}

int engine_take(struct engine *engine, struct topic_slice id, struct topic_slice group,
                struct json_object *readings, uint64_t taken_wall_usec,
                const struct ruleset_now *now)
{
    struct fleet_device *device;
    int r = engine_hear(engine, id, now, &device);
    if (r < 0)
        return r;
    join_group(engine, device, group, now);
    const struct ruleset_now taken = time_taken(taken_wall_usec, now);
    take_readings(engine, device, readings, &taken, now);
    if (engine->n_touched > 0) {
        note_delay(engine, device, &taken, now);
        device->silence_logged = false;
        if (device->missed_group)
            engine_catch_up(engine, device, now);
        work_on_readings(engine, device, now);
        engine_watch(engine, device, now->mono_usec);
    }
    ruleset_report_idle(engine->rules, now->mono_usec);
    return 0;
}

/* --- presence -------------------------------------------------------------------------------- */

void engine_log_silence(struct engine *engine, struct fleet_device *device, const char *what,
                        uint64_t now_mono_usec)
{
    unsigned n_suppressed;
    if (device->silence_logged)
        return;
    device->silence_logged = true;
    if (ratelimit_pass(&engine->silences, now_mono_usec, &n_suppressed))
        log_notice(LOG_FIELDS({ "DEVICE", device->id }, { "GROUP", device->group->name }),
                   "%s %s: it does not count in group %s until its next reading%s", device->id,
                   what, device->group->name, n_suppressed ? " (and others before it)" : "");
}

static void drop_out(struct engine *engine, struct fleet_device *device,
                     const struct ruleset_now *now)
{
    if (!groups_drop(engine->groups, device))
        return;
    engine_log_silence(engine, device, "is offline", now->mono_usec);
    engine_evaluate_group(engine, device->group, now);
}

static void forget_sent(struct engine *engine, struct fleet_device *device)
{
    for (size_t i = 0; i < ruleset_n_device_rules(engine->rules); i++) {
        // What is sent in order is carried out once, and not again for one that comes back.
        if (ruleset_rule(engine->rules, i)->config->delivery != DELIVERY_ORDERED)
            device->rules[i].sent_epoch = 0;
    }
}

bool engine_presence(struct engine *engine, struct topic_slice id, bool online, bool is_news,
                     const struct ruleset_now *now)
{
    struct fleet_device *device = fleet_find(engine->fleet, id);
    engine->now = *now;
    if (!device) {
        if (online && is_news)
            engine->newcomers[engine->next_newcomer++ % ENGINE_MAX_NEWCOMERS] =
                (struct newcomer){ fleet_hash(id), now->mono_usec };
        return false;
    }
    bool changed = device->online != online;
    device->online = online;
    pages_note(engine->pages, device, changed, now->mono_usec);
    if (online && changed) {
        device->n_unheard = 0;
        forget_sent(engine, device);
        device->missed_group |= is_news;
        device->online_mono_usec = now->mono_usec;
    }
    if (!online)
        drop_out(engine, device, now);
    return changed;
}

/* command may be NULL. */
static bool is_said_by(const struct command *command, struct json_object *object)
{
    return command && command_is_said_by(command, object);
}

/* The i-th rule of device has been seen to have that outcome. */
static void observe_outcome(struct engine *engine, struct fleet_device *device, size_t i,
                            enum rule_outcome outcome, bool is_foreign,
                            const struct ruleset_now *now)
{
    const struct ruleset_target target = { .device = device };
    struct fleet_rule *state = &device->rules[i];
    bool is_other = state->state.outcome != outcome;
    state->sent_epoch = engine->epoch;
    if (is_other) {
        state->state = (struct rule_state){ outcome, now->mono_usec };
        state->is_elsewhere = true;
        reasons_put(engine->reasons, i, &target, now, false);
        pages_note(engine->pages, device, true, now->mono_usec);
    }
    state->is_mine &= !is_other && !is_foreign;
    if (state->is_mine)
        return; // it comes back
    state->was_renewed = true;
    engine_refresh_later(engine, &target, i, now->mono_usec);
}

void engine_observe(struct engine *engine, struct topic_slice id, struct json_object *command,
                    bool is_foreign, const struct ruleset_now *now)
{
    struct fleet_device *device;
    if (engine_hear(engine, id, now, &device) < 0)
        return;
    for (size_t i = 0; i < ruleset_n_device_rules(engine->rules); i++) {
        const struct rule_config *rule = ruleset_rule(engine->rules, i)->config;
        bool is_then = is_said_by(rule->then_command, command);
        if (device->rules[i].applies && (is_then || is_said_by(rule->else_command, command)))
            observe_outcome(engine, device, i, is_then ? RULE_THEN : RULE_ELSE, is_foreign, now);
    }
}

void engine_reconnected(struct engine *engine)
{
    engine->epoch++;
}

uint64_t engine_tag(const struct ruleset_target *target)
{
    return target->device ? target->device->hash : target->group->hash;
}

/*
 * Nobody had subscribed to a device's commands: a plain one may publish before it subscribes. It
 * gets them again with its next readings, but not for ever: it may be one that never listens.
 */
void engine_unheard(struct engine *engine, uint64_t tag)
{
    struct fleet_device *device = fleet_find_hash(engine->fleet, tag);
    struct group *group = device ? NULL : groups_find_hash(engine->groups, tag);
    const struct ruleset_target target = { device, group };
    if ((!device && !group) || *ruleset_n_unheard(&target) == MAX_UNHEARD)
        return;
    ++*ruleset_n_unheard(&target);
    if (device)
        forget_sent(engine, device);
    for (size_t i = ruleset_n_device_rules(engine->rules);
         group && i < ruleset_n_rules(engine->rules); i++)
        ruleset_state(engine->rules, i, &target)->sent_epoch = 0;
}

/* --- life ------------------------------------------------------------------------------------ */

void engine_forget_oldest(struct engine *engine, const struct ruleset_now *now)
{
    struct fleet_device *device = fleet_oldest(engine->fleet);
    struct group *group = device->group;
    bool was_last = group && group->n_devices == 1; // then it is gone
    heap_remove(&engine->due, &device->due);
    heap_remove(&engine->unsent, &device->unsent);
    pages_drop(engine->pages, device, now->mono_usec);
    groups_leave(engine->groups, device);
    fleet_forget_oldest(engine->fleet);
    if (group && !was_last)
        engine_evaluate_group(engine, group, now);
}

int engine_new(struct config *config, const struct engine_handlers *handlers, void *userdata,
               struct engine **ret_engine)
{
    _cleanup_(engine_freep) struct engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return -ENOMEM;
    engine->handlers = handlers;
    engine->userdata = userdata;
    engine->epoch = 1;
    engine->room = SIZE_MAX;
    engine->forget_after_usec = config->server->forget_after_usec;
    engine->silences = engine->delays = engine->quotas = notice_limit;
    int r = ruleset_new(config, &engine->rules);
    if (r < 0)
        return r;
    r = groups_new(config, engine->rules, &engine->groups);
    if (r < 0)
        return r;
    r = reasons_new(engine->rules, &engine->reasons);
    if (r < 0)
        return r;
    const struct fleet_shape shape = ruleset_shape(engine->rules);
    r = fleet_new(&shape, &engine->fleet);
    if (r < 0)
        return r;
    engine->visited = calloc(ruleset_n_rules(engine->rules) + 1, sizeof(*engine->visited));
    engine->touched = calloc(shape.n_slots + 1, sizeof(*engine->touched));
    if (!engine->visited || !engine->touched)
        return -ENOMEM;
    for (size_t i = 0; i < ruleset_n_rules(engine->rules); i++) {
        const struct server_rule *rule = ruleset_rule(engine->rules, i);
        engine->any_stale |= i < shape.n_rules && rule->config->stale_after_usec != USEC_INFINITY;
        if (rule->uses_time)
            *(i < shape.n_rules ? &engine->any_time : &engine->any_group_time) = true;
    }
    *ret_engine = TAKE_PTR(engine);
    return 0;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    engine_free_held(engine);
    heap_done(&engine->due);
    heap_done(&engine->unsent);
    pages_free(engine->pages);
    fleet_free(engine->fleet);
    groups_free(engine->groups);
    reasons_free(engine->reasons);
    ruleset_free(engine->rules);
    free(engine->visited);
    free(engine->touched);
    free(engine);
}

size_t engine_n_devices(const struct engine *engine)
{
    return fleet_count(engine->fleet);
}
