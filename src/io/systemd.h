// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What systemd is asked for over the system bus: to start a unit, to reboot. Connects when it is
 * needed first, and again after the connection was lost. Nothing here waits: each call comes back
 * by its handler, also when there is no bus at all.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

struct systemd;

/* How it ended. failure is one line, NULL if all is well; not called from within the call. */
typedef void (*systemd_done_fn)(void *userdata, const char *failure);

/* 0 or -ENOMEM. */
int systemd_new(sd_event *event, struct systemd **ret_systemd);

/* Handlers of what is under way are not called any more. NULL is fine. */
void systemd_free(struct systemd *systemd);
DEFINE_CLEANUP(struct systemd *, systemd_free)

/*
 * Starts a unit, and calls done() when its job has ended: for a service of Type=oneshot, with its
 * end. -ENOMEM, or -errno if the bus cannot be reached.
 */
int systemd_start_unit(struct systemd *systemd, const char *unit, systemd_done_fn done,
                       void *userdata);

/* Whether logind would let us reboot; then reboots if now is set. Errors as above. */
int systemd_reboot(struct systemd *systemd, bool now, systemd_done_fn done, void *userdata);
