// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The devices that have been heard of: for each its last readings and its rules' states, in one
 * block of memory (series apart). Bounded by FLEET_MAX_DEVICES.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

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
    bool is_unsent : 1;     // its command could not be sent, and waits for room
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
    TAILQ_ENTRY(fleet_device) age;
    uint64_t hash;
    struct expr_reading *readings; // n_slots
    bool *late;                    // n_slots: the reading came long after its time
    struct fleet_rule *rules;      // n_rules
    struct fleet_share *shares;    // n_shares
    struct series **series;        // n_series, each NULL until it is needed
    struct group *group;           // NULL: none
    struct fleet_device *next_member, *previous_member; // of the group
    struct heap_entry due;    // when one of its readings may have gone stale for a rule
    struct heap_entry unsent; // its rules have commands that could not be sent, until room is made
    struct page *page;        // that it is kept on (server/pages.h); NULL: none yet
    uint64_t heard_mono_usec;
    uint64_t online_mono_usec; // when it came online; 0: not since it is known
    uint8_t n_unheard;         // commands in a row that nobody was there for
    bool online;               // as its last status message says
    bool silence_logged;       // since its last reading
    bool is_behind;            // its readings come late, as has been logged
    bool missed_group;         // it may have missed its group's commands
    bool is_group_named;       // its topic names the group, not the configuration
    char id[];
};

/* What its devices say together (server/groups.h). */
struct group {
    struct group *next; // in its bucket
    uint64_t hash;
    struct fleet_rule *rules;   // those with scope = group
    struct tally *tallies;      // by aggregate
    struct fleet_device *first; // of its devices
    size_t n_devices;
    bool is_ours;      // this server decides for it
    uint8_t n_unheard; // commands in a row that nobody was there for
    char name[];
};

/* 0 or -ENOMEM. */
int fleet_new(const struct fleet_shape *shape, struct fleet **ret_fleet);
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
 * -ENOBUFS: it is a new one, and there are FLEET_MAX_DEVICES; -ENOMEM.
 */
int fleet_hear(struct fleet *fleet, struct topic_slice id, struct fleet_device **ret_device,
               bool *ret_new);

/*
 * Some devices, one after the other by their `next`, and moves *cursor, at first 0, on; NULL: there
 * are no more. From 0 until then each device that was there all the time comes once or, if the
 * table grew meanwhile, twice.
 */
struct fleet_device *fleet_next(const struct fleet *fleet, size_t *cursor);

/* The device heard of longest ago, or NULL; and frees it. */
struct fleet_device *fleet_oldest(const struct fleet *fleet);
void fleet_forget_oldest(struct fleet *fleet);

/* Brings the devices into the order of their heard_mono_usec; without memory they stay. */
void fleet_sort(struct fleet *fleet);
