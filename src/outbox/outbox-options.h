// SPDX-License-Identifier: LGPL-2.1-or-later
/* What an outbox is set up with, and its bounds: see outbox.h. */
#pragma once

#include <stdint.h>

#include "core/stream.h"

enum {
    // What is not on disk (yet): more is dropped.
    OUTBOX_MAX_MESSAGES = 10000,
    OUTBOX_MAX_BYTES = 4 << 20,
    // What may be in flight, in bytes, or one message: the connector has memory for that.
    OUTBOX_MAX_WINDOW_BYTES = 1 << 20,
};

struct outbox_options {
    enum stream_durability durability; // of the streams that are not volatile
    uint64_t commit_interval_usec;
    uint64_t max_size;      // bytes on disk
    uint64_t drain_rate;    // late messages a second; 0: no limit
    const char *name;       // for log lines: the client's id
    const char *id, *group; // for topics, as all of these
    const char *topic;      // of streams that are not configured any more; NULL: there are none
    const char *late_topic; // of late messages; NULL: where those go that are not
};
