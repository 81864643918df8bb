// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The devices that have been heard of: for each its last readings and its rules' states, in one
 * block of memory (series apart). Bounded: at FLEET_MAX_DEVICES the one unheard of for longest
 * makes room.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/expr.h"
#include "core/rule.h"
#include "core/series.h"
#include "core/tally.h"
#include "core/topic.h"
#include "util/cleanup.h"
#include "util/heap.h"

enum { FLEET_MAX_DEVICES = 250000 };
#define FLEET_ASSURED UINT32_MAX

struct fleet;
struct group;
struct fleet_device;

/* What each device has room for. */
struct fleet_shape {
    size_t n_slots, n_rules, n_shares, n_series;
};

/* One rule for one device, or one group. */
struct fleet_rule {
    struct rule_state state;
    // The server's epoch when its command was last sent; 0: it is to be sent; FLEET_ASSURED: it
    // will reach the device, whatever becomes of the connection.
    uint32_t sent_epoch;
    bool applies : 1; // the device is one of the rule's
    bool unknown_logged : 1;
    bool is_held : 1;       // a change waits for its time
    bool is_refreshing : 1; // its command is to be sent again
    // Where several servers share a fleet:
    bool is_mine : 1;      // this one has sent its command last
    bool is_elsewhere : 1; // another has a newer reading, since it has decided otherwise
    bool was_renewed : 1;  // another has sent its command since is_refreshing was set
};

/* What a device says in its group to the argument of an aggregate. */
struct fleet_share {
    struct tally_entry entry;
    struct heap_entry due; // when it may have gone stale
    struct fleet_device *device;
    bool applies; // the device is one of the rule's
};

struct fleet_device {
    struct fleet_device *next; // in its bucket
    struct fleet_device *newer, *older;
    uint64_t hash;
    struct expr_reading *readings; // n_slots
    bool *late;                    // n_slots: the reading came long after its time
    struct fleet_rule *rules;      // n_rules
    struct fleet_share *shares;    // n_shares
    struct series **series;        // n_series, each NULL until it is needed
    struct group *group;           // NULL: none
    struct fleet_device *next_member, *previous_member; // of the group
    struct heap_entry due;    // when one of its readings may have gone stale for a rule
    struct heap_entry unkept; // its series have changed since they were kept
    uint64_t heard_mono_usec;
    uint64_t online_mono_usec; // when it came online; 0: not since it is known
    uint8_t n_unheard;         // commands in a row that nobody was there for
    bool online;               // as its last status message says
    bool silence_logged;       // since its last reading
    bool is_behind;            // its readings come late, as has been logged
    bool missed_group;         // it may have missed its group's commands
    char id[];
};

/* on_forget is called before a device is freed, but not by fleet_free(). 0 or -ENOMEM. */
int fleet_new(const struct fleet_shape *shape,
              void (*on_forget)(void *userdata, struct fleet_device *device), void *userdata,
              struct fleet **ret_fleet);
void fleet_free(struct fleet *fleet);
DEFINE_CLEANUP(struct fleet *, fleet_free)

size_t fleet_count(const struct fleet *fleet);

uint64_t fleet_hash(struct topic_slice id);

/* The device with that id, or NULL. */
struct fleet_device *fleet_find(struct fleet *fleet, struct topic_slice id);

/* The device with that hash; of two that share one, either. NULL if there is none. */
struct fleet_device *fleet_find_hash(struct fleet *fleet, uint64_t hash);

/*
 * The device with that id, now the one last heard of; a new one, all zeros, if need be: *ret_new.
 * Another device may have been freed for it, so pointers to devices do not outlive this call.
 * -ENOMEM.
 */
int fleet_hear(struct fleet *fleet, struct topic_slice id, struct fleet_device **ret_device,
               bool *ret_new);

/*
 * Calls visit for some of the devices, at least at_least unless there are no more, and moves
 * *cursor, at first 0, on. Returns whether there are more. From 0 until it returns false, each
 * device that was there all the time is visited once or, if the table grew meanwhile, twice.
 */
bool fleet_visit(struct fleet *fleet, size_t *cursor, size_t at_least,
                 void (*visit)(struct fleet_device *device, void *userdata), void *userdata);

/* The device heard of longest ago, or NULL; and frees it. */
struct fleet_device *fleet_oldest(const struct fleet *fleet);
void fleet_forget_oldest(struct fleet *fleet);
