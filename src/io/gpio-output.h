// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A GPIO line that is driven high or low, over the kernel's own interface (linux/gpio.h, version 2,
 * since Linux 5.10): libgpiod 1 does not give out the descriptor of an output, and neither version
 * takes one up, which is what a restart without a flicker needs. Chips and lines go by what
 * io/gpio.h says.
 */
#pragma once

#include <stdbool.h>

#include "util/cleanup.h"
#include "util/why.h"

struct gpio_output_request {
    const char *chip; // NULL or "": any
    const char *line;
    bool active_low;
    bool has_initial; // else a line that is an output already keeps its level, any other is off
    bool initial;     // its first value, logical
};

struct gpio_output;

/*
 * Takes up a line that fdstore.h holds, whatever initial says and without a change of its level;
 * else requests it for the consumer "nightlightd" and hands it to the store. *ret_held tells which.
 * Errors with why, as gpio_open().
 */
int gpio_output_open(const struct gpio_output_request *request, struct gpio_output **ret_output,
                     bool *ret_held, struct why *why);

/*
 * The line stays as it is until the store is pruned or systemd gives it up; one whose chip has gone
 * is given up at once. NULL is fine.
 */
void gpio_output_close(struct gpio_output *output);
DEFINE_CLEANUP(struct gpio_output *, gpio_output_close)

/* The logical value: 0 or 1, or -errno (-ENODEV when the chip has gone). */
int gpio_output_get(const struct gpio_output *output);

/* 0 or -errno (as above). */
int gpio_output_set(const struct gpio_output *output, bool value);
