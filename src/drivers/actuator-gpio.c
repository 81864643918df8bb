// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `gpio`: a line that is driven high or low. It goes on as it was when it is opened,
// so that a restart does not make it flicker.
#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "io/gpio-output.h"
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
                "offset. One that is an input becomes an output, with initial or off.",
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
                              struct actuator_start *start, struct why *why)
{
    (void)type; // only bool
    const struct gpio_config *gpio_config = config;
    const struct gpio_output_request request = {
        .chip = gpio_config->chip,
        .line = gpio_config->line,
        .active_low = gpio_config->active_low,
        .has_initial = start->last.type == VALUE_BOOL,
        .initial = start->last.type == VALUE_BOOL && start->last.boolean,
    };
    bool held;
    _cleanup_(gpio_output_closep) struct gpio_output *output = NULL;
    int r = gpio_output_open(&request, &output, &held, why);
    if (r < 0)
        return r;
    int value = gpio_output_get(output);
    if (value < 0)
        return why_set(why, -value, "cannot read the line: %s", strerror(-value));
    start->now = (struct value){ .type = VALUE_BOOL, .boolean = value };
    start->held = held;
    *ret_state = TAKE_PTR(output);
    return 0;
}

static int gpio_actuator_set(void *state, const struct value *value, struct why *why)
{
    int r = gpio_output_set(state, value->boolean);
    return r < 0 ? why_set(why, -r, "cannot set the line: %s", strerror(-r)) : 0;
}

static void gpio_actuator_close(void *state)
{
    gpio_output_close(state);
}

const struct actuator_driver actuator_driver_gpio = {
    .base.name = "gpio",
    .base.help = "A GPIO line, on and off.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct gpio_config),
    .base.node = "gpiochip",
    .types = 1 << VALUE_BOOL,
    .open = gpio_actuator_open,
    .set = gpio_actuator_set,
    .base.close = gpio_actuator_close,
};
