// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The devices that have been heard of: for each its last readings and its rules' states, in one
 * block of memory. Bounded: at FLEET_MAX_DEVICES the one unheard of for longest makes room.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/expr.h"
#include "core/rule.h"
#include "core/topic.h"
#include "util/cleanup.h"

enum { FLEET_MAX_DEVICES = 250000 };

struct fleet;

/* One rule for one device. */
struct fleet_rule {
    struct rule_state state;
    uint32_t sent_epoch; // the server's epoch when its command was last sent; 0: never
    bool applies;        // the device is one of the rule's
    bool unknown_logged;
    bool is_held; // a change waits for its time
};

struct fleet_device {
    struct fleet_device *next; // in its bucket
    struct fleet_device *newer, *older;
    uint64_t hash;
    struct expr_reading *readings; // n_slots
    struct fleet_rule *rules;      // n_rules
    char *group;                   // as its topic says; NULL
    uint8_t n_unheard;             // commands in a row that nobody was there for
    bool online;                   // as its last status message says
    char id[];
};

/* n_slots readings and n_rules rules a device. 0 or -ENOMEM. */
int fleet_new(size_t n_slots, size_t n_rules, struct fleet **ret_fleet);
void fleet_free(struct fleet *fleet);
DEFINE_CLEANUP(struct fleet *, fleet_free)

size_t fleet_count(const struct fleet *fleet);

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

/* Calls visit for every device. */
void fleet_each(struct fleet *fleet, void (*visit)(struct fleet_device *device, void *userdata),
                void *userdata);
