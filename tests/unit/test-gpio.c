// SPDX-License-Identifier: LGPL-2.1-or-later
// GPIO lines and their two drivers, over whichever libgpiod the build found and the chips of
// tests/gpioshim.
#include "driver-fixture.h"

#include <linux/gpio.h>
#include <poll.h>

#include "gpioshim.h"
#include "io/gpio.h"

enum { LED, BUTTON, MOTION, UNNAMED };

extern const struct sensor_driver sensor_driver_gpio;

static int setup(void **state)
{
    (void)state;
    if (gpioshim_create(NULL) < 0)
        return -1;
    gpioshim_add_chip("pinctrl-test", "LED BUTTON MOTION -");
    gpioshim_add_chip("expander", "- RELAY");
    return 0;
}

static struct gpio *open_line(const struct gpio_request *request)
{
    struct gpio *gpio = NULL;
    struct why why = { 0 };
    if (gpio_open(request, &gpio, &why) < 0)
        fail_msg("%s", why.text);
    return gpio;
}

static struct gpio *open_button(enum gpio_edge edge, bool active_low)
{
    return open_line(
        &(struct gpio_request){ .line = "BUTTON", .edge = edge, .active_low = active_low });
}

static void assert_held(const char *chip, const char *line, int expected_chip, int expected_line)
{
    struct gpio *gpio = open_line(&(struct gpio_request){ .chip = chip, .line = line });
    assert_string_equal(gpioshim_line(expected_chip, expected_line)->consumer, "nightlightd");
    gpio_close(gpio);
    assert_false(gpioshim_is_held(expected_chip, expected_line));
}

static void assert_refused(const struct gpio_request *request, int error, const char *part)
{
    struct gpio *gpio = NULL;
    struct why why = { 0 };
    assert_int_equal(gpio_open(request, &gpio, &why), -error);
    assert_null(gpio);
    if (!strstr(why.text, part))
        fail_msg("'%s' is not in '%s'", part, why.text);
}

static bool is_readable(const struct gpio *gpio, int timeout_msec)
{
    return poll(&(struct pollfd){ .fd = gpio_fd(gpio), .events = POLLIN }, 1, timeout_msec) == 1;
}

static void assert_edge(struct gpio *gpio, bool value)
{
    struct gpio_event event;
    assert_int_equal(gpio_read_event(gpio, &event), 1);
    assert_int_equal(event.value, value);
}

static void assert_no_edge(struct gpio *gpio)
{
    struct gpio_event event;
    assert_int_equal(gpio_read_event(gpio, &event), 0);
}

static void chip_goes_by_label_name_number_or_path(void **state)
{
    (void)state;
    assert_held("pinctrl-test", "LED", 0, LED);
    assert_held("expander", "RELAY", 1, 1);
    assert_held("gpiochip1", "RELAY", 1, 1);
    assert_held("1", "RELAY", 1, 1);
    assert_held("/dev/gpiochip1", "RELAY", 1, 1);
}

static void line_goes_by_name_or_offset(void **state)
{
    (void)state;
    assert_held("pinctrl-test", "MOTION", 0, MOTION);
    assert_held("pinctrl-test", "3", 0, UNNAMED);
    strcpy(gpioshim_line(0, LED)->name, "1"); // a name counts before an offset
    assert_held("pinctrl-test", "1", 0, LED);
}

static void line_without_chip_is_looked_for_on_every_chip(void **state)
{
    (void)state;
    assert_held(NULL, "RELAY", 1, 1);
    assert_held("", "LED", 0, LED);
    assert_refused(&(struct gpio_request){ .line = "1" }, ENOENT, "(an offset needs a chip)");
    assert_refused(&(struct gpio_request){ .line = "LAMP" }, ENOENT, "no GPIO chip has");
}

static void unknown_chip_is_refused_with_those_there_are(void **state)
{
    (void)state;
    static const char *const chips[] = { "pinctrl", "7", "gpiochip7", "/dev/none" };
    for (size_t i = 0; i < ELEMENTS(chips); i++)
        assert_refused(&(struct gpio_request){ .chip = chips[i], .line = "LED" }, ENODEV,
                       "gpiochip0 (pinctrl-test), gpiochip1 (expander)");
    gpioshim_remove(0);
    gpioshim_remove(1);
    assert_refused(&(struct gpio_request){ .line = "LED" }, ENODEV, "no GPIO chip at all");
}

static void unknown_line_is_refused(void **state)
{
    (void)state;
    assert_refused(&(struct gpio_request){ .chip = "expander", .line = "LED" }, ENOENT,
                   "the GPIO chip 'expander' has no line 'LED'");
    assert_refused(&(struct gpio_request){ .chip = "0", .line = "4" }, ENOENT, "no line '4'");
    assert_refused(&(struct gpio_request){ .chip = "0", .line = "99999999999999999999" }, ENOENT,
                   "no line");
}

static void line_in_use_is_refused_with_who_holds_it(void **state)
{
    (void)state;
    struct gpio *gpio = open_button(GPIO_EDGE_NONE, false);
    assert_refused(&(struct gpio_request){ .line = "BUTTON" }, EBUSY,
                   "line BUTTON of gpiochip0 (pinctrl-test) is in use by nightlightd");
    gpio_close(gpio);
}

static void what_the_chip_cannot_do_is_refused(void **state)
{
    (void)state;
    gpioshim_line(0, BUTTON)->refusal = EINVAL;
    assert_refused(&(struct gpio_request){ .line = "BUTTON", .bias = GPIO_BIAS_PULL_UP }, EINVAL,
                   "refuses the bias");
    gpioshim_line(0, BUTTON)->refusal = ENXIO; // a line without an interrupt
    assert_refused(&(struct gpio_request){ .line = "BUTTON", .edge = GPIO_EDGE_BOTH }, EINVAL,
                   "refuses the edge");
    gpioshim_line(0, BUTTON)->refusal = EIO;
    assert_refused(&(struct gpio_request){ .line = "BUTTON" }, EIO, "error");
}

static void chip_without_permission_is_said_so(void **state)
{
    (void)state;
    gpioshim_chip(0)->refusal = EACCES;
    assert_refused(&(struct gpio_request){ .chip = "pinctrl-test", .line = "LED" }, EACCES,
                   "/dev/gpiochip0: Permission denied");
    assert_refused(&(struct gpio_request){ .chip = "0", .line = "LED" }, EACCES, "denied");
    assert_held("", "RELAY", 1, 1); // the other chip is not concerned
}

static void input_reads_its_logical_value(void **state)
{
    (void)state;
    for (int active_low = 0; active_low <= 1; active_low++) {
        struct gpio *gpio = open_button(GPIO_EDGE_NONE, active_low);
        gpioshim_set(0, BUTTON, 1);
        assert_int_equal(gpio_get(gpio), !active_low);
        gpioshim_set(0, BUTTON, 0);
        assert_int_equal(gpio_get(gpio), active_low);
        assert_int_equal(gpio_fd(gpio), -EBADF);
        assert_no_edge(gpio);
        gpio_close(gpio);
    }
}

static void bias_is_asked_of_the_kernel(void **state)
{
    (void)state;
    static const uint64_t flags[] = {
        [GPIO_BIAS_AS_IS] = 0,
        [GPIO_BIAS_DISABLED] = GPIO_V2_LINE_FLAG_BIAS_DISABLED,
        [GPIO_BIAS_PULL_UP] = GPIO_V2_LINE_FLAG_BIAS_PULL_UP,
        [GPIO_BIAS_PULL_DOWN] = GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN,
    };
    for (enum gpio_bias bias = 0; bias < ELEMENTS(flags); bias++) {
        struct gpio *gpio = open_line(&(struct gpio_request){ .line = "BUTTON", .bias = bias });
        assert_int_equal(gpioshim_line(0, BUTTON)->flags, flags[bias] | GPIO_V2_LINE_FLAG_INPUT);
        gpio_close(gpio);
    }
}

static void both_edges_are_told_in_order_with_their_time(void **state)
{
    (void)state;
    struct gpio *gpio = open_button(GPIO_EDGE_BOTH, false);
    assert_false(is_readable(gpio, 0));
    uint64_t before_usec = clock_mono_usec();
    gpioshim_set(0, BUTTON, 1);
    gpioshim_set(0, BUTTON, 0);
    uint64_t after_usec = clock_mono_usec();
    assert_true(is_readable(gpio, 0));
    struct gpio_event event;
    for (int value = 1; value >= 0; value--) {
        assert_int_equal(gpio_read_event(gpio, &event), 1);
        assert_int_equal(event.value, value);
        // Two clocks are read one after the other to convert it.
        assert_in_range(event.mono_usec, before_usec - USEC_PER_MSEC, after_usec + USEC_PER_SEC);
    }
    assert_no_edge(gpio);
    assert_false(is_readable(gpio, 0));
    gpio_close(gpio);
}

static void only_the_edge_that_was_asked_for_is_told(void **state)
{
    (void)state;
    for (int active_low = 0; active_low <= 1; active_low++) {
        for (int rising = 0; rising <= 1; rising++) {
            struct gpio *gpio =
                open_button(rising ? GPIO_EDGE_RISING : GPIO_EDGE_FALLING, active_low);
            gpioshim_set(0, BUTTON, 1);
            gpioshim_set(0, BUTTON, 0);
            gpioshim_set(0, BUTTON, 1);
            gpioshim_set(0, BUTTON, 0);
            assert_edge(gpio, rising);
            assert_edge(gpio, rising);
            assert_no_edge(gpio);
            gpio_close(gpio);
        }
    }
}

static void last_value_is_right_though_the_kernel_dropped_edges(void **state)
{
    (void)state;
    for (int n_edges = 16; n_edges < 40; n_edges++) {
        struct gpio *gpio = open_button(GPIO_EDGE_BOTH, false);
        bool value = gpio_get(gpio);
        for (int i = 0; i < n_edges; i++)
            gpioshim_set(0, BUTTON, !gpioshim_level(0, BUTTON));
        struct gpio_event event;
        int n_told = 0;
        while (gpio_read_event(gpio, &event) == 1) {
            value = event.value;
            n_told++;
        }
        assert_in_range(n_told, 16, 17);
        assert_int_equal(value, gpioshim_level(0, BUTTON));
        gpioshim_set(0, BUTTON, !value); // and life goes on
        assert_edge(gpio, !value);
        assert_no_edge(gpio);
        gpio_close(gpio);
    }
}

static void edge_that_was_seen_before_it_was_read_is_told_once(void **state)
{
    (void)state;
    struct gpio *gpio = open_button(GPIO_EDGE_BOTH, false);
    if (gpioshim_line(0, BUTTON)->version == 1) {
        gpioshim_line(0, BUTTON)->level = 1; // the edge is on its way
        assert_edge(gpio, 1);
        assert_no_edge(gpio);
        gpioshim_line(0, BUTTON)->level = 0;
        gpioshim_set(0, BUTTON, 1); // and here
        assert_no_edge(gpio);
        gpioshim_set(0, BUTTON, 0);
        assert_edge(gpio, 0);
        assert_no_edge(gpio);
    }
    gpio_close(gpio);
}

static struct gpio *open_debounced(enum gpio_edge edge)
{
    return open_line(
        &(struct gpio_request){ .line = "BUTTON", .edge = edge, .debounce_usec = 30000 });
}

/* Takes what bounces until the line has been stable for long enough. */
static int wait_for_edge(struct gpio *gpio, struct gpio_event *event)
{
    while (is_readable(gpio, 300)) {
        int r = gpio_read_event(gpio, event);
        if (r != 0)
            return r;
    }
    return 0;
}

static void bouncing_line_is_told_once_it_is_stable(void **state)
{
    (void)state;
    struct gpio *gpio = open_debounced(GPIO_EDGE_BOTH);
    if (gpioshim_line(0, BUTTON)->version == 2) {
        assert_int_equal(gpioshim_line(0, BUTTON)->debounce_usec, 30000); // the kernel's work
        gpio_close(gpio);
        return;
    }
    struct gpio_event event;
    uint64_t before_usec = clock_mono_usec();
    for (int i = 0; i < 41; i++)
        gpioshim_set(0, BUTTON, i % 2 == 0);
    assert_int_equal(gpio_get(gpio), 0); // as long as it is not stable
    assert_int_equal(wait_for_edge(gpio, &event), 1);
    assert_true(event.value);
    assert_true(event.mono_usec >= before_usec + 30000);
    assert_int_equal(gpio_get(gpio), 1);
    assert_int_equal(wait_for_edge(gpio, &event), 0);
    gpioshim_set(0, BUTTON, 0);
    gpioshim_set(0, BUTTON, 1); // too short to count
    assert_int_equal(wait_for_edge(gpio, &event), 0);
    gpio_close(gpio);
}

static void each_bounce_begins_the_wait_anew(void **state)
{
    (void)state;
    struct gpio *gpio = open_debounced(GPIO_EDGE_BOTH);
    if (gpioshim_line(0, BUTTON)->version == 1) {
        struct gpio_event event = { 0 };
        gpioshim_set(0, BUTTON, 1);
        assert_no_edge(gpio);
        assert_false(is_readable(gpio, 15));
        uint64_t last_usec = clock_mono_usec();
        gpioshim_set(0, BUTTON, 0);
        gpioshim_set(0, BUTTON, 1);
        assert_int_equal(wait_for_edge(gpio, &event), 1);
        assert_true(event.mono_usec >= last_usec + 30000);
    }
    gpio_close(gpio);
}

static void debounced_line_tells_only_the_edge_that_was_asked_for(void **state)
{
    (void)state;
    struct gpio *gpio = open_debounced(GPIO_EDGE_FALLING);
    struct gpio_event event = { 0 };
    if (gpioshim_line(0, BUTTON)->version == 1) {
        gpioshim_set(0, BUTTON, 1);
        assert_int_equal(wait_for_edge(gpio, &event), 0);
        assert_int_equal(gpio_get(gpio), 1);
        gpioshim_set(0, BUTTON, 0);
        assert_int_equal(wait_for_edge(gpio, &event), 1);
        assert_false(event.value);
    }
    gpio_close(gpio);
}

static void chip_that_goes_away_is_told_and_can_come_back(void **state)
{
    (void)state;
    struct gpio *plain = open_button(GPIO_EDGE_BOTH, false);
    struct gpio *debounced = open_line(&(struct gpio_request){
        .line = "MOTION", .edge = GPIO_EDGE_RISING, .debounce_usec = 30000 });
    gpioshim_remove(0);
    struct gpio_event event;
    assert_true(is_readable(plain, 0));
    assert_int_equal(gpio_read_event(plain, &event), -ENODEV);
    assert_int_equal(gpio_get(plain), -ENODEV);
    assert_true(is_readable(debounced, 0));
    assert_int_equal(gpio_read_event(debounced, &event), -ENODEV);
    assert_int_equal(gpio_get(debounced), -ENODEV);
    gpio_close(plain);
    gpio_close(debounced);
    gpioshim_chip(0)->present = 1;
    assert_held("0", "BUTTON", 0, BUTTON);
}

static void sensor_reads_and_speaks_up(void **state)
{
    (void)state;
    const struct sensor_driver *driver = &sensor_driver_gpio;
    void *config = make_config(driver, "chip", "pinctrl-test", "line", "BUTTON", "edge", "both",
                               "bias", "pull-up", "active_low", "yes", NULL);
    struct why why = { 0 };
    void *sensor = NULL;
    assert_int_equal(driver->base.check(config, &why), 0);
    assert_int_equal(driver->open(config, &sensor, &why), 0);
    assert_true(gpioshim_line(0, BUTTON)->flags & GPIO_V2_LINE_FLAG_BIAS_PULL_UP);
    double value = NAN;
    assert_int_equal(driver->read(sensor, &value, &why), 0);
    assert_float_equal(value, 1, 0);
    struct sensor_edge edges[SENSOR_MAX_EDGES];
    gpioshim_set(0, BUTTON, 1);
    gpioshim_set(0, BUTTON, 0);
    gpioshim_set(0, BUTTON, 1);
    assert_int_equal(poll(&(struct pollfd){ .fd = driver->fd(sensor), .events = POLLIN }, 1, 0), 1);
    assert_int_equal(driver->dispatch(sensor, edges, &why), 3);
    assert_true(edges[0].mono_usec > 0 && edges[2].mono_usec >= edges[0].mono_usec);
    assert_float_equal(edges[2].value, 0, 0);
    gpioshim_remove(0);
    assert_int_equal(driver->dispatch(sensor, edges, &why), -ENODEV);
    assert_int_equal(driver->read(sensor, &value, &why), -ENODEV);
    driver->base.close(sensor);
    free_config(driver, config);
}

static void sensor_without_edge_is_polled(void **state)
{
    (void)state;
    const struct sensor_driver *driver = &sensor_driver_gpio;
    gpioshim_set(0, MOTION, 1);
    assert_reads(driver, make_config(driver, "line", "MOTION", NULL), 1);
    assert_read_fails(driver, make_config(driver, "line", "NONE", NULL), ENOENT, "NONE");
    void *config = make_config(driver, "line", "MOTION", "debounce", "20ms", NULL);
    struct why why = { 0 };
    assert_int_equal(driver->base.check(config, &why), -EINVAL);
    free_config(driver, config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(chip_goes_by_label_name_number_or_path, setup),
        cmocka_unit_test_setup(line_goes_by_name_or_offset, setup),
        cmocka_unit_test_setup(line_without_chip_is_looked_for_on_every_chip, setup),
        cmocka_unit_test_setup(unknown_chip_is_refused_with_those_there_are, setup),
        cmocka_unit_test_setup(unknown_line_is_refused, setup),
        cmocka_unit_test_setup(line_in_use_is_refused_with_who_holds_it, setup),
        cmocka_unit_test_setup(what_the_chip_cannot_do_is_refused, setup),
        cmocka_unit_test_setup(chip_without_permission_is_said_so, setup),
        cmocka_unit_test_setup(input_reads_its_logical_value, setup),
        cmocka_unit_test_setup(bias_is_asked_of_the_kernel, setup),
        cmocka_unit_test_setup(both_edges_are_told_in_order_with_their_time, setup),
        cmocka_unit_test_setup(only_the_edge_that_was_asked_for_is_told, setup),
        cmocka_unit_test_setup(last_value_is_right_though_the_kernel_dropped_edges, setup),
        cmocka_unit_test_setup(edge_that_was_seen_before_it_was_read_is_told_once, setup),
        cmocka_unit_test_setup(bouncing_line_is_told_once_it_is_stable, setup),
        cmocka_unit_test_setup(each_bounce_begins_the_wait_anew, setup),
        cmocka_unit_test_setup(debounced_line_tells_only_the_edge_that_was_asked_for, setup),
        cmocka_unit_test_setup(chip_that_goes_away_is_told_and_can_come_back, setup),
        cmocka_unit_test_setup(sensor_reads_and_speaks_up, setup),
        cmocka_unit_test_setup(sensor_without_edge_is_polled, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
