// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One sensor: reads its driver when told to, watches for its edges, turns raw values into readings,
 * and gathers them for its stream. A failing one is logged once, opened anew at growing distances,
 * and logged again when it is back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "util/cleanup.h"

struct sensor;

/* Of a sample that has ended, or of an edge. */
struct sensor_news {
    bool has_reading; // else it has failed, or was left alone
    bool is_edge;     // it is to be published at once
    double reading;
    uint64_t mono_usec; // of it
};

/*
 * config is referenced; section stands in it. The driver is opened by the first sample. heard: a
 * sample that sensor_sample() began has ended; an edge; the edges have failed. From the loop alone.
 */
int sensor_new(sd_event *event, struct config *config, const struct config_section *section,
               void (*heard)(void *userdata, struct sensor *sensor, const struct sensor_news *news),
               void *userdata, struct sensor **ret_sensor);
void sensor_free(struct sensor *sensor);
DEFINE_CLEANUP(struct sensor *, sensor_free)

const struct config_section *sensor_section(const struct sensor *sensor);
const char *sensor_name(const struct sensor *sensor);
bool sensor_has_failed(const struct sensor *sensor);

/* How often it is sampled and published, in microseconds, both > 0. */
uint64_t sensor_sample_interval(const struct sensor *sensor);
uint64_t sensor_interval(const struct sensor *sensor);

/*
 * Begins a sample, unless one is under way (then, if it has been for long, the sensor is reported
 * as stuck) or a failed sensor is to be left alone a while longer. Whether it has ended already,
 * with *ret_news; else heard() is called.
 */
bool sensor_sample(struct sensor *sensor, uint64_t now_mono_usec, struct sensor_news *ret_news);

/* When a failed sensor wants its next attempt, whatever its interval is; 0 if there is nothing to
 * try. */
uint64_t sensor_retry_mono_usec(const struct sensor *sensor);

/*
 * A node of that name in /dev has come, gone or changed its mode. Whether it may be the sensor's:
 * then it should be sampled, and a failed one does not wait for its next attempt any longer.
 */
bool sensor_node_changed(struct sensor *sensor, const char *name);

bool sensor_is_sampling(const struct sensor *sensor);

/* What is taken next is published however near it is to what was published last. */
void sensor_forget_published(struct sensor *sensor);

/*
 * Ends its interval: 1 and what to publish, 0 for nothing; as sampling_take(). *ret_n_values is how
 * many readings the interval had.
 */
int sensor_take(struct sensor *sensor, uint64_t now_mono_usec, double *ret_value,
                uint64_t *ret_n_values);
