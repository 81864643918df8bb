// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A connector's process as its parent sees it: started with one end of a pair of sockets, watched,
 * killed, reaped, and what it said last on standard error kept.
 *
 *     child_init();                                      // at the start: holds on to the program
 *     child_new(event, exited, userdata, &fd, &child);   // fd: our end of the pair
 *
 * The program is opened once and started by its descriptor: an upgrade under way changes nothing.
 * From the main thread alone: the child ends with the thread that has started it.
 */
#pragma once

#include <systemd/sd-event.h>

#include "util/cleanup.h"
#include "util/why.h"

struct child;

/*
 * Opens the program: beside the one that runs, if that is not installed, else where the package has
 * it. 0, or -errno with why; child_new() tries again then.
 */
int child_init(struct why *why);

/*
 * Starts one; *ret_fd is not blocking and the caller's. 0, or -errno with why: -EMFILE, -EAGAIN,
 * -ENOMEM, -ENOENT and what else posix_spawn(3) returns.
 *
 * exited() is called once, from the loop and not after child_free(), when it has ended and is
 * reaped. how is one line ("was killed by signal 9 (Killed)", with its last words on standard
 * error), NULL if it ended by itself, with status 0.
 */
int child_new(sd_event *event, void (*exited)(void *userdata, const char *how), void *userdata,
              int *ret_fd, struct child **ret_child, struct why *why);

/* SIGKILL. exited() follows. */
void child_kill(struct child *child);

/* Kills it, if it has not ended; the loop reaps it. NULL is fine. */
void child_free(struct child *child);
DEFINE_CLEANUP(struct child *, child_free)
