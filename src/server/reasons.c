// SPDX-License-Identifier: LGPL-2.1-or-later
// A hash table and a list by age; see reasons.h. No clock and no I/O of its own. A rule that
// decides again for the same target takes its old place, so that a fleet at work allocates nothing.
#include "server/reasons.h"

#include <string.h>

enum { BUCKETS = 1 << 14 }; // a pointer each; what is not touched costs no memory

struct reasons {
    const struct ruleset *rules;
    struct reason **last; // by rule
    size_t n;
    TAILQ_HEAD(, reason) ages; // the oldest first
    struct reason *buckets[BUCKETS];
};

static uint64_t hash_of(size_t i, uint64_t name_hash)
{
    return name_hash ^ (i + 1) * 0x9e3779b97f4a7c15;
}

static struct reason **place_of(struct reasons *reasons, uint64_t hash, size_t i, const char *name)
{
    struct reason **place = &reasons->buckets[hash % BUCKETS];
    while (*place &&
           ((*place)->hash != hash || (*place)->rule != i || strcmp((*place)->name, name) != 0))
        place = &(*place)->next;
    return place;
}

/* The last one of each rule is spared, and then is as one of the newest. */
static void forget_oldest(struct reasons *reasons)
{
    struct reason *oldest = TAILQ_FIRST(&reasons->ages);
    for (size_t n = 0; n < ruleset_n_rules(reasons->rules) && reasons->last[oldest->rule] == oldest;
         n++) {
        TAILQ_REMOVE(&reasons->ages, oldest, age);
        TAILQ_INSERT_TAIL(&reasons->ages, oldest, age);
        oldest = TAILQ_FIRST(&reasons->ages);
    }
    TAILQ_REMOVE(&reasons->ages, oldest, age);
    *place_of(reasons, oldest->hash, oldest->rule, oldest->name) = oldest->next;
    if (reasons->last[oldest->rule] == oldest)
        reasons->last[oldest->rule] = NULL;
    free(oldest);
    reasons->n--;
}

/* With room for what either outcome is made by. */
static struct reason *make(const struct reasons *reasons, uint64_t hash, size_t i, const char *name)
{
    size_t n = expr_n_findings(ruleset_condition(reasons->rules, i, RULE_THEN));
    size_t n_else = expr_n_findings(ruleset_condition(reasons->rules, i, RULE_ELSE));
    if (n < n_else)
        n = n_else;
    size_t name_size = strlen(name) + 1;
    struct reason *reason =
        calloc(1, sizeof(*reason) + n * sizeof(reason->findings[0]) + name_size);
    if (!reason)
        return NULL;
    reason->hash = hash;
    reason->rule = i;
    reason->name = memcpy(reason->findings + n, name, name_size);
    return reason;
}

void reasons_put(struct reasons *reasons, size_t i, const struct ruleset_target *target,
                 const struct ruleset_now *now, bool is_own)
{
    const char *name = ruleset_target_name(target);
    const struct topic_slice slice = { name, strlen(name) };
    uint64_t hash = hash_of(i, target->device ? target->device->hash : fleet_hash(slice));
    struct reason **place = place_of(reasons, hash, i, name), *reason = *place;
    if (reason) {
        TAILQ_REMOVE(&reasons->ages, reason, age);
    } else {
        reason = make(reasons, hash, i, name);
        if (!reason)
            return;
        *place = reason;
        reasons->n++;
    }
    TAILQ_INSERT_TAIL(&reasons->ages, reason, age);
    reason->wall_usec = now->wall_usec;
    reason->outcome = ruleset_state(reasons->rules, i, target)->state.outcome;
    reason->is_own = is_own;
    if (is_own)
        ruleset_find(reasons->rules, i, target, reason->outcome, now, reason->findings);
    reasons->last[i] = reason;
    if (reasons->n > REASONS_MAX)
        forget_oldest(reasons);
}

const struct reason *reasons_find(const struct reasons *reasons, size_t i, const char *name)
{
    if (!name)
        return reasons->last[i];
    uint64_t hash = hash_of(i, fleet_hash((struct topic_slice){ name, strlen(name) }));
    return *place_of((struct reasons *)reasons, hash, i, name);
}

int reasons_new(const struct ruleset *rules, struct reasons **ret_reasons)
{
    _cleanup_(reasons_freep) struct reasons *reasons = calloc(1, sizeof(*reasons));
    if (!reasons)
        return -ENOMEM;
    TAILQ_INIT(&reasons->ages);
    reasons->rules = rules;
    reasons->last = calloc(ruleset_n_rules(rules) + 1, sizeof(struct reason *));
    if (!reasons->last)
        return -ENOMEM;
    *ret_reasons = TAKE_PTR(reasons);
    return 0;
}

void reasons_free(struct reasons *reasons)
{
    if (!reasons)
        return;
    struct reason *oldest;
    while ((oldest = TAILQ_FIRST(&reasons->ages))) {
        TAILQ_REMOVE(&reasons->ages, oldest, age);
        free(oldest);
    }
    free(reasons->last);
    free(reasons);
}
