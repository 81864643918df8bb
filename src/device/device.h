// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The device role: samples sensors and publishes telemetry, sets actuators as commanded and as its
 * own rules decide, publishes its state and status.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "outbox/owner.h"
#include "outbox/spool.h"
#include "util/cleanup.h"
#include "util/why.h"

struct device;
struct device_plan; // another configuration, prepared

/*
 * spool is borrowed. owner is told of all that owner.h names; a reload that he is told of ends with
 * device_reloaded(). What it may not do before device_start() it does not: it can be
 * freed again as if it had never been. Errors as device_prepare().
 */
int device_new(sd_event *event, struct spool *spool, struct config *config,
               const struct owner *owner, struct device **ret_device, struct why *why);
void device_free(struct device *device);
DEFINE_CLEANUP(struct device *, device_free)

/* Reads what an earlier run has written down, sets the actuators, and connects. Once. */
void device_start(struct device *device);

/*
 * Makes what another configuration takes, and touches nothing. device_commit() puts it into force,
 * in the same turn of the main loop, frees it and cannot fail: only what changed is closed and
 * opened, the connection is kept unless it is concerned. 0, or -errno, with why if a sensor or an
 * actuator is concerned.
 */
int device_prepare(struct device *device, struct config *config, struct device_plan **ret_plan,
                   struct why *why);
void device_commit(struct device *device, struct device_plan *plan);
void device_plan_free(struct device_plan *plan);
DEFINE_CLEANUP(struct device_plan *, device_plan_free)

/* A reload has ended, whoever wanted it; failure is one line, NULL if it is in force. */
void device_reloaded(struct device *device, const char *failure);

/*
 * Sets what is to be safe at the end, then as uplink_stop(), after which owner is told. An
 * actuator that hangs is waited for no longer than 400 ms of that time.
 */
void device_stop(struct device *device, uint64_t end_mono_usec);

/* Whether every sensor and actuator has been tried at least once: the hardware is up, or known not
 * to be. */
bool device_is_settled(const struct device *device);

/* For `systemctl status`, one line. Returns out. */
const char *device_describe(const struct device *device, char *out, size_t size);
