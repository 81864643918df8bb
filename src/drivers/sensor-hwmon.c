// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `hwmon`: an input of a Linux hardware monitoring chip (Documentation/hwmon/
// sysfs-interface.rst), in the units that sensors(1) shows.
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "drivers/sysfs.h"
#include "util/cleanup.h"

struct hwmon_config {
    char *chip;
    char *input;
};

struct hwmon {
    char directory[SYSFS_DIRECTORY_SIZE];
    char attribute[SYSFS_TEXT_SIZE];
    double divisor;
};

DEFINE_CLEANUP(DIR *, closedir)

static const struct schema_option options[] = {
    {
        .key = "chip",
        .type = OPTION_STRING,
        .offset = offsetof(struct hwmon_config, chip),
        .min = 1,
        .max = 64,
        .required = true,
        .check = sysfs_check_name,
        .help = "The chip: its name as in /sys/class/hwmon/*/name, or hwmonN where two have the "
                "same name.",
    },
    {
        .key = "input",
        .type = OPTION_STRING,
        .offset = offsetof(struct hwmon_config, input),
        .min = 1,
        .max = 64,
        .required = true,
        .check = sysfs_check_name,
        .help = "The input, such as temp1, in0, fan1 or power1, or its label, such as Tctl. "
                "Temperatures are in degrees Celsius, voltages in volts, currents in amperes, "
                "power in watts, energy in joules, humidity in percent, fans in turns a minute.",
    },
};

/* The kernel's unit of an input, by the letters that its name begins with. */
static double divisor_of(const char *input)
{
    static const struct {
        const char *type;
        double divisor;
    } types[] = {
        { "temp", 1e3 },  { "in", 1e3 },     { "curr", 1e3 },
        { "power", 1e6 }, { "energy", 1e6 }, { "humidity", 1e3 },
    };
    size_t length = strcspn(input, "0123456789");
    for (size_t i = 0; i < ELEMENTS(types); i++)
        if (strlen(types[i].type) == length && strncmp(types[i].type, input, length) == 0)
            return types[i].divisor;
    return 1; // fan and the rest
}

/* Whether entry is an attribute X_label that says label; sets hwmon's attribute to X_input. */
static bool take_label(struct hwmon *hwmon, const char *entry, const char *label)
{
    static const char suffix[] = "_label";
    char text[SYSFS_TEXT_SIZE];
    size_t length = strlen(entry);
    if (length < sizeof(suffix) || strcmp(entry + length - strlen(suffix), suffix) != 0 ||
        sysfs_read_text(hwmon->directory, entry, text, NULL) < 0 || strcmp(text, label) != 0)
        return false;
    length -= strlen(suffix);
    if (length > 64)
        return false;
    snprintf(hwmon->attribute, sizeof(hwmon->attribute), "%.*s_input", (int)length, entry);
    return true;
}

static int find_input(struct hwmon *hwmon, const char *input, struct why *why)
{
    snprintf(hwmon->attribute, sizeof(hwmon->attribute), "%s_input", input);
    if (sysfs_exists(hwmon->directory, hwmon->attribute))
        return 0;
    char path[SYSFS_PATH_SIZE];
    _cleanup_(closedirp) DIR *entries = opendir(sysfs_path(hwmon->directory, "", path));
    const struct dirent *entry;
    while (entries && (entry = readdir(entries)))
        if (take_label(hwmon, entry->d_name, input))
            return 0;
    return why_set(why, ENODEV, "%s has no input '%s', nor one with that label", path, input);
}

static int hwmon_open(const void *config, void **ret_state, struct why *why)
{
    const struct hwmon_config *hwmon_config = config;
    _cleanup_(freep) struct hwmon *hwmon = calloc(1, sizeof(*hwmon));
    if (!hwmon)
        return why_set(why, ENOMEM, "out of memory");
    int r = sysfs_find("class/hwmon", hwmon_config->chip, hwmon->directory, why);
    if (r == 0)
        r = find_input(hwmon, hwmon_config->input, why);
    if (r < 0)
        return r;
    hwmon->divisor = divisor_of(hwmon->attribute);
    *ret_state = TAKE_PTR(hwmon);
    return 0;
}

static int hwmon_read(void *state, double *ret_value, struct why *why)
{
    const struct hwmon *hwmon = state;
    double value;
    int r = sysfs_read_number(hwmon->directory, hwmon->attribute, &value, why);
    if (r == 0)
        *ret_value = value / hwmon->divisor;
    return r;
}

const struct sensor_driver sensor_driver_hwmon = {
    .base.name = "hwmon",
    .base.help = "An input of a Linux hardware monitoring chip: temperature, voltage, fan, power.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct hwmon_config),
    .base.blocking = true,
    .open = hwmon_open,
    .read = hwmon_read,
    .base.close = free,
};
