// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Samples the sensors, each at its own pace on one timer that does not drift, and makes messages of
 * what is due together in a stream, for the uplink.
 *
 *     telemetry_new(), telemetry_prepare() and telemetry_commit() with each configuration,
 *     telemetry_publish_now() when the broker is there (again).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "outbox/owner.h"
#include "outbox/uplink.h"
#include "util/cleanup.h"
#include "util/ratelimit.h"
#include "util/why.h"

struct telemetry;
struct telemetry_plan; // another configuration, prepared

/*
 * uplink takes what is published; story says whether a line about it is logged. Both borrowed.
 * owner is told that a sensor has failed or is back. reading: the sensor that is number i of the
 * configuration's sensors has one; from the loop alone.
 */
int telemetry_new(sd_event *event, struct uplink *uplink, struct ratelimit *story,
                  const struct owner *owner,
                  void (*reading)(void *userdata, size_t i, double value, uint64_t mono_usec),
                  void *userdata, struct telemetry **ret_telemetry);
void telemetry_free(struct telemetry *telemetry);
DEFINE_CLEANUP(struct telemetry *, telemetry_free)

/*
 * Makes what another configuration takes, and touches nothing. telemetry_commit() puts it into
 * force, frees it and cannot fail: sensors that are not configured any more are closed, new and
 * changed ones opened, all others go on undisturbed. 0, or -errno, with why if it is a sensor's.
 */
int telemetry_prepare(struct telemetry *telemetry, struct config *config,
                      struct telemetry_plan **ret_plan, struct why *why);
void telemetry_commit(struct telemetry *telemetry, struct telemetry_plan *plan);
void telemetry_plan_free(struct telemetry_plan *plan);
DEFINE_CLEANUP(struct telemetry_plan *, telemetry_plan_free)

/*
 * Samples and publishes now, besides the rhythm, the sensors of these names (a vector), or with
 * NULL every one.
 */
void telemetry_publish_now(struct telemetry *telemetry, char *const *names);

/* A node of that name in /dev has come, gone or changed its mode: what reads it notices. */
void telemetry_node_changed(struct telemetry *telemetry, const char *name);

/* Whether every sensor has been sampled at least once, with or without success. */
bool telemetry_is_settled(const struct telemetry *telemetry);

size_t telemetry_n_sensors(const struct telemetry *telemetry);
size_t telemetry_n_failed(const struct telemetry *telemetry);
