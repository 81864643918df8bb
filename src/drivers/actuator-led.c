// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `led`: the brightness of a Linux LED (Documentation/leds/leds-class.rst). It sets
// nothing else; a trigger of the LED is left as it is.
#include <math.h>
#include <stdio.h>

#include "drivers/driver.h"
#include "drivers/sysfs.h"
#include "util/cleanup.h"

struct led_config {
    char *name;
};

struct led {
    char directory[SYSFS_DIRECTORY_SIZE];
    double max_brightness;
};

static const struct schema_option options[] = {
    {
        .key = "name",
        .type = OPTION_STRING,
        .offset = offsetof(struct led_config, name),
        .min = 1,
        .max = 255,
        .required = true,
        .check = sysfs_check_name,
        .help = "The LED, as in /sys/class/leds. A bool switches between 0 and the LED's "
                "max_brightness; a number is the brightness from 0 to max_brightness, rounded. A "
                "trigger of the LED goes on acting on it: set it to none, by a udev rule.",
    },
};

static int read_now(const struct led *led, enum value_type type, struct value *ret_now,
                    struct why *why)
{
    double brightness;
    int r = sysfs_read_number(led->directory, "brightness", &brightness, why);
    if (r < 0)
        return r;
    if (type == VALUE_BOOL)
        *ret_now = (struct value){ .type = VALUE_BOOL, .boolean = brightness > 0 };
    else
        *ret_now = (struct value){ .type = VALUE_NUMBER, .number = brightness };
    return 0;
}

static int led_open(const void *config, enum value_type type, void **ret_state,
                    struct actuator_start *start, struct why *why)
{
    const struct led_config *led_config = config;
    _cleanup_(freep) struct led *led = calloc(1, sizeof(*led));
    if (!led)
        return why_set(why, ENOMEM, "out of memory");
    snprintf(led->directory, sizeof(led->directory), "class/leds/%s", led_config->name);
    int r = sysfs_read_number(led->directory, "max_brightness", &led->max_brightness, why);
    if (r < 0)
        return r;
    if (led->max_brightness < 1 || led->max_brightness > UINT32_MAX)
        return why_set(why, EBADMSG, "the max_brightness of %s is %g", led_config->name,
                       led->max_brightness);
    r = read_now(led, type, &start->now, why);
    if (r < 0)
        return r;
    *ret_state = TAKE_PTR(led);
    return 0;
}

static int led_set(void *state, const struct value *value, struct why *why)
{
    const struct led *led = state;
    double brightness = value->type == VALUE_BOOL ? (value->boolean ? led->max_brightness : 0)
                                                  : round(value->number);
    if (brightness < 0 || brightness > led->max_brightness)
        return why_set(why, ERANGE, "%g is not a brightness from 0 to %g", brightness,
                       led->max_brightness);
    return sysfs_write_integer(led->directory, "brightness", (uint64_t)brightness, why);
}

const struct actuator_driver actuator_driver_led = {
    .base.name = "led",
    .base.help = "A Linux LED, on and off or dimmed.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct led_config),
    .base.blocking = true, // an LED behind I2C or USB takes its time
    .types = 1 << VALUE_BOOL | 1 << VALUE_NUMBER,
    .open = led_open,
    .set = led_set,
    .base.close = free,
};
