// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `gpio`: a line that is driven high or low. A line that is an output already keeps
// its level when it is opened, so that a restart does not make it flicker.
#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "io/gpio.h"
#include "util/cleanup.h"

struct gpio_config {
    char *chip;
    char *line;
    bool active_low;
};

static const struct schema_option options[] = {
    {
        .key = "chip",
        .type = OPTION_STRING,
        .offset = offsetof(struct gpio_config, chip),
        .min = 1,
        .max = 200,
        .help = "The chip: its label as gpiodetect(1) shows it, such as pinctrl-bcm2711, its name, "
                "its number or its path. Numbers may change with a kernel, labels do not. Unset: "
                "the first chip that has the line.",
    },
    {
        .key = "line",
        .type = OPTION_STRING,
        .offset = offsetof(struct gpio_config, line),
        .min = 1,
        .max = 31,
        .required = true,
        .help = "The line: its name as gpioinfo(1) shows it, such as GPIO17, or, with a chip, its "
                "offset. One that is an input becomes an output that is off.",
    },
    {
        .key = "active_low",
        .type = OPTION_BOOL,
        .offset = offsetof(struct gpio_config, active_low),
        .def = "no",
        .help = "Whether a low level means true, as for many relay boards.",
    },
};

static int gpio_actuator_open(const void *config, enum value_type type, void **ret_state,
                              struct value *ret_now, struct why *why)
{
    (void)type; // only bool
    const struct gpio_config *gpio_config = config;
    const struct gpio_request request = {
        .chip = gpio_config->chip,
        .line = gpio_config->line,
        .output = true,
        .keep = true,
        .active_low = gpio_config->active_low,
    };
    _cleanup_(gpio_closep) struct gpio *gpio = NULL;
    int r = gpio_open(&request, &gpio, why);
    if (r < 0)
        return r;
    int value = gpio_get(gpio);
    if (value < 0)
        return why_set(why, -value, "cannot read the line: %s", strerror(-value));
    *ret_now = (struct value){ .type = VALUE_BOOL, .boolean = value };
    *ret_state = TAKE_PTR(gpio);
    return 0;
}

static int gpio_actuator_set(void *state, const struct value *value, struct why *why)
{
    int r = gpio_set(state, value->boolean);
    return r < 0 ? why_set(why, -r, "cannot set the line: %s", strerror(-r)) : 0;
}

static void gpio_actuator_close(void *state)
{
    gpio_close(state);
}

const struct actuator_driver actuator_driver_gpio = {
    .name = "gpio",
    .help = "A GPIO line, on and off.",
    .options = options,
    .n_options = ELEMENTS(options),
    .config_size = sizeof(struct gpio_config),
    .types = 1 << VALUE_BOOL,
    .open = gpio_actuator_open,
    .set = gpio_actuator_set,
    .close = gpio_actuator_close,
};
