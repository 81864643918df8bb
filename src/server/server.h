// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The server role: takes in the telemetry of every device, applies the rules, sends commands.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "outbox/spool.h"
#include "util/cleanup.h"

struct server;

struct server_handlers {
    // What server_describe() says has changed; news: more than a counter.
    void (*changed)(void *userdata, bool news);
    void (*stopped)(void *userdata); // after server_stop()
};

int server_new(sd_event *event, struct spool *spool, struct config *config,
               const struct server_handlers *handlers, void *userdata, struct server **ret_server);
void server_free(struct server *server);
DEFINE_CLEANUP(struct server *, server_free)

/*
 * Takes up another configuration. The connection is kept unless it is concerned; when a rule has
 * changed, the devices' readings come in anew. 0, or -errno and nothing has changed.
 */
int server_reload(struct server *server, struct config *config);

/* As uplink_stop(), which calls handlers.stopped(). */
void server_stop(struct server *server, uint64_t end_mono_usec);

/* For `systemctl status`, one line. Returns out. */
const char *server_describe(const struct server *server, char *out, size_t size);
