// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The groups that devices belong to, and what the devices of each say together: a tally for every
 * aggregate that some rule asks for, kept up to date reading by reading. No call looks at every
 * device of a group. Bounded: GROUPS_MAX groups; a device of yet another one is of none.
 */
#pragma once

#include "config/config.h"
#include "server/fleet.h"
#include "server/ruleset.h"
#include "util/cleanup.h"

enum { GROUPS_MAX = 10000 };

/* The group of a device that is of no other. */
extern const char groups_default[];

struct groups;

/* rules is borrowed, config referenced. */
int groups_new(struct config *config, const struct ruleset *rules, struct groups **ret_groups);
void groups_free(struct groups *groups);
DEFINE_CLEANUP(struct groups *, groups_free)

/* The group with that hash, or NULL. */
struct group *groups_find_hash(const struct groups *groups, uint64_t hash);
struct group *groups_find(const struct groups *groups, const char *name);

/*
 * Puts device into the group that its topic names (bytes NULL: none), else into that of the
 * configuration, else into `default`. What it says moves with it. -EDQUOT: there are too many
 * groups; -ENOMEM. It is then in none. 1 if it has changed its group, else 0.
 */
int groups_join(struct groups *groups, struct fleet_device *device, struct topic_slice name,
                const struct ruleset_now *now);

/* Takes device out of its group, which is freed if it was the last one. */
void groups_leave(struct groups *groups, struct fleet_device *device);

/* Takes in what device says to an aggregate, after a change of its readings. */
void groups_update(struct groups *groups, struct fleet_device *device, size_t aggregate,
                   const struct ruleset_now *now);

/* device, being offline, says nothing until its next reading. Returns whether it said something. */
bool groups_drop(struct groups *groups, struct fleet_device *device);

/* When groups_expire() should be called next; USEC_INFINITY: never. */
uint64_t groups_next_mono_usec(const struct groups *groups);

/*
 * Takes the next device out of an aggregate whose reading has gone stale by now. false: there is
 * none.
 */
bool groups_expire(struct groups *groups, const struct ruleset_now *now,
                   struct fleet_device **ret_device, size_t *ret_aggregate);

/* As fleet_next(): some groups, one after the other by their `next`. */
struct group *groups_next(const struct groups *groups, size_t *cursor);
