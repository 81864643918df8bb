// SPDX-License-Identifier: LGPL-2.1-or-later
// The rules at work; see decider.h. Owns what waits for its time or for room. Reads no clock, and
// sends through its handlers alone.
#include "server/decider.h"

#include <assert.h>
#include <string.h>

#include "server/agenda.h"
#include "util/clock.h"

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

struct decider {
    const struct decider_handlers *handlers;
    void *userdata;
    struct ruleset *rules;
    struct fleet *fleet;
    struct groups *groups;
    struct reasons *reasons;     // of what they have decided
    struct pages *pages;         // NULL: nothing is kept
    struct decisions *decisions; // of ordered rules; NULL: none are kept

    // Grows with each connection: a command sent before it may have been lost with the old one.
    uint32_t epoch;
    uint64_t serial;          // of the work at hand, so that each rule is evaluated once for it
    uint64_t *visited;        // by rule: serial of the last work that evaluated it
    struct agenda *held;      // changes
    struct agenda *refreshes; // commands to be sent again
    struct heap unsent;       // devices with commands that wait for room
    bool any_group_unsent;    // some group has
    size_t room;              // for how many there is
    uint64_t room_mono_usec;  // they are not tried before
    struct heap due;          // of devices, by when one of their readings may have gone stale

    bool any_stale;                // some device rule has a stale_after
    bool any_time, any_group_time; // some device rule changes with time alone; some group rule
    bool is_sweeping;
    size_t sweep_cursor;
    uint64_t sweep_mono_usec; // when the next portion is due
    uint64_t swept_mono_usec; // when the last sweep began
};

/* --- later ----------------------------------------------------------------------------------- */

/* Returns whether it is in there now. */
static bool put(struct agenda *agenda, const struct ruleset_target *target, size_t rule,
                uint64_t mono_usec)
{
    return agenda_put(agenda, rule, target->group, ruleset_target_name(target), mono_usec);
}

static void hold(struct decider *decider, const struct ruleset_target *target, size_t rule,
                 uint64_t retry_mono_usec)
{
    struct fleet_rule *state = ruleset_state(decider->rules, rule, target);
    if (!state->is_held)
        state->is_held = put(decider->held, target, rule, retry_mono_usec);
}

/*
 * A lease is renewed when two thirds of it are left. A server that has seen another do so waits a
 * little longer: it takes over in time for the lease when the other does not.
 */
static void refresh_later(struct decider *decider, const struct ruleset_target *target, size_t i,
                          uint64_t now_mono_usec)
{
    const struct rule_config *rule = ruleset_rule(decider->rules, i)->config;
    struct fleet_rule *state = ruleset_state(decider->rules, i, target);
    uint64_t span_usec = rule->refresh_usec;
    if (span_usec == USEC_INFINITY && rule->lease_usec != USEC_INFINITY)
        span_usec = rule->lease_usec / 3;
    if (span_usec == USEC_INFINITY || state->is_refreshing)
        return;
    if (!state->is_mine)
        span_usec += span_usec / 4;
    state->is_refreshing = put(decider->refreshes, target, i, now_mono_usec + span_usec);
}

/* --- rules ----------------------------------------------------------------------------------- */

static bool has_sent(const struct decider *decider, const struct fleet_rule *state)
{
    return state->sent_epoch == decider->epoch || state->sent_epoch == FLEET_ASSURED;
}

static void tell_decision(struct decider *decider, const struct ruleset_target *target,
                          const struct server_rule *rule, const struct fleet_rule *state)
{
    if (rule->config->delivery == DELIVERY_ORDERED && decider->decisions)
        decisions_put(decider->decisions, rule->section, target->device->id, state->state.outcome);
}

static void wait_for_room(struct decider *decider, const struct ruleset_target *target, int r,
                          const struct ruleset_now *now)
{
    uint64_t pause_usec = r == -EDQUOT ? quota_pause_usec : 0;
    if (r != -ENOBUFS && r != -EDQUOT)
        return;
    if (r == -ENOBUFS) {
        decider->room = 0;
        decider->room_mono_usec = now->mono_usec + room_pause_usec;
    }
    if (target->group)
        decider->any_group_unsent = true;
    else if (target->device->unsent.place == 0) // without memory, with the next reading
        (void)heap_put(&decider->unsent, &target->device->unsent, now->mono_usec + pause_usec);
}

static void send_command(struct decider *decider, const struct ruleset_target *target, size_t i,
                         const struct command *command, const struct ruleset_now *now)
{
    const struct server_rule *rule = ruleset_rule(decider->rules, i);
    struct fleet_rule *state = ruleset_state(decider->rules, i, target);
    int r = decider->handlers->send(decider->userdata, target, rule, command);
    state->is_unsent = r == -ENOBUFS || r == -EDQUOT;
    if (r < 0) {
        wait_for_room(decider, target, r, now);
        return;
    }
    state->sent_epoch = r > 0 ? FLEET_ASSURED : decider->epoch;
    state->is_mine = true;
    tell_decision(decider, target, rule, state);
    refresh_later(decider, target, i, now->mono_usec);
}

/*
 * What is sent: a change, and with send = always every reading's outcome. What was sent over a
 * connection that has broken since is sent with the next reading, and what could not be sent for
 * want of room also when there is some.
 */
static void evaluate(struct decider *decider, const struct ruleset_target *target, size_t i,
                     const struct ruleset_now *now, bool has_reading)
{
    const struct server_rule *rule = ruleset_rule(decider->rules, i);
    struct fleet_rule *state = ruleset_state(decider->rules, i, target);
    struct ruleset_result result;
    assert(target->device || target->group);
    if (!state->applies || (state->is_elsewhere && !has_reading))
        return;
    state->is_elsewhere = false;
    ruleset_evaluate(decider->rules, i, target, now, &result);
    if (result.retry_mono_usec > 0)
        hold(decider, target, i, result.retry_mono_usec);
    if (result.changed) {
        state->sent_epoch = 0;
        *ruleset_n_unheard(target) = 0;
        reasons_put(decider->reasons, i, target, now, true);
        pages_note(decider->pages, target->device ? target->device : target->group->first, true,
                   now->mono_usec);
    }
    if (!has_reading && !result.changed && !rule->uses_time)
        return;
    bool always = rule->config->send == SEND_ALWAYS && has_reading;
    if (result.changed && !result.command)
        tell_decision(decider, target, rule, state);
    if (result.unknown || !result.command || (has_sent(decider, state) && !always) ||
        (state->is_unsent && decider->room == 0))
        return;
    send_command(decider, target, i, result.command, now);
}

void decider_evaluate_once(struct decider *decider, const struct ruleset_target *target, size_t i,
                           const struct ruleset_now *now, bool has_reading)
{
    if (decider->visited[i] == decider->serial)
        return;
    decider->visited[i] = decider->serial;
    evaluate(decider, target, i, now, has_reading);
}

void decider_evaluate_aggregate(struct decider *decider, struct group *group, size_t aggregate,
                                const struct ruleset_now *now, bool has_reading)
{
    const struct server_aggregate *of = ruleset_aggregate(decider->rules, aggregate);
    const struct ruleset_target target = { .group = group };
    for (size_t i = 0; group && group->is_ours && i < of->n_rules; i++)
        decider_evaluate_once(decider, &target, of->rules[i], now, has_reading);
}

/* All that it is asked, since one of its devices has gone. */
void decider_evaluate_group(struct decider *decider, struct group *group,
                            const struct ruleset_now *now)
{
    decider->serial++;
    for (size_t i = 0; i < ruleset_n_aggregates(decider->rules); i++)
        decider_evaluate_aggregate(decider, group, i, now, false);
}

/* --- what else is known of a command --------------------------------------------------------- */

/* What is carried out in order is not carried out again since the server has been started anew. */
void decider_recall(const struct decider *decider, struct fleet_device *device)
{
    for (size_t i = 0; decider->decisions && i < ruleset_n_device_rules(decider->rules); i++) {
        const struct server_rule *rule = ruleset_rule(decider->rules, i);
        struct fleet_rule *state = &device->rules[i];
        if (!state->applies || rule->config->delivery != DELIVERY_ORDERED)
            continue;
        state->state.outcome = decisions_find(decider->decisions, rule->section, device->id);
        state->sent_epoch = FLEET_ASSURED;
    }
}

void decider_forget_sent(const struct decider *decider, struct fleet_device *device)
{
    for (size_t i = 0; i < ruleset_n_device_rules(decider->rules); i++) {
        // What is sent in order is carried out once, and not again for one that comes back.
        if (ruleset_rule(decider->rules, i)->config->delivery != DELIVERY_ORDERED)
            device->rules[i].sent_epoch = 0;
    }
}

void decider_catch_up(struct decider *decider, struct fleet_device *device,
                      const struct ruleset_now *now)
{
    const struct ruleset_target own = { .device = device }, common = { .group = device->group };
    device->missed_group = false;
    if (!device->group || !device->group->is_ours)
        return;
    for (size_t i = ruleset_n_device_rules(decider->rules); i < ruleset_n_rules(decider->rules);
         i++) {
        const struct server_rule *rule = ruleset_rule(decider->rules, i);
        const struct fleet_rule *state = ruleset_state(decider->rules, i, &common);
        const struct command *command = ruleset_command(rule, state->state.outcome);
        if (!command || !has_sent(decider, state) ||
            state->state.changed_mono_usec >= device->online_mono_usec)
            continue;
        int r = decider->handlers->send(decider->userdata, &own, rule, command);
        if (r >= 0)
            continue;
        device->missed_group = true; // with the next reading, if not before
        wait_for_room(decider, &own, r, now);
    }
}

void decider_observe(struct decider *decider, struct fleet_device *device, size_t i,
                     enum rule_outcome outcome, bool is_foreign, const struct ruleset_now *now)
{
    const struct ruleset_target target = { .device = device };
    struct fleet_rule *state = &device->rules[i];
    bool is_other = state->state.outcome != outcome;
    state->sent_epoch = decider->epoch;
    if (is_other) {
        state->state = (struct rule_state){ outcome, now->mono_usec };
        state->is_elsewhere = true;
        reasons_put(decider->reasons, i, &target, now, false);
        pages_note(decider->pages, device, true, now->mono_usec);
    }
    state->is_mine &= !is_other && !is_foreign;
    if (state->is_mine)
        return; // it comes back
    state->was_renewed = true;
    refresh_later(decider, &target, i, now->mono_usec);
}

void decider_drop(struct decider *decider, struct fleet_device *device)
{
    heap_remove(&decider->unsent, &device->unsent);
    heap_remove(&decider->due, &device->due);
}

/* --- what is due ----------------------------------------------------------------------------- */

/* Of one that is forgotten both are NULL. */
static struct ruleset_target find(const struct decider *decider, const struct agenda_item *item)
{
    struct ruleset_target target = { 0 };
    if (item->of_group)
        target.group = groups_find(decider->groups, item->name);
    else
        target.device =
            fleet_find(decider->fleet, (struct topic_slice){ item->name, strlen(item->name) });
    return target;
}

static void run_held(struct decider *decider, const struct ruleset_now *now)
{
    struct agenda_item *item;
    while ((item = agenda_take(decider->held, now->mono_usec))) {
        const struct ruleset_target target = find(decider, item);
        size_t i = item->rule;
        free(item);
        if (!target.device && !target.group)
            continue;
        ruleset_state(decider->rules, i, &target)->is_held = false;
        evaluate(decider, &target, i, now, false);
    }
}

static void refresh(struct decider *decider, const struct ruleset_target *target, size_t i,
                    const struct ruleset_now *now)
{
    struct fleet_rule *state = ruleset_state(decider->rules, i, target);
    bool is_done = state->was_renewed && !state->is_mine; // by another server
    state->is_refreshing = state->was_renewed = false;
    if (is_done) {
        refresh_later(decider, target, i, now->mono_usec);
        return;
    }
    state->sent_epoch = 0;
    if (!state->is_elsewhere) // else with the next reading, that of here being an old one
        evaluate(decider, target, i, now, true);
}

/* While a condition is unknown nothing is repeated: then a lease runs out. */
static void run_refreshes(struct decider *decider, const struct ruleset_now *now)
{
    struct agenda_item *item;
    for (size_t n = 0; n < PORTION && (item = agenda_take(decider->refreshes, now->mono_usec));
         n++) {
        const struct ruleset_target target = find(decider, item);
        size_t i = item->rule;
        free(item);
        if (target.device || target.group)
            refresh(decider, &target, i, now);
    }
}

void decider_make_room(struct decider *decider, size_t n)
{
    decider->room = n;
}

bool decider_waits_for_room(const struct decider *decider)
{
    return decider->any_group_unsent || heap_first(&decider->unsent);
}

/* As it was decided, whatever is known of the readings by now. */
static void send_unsent(struct decider *decider, const struct ruleset_target *target, size_t first,
                        size_t end, const struct ruleset_now *now)
{
    for (size_t i = first; i < end && decider->room > 0; i++) {
        struct fleet_rule *state = ruleset_state(decider->rules, i, target);
        const struct command *command =
            ruleset_command(ruleset_rule(decider->rules, i), state->state.outcome);
        bool is_wanted = state->is_unsent && command && !has_sent(decider, state);
        if (is_wanted && !state->is_elsewhere) {
            decider->room--;
            send_command(decider, target, i, command, now);
        } else {
            state->is_unsent = false;
        }
    }
}

static void send_unsent_to_groups(struct decider *decider, const struct ruleset_now *now)
{
    size_t cursor = 0;
    struct ruleset_target target = { 0 };
    decider->any_group_unsent = false;
    while (decider->room > 0 && (target.group = groups_next(decider->groups, &cursor))) {
        for (; target.group; target.group = target.group->next)
            send_unsent(decider, &target, ruleset_n_device_rules(decider->rules),
                        ruleset_n_rules(decider->rules), now);
    }
    decider->any_group_unsent |= decider->room == 0;
}

static void run_unsent(struct decider *decider, const struct ruleset_now *now)
{
    struct heap_entry *first;
    if (now->mono_usec < decider->room_mono_usec || !decider_waits_for_room(decider))
        return;
    if (decider->any_group_unsent)
        send_unsent_to_groups(decider, now);
    for (size_t n = 0; n < MAX_SENT_AT_ONCE && decider->room > 0 &&
                       (first = heap_first(&decider->unsent)) && first->key <= now->mono_usec;
         n++) {
        struct ruleset_target target = {
            .device = (struct fleet_device *)((char *)first - offsetof(struct fleet_device, unsent))
        };
        heap_remove(&decider->unsent, first);
        if (target.device->missed_group)
            decider_catch_up(decider, target.device, now);
        send_unsent(decider, &target, 0, ruleset_n_device_rules(decider->rules), now);
        if (decider->room == 0) // not all of its rules may have had their turn
            (void)heap_put(&decider->unsent, &target.device->unsent, now->mono_usec);
    }
    if (decider->room == 0)
        decider->room_mono_usec = now->mono_usec + room_pause_usec;
}

static uint64_t unsent_mono_usec(const struct decider *decider)
{
    const struct heap_entry *first = heap_first(&decider->unsent);
    uint64_t mono_usec = decider->any_group_unsent ? 0 : first ? first->key : USEC_INFINITY;
    return mono_usec > decider->room_mono_usec ? mono_usec : decider->room_mono_usec;
}

/* --- what changes with time alone ------------------------------------------------------------ */

void decider_watch(struct decider *decider, struct fleet_device *device, uint64_t now_mono_usec)
{
    if (!decider->any_stale ||
        device->due.place > 0) // else looked at then, however fresh it is by now
        return;
    uint64_t next_mono_usec = ruleset_next_stale(decider->rules, device, now_mono_usec);
    if (next_mono_usec != USEC_INFINITY)
        heap_put(&decider->due, &device->due, next_mono_usec);
}

static void evaluate_device(struct decider *decider, struct fleet_device *device, bool stale,
                            const struct ruleset_now *now)
{
    const struct ruleset_target target = { .device = device };
    for (size_t i = 0; i < ruleset_n_device_rules(decider->rules); i++) {
        const struct server_rule *rule = ruleset_rule(decider->rules, i);
        if (stale ? rule->config->stale_after_usec != USEC_INFINITY : rule->uses_time)
            evaluate(decider, &target, i, now, false);
    }
}

/* Rules whose readings have gone stale say so, once. */
static void run_stale(struct decider *decider, const struct ruleset_now *now)
{
    struct heap_entry *first;
    while ((first = heap_first(&decider->due)) && first->key <= now->mono_usec) {
        struct fleet_device *device =
            (struct fleet_device *)((char *)first - offsetof(struct fleet_device, due));
        heap_remove(&decider->due, first);
        evaluate_device(decider, device, true, now);
        decider_watch(decider, device, now->mono_usec);
    }
}

static void sweep_groups(struct decider *decider, const struct ruleset_now *now)
{
    size_t cursor = 0, n_device_rules = ruleset_n_device_rules(decider->rules);
    struct ruleset_target target = { 0 };
    while ((target.group = groups_next(decider->groups, &cursor))) {
        for (; target.group; target.group = target.group->next) {
            for (size_t i = n_device_rules;
                 target.group->is_ours && i < ruleset_n_rules(decider->rules); i++) {
                if (ruleset_rule(decider->rules, i)->uses_time)
                    evaluate(decider, &target, i, now, false);
            }
        }
    }
}

/* A portion of the devices; returns whether there are more. */
static bool sweep_devices(struct decider *decider, const struct ruleset_now *now)
{
    struct fleet_device *device;
    for (size_t n = 0; n < PORTION;) {
        device = fleet_next(decider->fleet, &decider->sweep_cursor);
        if (!device)
            return false;
        for (; device; device = device->next, n++)
            evaluate_device(decider, device, false, now);
    }
    return true;
}

/* Rules that look at the clock: every device has its turn once a second, if they are not too many.
 */
static void run_sweep(struct decider *decider, const struct ruleset_now *now)
{
    if (now->mono_usec < decider->sweep_mono_usec ||
        (!decider->any_time && !decider->any_group_time))
        return;
    if (!decider->is_sweeping) {
        decider->is_sweeping = true;
        decider->sweep_cursor = 0;
        decider->swept_mono_usec = now->mono_usec;
        if (decider->any_group_time)
            sweep_groups(decider, now);
    }
    decider->is_sweeping = decider->any_time && sweep_devices(decider, now);
    decider->sweep_mono_usec = decider->is_sweeping ? now->mono_usec + portion_usec
                                                    : decider->swept_mono_usec + sweep_usec;
}

void decider_run(struct decider *decider, const struct ruleset_now *now)
{
    run_held(decider, now);
    run_refreshes(decider, now);
    run_stale(decider, now);
    run_sweep(decider, now);
    run_unsent(decider, now);
}

uint64_t decider_next_mono_usec(const struct decider *decider)
{
    uint64_t next_mono_usec = agenda_next_mono_usec(decider->held);
    uint64_t refresh_mono_usec = agenda_next_mono_usec(decider->refreshes);
    if (refresh_mono_usec < next_mono_usec)
        next_mono_usec = refresh_mono_usec;
    if (decider_waits_for_room(decider) && unsent_mono_usec(decider) < next_mono_usec)
        next_mono_usec = unsent_mono_usec(decider);
    if ((decider->any_time || decider->any_group_time) && decider->sweep_mono_usec < next_mono_usec)
        next_mono_usec = decider->sweep_mono_usec;
    const struct heap_entry *stale = heap_first(&decider->due);
    return stale && stale->key < next_mono_usec ? stale->key : next_mono_usec;
}

/* --- life ------------------------------------------------------------------------------------ */

void decider_keep(struct decider *decider, struct pages *pages)
{
    decider->pages = pages;
}

void decider_remember(struct decider *decider, struct decisions *decisions)
{
    decider->decisions = decisions;
}

void decider_reconnected(struct decider *decider)
{
    decider->epoch++;
}

void decider_begin(struct decider *decider)
{
    decider->serial++;
}

int decider_new(const struct decider_scope *scope, const struct decider_handlers *handlers,
                void *userdata, struct decider **ret_decider)
{
    _cleanup_(decider_freep) struct decider *decider = calloc(1, sizeof(*decider));
    if (!decider)
        return -ENOMEM;
    decider->handlers = handlers;
    decider->userdata = userdata;
    decider->rules = scope->rules;
    decider->fleet = scope->fleet;
    decider->groups = scope->groups;
    decider->reasons = scope->reasons;
    decider->epoch = 1;
    decider->room = SIZE_MAX;
    decider->visited = calloc(ruleset_n_rules(scope->rules) + 1, sizeof(*decider->visited));
    if (!decider->visited || agenda_new(MAX_HELD, &decider->held) < 0 ||
        agenda_new(MAX_REFRESHES, &decider->refreshes) < 0)
        return -ENOMEM;
    size_t n_device_rules = ruleset_n_device_rules(scope->rules);
    for (size_t i = 0; i < ruleset_n_rules(decider->rules); i++) {
        const struct server_rule *rule = ruleset_rule(decider->rules, i);
        decider->any_stale |= i < n_device_rules && rule->config->stale_after_usec != USEC_INFINITY;
        if (rule->uses_time)
            *(i < n_device_rules ? &decider->any_time : &decider->any_group_time) = true;
    }
    *ret_decider = TAKE_PTR(decider);
    return 0;
}

void decider_free(struct decider *decider)
{
    if (!decider)
        return;
    agenda_free(decider->held);
    agenda_free(decider->refreshes);
    heap_done(&decider->unsent);
    heap_done(&decider->due);
    free(decider->visited);
    free(decider);
}
