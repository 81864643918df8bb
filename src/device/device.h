// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The device role: samples sensors and publishes telemetry, sets actuators as commanded and as its
 * own rules decide, publishes its state and status.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "outbox/spool.h"
#include "util/cleanup.h"

struct device;

struct device_handlers {
    // What device_describe() says has changed; news: more than a counter.
    void (*changed)(void *userdata, bool news);
    void (*stopped)(void *userdata); // after device_stop()
    void (*reload)(void *userdata);  // a command wants it; ends with device_reloaded()
};

int device_new(sd_event *event, struct spool *spool, struct config *config,
               const struct device_handlers *handlers, void *userdata, struct device **ret_device);
void device_free(struct device *device);
DEFINE_CLEANUP(struct device *, device_free)

/*
 * Takes up another configuration: only what changed is closed and opened, the connection is kept
 * unless it is concerned. 0, or -errno and nothing has changed.
 */
int device_reload(struct device *device, struct config *config);

/* A reload has ended, whoever wanted it; failure is one line, NULL if it is in force. */
void device_reloaded(struct device *device, const char *failure);

/*
 * Sets what is to be safe at the end, then as uplink_stop(), which calls handlers.stopped(). An
 * actuator that hangs is waited for no longer than 400 ms of that time.
 */
void device_stop(struct device *device, uint64_t end_mono_usec);

/* Whether every sensor and actuator has been tried at least once: the hardware is up, or known not
 * to be. */
bool device_is_settled(const struct device *device);

/* For `systemctl status`, one line. Returns out. */
const char *device_describe(const struct device *device, char *out, size_t size);
