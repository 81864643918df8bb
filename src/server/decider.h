// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The rules at work: evaluates them for a device or a group, hands out the commands that follow,
 * and does later what is to be done later: a change that is held back, a command that is to be sent
 * again, one for which there was no room.
 *
 *     decider_begin() for each message or moment, then decider_evaluate_once() and its kind;
 *     decider_run() when decider_next_mono_usec() says so.
 */
#pragma once

#include "server/decisions.h"
#include "server/fleet.h"
#include "server/groups.h"
#include "server/pages.h"
#include "server/reasons.h"
#include "server/ruleset.h"
#include "util/cleanup.h"

struct decider;

struct decider_handlers {
    // Sends a rule's command to target. 0; 1: it will reach it, also when the connection breaks;
    // -ENOBUFS: there is no room, or -EDQUOT: not for that device: it is handed out again when
    // there is (decider_make_room()); else -errno: with the next reading.
    int (*send)(void *userdata, const struct ruleset_target *target, const struct server_rule *rule,
                const struct command *command);
};

/* What it decides about; all are borrowed. */
struct decider_scope {
    struct ruleset *rules;
    struct fleet *fleet;
    struct groups *groups;
    struct reasons *reasons;
};

/* 0 or -ENOMEM. */
int decider_new(const struct decider_scope *scope, const struct decider_handlers *handlers,
                void *userdata, struct decider **ret_decider);
void decider_free(struct decider *decider);
DEFINE_CLEANUP(struct decider *, decider_free)

/* What it decides is noted there, from now on; borrowed. */
void decider_keep(struct decider *decider, struct pages *pages);

/*
 * There is kept what rules with delivery = ordered decide once their command, if there is one, has
 * been sent, and was decided in an earlier run is not carried out anew. Borrowed.
 */
void decider_remember(struct decider *decider, struct decisions *decisions);

/* What was sent before may be lost: every command is sent again with the next reading. */
void decider_reconnected(struct decider *decider);

/* Another piece of work: each rule is evaluated once for it. */
void decider_begin(struct decider *decider);

/*
 * Evaluates the i-th rule, once in this piece of work, and sends what follows; has_reading: a
 * reading of it has just come.
 */
void decider_evaluate_once(struct decider *decider, const struct ruleset_target *target, size_t i,
                           const struct ruleset_now *now, bool has_reading);

/* The rules that ask for an aggregate, each once; or for any, as another piece of work. */
void decider_evaluate_aggregate(struct decider *decider, struct group *group, size_t aggregate,
                                const struct ruleset_now *now, bool has_reading);
void decider_evaluate_group(struct decider *decider, struct group *group,
                            const struct ruleset_now *now);

/* device is new: what ordered rules have decided for it in an earlier run. */
void decider_recall(const struct decider *decider, struct fleet_device *device);

/* What rules have sent to device may be lost: it is sent again with its next reading. */
void decider_forget_sent(const struct decider *decider, struct fleet_device *device);

/* device, which came online, is sent what its group was sent before. */
void decider_catch_up(struct decider *decider, struct fleet_device *device,
                      const struct ruleset_now *now);

/* The i-th rule of device has been seen to have that outcome, as engine_observe() says. */
void decider_observe(struct decider *decider, struct fleet_device *device, size_t i,
                     enum rule_outcome outcome, bool is_foreign, const struct ruleset_now *now);

/* Sees to it that the next reading of device that goes stale is noticed. */
void decider_watch(struct decider *decider, struct fleet_device *device, uint64_t now_mono_usec);

/* device is about to be forgotten. */
void decider_drop(struct decider *decider, struct fleet_device *device);

/* From now on n of those commands that wait for room may be sent, in decider_run(). */
void decider_make_room(struct decider *decider, size_t n);
bool decider_waits_for_room(const struct decider *decider);

/* Does what is due; when to call it next. */
void decider_run(struct decider *decider, const struct ruleset_now *now);
uint64_t decider_next_mono_usec(const struct decider *decider);
