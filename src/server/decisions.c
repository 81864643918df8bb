// SPDX-License-Identifier: LGPL-2.1-or-later
// A table of texts, as they are on disk: "RULE/DEVICE" and "then {...}" or "else {...}".
#include "server/decisions.h"

#include <string.h>

#include "util/table.h"

struct decision {
    UT_hash_handle hh;
    char *value;
    char key[];
};

struct decisions {
    struct decision *table; // the oldest first
    struct outbox *outbox;
};

const char decisions_space[] = "decided";

static struct decision *find(const struct decisions *decisions, const char *key)
{
    struct decision *decision = NULL;
    HASH_FIND_STR(decisions->table, key, decision);
    return decision;
}

static void drop(struct decisions *decisions, struct decision *decision)
{
    HASH_DEL(decisions->table, decision);
    free(decision->value);
    free(decision);
}

/* Without memory it is written, or removed, another time. */
static void save(const struct decisions *decisions, const char *key, const char *value)
{
    (void)outbox_put_record(decisions->outbox, decisions_space, key, value);
}

static void forget(struct decisions *decisions, struct decision *decision)
{
    save(decisions, decision->key, NULL);
    drop(decisions, decision);
}

static int add(struct decisions *decisions, const char *key, struct decision **ret_decision)
{
    if (HASH_COUNT(decisions->table) >= DECISIONS_MAX)
        return -ENOBUFS;
    struct decision *decision = calloc(1, sizeof(*decision) + strlen(key) + 1);
    if (!decision)
        return -ENOMEM;
    memcpy(decision->key, key, strlen(key) + 1);
    HASH_ADD_STR(decisions->table, key, decision);
    if (!decision->hh.tbl) {
        free(decision);
        return -ENOMEM;
    }
    *ret_decision = decision;
    return 0;
}

/* 1: it is news. Takes over value, which may be NULL: -ENOMEM. */
static int set(struct decisions *decisions, const char *key, char *value,
               struct decision **ret_decision)
{
    _cleanup_(freep) char *owned = value;
    struct decision *decision = find(decisions, key);
    if (!value)
        return -ENOMEM;
    if (decision && strcmp(decision->value, value) == 0)
        return 0;
    int r = decision ? 0 : add(decisions, key, &decision);
    if (r < 0)
        return r;
    free(decision->value);
    decision->value = TAKE_PTR(owned);
    *ret_decision = decision;
    return 1;
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

void decisions_keep(struct decisions *decisions, struct outbox *outbox)
{
    decisions->outbox = outbox;
}

void decisions_recall(struct decisions *decisions, const char *key, const char *value)
{
    struct decision *decision;
    int r = strchr(key, '/') ? set(decisions, key, strdup(value), &decision) : -EBADMSG;
    if (r < 0 && r != -ENOMEM)
        save(decisions, key, NULL);
}

enum rule_outcome decisions_find(const struct decisions *decisions,
                                 const struct config_section *rule, const char *device)
{
    _cleanup_(freep) char *key = format_key(rule->name, device);
    const struct decision *decision = key ? find(decisions, key) : NULL;
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
    struct decision *decision;
    if (HASH_COUNT(decisions->table) >= DECISIONS_MAX)
        forget(decisions, decisions->table);
    if (key && set(decisions, key, format_value(rule, outcome), &decision) > 0)
        save(decisions, decision->key, decision->value);
}

void decisions_forget(struct decisions *decisions, const char *rule, const char *device)
{
    _cleanup_(freep) char *key = format_key(rule, device);
    struct decision *decision = key ? find(decisions, key) : NULL;
    if (decision)
        forget(decisions, decision);
}

int decisions_new(struct decisions **ret_decisions)
{
    struct decisions *decisions = calloc(1, sizeof(*decisions));
    if (!decisions)
        return -ENOMEM;
    *ret_decisions = decisions;
    return 0;
}

void decisions_free(struct decisions *decisions)
{
    while (decisions && decisions->table)
        drop(decisions, decisions->table);
    free(decisions);
}
