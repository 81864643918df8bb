// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What systemd is told (sd_notify(3)), without waiting for it: sd_notify(3) itself waits while the
 * manager reads nothing, and the main loop would wait with it. What the manager does not take now
 * waits in a queue, in which a newer STATUS=, WATCHDOG=, ... takes the place of an older one. One a
 * process. Main loop only.
 *
 *     notify_init(event);
 *     notify_send("STATUS=fine", -EBADF);
 */
#pragma once

#include <systemd/sd-event.h>

/* From now on what waits is sent when the manager reads again. Without NOTIFY_SOCKET: nothing. */
void notify_init(sd_event *event);

/* What waits is given up; before the loop ends. */
void notify_done(void);

/*
 * state as sd_notify(3) has it, with a descriptor to pass, which stays the caller's, or -EBADF. One
 * that there is no room for (NOTIFY_MAX_WAITING) is lost.
 */
enum { NOTIFY_MAX_WAITING = 200 };
void notify_send(const char *state, int fd);
