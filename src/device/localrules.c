// SPDX-License-Identifier: LGPL-2.1-or-later
// The device's own rules. Owns the last readings and each rule's state, and knows since when the
// device has been cut off.
#include "device/localrules.h"

#include <string.h>

#include "core/guard.h"
#include "core/rule.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strings.h"

struct local_rule {
    const struct config_section *section;
    const struct rule_config *config;
    struct rule_state state;
    bool unknown_logged;
    uint64_t delay_usec; // where = offline: of an outage, before the rule counts
};

static const uint64_t start_usec = 10 * USEC_PER_SEC;

struct localrules {
    struct config *config;
    void (*apply)(void *userdata, const char *rule, const struct command *command);
    void *userdata;
    sd_event_source *timer; // for what changes without a reading, and for what is held
    uint64_t start_mono_usec;
    uint64_t lost_mono_usec; // the connection; 0 while there is one
    bool any_ages;           // a rule's conditions change with time alone
    size_t n_readings;
    struct expr_reading *readings; // indexed as the configuration's sensors
    size_t n_rules;
    struct local_rule *rules;
};

static bool applies(const struct config_section *section, const char *id)
{
    const struct rule_config *rule = config_rule(section);
    return rule->where != WHERE_SERVER && strings_match_any(rule->devices, id);
}

static size_t sensor_index(const struct config *config, const char *name)
{
    for (size_t i = 0;; i++) {
        const struct config_section *section = config_nth(config, "sensor", i);
        if (!section)
            return SIZE_MAX;
        if (strcmp(section->name, name) == 0)
            return i;
    }
}

/* A sensor that has not answered yet, so soon after the start, is nothing to tell. */
static bool is_starting(const struct localrules *rules, const char *name)
{
    return name && rules->readings[sensor_index(rules->config, name)].mono_usec == 0 &&
           clock_mono_usec() - rules->start_mono_usec < start_usec;
}

static void log_unknown(const struct localrules *rules, struct local_rule *rule,
                        const struct rule_decision *decision)
{
    if (!decision->unknown) {
        rule->unknown_logged = false;
        return;
    }
    if (rule->unknown_logged || is_starting(rules, decision->unknown_name))
        return;
    rule->unknown_logged = true;
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_RULE_UNKNOWN), { "RULE", rule->section->name }),
               "rule %s: %s%s; it changes nothing until that is known", rule->section->name,
               decision->unknown_name ? decision->unknown_name : "its value",
               decision->unknown_name ? " has no fresh reading" : " cannot be computed");
}

static const struct command *command_in_force(const struct local_rule *rule)
{
    return rule->state.outcome == RULE_THEN   ? rule->config->then_command
           : rule->state.outcome == RULE_ELSE ? rule->config->else_command
                                              : NULL;
}

/* When the rule counts from: 0, always; USEC_INFINITY, not as things are. */
static uint64_t counts_from(const struct localrules *rules, const struct local_rule *rule)
{
    if (rule->config->where != WHERE_OFFLINE)
        return 0;
    return guard_cut_off_at(rules->lost_mono_usec, rule->delay_usec);
}

/*
 * Evaluates one rule, for a reading or for time that has passed; returns when it wants to be
 * evaluated again, or USEC_INFINITY.
 */
static uint64_t evaluate(struct localrules *rules, struct local_rule *rule, bool has_reading)
{
    uint64_t now_wall_usec = clock_wall_usec();
    uint64_t from_mono_usec = counts_from(rules, rule);
    if (clock_mono_usec() < from_mono_usec) {
        rule->state = (struct rule_state){ 0 }; // it decides anew in each outage
        return from_mono_usec;
    }
    const struct rule_spec spec = config_rule_spec(rule->config);
    const struct expr_context context = {
        .readings = rules->readings,
        .now_mono_usec = clock_mono_usec(),
        .now_wall_usec = now_wall_usec,
        .local_hour = rules->any_ages ? clock_local_hour(now_wall_usec) : 0,
        .stale_after_usec = spec.stale_after_usec,
    };
    struct rule_decision decision;
    rule_evaluate(&spec, &rule->state, &context, &decision);
    log_unknown(rules, rule, &decision);
    const struct command *command = command_in_force(rule);
    bool always = rule->config->send == SEND_ALWAYS && has_reading && !decision.unknown;
    if (command && (decision.changed || always))
        rules->apply(rules->userdata, rule->section->name, command);
    return decision.retry_mono_usec > 0 ? decision.retry_mono_usec : USEC_INFINITY;
}

/* Whether it reads a clock, or its readings go stale, which is to be logged. */
static bool ages(const struct rule_config *rule)
{
    return rule->stale_after_usec != USEC_INFINITY || expr_uses_time(rule->when) ||
           (rule->until && expr_uses_time(rule->until));
}

static void arm(struct localrules *rules, uint64_t mono_usec)
{
    uint64_t armed_mono_usec = USEC_INFINITY;
    int enabled = SD_EVENT_OFF;
    if (mono_usec == USEC_INFINITY)
        return;
    sd_event_source_get_enabled(rules->timer, &enabled);
    if (enabled != SD_EVENT_OFF)
        sd_event_source_get_time(rules->timer, &armed_mono_usec);
    if (mono_usec >= armed_mono_usec)
        return;
    sd_event_source_set_time(rules->timer, mono_usec);
    sd_event_source_set_enabled(rules->timer, SD_EVENT_ONESHOT);
}

static void evaluate_all(struct localrules *rules)
{
    uint64_t next_mono_usec = USEC_INFINITY;
    for (size_t i = 0; i < rules->n_rules; i++) {
        uint64_t retry_mono_usec = evaluate(rules, &rules->rules[i], false);
        if (retry_mono_usec < next_mono_usec)
            next_mono_usec = retry_mono_usec;
    }
    uint64_t second_mono_usec = clock_mono_usec() + USEC_PER_SEC;
    if (rules->any_ages && second_mono_usec < next_mono_usec)
        next_mono_usec = second_mono_usec;
    arm(rules, next_mono_usec);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    evaluate_all(userdata);
    return 0;
}

void localrules_set_lost(struct localrules *rules, uint64_t lost_mono_usec)
{
    if (lost_mono_usec == rules->lost_mono_usec)
        return;
    rules->lost_mono_usec = lost_mono_usec;
    for (size_t i = 0; i < rules->n_rules; i++) {
        struct local_rule *rule = &rules->rules[i];
        if (rule->config->where == WHERE_OFFLINE)
            arm(rules, evaluate(rules, rule, false));
    }
}

static bool sets(const struct command *command, const char *actuator)
{
    for (size_t i = 0; command && i < command->n_items; i++) {
        if (strcmp(command->items[i].key, actuator) == 0)
            return true;
    }
    return false;
}

bool localrules_decide(struct localrules *rules, const char *actuator)
{
    evaluate_all(rules);
    for (size_t i = 0; i < rules->n_rules; i++) {
        const struct local_rule *rule = &rules->rules[i];
        if (rule->config->where == WHERE_OFFLINE && sets(command_in_force(rule), actuator))
            return true;
    }
    return false;
}

static bool reads(const struct expr *expr, const char *name)
{
    for (size_t i = 0; expr && i < expr_n_names(expr); i++) {
        if (strcmp(expr_name(expr, i), name) == 0)
            return true;
    }
    return false;
}

void localrules_reading(struct localrules *rules, size_t i, double value, uint64_t mono_usec)
{
    if (i >= rules->n_readings)
        return;
    const char *name = config_nth(rules->config, "sensor", i)->name;
    rules->readings[i] = (struct expr_reading){ .value = value, .mono_usec = mono_usec };
    for (size_t k = 0; k < rules->n_rules; k++) {
        struct local_rule *rule = &rules->rules[k];
        if (!reads(rule->config->when, name) && !reads(rule->config->until, name))
            continue;
        arm(rules, evaluate(rules, rule, true));
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static void bind(struct expr *expr, const struct config *config)
{
    for (size_t i = 0; expr && i < expr_n_names(expr); i++)
        expr_bind(expr, i, sensor_index(config, expr_name(expr, i))); // checked with the file
}

static void inherit(struct localrules *rules, const struct localrules *previous)
{
    rules->lost_mono_usec = previous->lost_mono_usec;
    for (size_t i = 0; i < rules->n_readings; i++) {
        size_t old = sensor_index(previous->config, config_nth(rules->config, "sensor", i)->name);
        if (old < previous->n_readings)
            rules->readings[i] = previous->readings[old];
    }
    for (size_t i = 0; i < rules->n_rules; i++) {
        struct local_rule *rule = &rules->rules[i];
        for (size_t k = 0; k < previous->n_rules; k++) {
            const struct local_rule *old = &previous->rules[k];
            if (config_section_equal(old->section, rule->section)) {
                rule->state = old->state;
                rule->unknown_logged = old->unknown_logged;
            }
        }
    }
}

/* The longest `disconnect_after` of the actuators that the rule sets. */
static uint64_t delay_of(const struct config *config, const struct rule_config *rule)
{
    uint64_t delay_usec = 0;
    const struct config_section *section;
    for (size_t i = 0; (section = config_nth(config, "actuator", i)); i++) {
        uint64_t after_usec = config_actuator(section)->disconnect_after_usec;
        bool concerned =
            sets(rule->then_command, section->name) || sets(rule->else_command, section->name);
        if (concerned && after_usec > delay_usec)
            delay_usec = after_usec;
    }
    return delay_usec;
}

static int collect(struct localrules *rules)
{
    const struct config_section *section;
    rules->n_readings = config_count(rules->config, "sensor");
    rules->readings = calloc(rules->n_readings + 1, sizeof(*rules->readings));
    rules->rules = calloc(config_count(rules->config, "rule") + 1, sizeof(*rules->rules));
    if (!rules->readings || !rules->rules)
        return -ENOMEM;
    for (size_t i = 0; (section = config_nth(rules->config, "rule", i)); i++) {
        if (!applies(section, rules->config->daemon->id))
            continue;
        struct local_rule *rule = &rules->rules[rules->n_rules++];
        *rule = (struct local_rule){ .section = section, .config = config_rule(section) };
        rule->delay_usec = delay_of(rules->config, rule->config);
        bind(rule->config->when, rules->config);
        bind(rule->config->until, rules->config);
        rules->any_ages |= ages(rule->config);
    }
    return 0;
}

int localrules_new(sd_event *event, struct config *config, const struct localrules *previous,
                   void (*apply)(void *userdata, const char *rule, const struct command *command),
                   void *userdata, struct localrules **ret_rules)
{
    _cleanup_(localrules_freep) struct localrules *rules = calloc(1, sizeof(*rules));
    if (!rules)
        return -ENOMEM;
    rules->config = config_ref(config);
    rules->apply = apply;
    rules->userdata = userdata;
    rules->start_mono_usec = clock_mono_usec();
    int r = collect(rules);
    if (r < 0)
        return r;
    if (previous)
        inherit(rules, previous);
    // After a reload all are evaluated once new sensors have had a moment: what was held back gets
    // its time again, and a new rule decides by the readings that there are.
    r = sd_event_add_time_relative(event, &rules->timer, CLOCK_BOOTTIME,
                                   previous ? 100 * USEC_PER_MSEC : USEC_PER_SEC,
                                   10 * USEC_PER_MSEC, on_timer, rules);
    if (r < 0)
        return r;
    if (!previous && !rules->any_ages) // offline rules wait for localrules_set_lost()
        sd_event_source_set_enabled(rules->timer, SD_EVENT_OFF);
    *ret_rules = TAKE_PTR(rules);
    return 0;
}

void localrules_free(struct localrules *rules)
{
    if (!rules)
        return;
    sd_event_source_disable_unref(rules->timer);
    free(rules->readings);
    free(rules->rules);
    config_unref(rules->config);
    free(rules);
}
