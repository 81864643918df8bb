// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What rules with delivery = ordered have decided last, device by device, across restarts: such a
 * decision moves something once, and is not taken anew because the server has forgotten it.
 *
 *     decisions_keep(), decisions_recall() for each record of an earlier run; then
 *     decisions_find(), decisions_put().
 */
#pragma once

#include "config/config.h"
#include "core/rule.h"
#include "outbox/outbox.h"
#include "util/cleanup.h"

enum { DECISIONS_MAX = 250000 }; // of a rule and a device; one makes room for another

/* The space of their records. */
extern const char decisions_space[];

struct decisions;

int decisions_new(struct decisions **ret_decisions);
void decisions_free(struct decisions *decisions);
DEFINE_CLEANUP(struct decisions *, decisions_free)

/* outbox, borrowed, keeps their records: before all else. */
void decisions_keep(struct decisions *decisions, struct outbox *outbox);

/* A record from an earlier run; what is none, or one too much, is removed. */
void decisions_recall(struct decisions *decisions, const char *key, const char *value);

/*
 * What rule, a section, decided last for a device; RULE_UNDECIDED if that is not known, or if the
 * rule says something else by now.
 */
enum rule_outcome decisions_find(const struct decisions *decisions,
                                 const struct config_section *rule, const char *device);

/* It has decided that, which is written down. At DECISIONS_MAX the oldest makes room. */
void decisions_put(struct decisions *decisions, const struct config_section *rule,
                   const char *device, enum rule_outcome outcome);

/* What rule, a section's name, decided for a device was not carried out, and is taken anew. */
void decisions_forget(struct decisions *decisions, const char *rule, const char *device);
