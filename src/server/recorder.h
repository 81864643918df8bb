// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writes a recording (server/recording.h) in a worker: [server] record. FILE is followed by FILE.1,
 * the one before it: together they hold at most max_size bytes, and nothing that is much older than
 * max_age. What the disk does not take in time is left out and counted.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

struct recorder;

/* path is copied. 0, -ENOMEM, or what sd-event returns. */
int recorder_new(sd_event *event, const char *path, uint64_t max_size, uint64_t max_age_usec,
                 struct recorder **ret_recorder);

/* Without waiting for the disk: what has not been written is lost. */
void recorder_free(struct recorder *recorder);
DEFINE_CLEANUP(struct recorder *, recorder_free)

/* Takes a line of recording_format() over; NULL is fine. */
void recorder_add(struct recorder *recorder, char *line);
