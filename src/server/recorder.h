// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writes a recording (server/recording.h) in a worker: [server] record. FILE is followed by FILE.1,
 * the one before it: together they hold at most max_size bytes, and nothing that is much older than
 * max_age. What the disk does not take in time is left out and counted. Only whole lines are
 * written: one that an unclean stop has torn is cut off when the file is next written to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

struct recorder;

/* path is copied. 0, -ENOMEM, or what sd-event returns. */
int recorder_new(sd_event *event, const char *path, uint64_t max_size, uint64_t max_age_usec,
                 struct recorder **ret_recorder);

/*
 * The thread writes what waits, and nobody waits for it. What comes while the thread is at work, as
 * when the disk hangs, is lost, and that is said.
 */
void recorder_free(struct recorder *recorder);
DEFINE_CLEANUP(struct recorder *, recorder_free)

/*
 * At a stop: has what waits written at once. Returns whether all of it has been; else it is to be
 * called again. NULL is fine.
 */
bool recorder_finish(struct recorder *recorder);

/* Takes a line of recording_format() over; NULL is fine. */
void recorder_add(struct recorder *recorder, char *line);
