// SPDX-License-Identifier: LGPL-2.1-or-later
/* The rules' decisions in words, for a person who asks. */
#pragma once

#include "server/fleet.h"
#include "server/groups.h"
#include "server/reasons.h"
#include "server/ruleset.h"
#include "util/why.h"

/* What there is to tell of; all borrowed. */
struct account_scope {
    const struct ruleset *rules;
    struct fleet *fleet;
    const struct groups *groups;
    const struct reasons *reasons;
};

/* What a rule looks at, for target, and finds there now. Returns out. */
const char *account_finding(const struct account_scope *of, const struct ruleset_target *target,
                            const struct server_rule *rule, const struct ruleset_now *now,
                            char *out, size_t size);

/*
 * A decision as a line for a person, without a line feed; command NULL: it sends nothing. A new
 * string, NULL without memory.
 */
char *account_decision(uint64_t wall_usec, bool is_group, const char *name,
                       const struct server_rule *rule, const struct command *command,
                       const char *why);

/*
 * What the rule of that name decided last, for the device or group of that name (NULL: for
 * anybody), and by which readings: one or two lines, a new string. -ENOENT: there is no such rule,
 * or nothing of that name that it is for; -ENODATA: it has decided nothing; -ENOMEM.
 */
int account_tell(const struct account_scope *of, const char *rule, const char *name,
                 const struct ruleset_now *now, char **ret_text, struct why *why);
