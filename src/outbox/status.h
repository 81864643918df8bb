// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The text of the retained status message: {"status": "online", ...} with the counters and the
 * ledger of every stream, and the one of the last will, {"status": "offline", ...}.
 */
#pragma once

#include <json-c/json.h>
#include <stdint.h>

#include "config/config.h"
#include "io/link.h"
#include "outbox/outbox.h"

/* The stream that the status message goes by. */
extern const struct stream_policy status_policy;

/* What is to be counted besides the role and the version. */
struct status_counters {
    const struct outbox *outbox;
    uint64_t since_wall_usec; // when the connection came up
    uint64_t n_rejected;      // commands and messages that were refused
    // Further members, of the role; may be NULL.
    void (*add)(void *userdata, struct json_object *status);
    void *userdata;
};

/*
 * A new string, one line; NULL: out of memory. status: "online" or "offline". counters NULL: none,
 * since the last will is written before there is anything to count.
 */
char *status_format(const struct daemon_config *daemon, const char *status,
                    const struct status_counters *counters);

/* As uplink_describe(): of the connection and the queue, one line. Returns out. */
const char *status_describe(const struct config *config, const struct link *link,
                            const struct outbox *outbox, char *out, size_t size);
