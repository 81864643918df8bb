// SPDX-License-Identifier: LGPL-2.1-or-later
// A GPIO line over libgpiod 1.6. That API has no debounce, and the kernel behind it keeps 16 edges
// and drops the newer ones: both are made good here, so that this file and gpio-v2.c behave alike.
#include "io/gpio.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "io/gpio-common.h"
#include "util/clock.h"

enum { BOUNCES_MAX = 64 }; // taken in one go; a line that never rests must not hold the main loop

struct gpio {
    struct gpiod_chip *chip;
    struct gpiod_line *line; // the chip's
    enum gpio_edge edge;
    uint64_t debounce_usec;
    bool value;     // after the last edge that was told; with debounce, the last that was stable
    bool caught_up; // that edge was not the kernel's, but found by looking at the line
    // Debounce only: the timer runs out when the line has been stable for long enough; the epoll
    // descriptor is readable when it has or when the line has an edge.
    int timer_fd;
    int epoll_fd;
};

int gpio_chip_describe(struct gpiod_chip *chip, struct gpio_chip *ret_description)
{
    struct gpio_chip description = { .n_lines = gpiod_chip_num_lines(chip) };
    snprintf(description.name, sizeof(description.name), "%s", gpiod_chip_name(chip));
    snprintf(description.label, sizeof(description.label), "%s", gpiod_chip_label(chip));
    *ret_description = description;
    return 0;
}

int gpio_chip_find_line(struct gpiod_chip *chip, const char *name, unsigned *ret_offset)
{
    struct gpiod_line *line = gpiod_chip_find_line(chip, name);
    if (!line)
        return -errno;
    *ret_offset = gpiod_line_offset(line);
    return 0;
}

static int type_of(const struct gpio_request *request)
{
    if (request->edge == GPIO_EDGE_NONE)
        return GPIOD_LINE_REQUEST_DIRECTION_INPUT;
    if (request->edge == GPIO_EDGE_BOTH || request->debounce_usec > 0)
        return GPIOD_LINE_REQUEST_EVENT_BOTH_EDGES; // each edge begins the wait anew
    return request->edge == GPIO_EDGE_RISING ? GPIOD_LINE_REQUEST_EVENT_RISING_EDGE
                                             : GPIOD_LINE_REQUEST_EVENT_FALLING_EDGE;
}

static int flags_of(const struct gpio_request *request)
{
    static const int biases[] = {
        [GPIO_BIAS_AS_IS] = 0,
        [GPIO_BIAS_DISABLED] = GPIOD_LINE_REQUEST_FLAG_BIAS_DISABLE,
        [GPIO_BIAS_PULL_UP] = GPIOD_LINE_REQUEST_FLAG_BIAS_PULL_UP,
        [GPIO_BIAS_PULL_DOWN] = GPIOD_LINE_REQUEST_FLAG_BIAS_PULL_DOWN,
    };
    return biases[request->bias] | (request->active_low ? GPIOD_LINE_REQUEST_FLAG_ACTIVE_LOW : 0);
}

static int request_line(struct gpio *gpio, const struct gpio_request *request,
                        const struct gpio_place *place, struct why *why)
{
    gpio->line = gpiod_chip_get_line(gpio->chip, place->offset);
    if (!gpio->line)
        return gpio_common_refused(errno, request->line, NULL, place, NULL, why);
    const struct gpiod_line_request_config config = {
        .consumer = GPIO_CONSUMER,
        .request_type = type_of(request),
        .flags = flags_of(request),
    };
    if (gpiod_line_request(gpio->line, &config, 0) < 0)
        return gpio_common_refused(errno, request->line, gpio_common_extras(request), place,
                                   gpiod_line_consumer(gpio->line), why);
    return 0;
}

static int open_debounce(struct gpio *gpio)
{
    gpio->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    gpio->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (gpio->timer_fd < 0 || gpio->epoll_fd < 0)
        return -errno;
    const int fds[] = { gpio->timer_fd, gpiod_line_event_get_fd(gpio->line) };
    for (size_t i = 0; i < ELEMENTS(fds); i++)
        if (epoll_ctl(gpio->epoll_fd, EPOLL_CTL_ADD, fds[i],
                      &(struct epoll_event){ .events = EPOLLIN }) < 0)
            return -errno;
    return 0;
}

static int open_edges(struct gpio *gpio, const struct gpio_request *request)
{
    gpio->edge = request->edge;
    gpio->debounce_usec = request->debounce_usec;
    int r = gpio_common_unblock(gpiod_line_event_get_fd(gpio->line));
    if (r == 0 && gpio->debounce_usec > 0)
        r = open_debounce(gpio);
    if (r < 0)
        return r;
    int value = gpiod_line_get_value(gpio->line);
    if (value < 0)
        return -errno;
    gpio->value = value > 0;
    return 0;
}

int gpio_open(const struct gpio_request *request, struct gpio **ret_gpio, struct why *why)
{
    assert(request->edge != GPIO_EDGE_NONE || request->debounce_usec == 0);
    _cleanup_(gpio_closep) struct gpio *gpio = malloc(sizeof(*gpio));
    if (!gpio)
        return why_set(why, ENOMEM, "out of memory");
    *gpio = (struct gpio){ .timer_fd = -EBADF, .epoll_fd = -EBADF };
    struct gpio_place place;
    int r = gpio_common_find(request->chip, request->line, &gpio->chip, &place, why);
    if (r == 0)
        r = request_line(gpio, request, &place, why);
    if (r < 0)
        return r;
    if (request->edge != GPIO_EDGE_NONE)
        r = open_edges(gpio, request);
    if (r < 0)
        return gpio_common_refused(-r, request->line, gpio_common_extras(request), &place, NULL,
                                   why);
    *ret_gpio = TAKE_PTR(gpio);
    return 0;
}

void gpio_close(struct gpio *gpio)
{
    if (!gpio)
        return;
    closep(&gpio->epoll_fd);
    closep(&gpio->timer_fd);
    if (gpio->chip)
        gpiod_chip_close(gpio->chip); // and releases the line
    free(gpio);
}

int gpio_get(struct gpio *gpio)
{
    int value = gpiod_line_get_value(gpio->line);
    if (value < 0)
        return -errno;
    return gpio->debounce_usec > 0 ? gpio->value : value;
}

int gpio_fd(const struct gpio *gpio)
{
    if (gpio->edge == GPIO_EDGE_NONE)
        return -EBADF;
    return gpio->debounce_usec > 0 ? gpio->epoll_fd : gpiod_line_event_get_fd(gpio->line);
}

/* Takes one edge as the kernel tells it: 1, 0 or -errno. */
static int read_raw(struct gpio *gpio, struct gpio_event *ret_event)
{
    struct gpiod_line_event event;
    if (gpiod_line_event_read(gpio->line, &event) < 0)
        return errno == EAGAIN ? 0 : -errno;
    *ret_event = (struct gpio_event){
        .value = event.event_type == GPIOD_LINE_EVENT_RISING_EDGE,
        .mono_usec = clock_from_monotonic((uint64_t)event.ts.tv_sec * 1000000000 +
                                          (uint64_t)event.ts.tv_nsec),
    };
    return 1;
}

/* Tells an edge to the line's present value if it is not the one that was told last. */
static int catch_up(struct gpio *gpio, struct gpio_event *ret_event)
{
    int value = gpiod_line_get_value(gpio->line);
    if (value < 0)
        return -errno;
    if (value == gpio->value)
        return 0;
    gpio->value = value;
    *ret_event = (struct gpio_event){ .value = value, .mono_usec = clock_mono_usec() };
    return 1;
}

static int read_plain(struct gpio *gpio, struct gpio_event *ret_event)
{
    struct gpio_event event = { 0 };
    int r = read_raw(gpio, &event);
    // catch_up() may have been faster than the edge whose outcome it saw.
    if (r > 0 && gpio->caught_up && event.value == gpio->value)
        r = read_raw(gpio, &event);
    if (r > 0)
        gpio->caught_up = false;
    if (r == 0 && gpio->edge == GPIO_EDGE_BOTH) {
        r = catch_up(gpio, &event);
        gpio->caught_up |= r > 0;
    }
    if (r <= 0)
        return r;
    gpio->value = event.value;
    *ret_event = event;
    return 1;
}

static int restart_timer(struct gpio *gpio)
{
    const struct itimerspec span = {
        .it_value.tv_sec = (time_t)(gpio->debounce_usec / USEC_PER_SEC),
        .it_value.tv_nsec = (long)(gpio->debounce_usec % USEC_PER_SEC * 1000),
    };
    return timerfd_settime(gpio->timer_fd, 0, &span, NULL) < 0 ? -errno : 0;
}

/* As the kernel's software debouncer: what counts is the value after debounce without an edge. */
static int read_debounced(struct gpio *gpio, struct gpio_event *ret_event)
{
    int n = 0;
    int r = 0;
    do {
        struct gpio_event bounce;
        r = read_raw(gpio, &bounce);
    } while (r > 0 && ++n < BOUNCES_MAX);
    if (r < 0)
        return r;
    if (n > 0)
        return restart_timer(gpio);
    uint64_t expirations;
    if (read(gpio->timer_fd, &expirations, sizeof(expirations)) < 0)
        return errno == EAGAIN ? 0 : -errno;
    struct gpio_event event = { 0 };
    r = catch_up(gpio, &event);
    if (r <= 0 || gpio->edge == (event.value ? GPIO_EDGE_FALLING : GPIO_EDGE_RISING))
        return r < 0 ? r : 0;
    *ret_event = event;
    return 1;
}

int gpio_read_event(struct gpio *gpio, struct gpio_event *ret_event)
{
    if (gpio->edge == GPIO_EDGE_NONE)
        return 0;
    return gpio->debounce_usec > 0 ? read_debounced(gpio, ret_event) : read_plain(gpio, ret_event);
}
