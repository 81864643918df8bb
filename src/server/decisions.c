// SPDX-License-Identifier: LGPL-2.1-or-later
// A hash table of texts, as they are on disk: "RULE/DEVICE" and "then {...}" or "else {...}".
#include "server/decisions.h"

#include <string.h>

#include "server/fleet.h"

enum { BUCKETS = 1 << 14 };

struct decision {
    struct decision *next;
    char *value;
    char key[];
};

struct decisions {
    decisions_save_fn save;
    void *userdata;
    size_t n, cursor;
    struct decision *buckets[BUCKETS];
};

static struct decision **place_of(struct decisions *decisions, const char *key)
{
    const struct topic_slice slice = { key, strlen(key) };
    struct decision **place = &decisions->buckets[fleet_hash(slice) % BUCKETS];
    while (*place && strcmp((*place)->key, key) != 0)
        place = &(*place)->next;
    return place;
}

static void forget(struct decisions *decisions, struct decision **place)
{
    struct decision *decision = *place;
    *place = decision->next;
    decisions->save(decisions->userdata, decision->key, NULL);
    decisions->n--;
    free(decision->value);
    free(decision);
}

/* Whichever: a rule that is gone, or a device, leaves its outcomes behind. */
static void forget_one(struct decisions *decisions)
{
    while (!decisions->buckets[decisions->cursor % BUCKETS])
        decisions->cursor++;
    forget(decisions, &decisions->buckets[decisions->cursor++ % BUCKETS]);
}

/* 0; 1: it was so already; -ENOMEM. */
static int set(struct decisions *decisions, const char *key, const char *value)
{
    struct decision **place = place_of(decisions, key), *decision = *place;
    if (decision && strcmp(decision->value, value) == 0)
        return 1;
    if (!decision && decisions->n >= DECISIONS_MAX) {
        forget_one(decisions);
        place = place_of(decisions, key);
    }
    _cleanup_(freep) char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    if (!decision) {
        decision = calloc(1, sizeof(*decision) + strlen(key) + 1);
        if (!decision)
            return -ENOMEM;
        memcpy(decision->key, key, strlen(key) + 1);
        *place = decision;
        decisions->n++;
    }
    free(decision->value);
    decision->value = TAKE_PTR(copy);
    return 0;
}

/* As on disk, a new string; NULL without memory. A rule that says something else decides anew. */
static char *format_value(const struct config_section *rule, enum rule_outcome outcome)
{
    const struct rule_config *config = config_rule(rule);
    const struct command *command =
        outcome == RULE_THEN ? config->then_command : config->else_command;
    char *text;
    if (asprintf(&text, "%s %s", outcome == RULE_THEN ? "then" : "else",
                 command ? command->json : "") < 0)
        return NULL;
    return text;
}

static char *format_key(const char *rule, const char *device)
{
    char *text;
    return asprintf(&text, "%s/%s", rule, device) < 0 ? NULL : text;
}

void decisions_recall(struct decisions *decisions, const char *key, const char *value)
{
    if (!strchr(key, '/') || set(decisions, key, value) < 0)
        decisions->save(decisions->userdata, key, NULL);
}

enum rule_outcome decisions_find(const struct decisions *decisions,
                                 const struct config_section *rule, const char *device)
{
    _cleanup_(freep) char *key = format_key(rule->name, device);
    const struct decision *decision = key ? *place_of((struct decisions *)decisions, key) : NULL;
    for (int outcome = RULE_THEN; decision && outcome <= RULE_ELSE; outcome++) {
        _cleanup_(freep) char *value = format_value(rule, (enum rule_outcome)outcome);
        if (value && strcmp(value, decision->value) == 0)
            return (enum rule_outcome)outcome;
    }
    return RULE_UNDECIDED;
}

void decisions_put(struct decisions *decisions, const struct config_section *rule,
                   const char *device, enum rule_outcome outcome)
{
    _cleanup_(freep) char *key = format_key(rule->name, device);
    _cleanup_(freep) char *value = format_value(rule, outcome);
    if (key && value && set(decisions, key, value) == 0)
        decisions->save(decisions->userdata, key, value);
}

void decisions_forget(struct decisions *decisions, const char *rule, const char *device)
{
    _cleanup_(freep) char *key = format_key(rule, device);
    struct decision **place = key ? place_of(decisions, key) : NULL;
    if (place && *place)
        forget(decisions, place);
}

int decisions_new(decisions_save_fn save, void *userdata, struct decisions **ret_decisions)
{
    struct decisions *decisions = calloc(1, sizeof(*decisions));
    if (!decisions)
        return -ENOMEM;
    decisions->save = save;
    decisions->userdata = userdata;
    *ret_decisions = decisions;
    return 0;
}

void decisions_free(struct decisions *decisions)
{
    for (size_t i = 0; decisions && i < BUCKETS; i++) {
        while (decisions->buckets[i]) {
            struct decision *decision = decisions->buckets[i];
            decisions->buckets[i] = decision->next;
            free(decision->value);
            free(decision);
        }
    }
    free(decisions);
}
