// SPDX-License-Identifier: LGPL-2.1-or-later
// The kernel's side of linux/gpio.h, versions 1 and 2, for requests of one line. A request is kept
// in version 2's flags, whichever version it came by.
#include "shim.h"

#include <errno.h>
#include <linux/gpio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const uint64_t edge_flags = GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING;

static const struct {
    uint32_t handle;
    uint64_t flag;
} handle_flags[] = {
    { GPIOHANDLE_REQUEST_INPUT, GPIO_V2_LINE_FLAG_INPUT },
    { GPIOHANDLE_REQUEST_OUTPUT, GPIO_V2_LINE_FLAG_OUTPUT },
    { GPIOHANDLE_REQUEST_ACTIVE_LOW, GPIO_V2_LINE_FLAG_ACTIVE_LOW },
    { GPIOHANDLE_REQUEST_BIAS_PULL_UP, GPIO_V2_LINE_FLAG_BIAS_PULL_UP },
    { GPIOHANDLE_REQUEST_BIAS_PULL_DOWN, GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN },
    { GPIOHANDLE_REQUEST_BIAS_DISABLE, GPIO_V2_LINE_FLAG_BIAS_DISABLED },
};

static int fail(int error)
{
    errno = error;
    return -1;
}

static bool is_active_low(const struct gpioshim_line *line)
{
    return (line->flags & GPIO_V2_LINE_FLAG_ACTIVE_LOW) != 0;
}

static uint64_t from_handle_flags(uint32_t handle)
{
    uint64_t flags = 0;
    for (size_t i = 0; i < sizeof(handle_flags) / sizeof(handle_flags[0]); i++)
        if (handle & handle_flags[i].handle)
            flags |= handle_flags[i].flag;
    return flags;
}

/* The line of a chip's descriptor; NULL and errno. */
static struct gpioshim_line *line_at(int fd, uint32_t offset)
{
    struct gpioshim_chip *chip = gpioshim_chip(shim_fds[fd].chip);
    if (offset < chip->n_lines)
        return &chip->lines[offset];
    errno = EINVAL;
    return NULL;
}

/* Gives a line its direction and, as an output, its logical value. */
static void drive(struct gpioshim_line *line, uint64_t flags, bool value)
{
    int level = line->level;
    bool output = line->output;
    if (flags & GPIO_V2_LINE_FLAG_INPUT)
        output = false;
    if (flags & GPIO_V2_LINE_FLAG_OUTPUT) {
        output = true;
        level = value != is_active_low(line);
    }
    line->n_changes += level != line->level || output != line->output;
    line->level = level;
    line->output = output;
}

/* Hands out a line: its new descriptor, or -1 and errno. initial is logical. */
static int request_line(int fd, int version, uint32_t offset, uint64_t flags, bool initial,
                        const char *consumer)
{
    struct gpioshim_line *line = line_at(fd, offset);
    if (!line)
        return -1;
    if (shim_is_held(line))
        return fail(EBUSY);
    if (line->refusal)
        return fail(line->refusal);
    if ((flags & edge_flags) && !(flags & GPIO_V2_LINE_FLAG_INPUT))
        return fail(EINVAL);
    int line_fd = shim_new_line_fd(shim_fds[fd].chip, (int)offset);
    if (line_fd < 0)
        return -1;
    line->n_requests++;
    line->version = version;
    line->flags = flags;
    line->seqno = 0;
    line->holder = getpid();
    line->holder_fd = line_fd;
    snprintf(line->consumer, sizeof(line->consumer), "%.31s", consumer);
    drive(line, flags, initial);
    return line_fd;
}

static int set_line(struct gpioshim_line *line, bool value)
{
    if (!line->output)
        return fail(EPERM);
    drive(line, GPIO_V2_LINE_FLAG_OUTPUT, value);
    return 0;
}

static int chip_info(int fd, struct gpiochip_info *info)
{
    const struct gpioshim_chip *chip = gpioshim_chip(shim_fds[fd].chip);
    *info = (struct gpiochip_info){ .lines = chip->n_lines };
    snprintf(info->name, sizeof(info->name), "gpiochip%d", shim_fds[fd].chip);
    memcpy(info->label, chip->label, sizeof(info->label));
    return 0;
}

static int line_info_v1(int fd, struct gpioline_info *info)
{
    const struct gpioshim_line *line = line_at(fd, info->line_offset);
    if (!line)
        return -1;
    bool held = shim_is_held(line);
    info->flags = (held ? GPIOLINE_FLAG_KERNEL : 0) | (line->output ? GPIOLINE_FLAG_IS_OUT : 0) |
                  (is_active_low(line) ? GPIOLINE_FLAG_ACTIVE_LOW : 0);
    memcpy(info->name, line->name, sizeof(info->name));
    memcpy(info->consumer, held ? line->consumer : (char[32]){ 0 }, sizeof(info->consumer));
    return 0;
}

static int line_info_v2(int fd, struct gpio_v2_line_info *info)
{
    const struct gpioshim_line *line = line_at(fd, info->offset);
    if (!line)
        return -1;
    bool held = shim_is_held(line);
    info->num_attrs = 0;
    info->flags = held ? line->flags : 0;
    info->flags &= ~(uint64_t)(GPIO_V2_LINE_FLAG_INPUT | GPIO_V2_LINE_FLAG_OUTPUT);
    info->flags |= line->output ? GPIO_V2_LINE_FLAG_OUTPUT : GPIO_V2_LINE_FLAG_INPUT;
    info->flags |= held ? GPIO_V2_LINE_FLAG_USED : 0;
    memcpy(info->name, line->name, sizeof(info->name));
    memcpy(info->consumer, held ? line->consumer : (char[32]){ 0 }, sizeof(info->consumer));
    return 0;
}

static int request_handle(int fd, struct gpiohandle_request *request)
{
    request->fd = request_line(fd, 1, request->lineoffsets[0], from_handle_flags(request->flags),
                               request->default_values[0], request->consumer_label);
    return request->fd < 0 ? -1 : 0;
}

static int request_events(int fd, struct gpioevent_request *request)
{
    uint64_t flags = from_handle_flags(request->handleflags) | GPIO_V2_LINE_FLAG_INPUT;
    if (request->eventflags & GPIOEVENT_REQUEST_RISING_EDGE)
        flags |= GPIO_V2_LINE_FLAG_EDGE_RISING;
    if (request->eventflags & GPIOEVENT_REQUEST_FALLING_EDGE)
        flags |= GPIO_V2_LINE_FLAG_EDGE_FALLING;
    request->fd = request_line(fd, 1, request->lineoffset, flags, false, request->consumer_label);
    return request->fd < 0 ? -1 : 0;
}

static int request_v2(int fd, struct gpio_v2_line_request *request)
{
    uint64_t flags = request->config.flags;
    uint64_t values = 0;
    uint32_t debounce_usec = 0;
    for (uint32_t i = 0; i < request->config.num_attrs; i++) {
        const struct gpio_v2_line_attribute *attribute = &request->config.attrs[i].attr;
        if (attribute->id == GPIO_V2_LINE_ATTR_ID_FLAGS)
            flags = attribute->flags;
        else if (attribute->id == GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES)
            values = attribute->values;
        else if (attribute->id == GPIO_V2_LINE_ATTR_ID_DEBOUNCE)
            debounce_usec = attribute->debounce_period_us;
    }
    request->fd = request_line(fd, 2, request->offsets[0], flags, values & 1, request->consumer);
    if (request->fd < 0)
        return -1;
    gpioshim_line(shim_fds[fd].chip, (int)request->offsets[0])->debounce_usec = debounce_usec;
    return 0;
}

static int set_config(struct gpioshim_line *line, const struct gpio_v2_line_config *config)
{
    bool value = config->num_attrs > 0 && (config->attrs[0].attr.values & 1);
    line->flags = config->flags;
    drive(line, config->flags, value);
    return 0;
}

static int chip_ioctl(int fd, uint32_t request, void *argument)
{
    switch (request) {
    case GPIO_GET_CHIPINFO_IOCTL:
        return chip_info(fd, argument);
    case GPIO_GET_LINEINFO_IOCTL:
        return line_info_v1(fd, argument);
    case GPIO_GET_LINEHANDLE_IOCTL:
        return request_handle(fd, argument);
    case GPIO_GET_LINEEVENT_IOCTL:
        return request_events(fd, argument);
    case GPIO_V2_GET_LINEINFO_IOCTL:
        return line_info_v2(fd, argument);
    case GPIO_V2_GET_LINE_IOCTL:
        return request_v2(fd, argument);
    default:
        return fail(ENOTTY);
    }
}

static int line_ioctl(struct gpioshim_line *line, uint32_t request, void *argument)
{
    bool value = line->level != (int)is_active_low(line);
    switch (request) {
    case GPIOHANDLE_GET_LINE_VALUES_IOCTL:
        ((struct gpiohandle_data *)argument)->values[0] = value;
        return 0;
    case GPIOHANDLE_SET_LINE_VALUES_IOCTL:
        return set_line(line, ((struct gpiohandle_data *)argument)->values[0]);
    case GPIO_V2_LINE_GET_VALUES_IOCTL:
        ((struct gpio_v2_line_values *)argument)->bits = value;
        return 0;
    case GPIO_V2_LINE_SET_CONFIG_IOCTL:
        return set_config(line, argument);
    case GPIO_V2_LINE_SET_VALUES_IOCTL:
        return set_line(line, ((struct gpio_v2_line_values *)argument)->bits & 1);
    default:
        return fail(ENOTTY);
    }
}

int shim_ioctl(int fd, unsigned long request, void *argument)
{
    const struct shim_fd *ours = &shim_fds[fd];
    if (!gpioshim_chip(ours->chip)->present)
        return fail(ENODEV);
    // Callers may have sign-extended the number.
    return ours->kind == SHIM_CHIP
               ? chip_ioctl(fd, (uint32_t)request, argument)
               : line_ioctl(gpioshim_line(ours->chip, ours->line), (uint32_t)request, argument);
}
