// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether the rules still say what a command says; see standing.h.
#include "server/standing.h"

#include <string.h>

#include "server/groups.h"
#include "util/strings.h"

static bool sets(const struct command *command, const struct command_item *wanted)
{
    for (size_t i = 0; i < command->n_items; i++) {
        if (strcmp(command->items[i].key, wanted->key) == 0)
            return value_equal(&command->items[i].value, &wanted->value);
    }
    return false;
}

/* Also of what is left of a command when a newer one has taken the place of a part. */
static bool says(const struct command *rules, const struct command *command)
{
    for (size_t i = 0; i < command->n_items; i++) {
        if (!rules || !sets(rules, &command->items[i]))
            return false;
    }
    return true;
}

/* Whether there may be such a group, and its rules are this server's to decide. */
static bool has_group(const struct config *config, bool topics_have_group, const char *group)
{
    return (topics_have_group || strcmp(group, groups_default) == 0 ||
            config_find(config, "group", group)) &&
           strings_match_any(config->server->groups, group);
}

bool standing_holds(const struct config *config, bool topics_have_group,
                    const struct letter *letter, const char *device)
{
    const struct config_section *section = config_find(config, "rule", letter->rule);
    const struct rule_config *rule = section ? config_rule(section) : NULL;
    if (!rule || rule->where != WHERE_SERVER ||
        (!says(rule->then_command, letter->command) && !says(rule->else_command, letter->command)))
        return false;
    if (device && !strings_match_any(config->server->devices, device))
        return false;
    if (rule->scope == SCOPE_GROUP)
        return letter->group && has_group(config, topics_have_group, letter->group);
    return device && strings_match_any(rule->devices, device);
}
