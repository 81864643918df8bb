// SPDX-License-Identifier: LGPL-2.1-or-later
// Owns the actuators, their guards and the one timer for these.
#include "device/actuators.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "util/clock.h"
#include "util/log.h"

const char actuators_space[] = "actuator";

struct entry {
    struct actuator *actuator;
    struct guard guard;
    uint64_t seq;
    bool falls_back; // its lease ended while the daemon did not run
    char *saved;     // the record as it was last written down
};

struct actuators {
    sd_event *event;
    sd_event_source *timer; // for the guards
    struct outbox *outbox;
    struct wishes *wishes;
    struct localrules *rules; // NULL: none
    void (*rested)(void *userdata);
    void *userdata;
    uint8_t boot[GUARD_BOOT_SIZE];
    uint64_t lost_mono_usec; // the connection; 0 while there is one
    size_t n_entries;
    struct entry *entries;
};

struct actuators_plan {
    size_t n_entries;
    struct entry *entries; // those that stay as they are have no actuator yet
};

static const struct actuator_config *config_of(const struct entry *entry)
{
    return config_actuator(actuator_section(entry->actuator));
}

static struct entry *find_entry(const struct actuators *actuators, const char *name)
{
    for (size_t i = 0; i < actuators->n_entries; i++) {
        struct entry *entry = &actuators->entries[i];
        if (entry->actuator && strcmp(actuator_name(entry->actuator), name) == 0)
            return entry;
    }
    return NULL;
}

static void free_entries(struct entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        actuator_free(entries[i].actuator);
        free(entries[i].saved);
    }
    free(entries);
}

static struct guard_time time_now(const struct actuators *actuators)
{
    struct guard_time now = { .mono_usec = clock_mono_usec(), .wall_usec = clock_wall_usec() };
    memcpy(now.boot, actuators->boot, sizeof(now.boot));
    return now;
}

/* --- what is written down -------------------------------------------------------------------- */

static char *format_record(const struct entry *entry)
{
    char value[VALUE_TEXT_SIZE * 6 + 3], lease[GUARD_TEXT_SIZE];
    char *record = NULL;
    value_format_json(actuator_wanted(entry->actuator), value, sizeof(value));
    bool leased = entry->guard.lease.span_usec > 0;
    if (asprintf(&record, "{\"value\": %s, \"seq\": %" PRIu64 "%s%s%s}", value, entry->seq,
                 leased ? ", \"lease\": \"" : "",
                 leased ? guard_format(&entry->guard.lease, lease) : "", leased ? "\"" : "") < 0)
        return NULL;
    return record;
}

static void save(struct actuators *actuators, struct entry *entry)
{
    _cleanup_(freep) char *record = format_record(entry);
    if (!record || (entry->saved && strcmp(entry->saved, record) == 0))
        return;
    free(entry->saved);
    entry->saved = TAKE_PTR(record);
    const char *name = actuator_name(entry->actuator);
    if (outbox_put_record(actuators->outbox, actuators_space, name, entry->saved) < 0)
        log_err(LOG_FIELDS({ "ACTUATOR", name }), "actuator %s: its record cannot be kept: %s",
                name, strerror(ENOMEM));
}

static bool recall_lease(struct entry *entry, struct json_object *record)
{
    struct json_object *member;
    return json_object_object_get_ex(record, "lease", &member) &&
           guard_parse(json_object_get_string(member), &entry->guard.lease) == 0;
}

void actuators_recall(struct actuators *actuators, const char *name, const char *text)
{
    struct entry *entry = find_entry(actuators, name);
    _cleanup_(json_object_putp) struct json_object *record = NULL;
    struct json_object *member;
    struct value value;
    if (!entry || json_parse_object(text, strlen(text), &record, NULL) < 0 ||
        !json_object_object_get_ex(record, "value", &member) ||
        command_take_value(name, member, &value, NULL) < 0)
        return;
    if (json_object_object_get_ex(record, "seq", &member))
        entry->seq = json_object_get_uint64(member);
    const struct value *safe = &config_of(entry)->safe;
    struct guard_time now = time_now(actuators);
    if (recall_lease(entry, record) && guard_lease_left(&entry->guard.lease, &now) == 0 &&
        safe->type != VALUE_NONE) {
        entry->guard.lease.span_usec = 0;
        entry->falls_back = true;
        value = *safe;
    }
    actuator_restore(entry->actuator, &value);
}

/* --- guards ---------------------------------------------------------------------------------- */

static void fall_back(struct actuators *actuators, struct entry *entry, const char *cause)
{
    const char *name = actuator_name(entry->actuator);
    const struct value *safe = &config_of(entry)->safe;
    char value[VALUE_TEXT_SIZE * 6 + 3];
    if (safe->type == VALUE_NONE) // a reload has taken it away
        return;
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_ACTUATOR_SAFE), { "ACTUATOR", name }),
               "actuator %s: %s; it is set to %s, which is safe", name, cause,
               value_format_json(safe, value, sizeof(value)));
    actuators_set(actuators, entry->actuator, safe, 0, 0, NULL);
}

static void on_guard_event(struct actuators *actuators, struct entry *entry, enum guard_event event)
{
    if (event == GUARD_LEASE_ENDED)
        fall_back(actuators, entry, "its lease has ended");
    if (event == GUARD_CUT_OFF &&
        !(actuators->rules && localrules_decide(actuators->rules, actuator_name(entry->actuator))))
        fall_back(actuators, entry, "the device is cut off from the broker");
}

/* Lets every guard see what time it is, and arms the timer for the next to wake up. */
static void step_guards(struct actuators *actuators)
{
    uint64_t next_mono_usec = USEC_INFINITY;
    struct guard_time now = time_now(actuators);
    for (size_t i = 0; i < actuators->n_entries; i++) {
        struct entry *entry = &actuators->entries[i];
        const struct guard_policy policy = {
            .on_disconnect = config_of(entry)->on_disconnect == ON_SAFE,
            .disconnect_after_usec = config_of(entry)->disconnect_after_usec,
        };
        uint64_t entry_mono_usec;
        enum guard_event event =
            guard_step(&policy, &entry->guard, &now, actuators->lost_mono_usec, &entry_mono_usec);
        on_guard_event(actuators, entry, event);
        if (entry_mono_usec < next_mono_usec)
            next_mono_usec = entry_mono_usec;
    }
    sd_event_source_set_time(actuators->timer, next_mono_usec);
    sd_event_source_set_enabled(actuators->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    step_guards(userdata);
    return 0;
}

void actuators_set_lost(struct actuators *actuators, uint64_t lost_mono_usec)
{
    if (lost_mono_usec == actuators->lost_mono_usec)
        return;
    actuators->lost_mono_usec = lost_mono_usec;
    step_guards(actuators);
}

bool actuators_exit(struct actuators *actuators)
{
    bool any = false;
    for (size_t i = 0; i < actuators->n_entries; i++) {
        const struct entry *entry = &actuators->entries[i];
        if (config_of(entry)->on_exit != ON_SAFE)
            continue;
        actuators_set(actuators, entry->actuator, &config_of(entry)->safe, 0, 0, NULL);
        any = true;
    }
    return any;
}

/* --- setting --------------------------------------------------------------------------------- */

/* What they are is told once all are at rest, so that a command of several keys is one. */
static void on_told(void *userdata)
{
    struct actuators *actuators = userdata;
    for (size_t i = 0; i < actuators->n_entries; i++) {
        if (actuator_take_dropped(actuators->entries[i].actuator))
            save(actuators, &actuators->entries[i]);
    }
    if (!actuators_are_moving(actuators))
        actuators->rested(actuators->userdata);
}

void actuators_set(struct actuators *actuators, struct actuator *actuator,
                   const struct value *value, uint64_t span_usec, uint64_t seq, struct wish *wish)
{
    struct entry *entry = find_entry(actuators, actuator_name(actuator));
    assert(entry && entry->actuator == actuator);
    bool was_leased = entry->guard.lease.span_usec > 0;
    struct guard_time now = time_now(actuators);
    entry->guard.lease =
        span_usec > 0 ? guard_lease(span_usec, &now) : (struct guard_lease){ .span_usec = 0 };
    if (seq > entry->seq)
        entry->seq = seq;
    actuator_set(actuator, value, wish);
    save(actuators, entry);
    if (span_usec > 0 || was_leased) { // not from in here: the guards may set others
        sd_event_source_set_time(actuators->timer, now.mono_usec);
        sd_event_source_set_enabled(actuators->timer, SD_EVENT_ONESHOT);
    }
}

void actuators_node_changed(struct actuators *actuators, const char *name)
{
    for (size_t i = 0; i < actuators->n_entries; i++)
        actuator_node_changed(actuators->entries[i].actuator, name);
}

uint64_t actuators_seq(const struct actuators *actuators, const struct actuator *actuator)
{
    return find_entry(actuators, actuator_name(actuator))->seq;
}

/* --- configuration --------------------------------------------------------------------------- */

static struct entry *find_equal(const struct actuators *actuators,
                                const struct config_section *section)
{
    struct entry *entry = find_entry(actuators, section->name);
    return entry && config_section_equal(actuator_section(entry->actuator), section) ? entry : NULL;
}

int actuators_prepare(struct actuators *actuators, struct config *config,
                      struct actuators_plan **ret_plan, struct why *why)
{
    size_t n = config_count(config, "actuator");
    _cleanup_(actuators_plan_freep) struct actuators_plan *plan = calloc(1, sizeof(*plan));
    if (!plan)
        return -ENOMEM;
    plan->entries = calloc(n + 1, sizeof(*plan->entries));
    if (!plan->entries)
        return -ENOMEM;
    plan->n_entries = n;
    for (size_t i = 0; i < n; i++) {
        const struct config_section *section = config_nth(config, "actuator", i);
        if (find_equal(actuators, section))
            continue;
        struct actuator **actuator = &plan->entries[i].actuator;
        int r = actuator_new(actuators->event, config, section, actuators->wishes, actuator);
        if (r < 0)
            return why_set(why, -r, "actuator %s: %s", section->name, strerror(-r));
        const struct entry *previous = find_entry(actuators, section->name);
        if (previous)
            actuator_inherit(*actuator, previous->actuator);
        else
            actuator_restore(*actuator, &config_actuator(section)->initial);
    }
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

void actuators_plan_free(struct actuators_plan *plan)
{
    if (!plan)
        return;
    free_entries(plan->entries, plan->n_entries);
    free(plan);
}

/* The guard and the memory of the actuator of that name go on; with it, where it stays. */
static void take_entry(struct actuators *actuators, struct entry *entry, const char *name)
{
    struct entry *previous = find_entry(actuators, name);
    if (!previous)
        return;
    struct actuator *actuator = entry->actuator;
    *entry = *previous;
    previous->saved = NULL;
    if (actuator)
        entry->actuator = actuator;
    else
        previous->actuator = NULL;
}

void actuators_commit(struct actuators *actuators, const struct config *config,
                      struct localrules *rules, struct actuators_plan *plan)
{
    actuators->rules = rules;
    for (size_t i = 0; i < plan->n_entries; i++)
        take_entry(actuators, &plan->entries[i], config_nth(config, "actuator", i)->name);
    free_entries(actuators->entries, actuators->n_entries);
    actuators->n_entries = plan->n_entries;
    actuators->entries = plan->entries;
    free(plan);
}

void actuators_start(struct actuators *actuators)
{
    for (size_t i = 0; i < actuators->n_entries; i++) {
        struct entry *entry = &actuators->entries[i];
        actuator_start(entry->actuator);
        if (entry->falls_back)
            fall_back(actuators, entry, "its lease ended while the daemon did not run");
        entry->falls_back = false;
    }
    wishes_note(actuators->wishes); // some may have come and gone
    step_guards(actuators);
}

/* --- life and looking ------------------------------------------------------------------------ */

int actuators_new(sd_event *event, struct outbox *outbox,
                  const uint8_t boot[static GUARD_BOOT_SIZE], void (*rested)(void *userdata),
                  void *userdata, struct actuators **ret_actuators)
{
    _cleanup_(actuators_freep) struct actuators *actuators = calloc(1, sizeof(*actuators));
    if (!actuators)
        return -ENOMEM;
    actuators->event = sd_event_ref(event);
    actuators->outbox = outbox;
    actuators->rested = rested;
    actuators->userdata = userdata;
    memcpy(actuators->boot, boot, sizeof(actuators->boot));
    int r = sd_event_add_time(event, &actuators->timer, CLOCK_BOOTTIME, USEC_INFINITY,
                              10 * USEC_PER_MSEC, on_timer, actuators);
    if (r >= 0)
        r = wishes_new(event, on_told, actuators, &actuators->wishes);
    if (r < 0)
        return r;
    *ret_actuators = TAKE_PTR(actuators);
    return 0;
}

void actuators_free(struct actuators *actuators)
{
    if (!actuators)
        return;
    free_entries(actuators->entries, actuators->n_entries);
    wishes_free(actuators->wishes);
    sd_event_source_disable_unref(actuators->timer);
    sd_event_unref(actuators->event);
    free(actuators);
}

struct actuator *actuators_find(const struct actuators *actuators, const char *name)
{
    const struct entry *entry = find_entry(actuators, name);
    return entry ? entry->actuator : NULL;
}

bool actuators_are_moving(const struct actuators *actuators)
{
    for (size_t i = 0; i < actuators->n_entries; i++) {
        if (actuator_is_moving(actuators->entries[i].actuator))
            return true;
    }
    return false;
}

size_t actuators_count(const struct actuators *actuators)
{
    return actuators->n_entries;
}

size_t actuators_n_failed(const struct actuators *actuators)
{
    size_t n = 0;
    for (size_t i = 0; i < actuators->n_entries; i++)
        n += actuator_has_failed(actuators->entries[i].actuator);
    return n;
}

char *actuators_state(const struct actuators *actuators)
{
    char *text = NULL, value[VALUE_TEXT_SIZE * 6 + 3], key[512];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (size_t i = 0; i < actuators->n_entries; i++) {
        const struct actuator *actuator = actuators->entries[i].actuator;
        fprintf(out, "%s%s: %s", i > 0 ? ", " : "{",
                json_quote(actuator_name(actuator), key, sizeof(key)),
                value_format_json(actuator_now(actuator), value, sizeof(value)));
    }
    fputs(actuators->n_entries > 0 ? "}" : "{}", out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
