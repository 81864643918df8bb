// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's work without a broker and a clock; see engine.h. Owns the fleet, the groups, the
// rules, and what waits for its time; logs what devices do, never sends by itself.
#include "server/engine.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "server/decider.h"
#include "server/reasons.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"
#include "util/strings.h"

enum { MAX_UNHEARD = 5 }; // commands in a row that a target is sent again since nobody got them
enum {
    MAX_NEWCOMERS = 256,
    MAX_FORGOTTEN = 1000, // in one go
};

/* A device that came online before its first reading. */
struct newcomer {
    uint64_t hash, mono_usec;
};

struct engine {
    struct ruleset *rules;
    struct groups *groups;
    struct fleet *fleet;
    struct reasons *reasons;
    struct decider *decider;
    struct pages *pages; // what outlives a restart; NULL: nothing

    size_t n_touched, *touched; // slots that the message at work has changed
    uint64_t forget_after_usec;
    size_t next_newcomer;
    struct newcomer newcomers[MAX_NEWCOMERS]; // a ring
    struct ratelimit silences, delays, quotas;
};

static const struct ratelimit notice_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

/* --- readings -------------------------------------------------------------------------------- */

static void take_series(struct engine *engine, struct fleet_device *device, size_t slot,
                        double value, uint64_t taken_wall_usec, const struct ruleset_now *now)
{
    const struct index_list *list = &ruleset_slot_at(engine->rules, slot)->series;
    for (size_t i = 0; i < list->n; i++) {
        struct series **series = &device->series[list->at[i]];
        uint64_t span_usec = ruleset_series(engine->rules, list->at[i])->span_usec;
        if (!*series && series_new(span_usec, series) < 0)
            continue;
        series_add(*series, value, taken_wall_usec, now->wall_usec);
    }
    if (list->n > 0)
        pages_note(engine->pages, device, true, now->mono_usec);
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
            take_series(engine, device, slot, value, taken->wall_usec, now);
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
    decider_begin(engine->decider);
    for (size_t i = 0; i < engine->n_touched; i++) {
        const struct server_slot *slot = ruleset_slot_at(engine->rules, engine->touched[i]);
        for (size_t k = 0; k < slot->aggregates.n; k++)
            groups_update(engine->groups, device, slot->aggregates.at[k], now);
    }
    for (size_t i = 0; i < engine->n_touched; i++) {
        const struct server_slot *slot = ruleset_slot_at(engine->rules, engine->touched[i]);
        for (size_t k = 0; k < slot->rules.n; k++)
            decider_evaluate_once(engine->decider, &target, slot->rules.at[k], now, true);
        for (size_t k = 0; k < slot->aggregates.n; k++)
            decider_evaluate_aggregate(engine->decider, device->group, slot->aggregates.at[k], now,
                                       true);
    }
}

/* Whether a device that is new came online lately: then it may have missed something. */
static void recall(const struct engine *engine, struct fleet_device *device)
{
    for (size_t i = 0; i < MAX_NEWCOMERS; i++) {
        const struct newcomer *newcomer = &engine->newcomers[i];
        if (newcomer->mono_usec > device->online_mono_usec && newcomer->hash == device->hash)
            device->online_mono_usec = newcomer->mono_usec;
    }
    device->missed_group = device->online_mono_usec > 0;
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
        decider_evaluate_group(engine->decider, old, now);
    if (r < 0 && ratelimit_pass(&engine->quotas, now->mono_usec, NULL))
        log_warning(LOG_FIELDS({ "DEVICE", device->id }),
                    "%s is of no group: %s; no group's rule looks at it", device->id,
                    r == -EDQUOT ? "there are too many" : strerror(-r));
}

static void forget_oldest(struct engine *engine, const struct ruleset_now *now)
{
    struct fleet_device *device = fleet_oldest(engine->fleet);
    struct group *group = device->group;
    bool was_last = group && group->n_devices == 1; // then it is gone
    decider_drop(engine->decider, device);
    pages_drop(engine->pages, device, now->mono_usec);
    groups_leave(engine->groups, device);
    fleet_forget_oldest(engine->fleet);
    if (group && !was_last)
        decider_evaluate_group(engine->decider, group, now);
}

/* A device is now the last one heard of; at FLEET_MAX_DEVICES another makes room for a new one. */
static int hear(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
                struct fleet_device **ret_device, bool *ret_new)
{
    int r = fleet_hear(engine->fleet, id, ret_device, ret_new);
    if (r == -ENOBUFS) {
        forget_oldest(engine, now);
        r = fleet_hear(engine->fleet, id, ret_device, ret_new);
    }
    if (r < 0)
        return r;
    (*ret_device)->heard_mono_usec = now->mono_usec;
    if (*ret_new) {
        ruleset_welcome(engine->rules, *ret_device);
        recall(engine, *ret_device);
        decider_recall(engine->decider, *ret_device);
    }
    return 0;
}

static int make_device(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
                       struct fleet_device **ret_device)
{
    bool is_new;
    return hear(engine, id, now, ret_device, &is_new);
}

static int hear_device(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
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
    int r = hear_device(engine, id, now, &device);
    if (r < 0)
        return r;
    join_group(engine, device, group, now);
    const struct ruleset_now taken = time_taken(taken_wall_usec, now);
    take_readings(engine, device, readings, &taken, now);
    if (engine->n_touched > 0) {
        note_delay(engine, device, &taken, now);
        device->silence_logged = false;
        if (device->missed_group)
            decider_catch_up(engine->decider, device, now);
        work_on_readings(engine, device, now);
        decider_watch(engine->decider, device, now->mono_usec);
    }
    ruleset_report_idle(engine->rules, now->mono_usec);
    return 0;
}

/* --- presence -------------------------------------------------------------------------------- */

static void log_silence(struct engine *engine, struct fleet_device *device, const char *what,
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
    log_silence(engine, device, "is offline", now->mono_usec);
    decider_evaluate_group(engine->decider, device->group, now);
}

bool engine_presence(struct engine *engine, struct topic_slice id, bool online, bool is_news,
                     const struct ruleset_now *now)
{
    struct fleet_device *device = fleet_find(engine->fleet, id);
    if (!device) {
        if (online && is_news)
            engine->newcomers[engine->next_newcomer++ % MAX_NEWCOMERS] =
                (struct newcomer){ fleet_hash(id), now->mono_usec };
        return false;
    }
    bool changed = device->online != online;
    device->online = online;
    pages_note(engine->pages, device, changed, now->mono_usec);
    if (online && changed) {
        device->n_unheard = 0;
        decider_forget_sent(engine->decider, device);
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

void engine_observe(struct engine *engine, struct topic_slice id, struct json_object *command,
                    bool is_foreign, const struct ruleset_now *now)
{
    struct fleet_device *device;
    if (hear_device(engine, id, now, &device) < 0)
        return;
    for (size_t i = 0; i < ruleset_n_device_rules(engine->rules); i++) {
        const struct rule_config *rule = ruleset_rule(engine->rules, i)->config;
        bool is_then = is_said_by(rule->then_command, command);
        if (device->rules[i].applies && (is_then || is_said_by(rule->else_command, command)))
            decider_observe(engine->decider, device, i, is_then ? RULE_THEN : RULE_ELSE, is_foreign,
                            now);
    }
}

void engine_reconnected(struct engine *engine)
{
    decider_reconnected(engine->decider);
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
        decider_forget_sent(engine->decider, device);
    for (size_t i = ruleset_n_device_rules(engine->rules);
         group && i < ruleset_n_rules(engine->rules); i++)
        ruleset_state(engine->rules, i, &target)->sent_epoch = 0;
}

/* --- what is due with time alone ------------------------------------------------------------- */

static void run_silent(struct engine *engine, const struct ruleset_now *now)
{
    struct fleet_device *device;
    size_t aggregate;
    while (groups_expire(engine->groups, now, &device, &aggregate)) {
        log_silence(engine, device, "is silent", now->mono_usec);
        decider_begin(engine->decider);
        decider_evaluate_aggregate(engine->decider, device->group, aggregate, now, false);
    }
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
    for (size_t i = 0; i < MAX_FORGOTTEN && forget_mono_usec(engine) <= now->mono_usec; i++)
        forget_oldest(engine, now);
}

void engine_run(struct engine *engine, const struct ruleset_now *now)
{
    run_silent(engine, now);
    decider_run(engine->decider, now);
    run_forget(engine, now);
}

uint64_t engine_next_mono_usec(const struct engine *engine)
{
    uint64_t next_mono_usec = groups_next_mono_usec(engine->groups);
    uint64_t due_mono_usec = decider_next_mono_usec(engine->decider);
    if (forget_mono_usec(engine) < next_mono_usec)
        next_mono_usec = forget_mono_usec(engine);
    return due_mono_usec < next_mono_usec ? due_mono_usec : next_mono_usec;
}

void engine_make_room(struct engine *engine, size_t n)
{
    decider_make_room(engine->decider, n);
}

bool engine_waits_for_room(const struct engine *engine)
{
    return decider_waits_for_room(engine->decider);
}

/* --- what outlives the engine ----------------------------------------------------------------- */

int engine_keep(struct engine *engine, uint64_t max_bytes)
{
    int r = pages_new(engine->rules, max_bytes, &engine->pages);
    if (r == 0)
        decider_keep(engine->decider, engine->pages);
    return r;
}

struct pages *engine_pages(const struct engine *engine)
{
    return engine->pages;
}

/* --- over a restart -------------------------------------------------------------------------- */

static int restore_device(struct engine *engine, const struct page_text *text, size_t i,
                          char *const *patterns, const struct ruleset_now *now)
{
    const char *id, *group;
    struct fleet_device *device = NULL;
    int r = page_text_device(text, i, &id, &group);
    if (r < 0)
        return r;
    if (!strings_match_any(patterns, id))
        return -ENOENT;
    device = fleet_find(engine->fleet, (struct topic_slice){ id, strlen(id) });
    if (!device)
        r = make_device(engine, (struct topic_slice){ id, strlen(id) }, now, &device);
    if (r < 0)
        return r;
    assert(device);
    (void)groups_join(engine->groups, device,
                      (struct topic_slice){ group, group ? strlen(group) : 0 }, now);
    return pages_take(engine->pages, text, i, device, now);
}

int engine_restore(struct engine *engine, const char *key, const char *value, char *const *patterns,
                   const struct ruleset_now *now)
{
    struct page_text text;
    int r = pages_parse(engine->pages, key, value, &text), first = 0;
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_object_array_length(text.devices); i++) {
        r = restore_device(engine, &text, i, patterns, now);
        if (first == 0)
            first = r;
    }
    if (first < 0) // without those that are gone
        pages_renew(engine->pages, &text, now->mono_usec);
    json_object_put(text.object);
    return first == -ENOMEM ? first : 0;
}

void engine_restored(struct engine *engine, const struct ruleset_now *now)
{
    fleet_sort(engine->fleet);
    size_t cursor = 0;
    struct fleet_device *device;
    // Each may have been heard since that was written down.
    while ((device = fleet_next(engine->fleet, &cursor))) {
        for (; device; device = device->next) {
            uint64_t heard_mono_usec = device->heard_mono_usec + PAGES_HEARD_USEC;
            device->heard_mono_usec =
                heard_mono_usec < now->mono_usec ? heard_mono_usec : now->mono_usec;
        }
    }
}

/* The series of a name and a span; SIZE_MAX: no rule looks at it. */
static size_t find_series(const struct engine *engine, uint64_t span_usec, const char *name)
{
    size_t slot = ruleset_slot(engine->rules, name);
    for (size_t i = 0; slot != SIZE_MAX && i < ruleset_n_series(engine->rules); i++) {
        const struct server_series *series = ruleset_series(engine->rules, i);
        if (series->slot == slot && series->span_usec == span_usec)
            return i;
    }
    return SIZE_MAX;
}

int engine_restore_series(struct engine *engine, struct topic_slice id, uint64_t span_usec,
                          const char *name, const unsigned char *bytes, size_t n_bytes,
                          const struct ruleset_now *now)
{
    _cleanup_(series_freep) struct series *series = NULL;
    struct fleet_device *device = NULL;
    size_t i = find_series(engine, span_usec, name);
    if (i == SIZE_MAX)
        return -ENOENT;
    int r = series_load(span_usec, bytes, n_bytes, &series);
    if (r == 0)
        r = hear_device(engine, id, now, &device);
    if (r < 0)
        return r;
    assert(device);
    series_free(device->series[i]);
    device->series[i] = TAKE_PTR(series);
    pages_note(engine->pages, device, true, now->mono_usec);
    return 0;
}

/* --- over a reload --------------------------------------------------------------------------- */

static void inherit_device(struct engine *engine, const struct engine *old,
                           struct fleet_device *device, const struct ruleset_now *now)
{
    const struct topic_slice id = { device->id, strlen(device->id) };
    struct topic_slice group = { NULL, 0 };
    struct fleet_device *heir;
    if (make_device(engine, id, now, &heir) < 0)
        return;
    if (device->group && device->is_group_named)
        group = (struct topic_slice){ device->group->name, strlen(device->group->name) };
    (void)groups_join(engine->groups, heir, group, now);
    heir->heard_mono_usec = device->heard_mono_usec;
    heir->online = device->online;
    for (size_t i = 0; i < ruleset_n_series(old->rules); i++) {
        const struct server_series *series = ruleset_series(old->rules, i);
        size_t k =
            find_series(engine, series->span_usec, ruleset_slot_at(old->rules, series->slot)->name);
        if (k != SIZE_MAX)
            heir->series[k] = TAKE_PTR(device->series[i]);
    }
}

void engine_inherit(struct engine *engine, struct engine *old, char *const *patterns,
                    const struct ruleset_now *now)
{
    size_t cursor = 0;
    struct fleet_device *device;
    while ((device = fleet_next(old->fleet, &cursor))) {
        for (; device; device = device->next) {
            if (strings_match_any(patterns, device->id))
                inherit_device(engine, old, device, now);
        }
    }
    fleet_sort(engine->fleet);
    if (engine->pages && old->pages)
        pages_replace(engine->pages, old->pages, now->mono_usec);
}

/* --- life ------------------------------------------------------------------------------------ */

int engine_new(struct config *config, const struct decider_handlers *handlers, void *userdata,
               struct engine **ret_engine)
{
    _cleanup_(engine_freep) struct engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return -ENOMEM;
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
    const struct decider_scope scope = { engine->rules, engine->fleet, engine->groups,
                                         engine->reasons };
    r = decider_new(&scope, handlers, userdata, &engine->decider);
    if (r < 0)
        return r;
    engine->touched = calloc(shape.n_slots + 1, sizeof(*engine->touched));
    if (!engine->touched)
        return -ENOMEM;
    *ret_engine = TAKE_PTR(engine);
    return 0;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    decider_free(engine->decider);
    pages_free(engine->pages);
    fleet_free(engine->fleet);
    groups_free(engine->groups);
    reasons_free(engine->reasons);
    ruleset_free(engine->rules);
    free(engine->touched);
    free(engine);
}

void engine_remember(struct engine *engine, struct decisions *decisions)
{
    decider_remember(engine->decider, decisions);
}

size_t engine_n_devices(const struct engine *engine)
{
    return fleet_count(engine->fleet);
}

struct account_scope engine_scope(const struct engine *engine)
{
    return (struct account_scope){ engine->rules, engine->fleet, engine->groups, engine->reasons };
}
