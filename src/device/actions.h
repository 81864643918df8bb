// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What {"$action": NAME} does: sample, identify, reload; reboot and the units that the
 * configuration names. Each comes to its end by handlers.acted(), from the main loop.
 *
 *     actions_begin(); where that says ACTIONS_ONCE, actions_await(), and actions_recorded() when
 *     it is on disk that it was begun: only then systemd is asked.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "core/envelope.h"
#include "util/cleanup.h"
#include "util/why.h"

/* Of actions_begin(): it waits for actions_await(), since it must not be done twice. */
enum { ACTIONS_ONCE = 1 };

struct actions;

struct actions_handlers {
    // readings: a JSON object of fresh readings, or NULL.
    void (*acted)(void *userdata, uint64_t token, enum reply_status status, const char *reason,
                  const char *readings);
    // The sensors of these names (a vector; NULL: every one) at once; readings come by
    // actions_reading().
    void (*sample)(void *userdata, char *const *names);
    void (*reload)(void *userdata); // the configuration; ends with actions_reloaded()
};

int actions_new(sd_event *event, const struct actions_handlers *handlers, void *userdata,
                struct actions **ret_actions);
void actions_free(struct actions *actions);
DEFINE_CLEANUP(struct actions *, actions_free)

/*
 * Begins an action; token is given back by acted(), which is not called from here. 0, ACTIONS_ONCE,
 * or -ENOENT (there is no such action or sensor), -EACCES (not allowed), -ENOMEM, each with why.
 */
int actions_begin(struct actions *actions, struct config *config, const struct envelope *envelope,
                  uint64_t token, struct why *why);

/* ticket: of the record that the action of that token was begun, as outbox_sync_records() has it.
 */
void actions_await(struct actions *actions, uint64_t token, uint64_t ticket);

/* What was written down is on disk, up to that ticket. */
void actions_recorded(struct actions *actions, uint64_t ticket);

/* A sensor of that name has a reading. */
void actions_reading(struct actions *actions, const char *sensor, double value);

/* The configuration has been loaded again; failure is one line, NULL if it is in force. */
void actions_reloaded(struct actions *actions, const char *failure);
