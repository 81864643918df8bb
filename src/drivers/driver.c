// SPDX-License-Identifier: LGPL-2.1-or-later
// Hands the drivers of the build's table to the configuration; see driver.h. Opens nothing.
#include "drivers/driver.h"

#include <assert.h>
#include <string.h>

enum { MAX_DRIVERS = 64 }; // of each kind; a build with more stops at the first assert

static struct config_driver describe(const struct driver *driver, unsigned types)
{
    return (struct config_driver){
        .name = driver->name,
        .driver = driver,
        .options = driver->options,
        .n_options = driver->n_options,
        .config_size = driver->config_size,
        .types = types,
        .check = driver->check,
    };
}

bool driver_has_node(const struct driver *driver, const char *name)
{
    return driver->node && strncmp(name, driver->node, strlen(driver->node)) == 0;
}

void driver_add_to(struct config_sources *sources)
{
    static struct config_driver sensors[MAX_DRIVERS], actuators[MAX_DRIVERS];
    static size_t n_sensors, n_actuators;
    for (; sensor_drivers[n_sensors]; n_sensors++) {
        assert(n_sensors < MAX_DRIVERS);
        sensors[n_sensors] = describe(&sensor_drivers[n_sensors]->base, 0);
    }
    for (; actuator_drivers[n_actuators]; n_actuators++) {
        assert(n_actuators < MAX_DRIVERS);
        const struct actuator_driver *driver = actuator_drivers[n_actuators];
        actuators[n_actuators] = describe(&driver->base, driver->types);
    }
    sources->sensor_drivers = sensors;
    sources->n_sensor_drivers = n_sensors;
    sources->actuator_drivers = actuators;
    sources->n_actuator_drivers = n_actuators;
}
