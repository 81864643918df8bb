// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Why: the last decision of each rule for each device or group, with what it was made by. Bounded:
 * at REASONS_MAX the oldest makes room, but the last one of each rule stays.
 */
#pragma once

#include <sys/queue.h>

#include "server/ruleset.h"
#include "util/cleanup.h"

enum { REASONS_MAX = 20000 }; // some 100 bytes each

struct reasons;

struct reason {
    uint64_t hash;       // of the rule and the name
    struct reason *next; // in its bucket
    TAILQ_ENTRY(reason) age;
    uint64_t wall_usec;
    const char *name; // of the device or the group
    size_t rule;
    enum rule_outcome outcome;
    bool is_own;                    // else it was seen on the device's topic, and nothing was found
    struct expr_finding findings[]; // of the rule's condition for this outcome
};

/* rules is borrowed. 0 or -ENOMEM. */
int reasons_new(const struct ruleset *rules, struct reasons **ret_reasons);
void reasons_free(struct reasons *reasons);
DEFINE_CLEANUP(struct reasons *, reasons_free)

/*
 * The i-th rule has its present outcome for target since now, by what it finds there, or, unless
 * is_own, because another has said so. Without memory it is not known.
 */
void reasons_put(struct reasons *reasons, size_t i, const struct ruleset_target *target,
                 const struct ruleset_now *now, bool is_own);

/* The last one of the i-th rule for that name, or for name NULL for anybody; NULL: none. */
const struct reason *reasons_find(const struct reasons *reasons, size_t i, const char *name);
