// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The server role: takes in the telemetry of every device, applies the rules, sends commands.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "outbox/owner.h"
#include "outbox/spool.h"
#include "util/cleanup.h"

struct server;
struct server_plan; // another configuration, prepared

/* owner is told of changes and of the end. Can be freed again, before server_start(), as if it had
 * never been. 0 or -errno. */
int server_new(sd_event *event, struct spool *spool, struct config *config,
               const struct owner *owner, struct server **ret_server);
void server_free(struct server *server);
DEFINE_CLEANUP(struct server *, server_free)

/* Reads what an earlier run has written down, and connects. Once, before anything else. */
void server_start(struct server *server);

/*
 * Makes what another configuration takes, and touches nothing. server_commit() puts it into force,
 * in the same turn of the main loop, frees it and cannot fail. The connection is kept unless it is
 * concerned; when a rule has changed, the devices' readings come in anew. 0 or -errno.
 */
int server_prepare(struct server *server, struct config *config, struct server_plan **ret_plan);
void server_commit(struct server *server, struct server_plan *plan);
void server_plan_free(struct server_plan *plan);
DEFINE_CLEANUP(struct server_plan *, server_plan_free)

// The longest that it takes to bring to disk what is known of a fleet: on a disk that takes 10 MB a
// second, 64 MB are kept.
#define SERVER_KEEP_USEC (7 * 1000000ULL)

/*
 * Brings to disk what outlives a stop, for SERVER_KEEP_USEC at the most, then says goodbye to the
 * broker, for goodbye_usec at the most, and tells the owner.
 */
void server_stop(struct server *server, uint64_t goodbye_usec);

/* For `systemctl status`, one line. Returns out. */
const char *server_describe(const struct server *server, char *out, size_t size);
