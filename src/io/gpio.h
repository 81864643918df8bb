// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One GPIO line that is read, over libgpiod 1.6 (gpio-v1.c) or 2 (gpio-v2.c), whichever the build
 * found. The users of libgpiod, but for gpio-output.c, which finds its line by it. Calls do not
 * sleep on an on-chip controller; one behind I2C or SPI may take a millisecond.
 *
 * Chips are addressed by label ("pinctrl-bcm2711"), name ("gpiochip0"), number ("0") or path: a
 * Raspberry Pi's number has changed between models, its label and line names have not. Lines by
 * name ("GPIO17") or offset ("17"). An empty chip looks for the line's name on every chip. Neither
 * labels nor names need be unique: the chip with the lowest number wins.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/why.h"

enum gpio_bias { GPIO_BIAS_AS_IS, GPIO_BIAS_DISABLED, GPIO_BIAS_PULL_UP, GPIO_BIAS_PULL_DOWN };
enum gpio_edge { GPIO_EDGE_NONE, GPIO_EDGE_RISING, GPIO_EDGE_FALLING, GPIO_EDGE_BOTH };

struct gpio_request {
    const char *chip; // NULL or "": any
    const char *line;
    bool active_low;
    enum gpio_bias bias;
    enum gpio_edge edge;    // of the logical value
    uint64_t debounce_usec; // with edges only; at most UINT32_MAX
};

struct gpio_event {
    bool value;         // logical, after the edge
    uint64_t mono_usec; // when; of clock_mono_usec()'s clock
};

struct gpio;

/*
 * Requests a line for the consumer "nightlightd". Debounce is the kernel's where it can
 * (API 2), else done here. Errors with why: -ENODEV (no such chip, the known ones are listed),
 * -ENOENT (no such line), -EBUSY (taken; by whom is said), -EINVAL (bias or edge refused), -EACCES.
 */
int gpio_open(const struct gpio_request *request, struct gpio **ret_gpio, struct why *why);

/* Releases the line: the kernel puts it back to its default. NULL is fine. */
void gpio_close(struct gpio *gpio);
DEFINE_CLEANUP(struct gpio *, gpio_close)

/*
 * The logical value (with debounce: the one that was stable last): 0 or 1, or -errno (-ENODEV when
 * the chip has gone).
 */
int gpio_get(struct gpio *gpio);

/*
 * Readable when an edge is waiting; -EBADF without edges. That the chip has gone may not make it
 * readable (seen with Linux 6.1): gpio_get() tells.
 */
int gpio_fd(const struct gpio *gpio);

/*
 * Takes one edge that is waiting: 1 and *ret_event, 0 if there is none (or it was bouncing),
 * -errno (-ENODEV when the chip has gone: close, or gpio_fd() stays readable). Never blocks. Where
 * the kernel had to drop edges, the last value that is told is the line's, all the same.
 */
int gpio_read_event(struct gpio *gpio, struct gpio_event *ret_event);
