// SPDX-License-Identifier: LGPL-2.1-or-later
// How the server's commands reach their devices. Owns the issuer and what ordered rules have
// decided, with their records.
#include "server/dispatch.h"

#include <assert.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "server/decisions.h"
#include "server/post.h"
#include "server/standing.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"

static const struct ratelimit story_limit = { .interval_usec = USEC_PER_SEC, .burst = 20 };

struct dispatch {
    struct post post;
    struct issuer *issuer;
    struct decisions *decisions;
    sd_event_source *timer;
    uint64_t timer_mono_usec; // when it fires
};

static struct ruleset_now now(void)
{
    return (struct ruleset_now){ clock_mono_usec(), clock_wall_usec() };
}

void dispatch_arm(struct dispatch *dispatch)
{
    uint64_t next_mono_usec = issuer_next_mono_usec(dispatch->issuer);
    if (next_mono_usec >= dispatch->timer_mono_usec)
        return;
    dispatch->timer_mono_usec = next_mono_usec;
    sd_event_source_set_time(dispatch->timer, next_mono_usec);
    sd_event_source_set_enabled(dispatch->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct dispatch *dispatch = userdata;
    const struct ruleset_now at = now();
    dispatch->timer_mono_usec = USEC_INFINITY;
    issuer_run(dispatch->issuer, &at);
    dispatch_arm(dispatch);
    return 0;
}

/* --- the engine's handlers ------------------------------------------------------------------- */

/* The ids of a group's devices, a new vector whose strings are the fleet's. */
static const char **members(const struct group *group, size_t *ret_n)
{
    size_t n = 0;
    const char **ids = calloc(group->n_devices + 1, sizeof(char *));
    for (const struct fleet_device *device = group->first; ids && device;
         device = device->next_member)
        ids[n++] = device->id;
    *ret_n = n;
    return ids;
}

/* Whether all that will get it know what an envelope is. */
static bool is_understood(const struct dispatch *dispatch, const struct ruleset_target *target)
{
    const struct fleet_device *device = target->device;
    if (device)
        return issuer_knows(dispatch->issuer, device->id);
    for (device = target->group->first; device; device = device->next_member) {
        if (!issuer_knows(dispatch->issuer, device->id))
            return false;
    }
    return true;
}

static int issue(struct dispatch *dispatch, const struct ruleset_target *target,
                 const struct letter_order *order)
{
    const struct ruleset_now at = now();
    if (target->device) {
        int r = issuer_issue(dispatch->issuer, order, &at);
        dispatch_arm(dispatch);
        return r < 0 ? r : 1;
    }
    size_t n;
    _cleanup_(freep) const char **ids = members(target->group, &n);
    int r = ids ? issuer_issue_group(dispatch->issuer, order, ids, n, &at) : -ENOMEM;
    dispatch_arm(dispatch);
    return r < 0 ? r : 1; // it is on its way
}

/* What a plain command sets is not open any more; most often nothing is. */
static void overrule(struct dispatch *dispatch, const struct letter_order *order)
{
    if (issuer_is_idle(dispatch->issuer))
        return;
    const struct ruleset_now at = now();
    issuer_overrule(dispatch->issuer, order, &at);
    dispatch_arm(dispatch);
}

static int on_command(void *userdata, const struct ruleset_target *target,
                      const struct server_rule *rule, const struct command *command)
{
    struct dispatch *dispatch = userdata;
    assert(target->device || target->group);
    const struct rule_config *config = rule->config;
    const struct group *group = target->device ? target->device->group : target->group;
    const struct letter_order order = {
        .device = target->device ? target->device->id : NULL,
        .group = group ? group->name : NULL,
        .rule = rule->section->name,
        .command = command,
        .is_ordered = config->delivery == DELIVERY_ORDERED,
        .qos = (int)config->qos,
        .expires_usec = config->expires_usec,
        .lease_usec = config->lease_usec,
        .has_seq = clock_is_right(),
    };
    if (config->delivery == DELIVERY_LATEST || order.is_ordered ||
        (config->delivery == DELIVERY_AUTO && is_understood(dispatch, target)))
        return issue(dispatch, target, &order);
    int r = post_publish(&dispatch->post, order.device, order.group, order.rule, NULL,
                         command->json, order.qos, engine_tag(target));
    if (r == 0)
        overrule(dispatch, &order);
    return r;
}

size_t dispatch_room(const struct dispatch *dispatch)
{
    size_t issued = issuer_room(dispatch->issuer), published = post_room(&dispatch->post);
    if (!uplink_is_connected(dispatch->post.uplink))
        return 0;
    return issued < published ? issued : published;
}

const struct decider_handlers dispatch_handlers = { .send = on_command };

struct decisions *dispatch_decisions(const struct dispatch *dispatch)
{
    return dispatch->decisions;
}

struct issuer *dispatch_issuer(const struct dispatch *dispatch)
{
    return dispatch->issuer;
}

/* --- what is told of them -------------------------------------------------------------------- */

size_t dispatch_n_open(const struct dispatch *dispatch)
{
    struct issuer_counts counts;
    issuer_count(dispatch->issuer, &counts);
    return counts.n_open + counts.n_outstanding;
}

void dispatch_add_status(const struct dispatch *dispatch, struct json_object *status)
{
    struct issuer_counts counts;
    struct json_object *object = json_object_new_object();
    issuer_count(dispatch->issuer, &counts);
    json_object_object_add(object, "open", json_object_new_uint64(counts.n_open));
    json_object_object_add(object, "outstanding", json_object_new_uint64(counts.n_outstanding));
    for (int end = 0; end < LETTER_ENDS; end++)
        json_object_object_add(object, letter_end_names[end],
                               json_object_new_uint64(counts.ended[end]));
    json_object_object_add(object, "refused", json_object_new_uint64(counts.refused));
    json_object_object_add(status, "commands", object);
}

/* --- life ------------------------------------------------------------------------------------ */

static void recall_issued(void *userdata, const char *key, const char *value)
{
    struct dispatch *dispatch = userdata;
    const struct ruleset_now at = now();
    issuer_recall(dispatch->issuer, key, value, &at);
}

static void recall_decision(void *userdata, const char *key, const char *value)
{
    struct dispatch *dispatch = userdata;
    decisions_recall(dispatch->decisions, key, value);
}

int dispatch_new(sd_event *event, struct dispatch **ret_dispatch)
{
    sd_id128_t seed;
    _cleanup_(dispatch_freep) struct dispatch *dispatch = calloc(1, sizeof(*dispatch));
    if (!dispatch)
        return -ENOMEM;
    dispatch->post.story = story_limit;
    dispatch->timer_mono_usec = USEC_INFINITY;
    int r = sd_id128_randomize(&seed);
    if (r >= 0)
        r = issuer_new(seed.qwords[0], &dispatch->post, &dispatch->issuer);
    if (r >= 0)
        r = decisions_new(&dispatch->decisions);
    if (r >= 0)
        r = sd_event_add_time(event, &dispatch->timer, CLOCK_BOOTTIME, USEC_INFINITY, 1, on_timer,
                              dispatch);
    if (r < 0)
        return r;
    *ret_dispatch = TAKE_PTR(dispatch);
    return 0;
}

void dispatch_free(struct dispatch *dispatch)
{
    if (!dispatch)
        return;
    sd_event_source_disable_unref(dispatch->timer);
    issuer_free(dispatch->issuer);
    decisions_free(dispatch->decisions);
    free(dispatch);
}

void dispatch_configure(struct dispatch *dispatch, struct uplink *uplink,
                        const struct intake *intake)
{
    dispatch->post.uplink = uplink;
    dispatch->post.intake = intake;
    decisions_keep(dispatch->decisions, uplink_outbox(uplink));
    dispatch_arm(dispatch);
}

void dispatch_load(struct dispatch *dispatch, struct spool *spool)
{
    struct issuer_counts counts;
    const struct ruleset_now at = now();
    struct why why = { "" };
    int r = spool_records(spool, post_space, recall_issued, dispatch, &why);
    if (r >= 0)
        r = spool_records(spool, decisions_space, recall_decision, dispatch, &why);
    if (r < 0)
        log_warning(NULL, "commands that an earlier run has left open are not known: %s", why.text);
    issuer_recalled(dispatch->issuer, &at);
    issuer_count(dispatch->issuer, &counts);
    if (counts.n_open + counts.n_outstanding > 0)
        log_notice(NULL, "%zu commands of an earlier run wait for their reply",
                   counts.n_open + counts.n_outstanding);
    dispatch_arm(dispatch);
}

/* --- other rules ----------------------------------------------------------------------------- */

void dispatch_review(struct dispatch *dispatch, const struct config *config,
                     const struct intake *intake)
{
    struct issuer_cursor cursor = { 0 };
    const struct letter *letter;
    const char *device;
    char example[256] = ""; // the first that does not hold
    size_t n = 0;
    const struct ruleset_now at = now();
    while (issuer_next(dispatch->issuer, &cursor, &letter, &device)) {
        if (standing_holds(config, intake_has_group(intake), letter, device))
            continue;
        if (!example[0])
            snprintf(example, sizeof(example), "%s of rule %s to %s%s", letter->command->json,
                     letter->rule, device ? "" : "group ", device ? device : letter->group);
        if (letter->is_ordered) // should the rule come back, it decides anew
            decisions_forget(dispatch->decisions, letter->rule, device);
        n += issuer_give_up(dispatch->issuer, &cursor, &at);
    }
    if (n > 0)
        log_notice(NULL,
                   "%zu commands that wait for their reply are given up, since no rule says so any "
                   "more: %s%s",
                   n, example, n > 1 ? ", and others" : "");
    dispatch_arm(dispatch);
}
