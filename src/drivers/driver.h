// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a driver is. A sensor: copy a file in this directory to sensor-NAME.c, define
 * `const struct sensor_driver sensor_driver_NAME`, done: the build finds it, the configuration
 * checks its keys, the manual lists them, the contract test runs over it. An actuator likewise.
 *
 * A driver that may sleep says `blocking`: then open, read or set, and close run in a worker thread
 * of that sensor or actuator alone, one call at a time; else on the main loop. Drivers never log;
 * they return -errno and why. A failed read or set may be followed by close and open.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "core/value.h"
#include "util/why.h"

/* What every driver has. */
struct driver {
    const char *name;
    const char *help;                    // one sentence for the manual
    const struct schema_option *options; // offsets are into a structure of config_size
    size_t n_options;
    size_t config_size;
    bool blocking;
    const char *node; // it speaks to a node in /dev whose name begins so; NULL: to none

    // A check of the keys together, when the configuration is read; NULL. -EINVAL with why.
    int (*check)(const void *config, struct why *why);

    void (*close)(void *state);

    // Blocking drivers whose call can take long: makes one under way in the worker return soon.
    // Called on the main loop; NULL where there is nothing to do.
    void (*cancel)(void *state);
};

/* An edge of a line: the value after it (0 or 1, active_low applied) and when it was. */
struct sensor_edge {
    double value;
    uint64_t mono_usec;
};

enum { SENSOR_MAX_EDGES = 64 }; // in one dispatch

struct sensor_driver {
    struct driver base; // first: a section's driver is known by it

    // config outlives the state. *ret_state is the driver's own.
    int (*open)(const void *config, void **ret_state, struct why *why);

    // The raw value now. Any finite number; -errno with why (the reading alone is lost).
    int (*read)(void *state, double *ret_value, struct why *why);

    // Sensors that speak up: a descriptor to watch for reading, -EBADF if this one has none; and
    // the edges when it is ready, a vector of SENSOR_MAX_EDGES: returns how many there are, or
    // -errno with why. Not with blocking. NULL both.
    int (*fd)(void *state);
    int (*dispatch)(void *state, struct sensor_edge *ret_edges, struct why *why);
};

/* What is known of an actuator when its driver is opened. */
struct actuator_start {
    struct value last; // in: what it was set to last, in an earlier run too; VALUE_NONE: not known
    struct value now;  // out: what it is; VALUE_NONE if that cannot be known
    bool held;         // out: nobody else can have moved it since it was set last, so now counts
};

struct actuator_driver {
    struct driver base; // first, as above
    unsigned types;     // the value types that it takes: mask of 1 << VALUE_...

    // Opens without moving anything where the hardware allows that; one that has to be given a
    // value gets start->last. start's out members are zero and stay so where nothing is known.
    // type is what the configuration says, and last's if there is one.
    int (*open)(const void *config, enum value_type type, void **ret_state,
                struct actuator_start *start, struct why *why);

    // Sets an absolute state; setting the same again does no harm.
    int (*set)(void *state, const struct value *value, struct why *why);
};

/* Whether the node in /dev of that name may be one that driver speaks to. */
bool driver_has_node(const struct driver *driver, const char *name);

/* Every driver there is, NULL-terminated; written by the build. */
extern const struct sensor_driver *const sensor_drivers[];
extern const struct actuator_driver *const actuator_drivers[];

/*
 * Fills in sources' driver tables from the two above; they are static, made at the first call, and
 * never freed.
 */
void driver_add_to(struct config_sources *sources);
