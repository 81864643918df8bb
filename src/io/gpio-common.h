// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What gpio-v1.c and gpio-v2.c share: finding a line from what the user wrote, the words for a
 * refused request. Internal to gpio-*.c.
 *
 * The two libgpiod APIs have only gpiod_chip_open() and gpiod_chip_close() in common; each file
 * brings the two gpio_chip_ functions below, on which the search is built.
 */
#pragma once

#include <gpiod.h>

#include "io/gpio.h"

#define GPIO_CONSUMER "nightlightd"

DEFINE_CLEANUP(struct gpiod_chip *, gpiod_chip_close)

struct gpio_chip {
    char name[32];  // "gpiochip0"
    char label[32]; // "pinctrl-bcm2711"; the kernel cuts both at 31 bytes
    unsigned n_lines;
};

struct gpio_place {
    struct gpio_chip chip;
    unsigned offset;
};

/* By gpio-v1.c or gpio-v2.c: fills in *ret_description. 0 or -errno. */
int gpio_chip_describe(struct gpiod_chip *chip, struct gpio_chip *ret_description);

/* By gpio-v1.c or gpio-v2.c: the line with that name. 0, -ENOENT or another -errno. */
int gpio_chip_find_line(struct gpiod_chip *chip, const char *name, unsigned *ret_offset);

/*
 * Finds a line by what the user wrote. *ret_chip is open and the caller's to close. Errors as
 * gpio_open().
 */
int gpio_common_find(const char *chip, const char *line, struct gpiod_chip **ret_chip,
                     struct gpio_place *ret_place, struct why *why);

/* What an input is asked to do that not every chip can: "the bias", "the edge"; NULL if nothing. */
const char *gpio_common_extras(const struct gpio_request *request);

/*
 * Says why the kernel refused a request with error (a positive errno), and returns what gpio_open()
 * returns then. line is as the user wrote it, extras as above, consumer who holds the line, NULL if
 * it is not known.
 */
int gpio_common_refused(int error, const char *line, const char *extras,
                        const struct gpio_place *place, const char *consumer, struct why *why);

/* Makes the reads from a line's descriptor return -EAGAIN instead of waiting. 0 or -errno. */
int gpio_common_unblock(int fd);
