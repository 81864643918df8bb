// SPDX-License-Identifier: LGPL-2.1-or-later
// A GPIO line over libgpiod 2. The kernel debounces, and drops the oldest edges when it has too
// many, so that the newest always tells the line's value.
#include "io/gpio.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "io/gpio-common.h"
#include "util/clock.h"

enum { EVENTS_MAX = 64 }; // that the kernel keeps for us

struct gpio {
    struct gpiod_line_request *request;
    unsigned offset;
    bool edges;
    struct gpiod_edge_event_buffer *buffer; // of one; with edges
};

DEFINE_CLEANUP(struct gpiod_chip_info *, gpiod_chip_info_free)
DEFINE_CLEANUP(struct gpiod_line_info *, gpiod_line_info_free)
DEFINE_CLEANUP(struct gpiod_line_settings *, gpiod_line_settings_free)
DEFINE_CLEANUP(struct gpiod_line_config *, gpiod_line_config_free)
DEFINE_CLEANUP(struct gpiod_request_config *, gpiod_request_config_free)

int gpio_chip_describe(struct gpiod_chip *chip, struct gpio_chip *ret_description)
{
    _cleanup_(gpiod_chip_info_freep) struct gpiod_chip_info *info = gpiod_chip_get_info(chip);
    if (!info)
        return -errno;
    struct gpio_chip description = { .n_lines = (unsigned)gpiod_chip_info_get_num_lines(info) };
    snprintf(description.name, sizeof(description.name), "%s", gpiod_chip_info_get_name(info));
    snprintf(description.label, sizeof(description.label), "%s", gpiod_chip_info_get_label(info));
    *ret_description = description;
    return 0;
}

int gpio_chip_find_line(struct gpiod_chip *chip, const char *name, unsigned *ret_offset)
{
    int offset = gpiod_chip_get_line_offset_from_name(chip, name);
    if (offset < 0)
        return -errno;
    *ret_offset = (unsigned)offset;
    return 0;
}

static int set_input(struct gpiod_line_settings *settings, const struct gpio_request *request)
{
    static const enum gpiod_line_bias biases[] = {
        [GPIO_BIAS_AS_IS] = GPIOD_LINE_BIAS_AS_IS,
        [GPIO_BIAS_DISABLED] = GPIOD_LINE_BIAS_DISABLED,
        [GPIO_BIAS_PULL_UP] = GPIOD_LINE_BIAS_PULL_UP,
        [GPIO_BIAS_PULL_DOWN] = GPIOD_LINE_BIAS_PULL_DOWN,
    };
    static const enum gpiod_line_edge edges[] = {
        [GPIO_EDGE_NONE] = GPIOD_LINE_EDGE_NONE,
        [GPIO_EDGE_RISING] = GPIOD_LINE_EDGE_RISING,
        [GPIO_EDGE_FALLING] = GPIOD_LINE_EDGE_FALLING,
        [GPIO_EDGE_BOTH] = GPIOD_LINE_EDGE_BOTH,
    };
    gpiod_line_settings_set_debounce_period_us(settings, (unsigned long)request->debounce_usec);
    if (gpiod_line_settings_set_direction(settings, GPIOD_LINE_DIRECTION_INPUT) < 0 ||
        gpiod_line_settings_set_bias(settings, biases[request->bias]) < 0 ||
        gpiod_line_settings_set_edge_detection(settings, edges[request->edge]) < 0)
        return -errno;
    return 0;
}

static int request_line(struct gpio *gpio, const struct gpio_request *request,
                        struct gpiod_chip *chip)
{
    _cleanup_(gpiod_line_settings_freep) struct gpiod_line_settings *settings =
        gpiod_line_settings_new();
    _cleanup_(gpiod_line_config_freep) struct gpiod_line_config *lines = gpiod_line_config_new();
    _cleanup_(gpiod_request_config_freep) struct gpiod_request_config *config =
        gpiod_request_config_new();
    if (!settings || !lines || !config)
        return -ENOMEM;
    gpiod_line_settings_set_active_low(settings, request->active_low);
    int r = set_input(settings, request);
    if (r < 0)
        return r;
    if (gpiod_line_config_add_line_settings(lines, &gpio->offset, 1, settings) < 0)
        return -errno;
    gpiod_request_config_set_consumer(config, GPIO_CONSUMER);
    gpiod_request_config_set_event_buffer_size(config, EVENTS_MAX);
    gpio->request = gpiod_chip_request_lines(chip, config, lines);
    return gpio->request ? 0 : -errno;
}

static int open_edges(struct gpio *gpio)
{
    gpio->edges = true;
    gpio->buffer = gpiod_edge_event_buffer_new(1);
    return gpio->buffer ? gpio_common_unblock(gpiod_line_request_get_fd(gpio->request)) : -ENOMEM;
}

int gpio_open(const struct gpio_request *request, struct gpio **ret_gpio, struct why *why)
{
    assert(request->edge != GPIO_EDGE_NONE || request->debounce_usec == 0);
    _cleanup_(gpio_closep) struct gpio *gpio = calloc(1, sizeof(*gpio));
    if (!gpio)
        return why_set(why, ENOMEM, "out of memory");
    _cleanup_(gpiod_chip_closep) struct gpiod_chip *chip = NULL;
    struct gpio_place place;
    int r = gpio_common_find(request->chip, request->line, &chip, &place, why);
    if (r < 0)
        return r;
    gpio->offset = place.offset;
    _cleanup_(gpiod_line_info_freep) struct gpiod_line_info *info =
        gpiod_chip_get_line_info(chip, place.offset);
    r = info ? request_line(gpio, request, chip) : -errno;
    if (r == 0 && request->edge != GPIO_EDGE_NONE)
        r = open_edges(gpio);
    if (r < 0)
        return gpio_common_refused(-r, request->line, gpio_common_extras(request), &place,
                                   info ? gpiod_line_info_get_consumer(info) : NULL, why);
    *ret_gpio = TAKE_PTR(gpio);
    return 0;
}

void gpio_close(struct gpio *gpio)
{
    if (!gpio)
        return;
    if (gpio->buffer)
        gpiod_edge_event_buffer_free(gpio->buffer);
    if (gpio->request)
        gpiod_line_request_release(gpio->request);
    free(gpio);
}

int gpio_get(struct gpio *gpio)
{
    enum gpiod_line_value value = gpiod_line_request_get_value(gpio->request, gpio->offset);
    return value == GPIOD_LINE_VALUE_ERROR ? -errno : value == GPIOD_LINE_VALUE_ACTIVE;
}

int gpio_fd(const struct gpio *gpio)
{
    return gpio->edges ? gpiod_line_request_get_fd(gpio->request) : -EBADF;
}

int gpio_read_event(struct gpio *gpio, struct gpio_event *ret_event)
{
    if (!gpio->edges)
        return 0;
    if (gpiod_line_request_read_edge_events(gpio->request, gpio->buffer, 1) < 0)
        return errno == EAGAIN ? 0 : -errno;
    struct gpiod_edge_event *event = gpiod_edge_event_buffer_get_event(gpio->buffer, 0);
    *ret_event = (struct gpio_event){
        .value = gpiod_edge_event_get_event_type(event) == GPIOD_EDGE_EVENT_RISING_EDGE,
        .mono_usec = clock_from_monotonic(gpiod_edge_event_get_timestamp_ns(event)),
    };
    return 1;
}
