// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `w1`: a 1-Wire thermometer (DS18B20 and its kin) through the kernel's w1_therm. A
// reading waits for the conversion, some 750 ms.
#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "drivers/reading.h"
#include "drivers/sysfs.h"
#include "util/cleanup.h"
#include "util/files.h"

struct w1_config {
    char *device;
};

struct w1 {
    char directory[SYSFS_DIRECTORY_SIZE];
};

static const struct schema_option options[] = {
    {
        .key = "device",
        .type = OPTION_STRING,
        .offset = offsetof(struct w1_config, device),
        .min = 1,
        .max = 64,
        .required = true,
        .check = sysfs_check_name,
        .help = "The thermometer, as in /sys/bus/w1/devices: 28-00000abcdef0. The value is in "
                "degrees Celsius. 85 degrees, which is what it says before it has measured, is "
                "refused.",
    },
};

static int w1_open(const void *config, void **ret_state, struct why *why)
{
    const struct w1_config *w1_config = config;
    _cleanup_(freep) struct w1 *w1 = calloc(1, sizeof(*w1));
    if (!w1)
        return why_set(why, ENOMEM, "out of memory");
    snprintf(w1->directory, sizeof(w1->directory), "bus/w1/devices/%s", w1_config->device);
    char path[SYSFS_PATH_SIZE];
    if (!sysfs_exists(w1->directory, ""))
        return why_set(why, ENODEV, "there is no %s", sysfs_path(w1->directory, "", path));
    *ret_state = TAKE_PTR(w1);
    return 0;
}

static int read_slave(const char *path, double *ret_value, struct why *why)
{
    _cleanup_(freep) char *text = NULL;
    size_t length;
    int r = files_read(path, 4096, &text, &length);
    if (r < 0)
        return why_set(why, -r, "cannot read %s: %s", path, strerror(-r));
    struct why cause = { 0 };
    r = reading_from_w1_slave(text, length, ret_value, &cause);
    return r < 0 ? why_set(why, -r, "%s: %s", path, cause.text) : 0;
}

static int w1_read(void *state, double *ret_value, struct why *why)
{
    const struct w1 *w1 = state;
    char path[SYSFS_PATH_SIZE];
    if (sysfs_exists(w1->directory, "w1_slave")) // has the check sum
        return read_slave(sysfs_path(w1->directory, "w1_slave", path), ret_value, why);
    double milli_celsius;
    int r = sysfs_read_number(w1->directory, "temperature", &milli_celsius, why);
    return r < 0 ? r : reading_from_w1_milli(milli_celsius, ret_value, why);
}

const struct sensor_driver sensor_driver_w1 = {
    .base.name = "w1",
    .base.help = "A 1-Wire thermometer, such as the DS18B20.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct w1_config),
    .base.blocking = true,
    .open = w1_open,
    .read = w1_read,
    .base.close = free,
};
