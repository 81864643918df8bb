// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `iio`: a channel of a Linux industrial I/O device (light, ADC, temperature), by its
// attributes (Documentation/ABI/testing/sysfs-bus-iio).
#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "drivers/sysfs.h"
#include "util/cleanup.h"

struct iio_config {
    char *device;
    char *channel;
};

struct iio {
    const char *channel;
    char directory[SYSFS_DIRECTORY_SIZE];
};

static int check_channel(const char *text, struct why *why)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    if (text[strspn(text, letters)] != '\0')
        return why_set(why, EINVAL, "a channel such as illuminance, voltage0 or temp is expected");
    return 0;
}

/* A number alone is what gpio and pwm take for a chip, and never the name of a device. */
static int check_device(const char *text, struct why *why)
{
    if (text[strspn(text, "0123456789")] == '\0')
        return why_set(why, EINVAL,
                       "'%.20s' is a number alone; expected a name such as bh1750, or "
                       "iio:device%.20s",
                       text, text);
    return sysfs_check_name(text, why);
}

static const struct schema_option options[] = {
    {
        .key = "device",
        .type = OPTION_STRING,
        .offset = offsetof(struct iio_config, device),
        .min = 1,
        .max = 64,
        .required = true,
        .check = check_device,
        .help = "The device: its name as in /sys/bus/iio/devices/*/name, such as bh1750, or "
                "iio:deviceN where two have the same name.",
    },
    {
        .key = "channel",
        .type = OPTION_STRING,
        .offset = offsetof(struct iio_config, channel),
        .min = 1,
        .max = 64,
        .required = true,
        .check = check_channel,
        .help = "The channel as the device's files in_CHANNEL_input or in_CHANNEL_raw name it: "
                "illuminance, voltage0, temp, accel_x. The value is in the unit of the kernel's "
                "ABI: illuminance in lux, voltage in millivolts, temp in thousandths of a degree "
                "Celsius, humidityrelative in thousandths of a percent, accel in m/s2; scale "
                "makes another of it.",
    },
};

static int iio_open(const void *config, void **ret_state, struct why *why)
{
    const struct iio_config *iio_config = config;
    _cleanup_(freep) struct iio *iio = calloc(1, sizeof(*iio));
    if (!iio)
        return why_set(why, ENOMEM, "out of memory");
    iio->channel = iio_config->channel;
    int r = sysfs_find("bus/iio/devices", iio_config->device, iio->directory, why);
    if (r < 0)
        return r;
    char input[SYSFS_TEXT_SIZE], raw[SYSFS_TEXT_SIZE];
    snprintf(input, sizeof(input), "in_%s_input", iio->channel);
    snprintf(raw, sizeof(raw), "in_%s_raw", iio->channel);
    if (!sysfs_exists(iio->directory, input) && !sysfs_exists(iio->directory, raw))
        return why_set(why, ENODEV, "%s has neither %s nor %s", iio_config->device, input, raw);
    *ret_state = TAKE_PTR(iio);
    return 0;
}

/*
 * Reads in_CHANNEL_SUFFIX, else the one that the channels of a type share: in_voltage_scale for
 * voltage0 and voltage0-voltage1 (also as in_voltage-voltage_scale), in_accel_scale for accel_x.
 * *value is left alone if there is none.
 */
static int read_factor(const struct iio *iio, const char *suffix, double *value, struct why *why)
{
    char without_digits[SYSFS_TEXT_SIZE];
    size_t n = 0;
    for (const char *at = iio->channel; *at && n + 1 < sizeof(without_digits); at++)
        if (*at < '0' || *at > '9')
            without_digits[n++] = *at;
    without_digits[n] = '\0';
    int type_length = (int)strcspn(iio->channel, "0123456789_-");
    char names[3][SYSFS_TEXT_SIZE];
    snprintf(names[0], sizeof(names[0]), "in_%.64s_%s", iio->channel, suffix);
    snprintf(names[1], sizeof(names[1]), "in_%.64s_%s", without_digits, suffix);
    snprintf(names[2], sizeof(names[2]), "in_%.*s_%s", type_length, iio->channel, suffix);
    for (size_t i = 0; i < ELEMENTS(names); i++)
        if (sysfs_exists(iio->directory, names[i]))
            return sysfs_read_number(iio->directory, names[i], value, why);
    return 0;
}

static int iio_read(void *state, double *ret_value, struct why *why)
{
    const struct iio *iio = state;
    char name[SYSFS_TEXT_SIZE];
    snprintf(name, sizeof(name), "in_%s_input", iio->channel);
    if (sysfs_exists(iio->directory, name))
        return sysfs_read_number(iio->directory, name, ret_value, why);
    snprintf(name, sizeof(name), "in_%s_raw", iio->channel);
    double raw, offset = 0, scale = 1; // the two are read each time: a range may be switched
    int r = sysfs_read_number(iio->directory, name, &raw, why);
    if (r == 0)
        r = read_factor(iio, "offset", &offset, why);
    if (r == 0)
        r = read_factor(iio, "scale", &scale, why);
    if (r == 0)
        *ret_value = (raw + offset) * scale;
    return r;
}

const struct sensor_driver sensor_driver_iio = {
    .base.name = "iio",
    .base.help = "A channel of a Linux industrial I/O device: light, analogue input, temperature.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct iio_config),
    .base.blocking = true,
    .open = iio_open,
    .read = iio_read,
    .base.close = free,
};
