// SPDX-License-Identifier: LGPL-2.1-or-later
// An output line by the kernel's ioctls. The descriptor belongs to fdstore.c, or to this file where
// the store is full.
#include "io/gpio-output.h"

#include <fcntl.h>
#include <linux/gpio.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "io/fdstore.h"
#include "io/gpio-common.h"

struct gpio_output {
    int fd;
    bool is_stored;
};

static uint64_t flags_of(const struct gpio_output_request *request, bool is_output)
{
    // "As is" keeps direction and level: whoever had the line before us may have left it on.
    bool as_is = !request->has_initial && is_output;
    return (as_is ? 0 : GPIO_V2_LINE_FLAG_OUTPUT) |
           (request->active_low ? GPIO_V2_LINE_FLAG_ACTIVE_LOW : 0);
}

static void add_value(struct gpio_v2_line_config *config, bool value)
{
    config->num_attrs = 1;
    config->attrs[0].mask = 1;
    config->attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES;
    config->attrs[0].attr.values = value;
}

static int get_value(int fd)
{
    struct gpio_v2_line_values values = { .mask = 1 };
    return ioctl(fd, GPIO_V2_LINE_GET_VALUES_IOCTL, &values) < 0 ? -errno : (int)(values.bits & 1);
}

/* --- taking one up --------------------------------------------------------------------------- */

/* Turns active_low around under a line without a change of its level. */
static int turn_around(int fd, const struct gpio_output_request *request)
{
    struct gpio_v2_line_config config = {
        .flags = flags_of(request, false),
    };
    int value = get_value(fd);
    if (value < 0)
        return value;
    add_value(&config, !value);
    return ioctl(fd, GPIO_V2_LINE_SET_CONFIG_IOCTL, &config) < 0 ? -errno : 0;
}

/*
 * Whether fd, which the store says is this line, is an output of ours still, as the request wants
 * it. info is what the kernel says of the line.
 */
static bool fits(int fd, const struct gpio_output_request *request,
                 const struct gpio_v2_line_info *info)
{
    const uint64_t ours = GPIO_V2_LINE_FLAG_USED | GPIO_V2_LINE_FLAG_OUTPUT;
    bool active_low = info->flags & GPIO_V2_LINE_FLAG_ACTIVE_LOW;
    if ((info->flags & ours) != ours || strcmp(info->consumer, GPIO_CONSUMER) != 0)
        return false;
    if (active_low != request->active_low && turn_around(fd, request) < 0)
        return false;
    return get_value(fd) >= 0;
}

static int adopt(const char *name, const struct gpio_output_request *request,
                 const struct gpio_v2_line_info *info)
{
    int fd = fdstore_claim(name);
    if (fd < 0 || fits(fd, request, info))
        return fd;
    fdstore_drop(fd);
    return -ENOENT;
}

/* --- requesting one -------------------------------------------------------------------------- */

static int request_line(int chip_fd, const struct gpio_output_request *request,
                        const struct gpio_v2_line_info *info)
{
    struct gpio_v2_line_request line = {
        .offsets = { info->offset },
        .num_lines = 1,
        .consumer = GPIO_CONSUMER,
        .config.flags = flags_of(request, info->flags & GPIO_V2_LINE_FLAG_OUTPUT),
    };
    if (line.config.flags & GPIO_V2_LINE_FLAG_OUTPUT)
        add_value(&line.config, request->has_initial && request->initial);
    return ioctl(chip_fd, GPIO_V2_GET_LINE_IOCTL, &line) < 0 ? -errno : line.fd;
}

static int find(const struct gpio_output_request *request, struct gpio_place *ret_place,
                int *ret_chip_fd, struct why *why)
{
    char path[64];
    _cleanup_(gpiod_chip_closep) struct gpiod_chip *chip = NULL;
    int r = gpio_common_find(request->chip, request->line, &chip, ret_place, why);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "/dev/%s", ret_place->chip.name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return why_set(why, errno, "%s: %s", path, strerror(errno));
    *ret_chip_fd = fd;
    return 0;
}

int gpio_output_open(const struct gpio_output_request *request, struct gpio_output **ret_output,
                     bool *ret_held, struct why *why)
{
    char name[64];
    struct gpio_place place;
    _cleanup_(closep) int chip_fd = -EBADF;
    _cleanup_(freep) struct gpio_output *output = malloc(sizeof(*output));
    if (!output)
        return why_set(why, ENOMEM, "out of memory");
    int r = find(request, &place, &chip_fd, why);
    if (r < 0)
        return r;
    struct gpio_v2_line_info info = { .offset = place.offset };
    if (ioctl(chip_fd, GPIO_V2_GET_LINEINFO_IOCTL, &info) < 0)
        return gpio_common_refused(errno, request->line, NULL, &place, NULL, why);
    // A chip keeps its name for as long as a descriptor of its lines is of any use.
    snprintf(name, sizeof(name), "gpio-%s-%u", place.chip.name, place.offset);
    int fd = adopt(name, request, &info);
    *ret_held = fd >= 0;
    if (fd < 0)
        fd = request_line(chip_fd, request, &info);
    if (fd < 0)
        return gpio_common_refused(-fd, request->line, NULL, &place,
                                   info.consumer[0] ? info.consumer : NULL, why);
    *output = (struct gpio_output){ fd, *ret_held || fdstore_add(name, fd) == 0 };
    *ret_output = TAKE_PTR(output);
    return 0;
}

void gpio_output_close(struct gpio_output *output)
{
    if (!output)
        return;
    if (!output->is_stored)
        close(output->fd);
    else if (get_value(output->fd) >= 0)
        fdstore_release(output->fd);
    else // its chip has gone, and keeps the number that it had for as long as this is open
        fdstore_drop(output->fd);
    free(output);
}

int gpio_output_get(const struct gpio_output *output)
{
    return get_value(output->fd);
}

int gpio_output_set(const struct gpio_output *output, bool value)
{
    struct gpio_v2_line_values values = { .bits = value, .mask = 1 };
    return ioctl(output->fd, GPIO_V2_LINE_SET_VALUES_IOCTL, &values) < 0 ? -errno : 0;
}
