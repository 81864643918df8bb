// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Samples the sensors, each at its own pace on one timer that does not drift, and makes messages of
 * what is due together in a stream.
 *
 *     telemetry_new(), telemetry_configure() with each configuration, telemetry_publish_now() when
 *     the broker is there (again).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "core/ledger.h"
#include "util/cleanup.h"

struct telemetry;

struct telemetry_handlers {
    // A reading of the sensor that is number i of the configuration's sensors.
    void (*reading)(void *userdata, size_t i, double value, uint64_t mono_usec);
    // A message of n_samples samples for a stream; sensor is NULL where several are in it.
    void (*publish)(void *userdata, const char *stream, const char *sensor, const char *payload,
                    uint32_t n_samples, uint64_t mono_usec);
    // Samples that are in no message: each is filtered or merged.
    void (*counted)(void *userdata, const char *stream, const struct ledger *delta);
    // A sensor has failed or is back: telemetry_n_failed() has changed.
    void (*changed)(void *userdata);
};

int telemetry_new(sd_event *event, const struct telemetry_handlers *handlers, void *userdata,
                  struct telemetry **ret_telemetry);
void telemetry_free(struct telemetry *telemetry);
DEFINE_CLEANUP(struct telemetry *, telemetry_free)

/*
 * Takes up a configuration: sensors that are not in it any more are closed, new and changed ones
 * opened, all others go on undisturbed. 0 or -ENOMEM: then nothing has changed.
 */
int telemetry_configure(struct telemetry *telemetry, struct config *config);

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
