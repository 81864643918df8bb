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
};

/*
 * A new object, for the role to add members to; NULL: out of memory. status: "online" or "offline".
 * counters NULL: none, since the last will is written before there is anything to count.
 */
struct json_object *status_new(const struct daemon_config *daemon, const char *status,
                               const struct status_counters *counters);

/* One line, the object's own; NULL: out of memory. */
const char *status_text(struct json_object *status);

/* As uplink_describe(): of the connection and the queue, one line. Returns out. */
const char *status_describe(const struct config *config, const struct link *link,
                            const struct outbox *outbox, char *out, size_t size);
