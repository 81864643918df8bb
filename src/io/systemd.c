// SPDX-License-Identifier: LGPL-2.1-or-later
// The one user of sd-bus. Owns the connection and the calls under way.
#include "io/systemd.h"

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>

static const char manager_name[] = "org.freedesktop.systemd1";
static const char manager_path[] = "/org/freedesktop/systemd1";
static const char manager_interface[] = "org.freedesktop.systemd1.Manager";
static const char login_name[] = "org.freedesktop.login1";
static const char login_path[] = "/org/freedesktop/login1";
static const char login_interface[] = "org.freedesktop.login1.Manager";

/* A call, and for a unit the job that it has begun. */
struct call {
    struct systemd *systemd;
    LIST_ENTRY(call) entry;
    sd_bus_slot *slot; // of the method call; NULL once it has been answered
    char *job;         // its object path; NULL: not known yet, or there is none
    void *userdata;
};

struct systemd {
    sd_event *event;
    sd_bus *bus; // NULL: not connected
    void (*done)(void *userdata, const char *failure);
    LIST_HEAD(, call) calls;
};

static void call_free(struct call *call)
{
    sd_bus_slot_unref(call->slot);
    free(call->job);
    free(call);
}

static void finish(struct call *call, const char *failure)
{
    LIST_REMOVE(call, entry);
    call->systemd->done(call->userdata, failure);
    call_free(call);
}

static void disconnect(struct systemd *systemd)
{
    if (!systemd->bus)
        return;
    sd_bus_detach_event(systemd->bus);
    systemd->bus = sd_bus_close_unref(systemd->bus);
}

/* --- signals --------------------------------------------------------------------------------- */

static const char *explain_result(const char *result, char *out, size_t size)
{
    if (strcmp(result, "done") == 0)
        return NULL;
    snprintf(out, size, "its job ended as '%.40s'", result);
    return out;
}

/* JobRemoved(u id, o job, s unit, s result), org.freedesktop.systemd1(5). */
static int on_job_removed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    (void)error;
    struct systemd *systemd = userdata;
    const char *job, *unit, *result;
    char text[64];
    unsigned id;
    if (sd_bus_message_read(message, "uoss", &id, &job, &unit, &result) < 0)
        return 0;
    for (struct call *call = LIST_FIRST(&systemd->calls), *next; call; call = next) {
        next = LIST_NEXT(call, entry);
        if (call->job && strcmp(call->job, job) == 0)
            finish(call, explain_result(result, text, sizeof(text)));
    }
    return 0;
}

static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    (void)message, (void)error;
    struct systemd *systemd = userdata;
    disconnect(systemd);
    while (!LIST_EMPTY(&systemd->calls))
        finish(LIST_FIRST(&systemd->calls), "the connection to the system bus was lost");
    return 0;
}

/* An answer that only matters if it is a refusal, and then nothing else would work either. */
static int on_ignored(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    (void)message, (void)userdata, (void)error;
    return 0;
}

static int subscribe(sd_bus *bus, struct systemd *systemd)
{
    int r = sd_bus_match_signal_async(bus, NULL, manager_name, manager_path, manager_interface,
                                      "JobRemoved", on_job_removed, on_ignored, systemd);
    if (r >= 0)
        r = sd_bus_match_signal_async(bus, NULL, NULL, "/org/freedesktop/DBus/Local",
                                      "org.freedesktop.DBus.Local", "Disconnected", on_disconnected,
                                      NULL, systemd);
    if (r >= 0) // without it the manager keeps its signals to itself
        r = sd_bus_call_method_async(bus, NULL, manager_name, manager_path, manager_interface,
                                     "Subscribe", on_ignored, NULL, "");
    return r;
}

/* The handshake goes on by itself, in the loop. */
static int connect_bus(struct systemd *systemd)
{
    if (systemd->bus)
        return 0;
    int r = sd_bus_open_system(&systemd->bus);
    if (r >= 0)
        r = sd_bus_attach_event(systemd->bus, systemd->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = subscribe(systemd->bus, systemd);
    if (r < 0)
        disconnect(systemd);
    return r < 0 ? r : 0;
}

/* --- calls ----------------------------------------------------------------------------------- */

/* Both managers ask polkit; where there is none, they refuse. */
static const char refusal[] = "polkit does not allow it, see COMMANDS in nightlightd.conf(5)";

/* What a method said of its failure; NULL if it did not fail. */
static const char *failure_of(sd_bus_message *message, char *out, size_t size)
{
    const sd_bus_error *error = sd_bus_message_get_error(message);
    if (!error)
        return NULL;
    const char *text = error->message && *error->message ? error->message : error->name;
    if (sd_bus_error_has_names(error, SD_BUS_ERROR_ACCESS_DENIED,
                               SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
        snprintf(out, size, "%s (%.120s)", refusal, text);
    else
        snprintf(out, size, "%.200s", text);
    return out;
}

static int on_started(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    (void)error;
    struct call *call = userdata;
    char text[256];
    const char *job, *failure = failure_of(message, text, sizeof(text));
    call->slot = sd_bus_slot_unref(call->slot);
    if (!failure && sd_bus_message_read(message, "o", &job) < 0)
        failure = "systemd's answer is not understood";
    if (!failure) {
        call->job = strdup(job);
        if (call->job)
            return 0;
        failure = "out of memory";
    }
    finish(call, failure);
    return 0;
}

static int on_rebooting(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    (void)error;
    char text[256];
    finish(userdata, failure_of(message, text, sizeof(text)));
    return 0;
}

/* CanReboot() answers "yes", "no", "na" or "challenge", org.freedesktop.login1(5). */
static int on_can_reboot(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    (void)error;
    char text[256];
    const char *answer, *failure = failure_of(message, text, sizeof(text));
    if (!failure && sd_bus_message_read(message, "s", &answer) < 0)
        failure = "logind's answer is not understood";
    if (!failure && strcmp(answer, "yes") != 0) {
        snprintf(text, sizeof(text), "%s (logind says '%.20s')", refusal, answer);
        failure = text;
    }
    finish(userdata, failure);
    return 0;
}

static struct call *new_call(struct systemd *systemd, void *userdata)
{
    struct call *call = calloc(1, sizeof(*call));
    if (call)
        *call = (struct call){ .systemd = systemd, .userdata = userdata };
    return call;
}

/* Takes over call, which the method call with result r was made for. */
static int add_call(struct systemd *systemd, struct call *call, int r)
{
    if (r < 0) {
        call_free(call);
        return r;
    }
    LIST_INSERT_HEAD(&systemd->calls, call, entry);
    return 0;
}

int systemd_start_unit(struct systemd *systemd, const char *unit, void *userdata)
{
    struct call *call = new_call(systemd, userdata);
    if (!call)
        return -ENOMEM;
    int r = connect_bus(systemd);
    if (r == 0)
        r = sd_bus_call_method_async(systemd->bus, &call->slot, manager_name, manager_path,
                                     manager_interface, "StartUnit", on_started, call, "ss", unit,
                                     "replace");
    return add_call(systemd, call, r);
}

int systemd_reboot(struct systemd *systemd, bool now, void *userdata)
{
    struct call *call = new_call(systemd, userdata);
    if (!call)
        return -ENOMEM;
    int r = connect_bus(systemd);
    if (r == 0 && now)
        r = sd_bus_call_method_async(systemd->bus, &call->slot, login_name, login_path,
                                     login_interface, "Reboot", on_rebooting, call, "b", false);
    else if (r == 0)
        r = sd_bus_call_method_async(systemd->bus, &call->slot, login_name, login_path,
                                     login_interface, "CanReboot", on_can_reboot, call, "");
    return add_call(systemd, call, r);
}

/* --- life ------------------------------------------------------------------------------------ */

int systemd_new(sd_event *event, void (*done)(void *userdata, const char *failure),
                struct systemd **ret_systemd)
{
    struct systemd *systemd = calloc(1, sizeof(*systemd));
    if (!systemd)
        return -ENOMEM;
    systemd->event = sd_event_ref(event);
    systemd->done = done;
    *ret_systemd = systemd;
    return 0;
}

void systemd_free(struct systemd *systemd)
{
    if (!systemd)
        return;
    while (!LIST_EMPTY(&systemd->calls)) {
        struct call *call = LIST_FIRST(&systemd->calls);
        LIST_REMOVE(call, entry);
        call_free(call);
    }
    disconnect(systemd);
    sd_event_unref(systemd->event);
    free(systemd);
}
