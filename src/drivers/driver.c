// SPDX-License-Identifier: LGPL-2.1-or-later
// Hands the drivers of the build's table to the configuration; see driver.h. Opens nothing.
#include "drivers/driver.h"

#include <assert.h>
#include <string.h>

enum { MAX_DRIVERS = 64 }; // of each kind; a build with more stops at the first assert

static size_t list_sensors(struct config_driver *out)
{
    size_t n = 0;
    for (; sensor_drivers[n]; n++) {
        const struct sensor_driver *driver = sensor_drivers[n];
        assert(n < MAX_DRIVERS);
        out[n] = (struct config_driver){
            .name = driver->name,
            .driver = driver,
            .options = driver->options,
            .n_options = driver->n_options,
            .config_size = driver->config_size,
            .check = driver->check,
        };
    }
    return n;
}

static size_t list_actuators(struct config_driver *out)
{
    size_t n = 0;
    for (; actuator_drivers[n]; n++) {
        const struct actuator_driver *driver = actuator_drivers[n];
        assert(n < MAX_DRIVERS);
        out[n] = (struct config_driver){
            .name = driver->name,
            .driver = driver,
            .options = driver->options,
            .n_options = driver->n_options,
            .config_size = driver->config_size,
            .types = driver->types,
            .check = driver->check,
        };
    }
    return n;
}

bool driver_has_node(const char *node, const char *name)
{
    return node && strncmp(name, node, strlen(node)) == 0;
}

void driver_add_to(struct config_sources *sources)
{
    static struct config_driver sensors[MAX_DRIVERS], actuators[MAX_DRIVERS];
    static size_t n_sensors, n_actuators;
    if (n_sensors == 0)
        n_sensors = list_sensors(sensors);
    if (n_actuators == 0)
        n_actuators = list_actuators(actuators);
    sources->sensor_drivers = sensors;
    sources->n_sensor_drivers = n_sensors;
    sources->actuator_drivers = actuators;
    sources->n_actuator_drivers = n_actuators;
}
