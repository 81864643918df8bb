// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `gpio`: the value of a line, 0 or 1, read at an interval or told at every edge.
#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "io/gpio.h"
#include "util/cleanup.h"

struct gpio_config {
    char *chip;
    char *line;
    int bias; // enum gpio_bias
    bool active_low;
    int edge; // enum gpio_edge
    uint64_t debounce_usec;
};

static const char *const biases[] = {
    [GPIO_BIAS_AS_IS] = "as-is",
    [GPIO_BIAS_DISABLED] = "disabled",
    [GPIO_BIAS_PULL_UP] = "pull-up",
    [GPIO_BIAS_PULL_DOWN] = "pull-down",
    NULL,
};

static const char *const edges[] = {
    [GPIO_EDGE_NONE] = "none",
    [GPIO_EDGE_RISING] = "rising",
    [GPIO_EDGE_FALLING] = "falling",
    [GPIO_EDGE_BOTH] = "both",
    NULL,
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
                "offset.",
    },
    {
        .key = "bias",
        .type = OPTION_ENUM,
        .offset = offsetof(struct gpio_config, bias),
        .def = "as-is",
        .choices = biases,
        .help = "The line's internal resistor; as-is leaves it alone. Not every chip has one.",
    },
    {
        .key = "active_low",
        .type = OPTION_BOOL,
        .offset = offsetof(struct gpio_config, active_low),
        .def = "no",
        .help = "Whether a low level counts as 1. It turns rising and falling around as well.",
    },
    {
        .key = "edge",
        .type = OPTION_ENUM,
        .offset = offsetof(struct gpio_config, edge),
        .def = "none",
        .choices = edges,
        .help = "The edges that are published at once, besides the value at each interval.",
    },
    {
        .key = "debounce",
        .type = OPTION_DURATION,
        .offset = offsetof(struct gpio_config, debounce_usec),
        .min = 0,
        .max = 60e6,
        .def = "0",
        .help = "How long the line must have been stable before an edge counts: some 20ms for a "
                "switch or a button. With an edge only.",
    },
};

static int gpio_sensor_check(const void *config, struct why *why)
{
    const struct gpio_config *gpio_config = config;
    if (gpio_config->debounce_usec > 0 && gpio_config->edge == GPIO_EDGE_NONE)
        return why_set(why, EINVAL, "debounce needs an edge: rising, falling or both");
    return 0;
}

static int gpio_sensor_open(const void *config, void **ret_state, struct why *why)
{
    const struct gpio_config *gpio_config = config;
    const struct gpio_request request = {
        .chip = gpio_config->chip,
        .line = gpio_config->line,
        .active_low = gpio_config->active_low,
        .bias = (enum gpio_bias)gpio_config->bias,
        .edge = (enum gpio_edge)gpio_config->edge,
        .debounce_usec = gpio_config->debounce_usec,
    };
    struct gpio *gpio;
    int r = gpio_open(&request, &gpio, why);
    if (r < 0)
        return r;
    *ret_state = gpio;
    return 0;
}

static int gpio_sensor_read(void *state, double *ret_value, struct why *why)
{
    int value = gpio_get(state);
    if (value < 0)
        return why_set(why, -value, "cannot read the line: %s", strerror(-value));
    *ret_value = value;
    return 0;
}

static void gpio_sensor_close(void *state)
{
    gpio_close(state);
}

static int gpio_sensor_fd(void *state)
{
    return gpio_fd(state);
}

static int gpio_sensor_dispatch(void *state, struct sensor_edge *ret_edges, struct why *why)
{
    int n = 0;
    for (; n < SENSOR_MAX_EDGES; n++) {
        struct gpio_event event;
        int r = gpio_read_event(state, &event);
        if (r < 0 && n == 0)
            return why_set(why, -r, "cannot read the line's edges: %s", strerror(-r));
        if (r <= 0)
            break; // an error comes again, when those before it have been told
        ret_edges[n] = (struct sensor_edge){ event.value, event.mono_usec };
    }
    return n;
}

const struct sensor_driver sensor_driver_gpio = {
    .base.name = "gpio",
    .base.help = "A GPIO line: 0 or 1.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct gpio_config),
    .base.node = "gpiochip",
    .base.check = gpio_sensor_check,
    .open = gpio_sensor_open,
    .read = gpio_sensor_read,
    .base.close = gpio_sensor_close,
    .fd = gpio_sensor_fd,
    .dispatch = gpio_sensor_dispatch,
};
