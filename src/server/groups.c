// SPDX-License-Identifier: LGPL-2.1-or-later
// The groups and their tallies; see groups.h. Reads no clock and does no I/O.
#include "server/groups.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "util/clock.h"
#include "util/hash.h"
#include "util/strings.h"

enum { N_BUCKETS = 4096, MAX_NAME = 64 };

struct groups {
    struct config *config;
    const struct ruleset *rules;
    size_t n_groups;
    struct heap due; // of shares, by when their readings may have gone stale
    struct group *buckets[N_BUCKETS];
};

const char groups_default[] = "default";

/* Never 0, since it serves as the tag of a command. */
static uint64_t hash_of(const char *name)
{
    return hash_text(name) | 1;
}

int groups_new(struct config *config, const struct ruleset *rules, struct groups **ret_groups)
{
    struct groups *groups = calloc(1, sizeof(*groups));
    if (!groups)
        return -ENOMEM;
    groups->config = config_ref(config);
    groups->rules = rules;
    *ret_groups = groups;
    return 0;
}

static void free_group(struct group *group)
{
    free(group->rules);
    free(group->tallies);
    free(group);
}

void groups_free(struct groups *groups)
{
    if (!groups)
        return;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        for (struct group *group = groups->buckets[i]; group;) {
            struct group *next = group->next;
            free_group(group);
            group = next;
        }
    }
    heap_done(&groups->due);
    config_unref(groups->config);
    free(groups);
}

struct group *groups_find_hash(const struct groups *groups, uint64_t hash)
{
    struct group *group = groups->buckets[hash % N_BUCKETS];
    while (group && group->hash != hash)
        group = group->next;
    return group;
}

struct group *groups_find(const struct groups *groups, const char *name)
{
    struct group *group = groups->buckets[hash_of(name) % N_BUCKETS];
    while (group && strcmp(group->name, name) != 0)
        group = group->next;
    return group;
}

static int new_group(struct groups *groups, const char *name, struct group **ret_group)
{
    const struct ruleset *rules = groups->rules;
    size_t n_rules = ruleset_n_rules(rules) - ruleset_n_device_rules(rules);
    size_t n_tallies = ruleset_n_aggregates(rules);
    if (groups->n_groups >= GROUPS_MAX)
        return -EDQUOT;
    struct group *group = calloc(1, sizeof(*group) + strlen(name) + 1);
    if (!group)
        return -ENOMEM;
    group->rules = calloc(n_rules + 1, sizeof(*group->rules));
    group->tallies = calloc(n_tallies + 1, sizeof(*group->tallies));
    if (!group->rules || !group->tallies) {
        free_group(group);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n_rules; i++)
        group->rules[i].applies = true;
    for (size_t i = 0; i < n_tallies; i++)
        group->tallies[i].of_conditions =
            expr_type(ruleset_aggregate(rules, i)->argument) == EXPR_CONDITION;
    memcpy(group->name, name, strlen(name) + 1);
    group->is_ours = strings_match_any(groups->config->server->groups, name);
    group->hash = hash_of(name);
    group->next = groups->buckets[group->hash % N_BUCKETS];
    groups->buckets[group->hash % N_BUCKETS] = group;
    groups->n_groups++;
    *ret_group = group;
    return 0;
}

static void drop_group(struct groups *groups, struct group *group)
{
    struct group **at = &groups->buckets[group->hash % N_BUCKETS];
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    groups->n_groups--;
    free_group(group);
}

static const char *configured_group(const struct groups *groups, const char *id)
{
    const struct config_section *section;
    for (size_t i = 0; (section = config_nth(groups->config, "group", i)); i++) {
        if (strings_match_any(config_group(section)->devices, id))
            return section->name;
    }
    return groups_default;
}

int groups_join(struct groups *groups, struct fleet_device *device, struct topic_slice name,
                const struct ruleset_now *now)
{
    char text[MAX_NAME + 1];
    const struct group *present = device->group;
    bool is_named = name.bytes && topic_valid_value(name.bytes, name.length);
    device->is_group_named |= is_named;
    if (present && (!is_named || (strncmp(present->name, name.bytes, name.length) == 0 &&
                                  present->name[name.length] == '\0')))
        return 0;
    snprintf(text, sizeof(text), "%.*s", is_named ? (int)name.length : MAX_NAME,
             is_named ? name.bytes : configured_group(groups, device->id));
    groups_leave(groups, device);
    struct group *group = groups_find(groups, text);
    int r = group ? 0 : new_group(groups, text, &group);
    if (r < 0)
        return r;
    device->group = group;
    device->next_member = group->first;
    if (group->first)
        group->first->previous_member = device;
    group->first = device;
    group->n_devices++;
    for (size_t i = 0; i < ruleset_n_aggregates(groups->rules); i++)
        groups_update(groups, device, i, now);
    return 1;
}

static void say_nothing(struct groups *groups, struct fleet_device *device, size_t aggregate)
{
    struct fleet_share *share = &device->shares[aggregate];
    tally_put(&device->group->tallies[aggregate], &share->entry, NAN);
    heap_remove(&groups->due, &share->due);
}

bool groups_drop(struct groups *groups, struct fleet_device *device)
{
    bool said_something = false;
    for (size_t i = 0; device->group && i < ruleset_n_aggregates(groups->rules); i++) {
        said_something |= device->shares[i].entry.counted;
        say_nothing(groups, device, i);
    }
    return said_something;
}

void groups_leave(struct groups *groups, struct fleet_device *device)
{
    struct group *group = device->group;
    if (!group)
        return;
    groups_drop(groups, device);
    *(device->previous_member ? &device->previous_member->next_member : &group->first) =
        device->next_member;
    if (device->next_member)
        device->next_member->previous_member = device->previous_member;
    device->next_member = device->previous_member = NULL;
    device->group = NULL;
    if (--group->n_devices == 0)
        drop_group(groups, group);
}

/* When the oldest of the readings that aggregate needs was taken; 0: one is missing. */
static uint64_t oldest_reading(const struct server_aggregate *aggregate,
                               const struct fleet_device *device)
{
    uint64_t oldest_mono_usec = USEC_INFINITY;
    for (size_t i = 0; i < aggregate->n_slots; i++) {
        uint64_t mono_usec = device->readings[aggregate->slots[i]].mono_usec;
        if (mono_usec < oldest_mono_usec)
            oldest_mono_usec = mono_usec;
    }
    return oldest_mono_usec;
}

void groups_update(struct groups *groups, struct fleet_device *device, size_t aggregate,
                   const struct ruleset_now *now)
{
    const struct server_aggregate *of = ruleset_aggregate(groups->rules, aggregate);
    struct fleet_share *share = &device->shares[aggregate];
    struct group *group = device->group;
    if (!group || !group->is_ours || !share->applies)
        return;
    uint64_t stale_after_usec = of->rule->stale_after_usec;
    uint64_t stale_mono_usec = USEC_INFINITY, oldest_mono_usec = oldest_reading(of, device);
    if (stale_after_usec != USEC_INFINITY)
        stale_mono_usec = oldest_mono_usec + stale_after_usec + 1;
    const struct expr_context context = {
        .readings = device->readings,
        .now_mono_usec = now->mono_usec,
        .now_wall_usec = now->wall_usec,
        .stale_after_usec = stale_after_usec,
        .late = device->late,
        .series = (const struct series *const *)device->series,
    };
    double value = NAN;
    if (oldest_mono_usec > 0 && now->mono_usec < stale_mono_usec)
        value = expr_value(of->argument, &context);
    // What cannot be watched going stale is better left out. It is looked at again when its time
    // has come, not moved with each reading.
    if (!isnan(value) && stale_mono_usec != USEC_INFINITY && share->due.place == 0 &&
        heap_put(&groups->due, &share->due, stale_mono_usec) < 0)
        value = NAN;
    tally_put(&group->tallies[aggregate], &share->entry, value);
}

uint64_t groups_next_mono_usec(const struct groups *groups)
{
    const struct heap_entry *first = heap_first(&groups->due);
    return first ? first->key : USEC_INFINITY;
}

bool groups_expire(struct groups *groups, const struct ruleset_now *now,
                   struct fleet_device **ret_device, size_t *ret_aggregate)
{
    struct heap_entry *first;
    while ((first = heap_first(&groups->due)) && first->key <= now->mono_usec) {
        struct fleet_share *share =
            (struct fleet_share *)((char *)first - offsetof(struct fleet_share, due));
        struct fleet_device *device = share->device;
        size_t aggregate = (size_t)(share - device->shares);
        bool was_counted = share->entry.counted;
        heap_remove(&groups->due, first);
        groups_update(groups, device, aggregate, now);
        if (was_counted && !share->entry.counted) {
            *ret_device = device;
            *ret_aggregate = aggregate;
            return true;
        }
    }
    return false;
}

struct group *groups_next(const struct groups *groups, size_t *cursor)
{
    struct group *first = NULL;
    while (!first && *cursor < N_BUCKETS)
        first = groups->buckets[(*cursor)++];
    return first;
}
