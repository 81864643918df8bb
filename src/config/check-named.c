// SPDX-License-Identifier: LGPL-2.1-or-later
// Checks and resolves [stream], [sensor], [actuator] and [rule]; see check.h.
#include <math.h>
#include <string.h>

#include "config/check.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

/* The nearest name of that kind as " (did you mean 'NAME'?)", else "". */
static const char *suggest(const struct check *check, const char *kind, const char *name, char *out,
                           size_t size)
{
    const struct config *config = check->config;
    *out = '\0';
    _cleanup_(freep) const char **names = calloc(config->n_sections, sizeof(char *));
    if (!names)
        return out;
    size_t n = 0;
    for (size_t i = 0; i < config->n_sections; i++) {
        if (strcmp(config->sections[i]->schema->name, kind) == 0)
            names[n++] = config->sections[i]->name;
    }
    const char *nearest = strings_nearest(name, names, n);
    if (nearest)
        snprintf(out, size, " (did you mean '%s'?)", nearest);
    return out;
}

static bool check_exists(struct check *check, const struct config_section *section, const char *key,
                         const char *kind, const char *name)
{
    char hint[96];
    if (check->incomplete || config_find(check->config, kind, name))
        return true;
    suggest(check, kind, name, hint, sizeof(hint));
    check_complain(check, section, key, "there is no %s '%.80s'%s; expected one of that name", kind,
                   name, hint);
    return false;
}

void check_stream(struct check *check, const struct config_section *section)
{
    if (check_is_set(section, "topic"))
        check_topic(check, section, "topic", CHECK_READINGS);
}

/* Its own, its stream's, or 5s. */
static void resolve_interval(struct check *check, const struct config_section *section)
{
    struct sensor_config *sensor = section->data;
    const struct config_section *stream = config_find(check->config, "stream", sensor->stream);
    if (check_is_set(section, "interval"))
        return;
    bool has_interval = stream && check_is_set(stream, "interval");
    sensor->interval_usec = has_interval ? config_stream(stream)->interval_usec : 5 * USEC_PER_SEC;
    struct config_value *value = check_value(section, "interval");
    value->text = strdup(has_interval ? check_value(stream, "interval")->text : "5s");
    if (!value->text)
        check->errors->out_of_memory = true;
}

void check_sensor(struct check *check, const struct config_section *section)
{
    struct sensor_config *sensor = section->data;
    check_exists(check, section, "stream", "stream", sensor->stream);
    resolve_interval(check, section);
    if (sensor->sample_interval_usec != USEC_INFINITY &&
        sensor->sample_interval_usec > sensor->interval_usec)
        check_complain(check, section, "sample_interval",
                       "is longer than interval; expected it to be at most that");
    if (sensor->sampling.valid_min >= sensor->sampling.valid_max) // never with one that is NAN
        check_complain(check, section, "valid_max",
                       "is not greater than valid_min; expected it to be");
    if (check_is_set(section, "max_silence") && !check_is_set(section, "deadband"))
        check_complain(check, section, "max_silence", "has no effect alone; expected deadband too");
    if (!check_is_set(section, "decimals"))
        sensor->decimals = -1;
    sensor->sampling.decimals = (int)sensor->decimals;
}

static const struct config_driver *driver_of(const struct check *check,
                                             const struct config_section *section)
{
    for (size_t i = 0; i < check->sources->n_actuator_drivers; i++) {
        if (check->sources->actuator_drivers[i].driver == section->driver)
            return &check->sources->actuator_drivers[i];
    }
    return NULL;
}

static void check_range(struct check *check, const struct config_section *section)
{
    const struct actuator_config *actuator = section->data;
    static const char *const keys[] = { "min", "max" };
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        if (check_is_set(section, keys[i]) && actuator->limits.type != VALUE_NUMBER)
            check_complain(check, section, keys[i], "is for numbers; expected type = number too");
    }
    if (actuator->min >= actuator->max) // never with one that is NAN
        check_complain(check, section, "max", "is not greater than min; expected it to be");
}

static void check_type(struct check *check, const struct config_section *section)
{
    const struct config_driver *driver = driver_of(check, section);
    const struct actuator_config *actuator = section->data;
    if (!driver || driver->types & 1U << actuator->limits.type)
        return;
    const char *const *types = check_value(section, "type")->option->choices;
    const char *taken[3];
    size_t n = 0;
    for (unsigned i = 0; types[i]; i++) {
        if (driver->types & 1U << (VALUE_BOOL + i))
            taken[n++] = types[i];
    }
    check_complain(check, section, "type", "the driver %s does not take a %s; expected %s%s%s",
                   driver->name, types[actuator->type], n > 0 ? taken[0] : "another driver",
                   n > 1 ? " or " : "", n > 1 ? taken[1] : ""); // of three, one is not taken
}

/* A value as the configuration writes it: yes or no, a number, or the text as it stands. */
static int convert_value(const char *text, enum value_type type, struct value *ret_value)
{
    struct value value = { .type = type };
    int r = 0;
    if (type == VALUE_BOOL)
        r = parse_bool(text, &value.boolean);
    else if (type == VALUE_NUMBER)
        r = parse_number(text, &value.number);
    else
        snprintf(value.string, sizeof(value.string), "%s", text);
    if (r == 0)
        *ret_value = value;
    return r;
}

static void resolve_value(struct check *check, const struct config_section *section,
                          const char *key, const char *text, struct value *value)
{
    const struct actuator_config *actuator = section->data;
    const struct command_limits *limits = &actuator->limits;
    struct command_item item = { { 0 }, { VALUE_NONE } };
    struct why why = { 0 };
    if (!text)
        return;
    snprintf(item.key, sizeof(item.key), "%s", key);
    if (convert_value(text, limits->type, &item.value) < 0)
        check_complain(check, section, key, "'%.60s' is no %s; expected %s", text,
                       value_type_name(limits->type),
                       limits->type == VALUE_BOOL ? "yes or no" : "a number");
    else if (command_check_item(&item, limits, &why) < 0)
        check_complain(check, section, key, "%s; expected a number in that range", why.text);
    else
        *value = item.value;
}

static void check_safe(struct check *check, const struct config_section *section)
{
    const struct actuator_config *actuator = section->data;
    if (check_is_set(section, "safe"))
        return;
    if (actuator->on_exit == ON_SAFE)
        check_complain(check, section, "on_exit", "is safe, but there is no safe; expected it too");
    if (actuator->on_disconnect == ON_SAFE)
        check_complain(check, section, "on_disconnect",
                       "is safe, but there is no safe; expected it too");
}

void check_actuator(struct check *check, const struct config_section *section)
{
    struct actuator_config *actuator = section->data;
    actuator->limits = (struct command_limits){
        .type = (enum value_type)(VALUE_BOOL + actuator->type),
        .min = isnan(actuator->min) ? -INFINITY : actuator->min,
        .max = isnan(actuator->max) ? INFINITY : actuator->max,
    };
    check_range(check, section);
    check_type(check, section);
    resolve_value(check, section, "initial", actuator->initial_text, &actuator->initial);
    resolve_value(check, section, "safe", actuator->safe_text, &actuator->safe);
    check_safe(check, section);
}

void check_action(struct check *check, const struct config_section *section)
{
    static const char *const built_in[] = { "sample", "identify", "reload" };
    bool is_reboot = strcmp(section->name, "reboot") == 0;
    for (size_t i = 0; i < ELEMENTS(built_in); i++) {
        if (strcmp(section->name, built_in[i]) == 0)
            check_complain(check, section, NULL,
                           "every device has that action; expected another name");
    }
    if (is_reboot && check_is_set(section, "unit"))
        check_complain(check, section, "unit", "does not go with reboot; expected no such line");
    else if (!is_reboot && !check_is_set(section, "unit"))
        check_complain(check, section, "unit", "the key is missing; expected a unit");
}

static void check_names(struct check *check, const struct config_section *section, const char *key,
                        const struct expr *expr)
{
    for (size_t i = 0; expr && i < expr_n_names(expr); i++)
        check_exists(check, section, key, "sensor", expr_name(expr, i));
}

static void check_items(struct check *check, const struct config_section *section, const char *key,
                        const struct command *command)
{
    for (size_t i = 0; command && i < command->n_items; i++) {
        const struct command_item *item = &command->items[i];
        if (!check_exists(check, section, key, "actuator", item->key))
            continue;
        const struct config_section *actuator = config_find(check->config, "actuator", item->key);
        struct why why = { 0 };
        if (actuator && !actuator->bad &&
            command_check_item(item, &config_actuator(actuator)->limits, &why) < 0)
            check_complain(check, section, key, "%s", why.text);
    }
}

/* A group's rule sees its devices by aggregates alone; others see one device's readings. */
static void check_scope(struct check *check, const struct config_section *section, const char *key,
                        const struct expr *expr)
{
    const struct rule_config *rule = section->data;
    if (!expr)
        return;
    if (rule->scope == SCOPE_DEVICE && expr_n_aggregates(expr) > 0)
        check_complain(check, section, key,
                       "looks at the devices of a group; expected scope = group too, or a span of "
                       "time, as in mean(light, 10min)");
    const char *name = expr_n_names(expr) > 0     ? expr_name(expr, 0)
                       : expr_n_windows(expr) > 0 ? expr_window_name(expr, 0)
                                                  : NULL;
    if (rule->scope == SCOPE_GROUP && name)
        check_complain(check, section, key,
                       "%s is one device's; with scope = group, expected it within an aggregate "
                       "such as median(%s)",
                       name, name);
    if (rule->where != WHERE_SERVER && expr_n_windows(expr) > 0)
        check_complain(check, section, key,
                       "a window over time is the server's to look at; expected where = server");
}

static void check_group_rule(struct check *check, const struct config_section *section)
{
    const struct rule_config *rule = section->data;
    if (rule->scope == SCOPE_GROUP && rule->where != WHERE_SERVER)
        check_complain(check, section, "scope",
                       "a device decides for itself alone; expected where = server for a group");
    if (rule->scope == SCOPE_DEVICE && rule->min_devices > 1)
        check_complain(check, section, "min_devices",
                       "has no effect alone; expected scope = group too");
    check_scope(check, section, "when", rule->when);
    check_scope(check, section, "until", rule->until);
}

static bool is_set(uint64_t usec)
{
    return usec != USEC_INFINITY;
}

/* What is asked of a command must go with the way it is delivered. */
static void check_delivery(struct check *check, const struct config_section *section)
{
    const struct rule_config *rule = section->data;
    const char *key = is_set(rule->lease_usec)     ? "for"
                      : is_set(rule->expires_usec) ? "expires"
                      : is_set(rule->refresh_usec) ? "refresh"
                                                   : NULL;
    if (rule->where != WHERE_SERVER && key)
        check_complain(check, section, key,
                       "is about commands that are sent; expected where = server");
    if (rule->delivery == DELIVERY_PLAIN &&
        (is_set(rule->lease_usec) || is_set(rule->expires_usec)))
        check_complain(check, section, key,
                       "does not go with delivery = plain; expected auto, latest or ordered");
    if (rule->delivery == DELIVERY_ORDERED && rule->scope == SCOPE_GROUP)
        check_complain(check, section, "delivery",
                       "a queue is one device's; expected scope = device, or delivery = latest");
    if (rule->delivery == DELIVERY_ORDERED &&
        (is_set(rule->lease_usec) || is_set(rule->refresh_usec) || rule->send == SEND_ALWAYS))
        check_complain(check, section, "delivery",
                       "what is sent in order is sent once; expected no for, no refresh and no "
                       "send = always beside it, or delivery = latest");
    if (is_set(rule->lease_usec) && is_set(rule->refresh_usec) &&
        rule->refresh_usec >= rule->lease_usec)
        check_complain(check, section, "refresh",
                       "comes too late for what for grants; expected a shorter time");
}

/* A server's rules speak of devices that only show themselves later. */
void check_rule(struct check *check, const struct config_section *section)
{
    const struct rule_config *rule = section->data;
    check_group_rule(check, section);
    check_delivery(check, section);
    if (rule->where == WHERE_SERVER || !check_has_device(check))
        return;
    check_names(check, section, "when", rule->when);
    check_names(check, section, "until", rule->until);
    check_items(check, section, "then", rule->then_command);
    check_items(check, section, "else", rule->else_command);
}
