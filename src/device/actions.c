// SPDX-License-Identifier: LGPL-2.1-or-later
// Owns the actions that have been begun, and the connection to systemd.
#include "device/actions.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/value.h"
#include "io/systemd.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"
#include "util/strings.h"

// Sensors that do not answer are not waited for any longer.
static const uint64_t sample_limit_usec = 5 * USEC_PER_SEC;
// Between the reply and the reboot: the reply has to reach the broker.
static const uint64_t reboot_delay_usec = 3 * USEC_PER_SEC;

struct wanted { // of a sample
    const struct config_section *sensor;
    double value; // NAN: not there yet
};

struct task {
    struct actions *actions;
    struct task *next;
    struct actions_waiter waiter;
    bool is_reload;
    uint64_t ticket;  // of the record that it waits for; 0: none
    bool is_recorded; // it is to begin
    bool has_ended;   // the next turn tells of it, with these:
    enum reply_status status;
    struct why why;
    char *readings;
    uint64_t expires_wall_usec;
    const struct config_section *section; // [action NAME]
    sd_event_source *timer;
    struct config *config; // keeps the sections alive
    size_t n_wanted;       // 0: no sample
    struct wanted wanted[];
};

struct actions {
    sd_event *event;
    struct telemetry *telemetry;
    struct owner owner;
    sd_event_source *turn;
    struct systemd *systemd;
    sd_event_source *reboot_timer;
    struct task *tasks;
};

static void task_free(struct task *task)
{
    sd_event_source_disable_unref(task->timer);
    free(task->readings);
    config_unref(task->config);
    free(task);
}
DEFINE_CLEANUP(struct task *, task_free)

static struct task *new_task(struct actions *actions, struct config *config,
                             const struct actions_waiter *waiter, size_t n_wanted)
{
    struct task *task = calloc(1, sizeof(*task) + n_wanted * sizeof(task->wanted[0]));
    if (!task)
        return NULL;
    task->actions = actions;
    task->config = config_ref(config);
    task->waiter = *waiter;
    task->n_wanted = n_wanted;
    return task;
}

static void add_task(struct task *task)
{
    struct task **place = &task->actions->tasks;
    while (*place)
        place = &(*place)->next;
    *place = task;
}

/* Ends a task that was added. Who waits for it hears of it in the next turn of the loop. */
static void finish(struct task *task, enum reply_status status, const char *reason, char *readings)
{
    task->has_ended = true;
    task->status = status;
    snprintf(task->why.text, sizeof(task->why.text), "%s", reason);
    task->readings = readings;
    sd_event_source_set_enabled(task->actions->turn, SD_EVENT_ONESHOT);
}

/* The first, out of the list; NULL: there is none. */
static struct task *take_ended(struct actions *actions)
{
    struct task **place = &actions->tasks;
    while (*place && !(*place)->has_ended)
        place = &(*place)->next;
    struct task *task = *place;
    if (task)
        *place = task->next;
    return task;
}

/* --- sample ---------------------------------------------------------------------------------- */

static char *format_readings(const struct task *task)
{
    char *text = NULL, key[512], number[352];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputc('{', out);
    for (size_t i = 0; i < task->n_wanted; i++) {
        const struct wanted *wanted = &task->wanted[i];
        int decimals = config_sensor(wanted->sensor)->sampling.decimals;
        fprintf(out, "%s%s: %s", i > 0 ? ", " : "",
                json_quote(wanted->sensor->name, key, sizeof(key)),
                isnan(wanted->value)
                    ? "null"
                    : value_format_number(wanted->value, decimals, number, sizeof(number)));
    }
    fputc('}', out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static const struct wanted *missing(const struct task *task)
{
    for (size_t i = 0; i < task->n_wanted; i++) {
        if (isnan(task->wanted[i].value))
            return &task->wanted[i];
    }
    return NULL;
}

static int on_sampled(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct task *task = userdata;
    const struct wanted *late = missing(task);
    char reason[256] = "";
    if (late)
        snprintf(reason, sizeof(reason), "sensor '%.80s' has no fresh reading", late->sensor->name);
    finish(task, late ? REPLY_FAILED : REPLY_DONE, reason, format_readings(task));
    return 0;
}

void actions_reading(struct actions *actions, const char *sensor, double value)
{
    for (struct task *task = actions->tasks; task; task = task->next) {
        for (size_t i = 0; i < task->n_wanted; i++) {
            if (strcmp(task->wanted[i].sensor->name, sensor) == 0)
                task->wanted[i].value = value;
        }
        if (task->n_wanted > 0 && !task->has_ended && !missing(task))
            sd_event_source_set_time(task->timer, 0);
    }
}

static int want(struct task *task, const char *name, size_t i, struct why *why)
{
    const struct config_section *sensor = config_find(task->config, "sensor", name);
    if (!sensor)
        return why_set(why, ENOENT, "there is no sensor '%.80s'", name);
    task->wanted[i] = (struct wanted){ .sensor = sensor, .value = NAN };
    return 0;
}

static int begin_sample(struct actions *actions, struct config *config,
                        const struct envelope *envelope, const struct actions_waiter *waiter,
                        struct why *why)
{
    size_t n =
        envelope->sensors ? strings_count(envelope->sensors) : config_count(config, "sensor");
    if (n == 0)
        return why_set(why, ENOENT, "there are no sensors");
    _cleanup_(task_freep) struct task *task = new_task(actions, config, waiter, n);
    if (!task)
        return why_set(why, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const char *name =
            envelope->sensors ? envelope->sensors[i] : config_nth(config, "sensor", i)->name;
        int r = want(task, name, i, why);
        if (r < 0)
            return r;
    }
    int r = sd_event_add_time_relative(actions->event, &task->timer, CLOCK_BOOTTIME,
                                       sample_limit_usec, 0, on_sampled, task);
    if (r < 0)
        return why_set(why, -r, "%s", strerror(-r));
    add_task(TAKE_PTR(task));
    telemetry_publish_now(actions->telemetry, envelope->sensors);
    return 0;
}

/* --- the others ------------------------------------------------------------------------------ */

/* A device has no light of its own that it could blink: it makes itself seen in the journal. */
static void identify(struct task *task)
{
    const struct config *config = task->config;
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_IDENTIFY), { "DEVICE", config->daemon->id }),
               "identify: here I am, device %s of group %s", config->daemon->id,
               config->daemon->group);
    finish(task, REPLY_DONE, "", NULL);
}

void actions_reloaded(struct actions *actions, const char *failure)
{
    for (struct task *task = actions->tasks; task; task = task->next) {
        if (task->is_reload && !task->has_ended)
            finish(task, failure ? REPLY_FAILED : REPLY_DONE, failure ? failure : "", NULL);
    }
}

/* The reply tells who asked; whoever looks after the machine reads the journal. */
static void finish_failed(struct task *task, const char *reason)
{
    log_warning(LOG_FIELDS({ "DEVICE", task->config->daemon->id }), "action %s failed: %s",
                task->section->name, reason);
    finish(task, REPLY_FAILED, reason, NULL);
}

static void on_rebooting(const char *failure)
{
    if (failure)
        log_err(NULL, "cannot reboot: %s", failure);
}

static int on_reboot_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct actions *actions = userdata;
    int r = systemd_reboot(actions->systemd, true, NULL);
    if (r < 0)
        on_rebooting(strerror(-r));
    return 0;
}

static void on_can_reboot(struct task *task, const char *failure)
{
    struct actions *actions = task->actions;
    int r = 0;
    if (!failure && !actions->reboot_timer)
        r = sd_event_add_time_relative(actions->event, &actions->reboot_timer, CLOCK_BOOTTIME,
                                       reboot_delay_usec, 0, on_reboot_timer, actions);
    if (r < 0)
        failure = strerror(-r);
    if (failure) {
        finish_failed(task, failure);
        return;
    }
    log_notice(LOG_FIELDS({ "DEVICE", task->config->daemon->id }),
               "rebooting, as a command wants it");
    finish(task, REPLY_DONE, "rebooting", NULL);
}

/* Of a task, or of the reboot itself. */
static void on_systemd_done(void *userdata, const char *failure)
{
    struct task *task = userdata;
    if (!task)
        on_rebooting(failure);
    else if (!config_action(task->section)->unit)
        on_can_reboot(task, failure);
    else if (failure)
        finish_failed(task, failure);
    else
        finish(task, REPLY_DONE, "", NULL);
}

static void start_job(struct task *task)
{
    struct actions *actions = task->actions;
    const char *unit = config_action(task->section)->unit;
    KILL_POINT("action-recorded");
    if (clock_wall_usec() > task->expires_wall_usec) { // the disk took its time
        finish(task, REPLY_EXPIRED, "$expires passed before it could begin", NULL);
        return;
    }
    int r = unit ? systemd_start_unit(actions->systemd, unit, task)
                 : systemd_reboot(actions->systemd, false, task);
    if (r < 0) {
        char reason[128];
        snprintf(reason, sizeof(reason), "cannot reach the system bus: %s", strerror(-r));
        finish_failed(task, reason);
        return;
    }
    log_info(LOG_FIELDS({ "DEVICE", task->config->daemon->id }, { "UNIT", unit }),
             "action %s begins", task->section->name);
}

void actions_await(struct actions *actions, const void *waiter, uint64_t ticket)
{
    for (struct task *task = actions->tasks; task; task = task->next) {
        if (task->waiter.userdata == waiter)
            task->ticket = ticket;
    }
}

void actions_recorded(struct actions *actions, uint64_t ticket)
{
    for (struct task *task = actions->tasks; task; task = task->next) {
        if (task->ticket == 0 || task->ticket > ticket)
            continue;
        task->ticket = 0;
        task->is_recorded = true;
        sd_event_source_set_enabled(actions->turn, SD_EVENT_ONESHOT);
    }
}

/* Begins what is on disk, and tells of what has ended. */
static int on_turn(sd_event_source *source, void *userdata)
{
    (void)source;
    struct actions *actions = userdata;
    for (struct task *task = actions->tasks; task; task = task->next) {
        if (!task->is_recorded)
            continue;
        task->is_recorded = false;
        start_job(task);
    }
    for (struct task *task; (task = take_ended(actions)); task_free(task))
        task->waiter.ended(task->waiter.userdata, task->status, task->why.text, task->readings);
    return 0;
}

int actions_begin(struct actions *actions, struct config *config, const struct envelope *envelope,
                  const struct actions_waiter *waiter, struct why *why)
{
    const char *action = envelope->action;
    bool is_identify = strcmp(action, "identify") == 0, is_reload = strcmp(action, "reload") == 0;
    const struct config_section *section = config_find(config, "action", action);
    if (strcmp(action, "sample") == 0)
        return begin_sample(actions, config, envelope, waiter, why);
    if (envelope->sensors)
        return why_set(why, EINVAL, "'sensors' goes with sample alone");
    if (!is_identify && !is_reload && !section)
        return strcmp(action, "reboot") == 0
                   ? why_set(why, EACCES, "reboot is not allowed here: there is no [action reboot]")
                   : why_set(why, ENOENT, "there is no action '%s'", action);
    struct task *task = new_task(actions, config, waiter, 0);
    if (!task)
        return why_set(why, ENOMEM, "out of memory");
    add_task(task);
    task->is_reload = is_reload;
    if (is_identify) {
        identify(task);
    } else if (is_reload) {
        actions->owner.told(actions->owner.userdata, OWNER_RELOAD);
    } else { // systemd does it for us: once, so it begins when that is on disk
        task->section = section;
        task->expires_wall_usec = envelope->expires_wall_usec;
        return ACTIONS_ONCE;
    }
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

int actions_new(sd_event *event, struct telemetry *telemetry, const struct owner *owner,
                struct actions **ret_actions)
{
    _cleanup_(actions_freep) struct actions *actions = calloc(1, sizeof(*actions));
    if (!actions)
        return -ENOMEM;
    actions->event = sd_event_ref(event);
    actions->telemetry = telemetry;
    actions->owner = *owner;
    int r = systemd_new(event, on_systemd_done, &actions->systemd);
    if (r >= 0)
        r = sd_event_add_defer(event, &actions->turn, on_turn, actions);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(actions->turn, SD_EVENT_OFF);
    *ret_actions = TAKE_PTR(actions);
    return 0;
}

void actions_free(struct actions *actions)
{
    if (!actions)
        return;
    systemd_free(actions->systemd);
    sd_event_source_disable_unref(actions->reboot_timer);
    sd_event_source_disable_unref(actions->turn);
    while (actions->tasks) {
        struct task *task = actions->tasks;
        actions->tasks = task->next;
        task_free(task);
    }
    sd_event_unref(actions->event);
    free(actions);
}
