// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What rules with delivery = ordered have decided last, device by device, across restarts: such a
 * decision moves something once, and is not taken anew because the server has forgotten it.
 *
 *     decisions_recall() for each record of an earlier run; then decisions_find(), decisions_put().
 * What is to be written down they say, the caller writes it.
 */
#pragma once

#include "config/config.h"
#include "core/rule.h"
#include "util/cleanup.h"

enum { DECISIONS_MAX = 250000 }; // of a rule and a device; one makes room for another

struct decisions;

int decisions_new(struct decisions **ret_decisions);
void decisions_free(struct decisions *decisions);
DEFINE_CLEANUP(struct decisions *, decisions_free)

/* A record from an earlier run. -EBADMSG: it is none, -ENOBUFS: one too much; -ENOMEM. */
int decisions_recall(struct decisions *decisions, const char *key, const char *value);

/*
 * What rule, a section, decided last for a device; RULE_UNDECIDED if that is not known, or if the
 * rule says something else by now.
 */
enum rule_outcome decisions_find(const struct decisions *decisions,
                                 const struct config_section *rule, const char *device);

/* At DECISIONS_MAX forgets one, whichever: the key of its record, a new string. Else NULL. */
char *decisions_make_room(struct decisions *decisions);

/*
 * 1, and the record to be written, until the next call here; 0: it is known already. -ENOBUFS: see
 * decisions_make_room(); -ENOMEM.
 */
int decisions_put(struct decisions *decisions, const struct config_section *rule,
                  const char *device, enum rule_outcome outcome, const char **ret_key,
                  const char **ret_value);

/*
 * What rule, a section's name, decided for a device was not carried out, and is taken anew. The key
 * of the record to be removed, a new string; NULL: there is none.
 */
char *decisions_forget(struct decisions *decisions, const char *rule, const char *device);
