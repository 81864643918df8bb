// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What {"$action": NAME} does: sample, identify, reload; reboot and the units that the
 * configuration names. Who waits for one hears of its end from the main loop, never from within a
 * call.
 *
 *     actions_begin(); where that says ACTIONS_ONCE, actions_await(), and actions_recorded() when
 *     it is on disk that it was begun: only then systemd is asked.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "core/envelope.h"
#include "device/telemetry.h"
#include "util/cleanup.h"
#include "util/why.h"

/* Of actions_begin(): it waits for actions_await(), since it must not be done twice. */
enum { ACTIONS_ONCE = 1 };

struct actions;

/* Who waits for an action. readings: a JSON object of fresh readings, or NULL. */
struct actions_waiter {
    void (*ended)(void *userdata, enum reply_status status, const char *reason,
                  const char *readings);
    void *userdata; // of his own: actions_await() knows him by it
};

/* telemetry is borrowed. owner is told of a reload, and calls actions_reloaded() at its end. */
int actions_new(sd_event *event, struct telemetry *telemetry, const struct owner *owner,
                struct actions **ret_actions);

/* Nobody hears of the end of what is under way. */
void actions_free(struct actions *actions);
DEFINE_CLEANUP(struct actions *, actions_free)

/*
 * Begins an action. 0, ACTIONS_ONCE, or -ENOENT (there is no such action or sensor), -EACCES (not
 * allowed), -ENOMEM, each with why.
 */
int actions_begin(struct actions *actions, struct config *config, const struct envelope *envelope,
                  const struct actions_waiter *waiter, struct why *why);

/*
 * ticket: of the record that the action which waiter (his userdata) waits for was begun, as
 * outbox_sync_records() has it.
 */
void actions_await(struct actions *actions, const void *waiter, uint64_t ticket);

/* What was written down is on disk, up to that ticket. */
void actions_recorded(struct actions *actions, uint64_t ticket);

/* A sensor of that name has a reading. */
void actions_reading(struct actions *actions, const char *sensor, double value);

/* The configuration has been loaded again; failure is one line, NULL if it is in force. */
void actions_reloaded(struct actions *actions, const char *failure);
