// SPDX-License-Identifier: LGPL-2.1-or-later
// GPIO lines that are driven, their driver, and what becomes of them when nobody drives them for a
// while, on the chips of tests/gpioshim. The end of systemd is a socket of the test's.
#include "driver-fixture.h"

#include <linux/gpio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "gpioshim.h"
#include "io/fdstore.h"
#include "io/gpio-output.h"
#include "io/notify.h"

enum { LED, PUMP, INPUT };

extern const struct actuator_driver actuator_driver_gpio;

static int notify_fd = -EBADF;
static sd_event *event;

/* A world in a file, where a line is held by whoever has a copy of its descriptor. */
static int setup(void **state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (fixture_setup(state) < 0)
        return -1;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", fixture_directory);
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(notify_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        setenv("NOTIFY_SOCKET", address.sun_path, 1) < 0 || gpioshim_create(file_path("world")) < 0)
        return -1;
    gpioshim_add_chip("pinctrl-test", "LED PUMP INPUT");
    if (sd_event_default(&event) < 0)
        return -1;
    notify_init(event);
    return 0;
}

static int teardown(void **state)
{
    fdstore_prune();
    notify_done();
    event = sd_event_unref(event);
    close(notify_fd);
    return fixture_teardown(state);
}

/* What systemd is told next, "" if nothing; and the descriptor that came with it, or -EBADF. */
static const char *told(int *ret_fd)
{
    static char text[256];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = { text, sizeof(text) - 1 };
    struct msghdr message = { .msg_iov = &vector,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof(control) };
    *ret_fd = -EBADF;
    ssize_t size = recvmsg(notify_fd, &message, MSG_CMSG_CLOEXEC);
    text[size < 0 ? 0 : size] = '\0';
    if (size >= 0 && CMSG_FIRSTHDR(&message))
        memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return text;
}

/* Nobody holds anything any more, systemd included. */
static void release_all(void)
{
    int fd;
    fdstore_prune();
    while (told(&fd)[0])
        closep(&fd);
}

static struct gpio_output *open_line(const struct gpio_output_request *request, bool expect_held)
{
    struct gpio_output *output = NULL;
    struct why why = { 0 };
    bool held;
    if (gpio_output_open(request, &output, &held, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(held, expect_held);
    return output;
}

static void output_begins_with_its_initial_value(void **state)
{
    (void)state;
    for (int active_low = 0; active_low <= 1; active_low++) {
        for (int initial = 0; initial <= 1; initial++) {
            struct gpio_output *output =
                open_line(&(struct gpio_output_request){ .line = "LED",
                                                         .has_initial = true,
                                                         .initial = initial,
                                                         .active_low = active_low },
                          false);
            assert_true(gpioshim_line(0, LED)->output);
            assert_int_equal(gpioshim_level(0, LED), initial != active_low);
            assert_int_equal(gpio_output_get(output), initial);
            assert_int_equal(gpio_output_set(output, !initial), 0);
            assert_int_equal(gpioshim_level(0, LED), initial == active_low);
            gpio_output_close(output);
            release_all();
        }
    }
}

static void output_that_is_one_already_keeps_its_level(void **state)
{
    (void)state;
    struct gpio_output_request request = { .line = "LED" };
    for (int level = 0; level <= 1; level++) {
        for (int active_low = 0; active_low <= 1; active_low++) {
            gpioshim_line(0, LED)->output = 1;
            gpioshim_line(0, LED)->level = level;
            request.active_low = active_low;
            struct gpio_output *output = open_line(&request, false);
            assert_true(gpioshim_line(0, LED)->output);
            assert_int_equal(gpioshim_level(0, LED), level);
            assert_int_equal(gpio_output_get(output), level != active_low);
            assert_int_equal(gpio_output_set(output, level == active_low), 0);
            assert_int_equal(gpioshim_level(0, LED), !level);
            gpio_output_close(output);
            release_all();
        }
    }
}

static void line_that_was_let_go_is_taken_up_as_it_is(void **state)
{
    (void)state;
    struct gpio_output_request request = { .chip = "pinctrl-test", .line = "LED" };
    struct gpio_output *output = open_line(&request, false);
    assert_int_equal(gpio_output_set(output, true), 0);
    gpio_output_close(output);
    assert_true(gpioshim_is_held(0, LED));
    int n_changes = gpioshim_changes(0, LED);
    request.has_initial = true; // that it is off is an older story
    output = open_line(&request, true);
    assert_int_equal(gpio_output_get(output), 1);
    assert_int_equal(gpioshim_requests(0, LED), 1);
    assert_int_equal(gpioshim_changes(0, LED), n_changes);
    assert_int_equal(gpio_output_set(output, false), 0);
    assert_int_equal(gpioshim_level(0, LED), 0);
    gpio_output_close(output);
}

static void line_is_taken_up_with_active_low_turned_around(void **state)
{
    (void)state;
    struct gpio_output *output = open_line(&(struct gpio_output_request){ .line = "LED" }, false);
    assert_int_equal(gpio_output_set(output, true), 0);
    gpio_output_close(output);
    int n_changes = gpioshim_changes(0, LED);
    output = open_line(&(struct gpio_output_request){ .line = "LED", .active_low = true }, true);
    assert_int_equal(gpio_output_get(output), 0);
    assert_int_equal(gpioshim_changes(0, LED), n_changes);
    assert_int_equal(gpioshim_level(0, LED), 1);
    gpio_output_close(output);
}

static void line_that_nobody_wants_is_released(void **state)
{
    (void)state;
    int fd;
    gpio_output_close(open_line(&(struct gpio_output_request){ .line = "LED" }, false));
    struct gpio_output *pump = open_line(&(struct gpio_output_request){ .line = "PUMP" }, false);
    for (int i = 0; i < 2; i++) {
        assert_non_null(strstr(told(&fd), "FDSTORE=1"));
        close(fd);
    }
    fdstore_prune();
    assert_string_equal(told(&fd), "FDSTOREREMOVE=1\nFDNAME=gpio-gpiochip0-0");
    assert_string_equal(told(&fd), "");
    assert_false(gpioshim_is_held(0, LED));
    assert_true(gpioshim_is_held(0, PUMP));
    gpio_output_close(pump);
}

static void systemd_is_handed_the_line_by_name(void **state)
{
    (void)state;
    int copy;
    gpio_output_close(open_line(&(struct gpio_output_request){ .line = "PUMP" }, false));
    assert_string_equal(told(&copy), "FDSTORE=1\nFDNAME=gpio-gpiochip0-1");
    assert_true(copy >= 0);
    fdstore_prune();
    assert_true(gpioshim_is_held(0, PUMP)); // by the copy alone
    close(copy);
    assert_false(gpioshim_is_held(0, PUMP));
}

static void what_is_no_line_of_ours_is_not_taken_up(void **state)
{
    (void)state;
    // By its name it is the line, but the line is free: the kernel knows better.
    int other = dup(STDERR_FILENO);
    assert_int_equal(fdstore_add("gpio-gpiochip0-0", other), 0);
    fdstore_release(other);
    gpio_output_close(open_line(&(struct gpio_output_request){ .line = "LED" }, false));
    assert_int_equal(gpioshim_requests(0, LED), 1);
}

static void chip_that_has_gone_is_not_taken_up(void **state)
{
    (void)state;
    struct gpio_output *output = open_line(&(struct gpio_output_request){ .line = "LED" }, false);
    gpioshim_remove(0);
    assert_int_equal(gpio_output_set(output, true), -ENODEV);
    assert_int_equal(gpio_output_get(output), -ENODEV);
    int fd;
    assert_non_null(strstr(told(&fd), "FDSTORE=1"));
    close(fd);
    gpio_output_close(output);
    assert_string_equal(told(&fd), "FDSTOREREMOVE=1\nFDNAME=gpio-gpiochip0-0");
    struct why why = { 0 };
    bool held;
    assert_int_equal(
        gpio_output_open(&(struct gpio_output_request){ .line = "LED" }, &output, &held, &why),
        -ENODEV);
}

static void line_in_use_is_refused_with_who_holds_it(void **state)
{
    (void)state;
    struct gpio_output *output = open_line(&(struct gpio_output_request){ .line = "LED" }, false);
    struct gpio_output *second = NULL;
    struct why why = { 0 };
    bool held;
    assert_int_equal(
        gpio_output_open(&(struct gpio_output_request){ .line = "LED" }, &second, &held, &why),
        -EBUSY);
    assert_non_null(strstr(why.text, "in use by nightlightd"));
    gpio_output_close(output);
}

static void actuator_survives_a_restart_without_a_flicker(void **state)
{
    (void)state;
    const struct actuator_driver *driver = &actuator_driver_gpio;
    void *config = make_config(driver, "chip", "0", "line", "LED", "active_low", "yes", NULL);
    struct why why = { 0 };
    void *actuator = NULL;
    struct actuator_start start = { 0 };
    assert_int_equal(driver->open(config, VALUE_BOOL, &actuator, &start, &why), 0);
    assert_int_equal(start.now.type, VALUE_BOOL);
    assert_false(start.now.boolean); // it was an input
    assert_false(start.held);
    assert_int_equal(gpioshim_level(0, LED), 1);
    const struct value on = { .type = VALUE_BOOL, .boolean = true };
    assert_int_equal(driver->set(actuator, &on, &why), 0);
    assert_int_equal(gpioshim_level(0, LED), 0);
    driver->base.close(actuator);
    start = (struct actuator_start){ .last = { .type = VALUE_BOOL, .boolean = false } };
    assert_int_equal(driver->open(config, VALUE_BOOL, &actuator, &start, &why), 0);
    assert_true(start.now.boolean);
    assert_true(start.held);
    assert_int_equal(gpioshim_level(0, LED), 0);
    gpioshim_remove(0);
    assert_int_equal(driver->set(actuator, &on, &why), -ENODEV);
    driver->base.close(actuator);
    free_config(driver, config);
}

static void actuator_without_the_store_begins_as_it_was_last(void **state)
{
    (void)state;
    const struct actuator_driver *driver = &actuator_driver_gpio;
    void *config = make_config(driver, "line", "LED", NULL);
    void *actuator = NULL;
    struct actuator_start start = { .last = { .type = VALUE_BOOL, .boolean = true } };
    assert_int_equal(driver->open(config, VALUE_BOOL, &actuator, &start, NULL), 0);
    assert_true(start.now.boolean);
    assert_int_equal(gpioshim_changes(0, LED), 1); // from an input to high, and never low
    driver->base.close(actuator);
    free_config(driver, config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(output_begins_with_its_initial_value, setup, teardown),
        cmocka_unit_test_setup_teardown(output_that_is_one_already_keeps_its_level, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(line_that_was_let_go_is_taken_up_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(line_is_taken_up_with_active_low_turned_around, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(line_that_nobody_wants_is_released, setup, teardown),
        cmocka_unit_test_setup_teardown(systemd_is_handed_the_line_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_line_of_ours_is_not_taken_up, setup, teardown),
        cmocka_unit_test_setup_teardown(chip_that_has_gone_is_not_taken_up, setup, teardown),
        cmocka_unit_test_setup_teardown(line_in_use_is_refused_with_who_holds_it, setup, teardown),
        cmocka_unit_test_setup_teardown(actuator_survives_a_restart_without_a_flicker, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(actuator_without_the_store_begins_as_it_was_last, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
