// SPDX-License-Identifier: LGPL-2.1-or-later
// The rules' decisions in words; see account.h. Changes nothing.
#include "server/account.h"

#include <string.h>

#include "util/clock.h"
#include "util/strings.h"

enum { TEXT_SIZE = 2048 };

/* What the i-th rule finds for target, by the condition that its present outcome comes from. */
static const char *explain(const struct account_scope *of, size_t i,
                           const struct ruleset_target *target, const struct ruleset_now *now,
                           char *out, size_t size)
{
    struct expr_finding findings[EXPR_MAX_FINDINGS];
    enum rule_outcome outcome = ruleset_state(of->rules, i, target)->state.outcome;
    ruleset_find(of->rules, i, target, outcome, now, findings);
    return expr_explain(ruleset_condition(of->rules, i, outcome), findings, out, size);
}

const char *account_finding(const struct account_scope *of, const struct ruleset_target *target,
                            const struct server_rule *rule, const struct ruleset_now *now,
                            char *out, size_t size)
{
    return explain(of, (size_t)(rule - ruleset_rule(of->rules, 0)), target, now, out, size);
}

char *account_decision(uint64_t wall_usec, bool is_group, const char *name,
                       const struct server_rule *rule, const struct command *command,
                       const char *why)
{
    char time[CLOCK_RFC3339_SIZE], *line;
    if (asprintf(&line, "%s  %s%s  rule %s: %s  because %s", clock_format_rfc3339(wall_usec, time),
                 is_group ? "group " : "", name, rule->section->name,
                 command ? command->json : "nothing to be sent",
                 *why ? why : "the time is what it is") < 0)
        return NULL;
    return line;
}

/* The i-th rule that is meant. */
static int find_rule(const struct account_scope *of, const char *name, size_t *ret_i,
                     struct why *why)
{
    size_t n = ruleset_n_rules(of->rules);
    _cleanup_(freep) const char **names = calloc(n + 1, sizeof(char *));
    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        names[i] = ruleset_rule(of->rules, i)->section->name;
        if (strcmp(names[i], name) == 0) {
            *ret_i = i;
            return 0;
        }
    }
    const char *nearest = strings_nearest(name, names, n);
    return why_set(why, ENOENT, "there is no rule '%.80s' of the server%s%s%s", name,
                   nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
}

static int find_target(const struct account_scope *of, size_t i, const char *name,
                       struct ruleset_target *ret_target, struct why *why)
{
    bool is_group = i >= ruleset_n_device_rules(of->rules);
    const struct topic_slice slice = { name, strlen(name) };
    const struct ruleset_target target = {
        .device = is_group ? NULL : fleet_find(of->fleet, slice),
        .group = is_group ? groups_find(of->groups, name) : NULL,
    };
    if (!target.device && !target.group)
        return why_set(why, ENOENT, "nothing has been heard of a %s '%.80s'",
                       is_group ? "group" : "device", name);
    if (target.group && !target.group->is_ours)
        return why_set(why, ENOENT, "this server does not decide for group %s", name);
    if (!ruleset_state(of->rules, i, &target)->applies)
        return why_set(why, ENOENT, "rule %s is not for %s",
                       ruleset_rule(of->rules, i)->section->name, name);
    *ret_target = target;
    return 0;
}

static char *format_reason(const struct account_scope *of, const struct reason *reason)
{
    bool is_group = reason->rule >= ruleset_n_device_rules(of->rules);
    char why[TEXT_SIZE] = "another sender has said so on the device's topic";
    if (reason->is_own)
        expr_explain(ruleset_condition(of->rules, reason->rule, reason->outcome), reason->findings,
                     why, sizeof(why));
    const struct server_rule *rule = ruleset_rule(of->rules, reason->rule);
    return account_decision(reason->wall_usec, is_group, reason->name, rule,
                            ruleset_command(rule, reason->outcome), why);
}

/* Of a decision that is in force, and of which no more is known. */
static char *format_state(const struct account_scope *of, size_t i,
                          const struct ruleset_target *target)
{
    char *text;
    const struct server_rule *rule = ruleset_rule(of->rules, i);
    const struct command *command =
        ruleset_command(rule, ruleset_state(of->rules, i, target)->state.outcome);
    if (asprintf(&text, "%s%s  rule %s: %s  decided so long ago that its readings are not kept",
                 target->group ? "group " : "", ruleset_target_name(target), rule->section->name,
                 command ? command->json : "nothing to be sent") < 0)
        return NULL;
    return text;
}

/* Takes over text, and adds a line that says what the rule finds now. */
static int add_present(const struct account_scope *of, size_t i,
                       const struct ruleset_target *target, const struct ruleset_now *now,
                       char *text, char **ret_text)
{
    char present[TEXT_SIZE], *both;
    explain(of, i, target, now, present, sizeof(present));
    if (!*present) { // it looks at the time alone
        *ret_text = text;
        return 0;
    }
    int r = asprintf(&both, "%s\nat present %s", text, present);
    free(text);
    if (r < 0)
        return -ENOMEM;
    *ret_text = both;
    return 0;
}

static int refuse_undecided(const struct account_scope *of, size_t i,
                            const struct ruleset_target *target, const struct ruleset_now *now,
                            struct why *why)
{
    char present[sizeof(why->text)];
    return why_set(why, ENODATA, "rule %s has decided nothing for %s so far; at present %s",
                   ruleset_rule(of->rules, i)->section->name, ruleset_target_name(target),
                   explain(of, i, target, now, present, sizeof(present)));
}

int account_tell(const struct account_scope *of, const char *rule, const char *name,
                 const struct ruleset_now *now, char **ret_text, struct why *why)
{
    struct ruleset_target target = { 0 };
    size_t i = 0;
    int r = find_rule(of, rule, &i, why);
    if (r == 0 && name)
        r = find_target(of, i, name, &target, why);
    if (r < 0)
        return r;
    const struct reason *reason = reasons_find(of->reasons, i, name);
    if (!reason && !name)
        return why_set(why, ENODATA,
                       "rule %s has decided nothing since the server was started, or its rules "
                       "were changed",
                       rule);
    if (!reason && ruleset_state(of->rules, i, &target)->state.outcome == RULE_UNDECIDED)
        return refuse_undecided(of, i, &target, now, why);
    char *text = reason ? format_reason(of, reason) : format_state(of, i, &target);
    if (!text)
        return -ENOMEM;
    if (!name && find_target(of, i, reason->name, &target, NULL) < 0) { // forgotten by now
        *ret_text = text;
        return 0;
    }
    return add_present(of, i, &target, now, text, ret_text);
}
