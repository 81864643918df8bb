// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What systemd is asked for over the system bus: to start a unit, to reboot. Connects when it is
 * needed first, and again after the connection was lost. Nothing here waits: each call comes back
 * by done(), with its userdata, also when there is no bus at all.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

struct systemd;

/*
 * done() is told how a call has ended: failure is one line, NULL if all is well. It is not called
 * from within the call. 0 or -ENOMEM.
 */
int systemd_new(sd_event *event, void (*done)(void *userdata, const char *failure),
                struct systemd **ret_systemd);

/* done() is not called any more for what is under way. NULL is fine. */
void systemd_free(struct systemd *systemd);
DEFINE_CLEANUP(struct systemd *, systemd_free)

/*
 * Starts a unit; done() comes when its job has ended: for a service of Type=oneshot, with its
 * end. -ENOMEM, or -errno if the bus cannot be reached.
 */
int systemd_start_unit(struct systemd *systemd, const char *unit, void *userdata);

/* Whether logind would let us reboot; then reboots if now is set. Errors as above. */
int systemd_reboot(struct systemd *systemd, bool now, void *userdata);
