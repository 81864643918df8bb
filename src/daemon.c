// SPDX-License-Identifier: LGPL-2.1-or-later
// The object graph, signals and sd_notify. Owns the event loop and the configuration in force.
#include "daemon.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "device/device.h"
#include "io/child.h"
#include "io/fdstore.h"
#include "io/notify.h"
#include "io/worker.h"
#include "outbox/spool.h"
#include "server/server.h"
#include "util/clock.h"
#include "util/log.h"

// What a stop has for actuators, the broker and the disk, together; and what ends it, should that
// not be kept: SIGTERM promises 2 s, and of a server with a large fleet to write down 9 s, within
// TimeoutStopSec= of the unit.
static const uint64_t goodbye_limit_usec = 1400 * USEC_PER_MSEC;
static const uint64_t stop_limit_usec = 1600 * USEC_PER_MSEC;
// STATUS= is brought up to date with the counters at most this often: it costs next to nothing.
static const uint64_t status_delay_usec = 5 * USEC_PER_SEC;
// And with news: a manager that does not keep up is told the newest (io/notify.h).
static const uint64_t news_delay_usec = 1 * USEC_PER_SEC;

static const uint64_t ready_limit_usec = 1 * USEC_PER_SEC;
static const uint64_t ready_look_usec = 5 * USEC_PER_MSEC;

struct daemon {
    sd_event *event;
    const struct config_sources *sources;
    struct config *config;
    struct spool *spool;
    struct device *device; // NULL: not that role
    struct server *server;
    struct device *old_device; // a reload has switched it off, and it has not come to its end; NULL
    struct server *old_server;
    unsigned n_stopping; // roles whose goodbye is awaited, those too
    bool stopping;
    bool is_ready; // systemd has been told
    sd_event_source *stop_timer;
    sd_event_source *status_timer;
    sd_event_source *ready_timer;
    sd_event_source *watchdog_timer;
    uint64_t start_mono_usec;
    uint64_t watchdog_usec;
    char status[768];          // as systemd was last told
    uint64_t status_mono_usec; // when
    struct worker *loader;
    struct reload *reload; // is loaded, and waits for the store; NULL: none
    bool reload_again;     // SIGHUP came while loading
};

/* --- what systemd is told -------------------------------------------------------------------- */

static void tell_status(struct daemon *daemon)
{
    char status[sizeof(daemon->status)], device[320] = "", server[320] = "";
    if (daemon->device)
        device_describe(daemon->device, device, sizeof(device));
    if (daemon->server)
        server_describe(daemon->server, server, sizeof(server));
    snprintf(status, sizeof(status), "%s%s%s%s%s",
             spool_is_stalled(daemon->spool) ? "THE DISK DOES NOT ANSWER. " : "",
             spool_has_mishap(daemon->spool)
                 ? "THE QUEUE ON DISK WAS LOST OR DAMAGED: see the log. "
                 : "",
             device, device[0] && server[0] ? ". " : "", server);
    if (strcmp(status, daemon->status) == 0)
        return;
    memcpy(daemon->status, status, sizeof(status));
    daemon->status_mono_usec = clock_mono_usec();
    char state[sizeof(status) + 8];
    snprintf(state, sizeof(state), "STATUS=%s", status);
    notify_send(state, -EBADF);
}

/* The end of the start is the ready timer's to tell, whatever is reloaded before. */
static void tell_reloading(const struct daemon *daemon)
{
    uint64_t now_usec = 0; // sd_notify(3) wants it beside RELOADING=1
    if (!daemon->is_ready)
        return;
    sd_event_now(daemon->event, CLOCK_MONOTONIC, &now_usec);
    char state[128];
    snprintf(state, sizeof(state),
             "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=Reloading the configuration",
             now_usec);
    notify_send(state, -EBADF);
}

static int on_status_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    tell_status(userdata);
    return 0;
}

/* News shows in `systemctl status` at once, counters with what wakes up the loop next. */
static void tell_later(struct daemon *daemon, bool news)
{
    int enabled = SD_EVENT_OFF;
    if (daemon->stopping) // the status says so
        return;
    sd_event_source_get_enabled(daemon->status_timer, &enabled);
    if (enabled != SD_EVENT_OFF && !news)
        return;
    sd_event_source_set_time_accuracy(daemon->status_timer,
                                      news ? 100 * USEC_PER_MSEC : status_delay_usec);
    uint64_t passed_usec = clock_mono_usec() - daemon->status_mono_usec;
    uint64_t wait_usec = passed_usec < news_delay_usec ? news_delay_usec - passed_usec : 0;
    sd_event_source_set_time_relative(daemon->status_timer, news ? wait_usec : status_delay_usec);
    sd_event_source_set_enabled(daemon->status_timer, SD_EVENT_ONESHOT);
}

static void tell_reloaded(struct daemon *daemon)
{
    if (!daemon->is_ready)
        return;
    notify_send("READY=1", -EBADF);
    daemon->status[0] = '\0'; // tell_reloading() has told another
    tell_later(daemon, true);
}

/*
 * A timer among the loop's other sources: it is late when the loop hangs, and when something keeps
 * the loop so busy that timers do not get their turn. What else may hang is no reason to end what
 * works: a connector is replaced (io/link.h), a disk that does not answer is in the status.
 */
static int on_watchdog(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)usec;
    struct daemon *daemon = userdata;
    notify_send("WATCHDOG=1", -EBADF);
    sd_event_source_set_time_relative(source, daemon->watchdog_usec / 2);
    return 0;
}

/*
 * READY once every actuator and sensor has been tried for the first time; one that takes longer
 * than ready_limit_usec, or does not work at all, is not waited for.
 */
static int on_ready_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)usec;
    struct daemon *daemon = userdata;
    bool late = clock_mono_usec() - daemon->start_mono_usec > ready_limit_usec;
    if (daemon->device && !device_is_settled(daemon->device) && !late) {
        sd_event_source_set_time_relative(source, ready_look_usec);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    }
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_READY), { "DEVICE", daemon->config->daemon->id }),
               "nightlightd " NIGHTLIGHT_VERSION " is up: role %s, id %s",
               config_role_names[daemon->config->daemon->role], daemon->config->daemon->id);
    daemon->is_ready = true;
    notify_send("READY=1", -EBADF);
    tell_status(daemon);
    return 0;
}

/* --- stopping -------------------------------------------------------------------------------- */

static void stop_when_done(struct daemon *daemon)
{
    if (daemon->n_stopping == 0)
        sd_event_exit(daemon->event, 0);
}

static void take_turn(struct daemon *daemon);

static void role_stopped(struct daemon *daemon)
{
    daemon->n_stopping--;
    if (daemon->stopping)
        stop_when_done(daemon);
    else if (daemon->reload)
        take_turn(daemon);
}

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct daemon *daemon = userdata;
    return sd_event_exit(daemon->event, 0);
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                          void *userdata)
{
    (void)source, (void)info;
    struct daemon *daemon = userdata;
    if (daemon->stopping)
        return sd_event_exit(daemon->event, 0); // asked twice: no goodbyes
    daemon->stopping = true;
    notify_send("STOPPING=1\nSTATUS=Saying goodbye to the broker", -EBADF);
    log_info(NULL, "stopping");
    sd_event_source_set_enabled(daemon->ready_timer, SD_EVENT_OFF);
    sd_event_source_set_enabled(daemon->status_timer, SD_EVENT_OFF);
    bool keeps_fleet = daemon->server || daemon->old_server;
    sd_event_source_set_time_relative(daemon->stop_timer,
                                      stop_limit_usec + (keeps_fleet ? SERVER_KEEP_USEC : 0));
    sd_event_source_set_enabled(daemon->stop_timer, SD_EVENT_ONESHOT);
    daemon->n_stopping += (daemon->device != NULL) + (daemon->server != NULL);
    uint64_t end_mono_usec = clock_mono_usec() + goodbye_limit_usec;
    if (daemon->device)
        device_stop(daemon->device, end_mono_usec);
    if (daemon->server)
        server_stop(daemon->server, goodbye_limit_usec);
    stop_when_done(daemon);
    return 0;
}

/* --- roles ----------------------------------------------------------------------------------- */

static void start_reload(struct daemon *daemon);

/* One that was switched off is freed when what it had to keep is on disk. */
static void on_device_event(void *userdata, enum owner_event event)
{
    struct daemon *daemon = userdata;
    if (event == OWNER_RELOAD) {
        start_reload(daemon);
    } else if (event == OWNER_STOPPED) {
        if (daemon->old_device) {
            device_free(TAKE_PTR(daemon->old_device));
            fdstore_prune(); // of what no actuator has any more
        }
        role_stopped(daemon);
    } else {
        tell_later(daemon, event == OWNER_CHANGED);
    }
}

static void on_server_event(void *userdata, enum owner_event event)
{
    struct daemon *daemon = userdata;
    if (event == OWNER_STOPPED) {
        server_free(TAKE_PTR(daemon->old_server));
        role_stopped(daemon);
    } else {
        tell_later(daemon, event == OWNER_CHANGED);
    }
}

static bool has_device(const struct config *config)
{
    return config->daemon->role != ROLE_SERVER;
}

static bool has_server(const struct config *config)
{
    return config->daemon->role != ROLE_DEVICE;
}

static void switch_device_off(struct daemon *daemon)
{
    daemon->old_device = TAKE_PTR(daemon->device);
    daemon->n_stopping++;
    device_stop(daemon->old_device, clock_mono_usec() + goodbye_limit_usec);
}

static void switch_server_off(struct daemon *daemon)
{
    daemon->old_server = TAKE_PTR(daemon->server);
    daemon->n_stopping++;
    server_stop(daemon->old_server, goodbye_limit_usec);
}

/* What a configuration takes of the roles: of each, itself if it is new, else its plan. */
struct plan {
    struct device *device;
    struct server *server;
    struct device_plan *device_plan;
    struct server_plan *server_plan;
};

static void plan_done(struct plan *plan)
{
    device_plan_free(plan->device_plan);
    server_plan_free(plan->server_plan);
    device_free(plan->device);
    server_free(plan->server);
}

static int prepare(struct daemon *daemon, struct config *config, struct plan *plan, struct why *why)
{
    const struct owner of_device = { on_device_event, daemon };
    const struct owner of_server = { on_server_event, daemon };
    int r = 0;
    if (has_device(config))
        r = daemon->device
                ? device_prepare(daemon->device, config, &plan->device_plan, why)
                : device_new(daemon->event, daemon->spool, config, &of_device, &plan->device, why);
    if (r >= 0 && has_server(config))
        r = daemon->server
                ? server_prepare(daemon->server, config, &plan->server_plan)
                : server_new(daemon->event, daemon->spool, config, &of_server, &plan->server);
    return r;
}

static void commit_device(struct daemon *daemon, struct plan *plan, const struct config *config)
{
    if (plan->device_plan)
        device_commit(daemon->device, TAKE_PTR(plan->device_plan));
    if (plan->device)
        device_start(daemon->device = TAKE_PTR(plan->device));
    if (daemon->device && !has_device(config))
        switch_device_off(daemon);
}

static void commit_server(struct daemon *daemon, struct plan *plan, const struct config *config)
{
    if (plan->server_plan)
        server_commit(daemon->server, TAKE_PTR(plan->server_plan));
    if (plan->server)
        server_start(daemon->server = TAKE_PTR(plan->server));
    if (daemon->server && !has_server(config))
        switch_server_off(daemon);
}

/* Brings the roles to a configuration. All that can fail comes first: then nothing has changed. */
static int configure(struct daemon *daemon, struct config *config, struct why *why)
{
    _cleanup_(plan_done) struct plan plan = { 0 };
    int r = prepare(daemon, config, &plan, why);
    if (r < 0)
        return why->text[0] ? r : why_set(why, -r, "%s", strerror(-r));
    log_set_level(config_log_level(config->daemon));
    commit_device(daemon, &plan, config);
    commit_server(daemon, &plan, config);
    config_unref(daemon->config);
    daemon->config = config_ref(config);
    fdstore_prune(); // of what no actuator has any more
    return 0;
}

/* --- reloading ------------------------------------------------------------------------------- */

struct reload {
    struct worker_job base; // first
    struct daemon *daemon;  // the main loop's; gone when the job was abandoned
    const struct config_sources *sources;
    int result;
    struct config *config;
    struct config_errors errors;
};

void daemon_log_errors(const struct config_errors *errors, const char *consequence)
{
    for (size_t i = 0; i < errors->n_lines; i++)
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_CONFIG_INVALID)), "%s", errors->lines[i]);
    log_err(LOG_FIELDS(LOG_ID(LOG_ID_CONFIG_INVALID)), "%zu error%s in the configuration: %s",
            errors->n_lines, errors->n_lines == 1 ? "" : "s", consequence);
}

static void free_reload(struct worker_job *base)
{
    struct reload *reload = (struct reload *)base;
    config_unref(reload->config);
    config_errors_done(&reload->errors);
    free(reload);
}

static void run_reload(struct worker_job *base)
{
    struct reload *reload = (struct reload *)base;
    reload->result = config_load(reload->sources, &reload->config, &reload->errors);
}

/* failure: NULL, or why the old configuration stays in force. */
static void end_reload(struct daemon *daemon, const char *failure)
{
    tell_reloaded(daemon);
    if (daemon->device)
        device_reloaded(daemon->device, failure);
}

static void give_up_reload(struct daemon *daemon, const char *failure)
{
    log_err(NULL, "the configuration is not reloaded, the old one stays in force: %s", failure);
    end_reload(daemon, failure);
}

static void take_up(struct daemon *daemon, struct reload *reload)
{
    struct why why = { "" };
    int r = reload->result;
    r = r < 0 ? why_set(&why, -r, "%s", strerror(-r)) : configure(daemon, reload->config, &why);
    if (r < 0) {
        give_up_reload(daemon, why.text);
        return;
    }
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_CONFIG_RELOADED)), "configuration reloaded");
    end_reload(daemon, NULL);
}

static void carry_out(struct reload *reload)
{
    struct daemon *daemon = reload->daemon;
    if (reload->errors.n_lines > 0) {
        daemon_log_errors(&reload->errors, "it is not reloaded, the old one stays in force");
        end_reload(daemon, reload->errors.lines[0]);
    } else {
        take_up(daemon, reload);
    }
    free_reload(&reload->base);
    if (daemon->reload_again)
        start_reload(daemon);
}

static void on_spool(void *userdata, enum spool_event event)
{
    struct daemon *daemon = userdata;
    if (event == SPOOL_NEWS) {
        tell_later(daemon, true);
        return;
    }
    struct reload *reload = TAKE_PTR(daemon->reload);
    if (daemon->stopping)
        free_reload(&reload->base);
    else
        carry_out(reload);
}

/* A role that is new has records in the store, and reads them before it does anything. */
static bool brings_role(const struct daemon *daemon, const struct config *config)
{
    return (has_device(config) && !daemon->device) || (has_server(config) && !daemon->server);
}

/* And one that has been switched off has come to its end, and has no more to write. */
static void take_turn(struct daemon *daemon)
{
    if (daemon->n_stopping == 0)
        spool_pause(daemon->spool);
}

static void finish_reload(struct worker_job *base)
{
    struct reload *reload = (struct reload *)base;
    struct daemon *daemon = reload->daemon;
    if (daemon->stopping) {
        free_reload(base);
    } else if (reload->result >= 0 && brings_role(daemon, reload->config)) {
        daemon->reload = reload;
        take_turn(daemon);
    } else {
        carry_out(reload);
    }
}

static void start_reload(struct daemon *daemon)
{
    daemon->reload_again = worker_busy(daemon->loader) || daemon->reload;
    if (daemon->reload_again || daemon->stopping)
        return;
    struct reload *reload = calloc(1, sizeof(*reload));
    if (!reload) {
        give_up_reload(daemon, strerror(ENOMEM));
        return;
    }
    *reload = (struct reload){
        .base = { .run = run_reload, .done = finish_reload, .abandoned = free_reload },
        .daemon = daemon,
        .sources = daemon->sources,
    };
    tell_reloading(daemon);
    int r = worker_run(daemon->loader, &reload->base);
    if (r < 0) {
        free_reload(&reload->base);
        give_up_reload(daemon, strerror(-r));
    }
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    (void)source, (void)info;
    start_reload(userdata);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

static int add_signals(struct daemon *daemon)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return -EINVAL;
    int r = sd_event_add_signal(daemon->event, NULL, SIGTERM, on_stop_signal, daemon);
    if (r >= 0)
        r = sd_event_add_signal(daemon->event, NULL, SIGINT, on_stop_signal, daemon);
    if (r >= 0)
        r = sd_event_add_signal(daemon->event, NULL, SIGHUP, on_hangup, daemon);
    return r;
}

static int add_timers(struct daemon *daemon)
{
    int r = sd_event_add_time(daemon->event, &daemon->stop_timer, CLOCK_BOOTTIME, 0, 0,
                              on_stop_timer, daemon);
    if (r >= 0)
        r = sd_event_source_set_enabled(daemon->stop_timer, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_time(daemon->event, &daemon->status_timer, CLOCK_BOOTTIME, 0,
                              100 * USEC_PER_MSEC, on_status_timer, daemon);
    if (r >= 0)
        r = sd_event_source_set_enabled(daemon->status_timer, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_time_relative(daemon->event, &daemon->ready_timer, CLOCK_BOOTTIME, 0,
                                       USEC_PER_MSEC, on_ready_timer, daemon);
    if (r < 0 || sd_watchdog_enabled(0, &daemon->watchdog_usec) <= 0)
        return r;
    r = sd_event_add_time_relative(daemon->event, &daemon->watchdog_timer, CLOCK_MONOTONIC,
                                   daemon->watchdog_usec / 2, daemon->watchdog_usec / 20,
                                   on_watchdog, daemon);
    return r < 0 ? r : sd_event_source_set_enabled(daemon->watchdog_timer, SD_EVENT_ON);
}

static void daemon_done(struct daemon *daemon)
{
    if (daemon->reload) {
        spool_forget_pause(daemon->spool);
        free_reload(&daemon->reload->base);
    }
    device_free(daemon->device);
    server_free(daemon->server);
    device_free(daemon->old_device);
    server_free(daemon->old_server);
    spool_free(daemon->spool);
    notify_done();
    worker_free(daemon->loader);
    sd_event_source_disable_unref(daemon->stop_timer);
    sd_event_source_disable_unref(daemon->status_timer);
    sd_event_source_disable_unref(daemon->ready_timer);
    sd_event_source_disable_unref(daemon->watchdog_timer);
    config_unref(daemon->config);
    sd_event_unref(daemon->event);
}

/* systemd's StateDirectory=, which may be several: the first. */
static int open_spool(struct daemon *daemon, const struct config *config)
{
    const char *directories = getenv("STATE_DIRECTORY");
    if (!directories || !*directories)
        directories = NIGHTLIGHT_STATEDIR;
    _cleanup_(freep) char *directory = strndup(directories, strcspn(directories, ":"));
    if (!directory)
        return -ENOMEM;
    return spool_new(daemon->event, directory, config->queue->max_size, &daemon->spool);
}

int daemon_run(const struct config_sources *sources, struct config *config)
{
    _cleanup_(daemon_done) struct daemon daemon = {
        .sources = sources,
        .start_mono_usec = clock_mono_usec(),
    };
    struct why missing = { "" }, why = { "" };
    int r = sd_event_default(&daemon.event);
    if (r >= 0)
        notify_init(daemon.event);
    fdstore_init();
    if (child_init(&missing) < 0) // all that needs no network works, and each attempt says so
        log_err(LOG_FIELDS(LOG_ID(LOG_ID_CONNECT_FAILED)), "%s; is the package complete?",
                missing.text);
    if (r >= 0)
        r = add_signals(&daemon);
    if (r >= 0)
        r = add_timers(&daemon);
    if (r >= 0)
        r = worker_new(daemon.event, "config", &daemon.loader);
    if (r >= 0)
        r = open_spool(&daemon, config);
    if (r >= 0)
        r = configure(&daemon, config, &why);
    if (r < 0) {
        log_err(NULL, "cannot start: %s", why.text[0] ? why.text : strerror(-r));
        return r;
    }
    spool_listen(daemon.spool, on_spool, &daemon);
    spool_start(daemon.spool);
    r = sd_event_loop(daemon.event);
    if (r < 0)
        log_err(NULL, "the event loop failed: %s", strerror(-r));
    else
        log_notice(NULL, "stopped");
    return r;
}
