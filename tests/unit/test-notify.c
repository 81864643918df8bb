// SPDX-License-Identifier: LGPL-2.1-or-later
// What systemd is told while it reads nothing: nobody waits, and the newest arrives.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "io/notify.h"
#include "util/cleanup.h"

static sd_event *event;
static int manager_fd = -EBADF;
static struct sockaddr_un address;

static void bind_manager(void)
{
    manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(manager_fd >= 0);
    assert_int_equal(bind(manager_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
}

static int set_up(void **state)
{
    (void)state;
    address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/test-notify-%d", (int)getpid());
    bind_manager();
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    assert_true(sd_event_new(&event) >= 0);
    notify_init(event);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    notify_done();
    event = sd_event_unref(event);
    close(manager_fd);
    return unlink(address.sun_path);
}

/* The next datagram, "" if there is none; a descriptor that comes with it is closed. */
static const char *told(bool *ret_has_fd)
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
    int fd = -EBADF;
    ssize_t size = recvmsg(manager_fd, &message, MSG_CMSG_CLOEXEC);
    text[size < 0 ? 0 : size] = '\0';
    if (size >= 0 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    *ret_has_fd = fd >= 0;
    closep(&fd);
    return text;
}

/* Lets the manager read until nothing more comes; text gets the last one that begins with it. */
static unsigned read_all(const char *name, char text[static 256])
{
    unsigned n = 0;
    bool has_fd;
    text[0] = '\0';
    for (;;) {
        const char *next = told(&has_fd);
        if (!next[0] && sd_event_run(event, 0) == 0)
            return n;
        if (strncmp(next, name, strlen(name)) != 0)
            continue;
        n++;
        snprintf(text, 256, "%s", next);
    }
}

static void a_manager_that_reads_nothing_is_not_waited_for(void **state)
{
    char status[32], text[256];
    (void)state;
    alarm(20); // sd_notify(3) hung here
    for (int i = 0; i < 5000; i++) {
        snprintf(status, sizeof(status), "STATUS=%d", i);
        notify_send(status, -EBADF);
    }
    notify_send("READY=1", -EBADF);
    alarm(0);
    unsigned n = read_all("STATUS=", text);
    assert_string_equal(text, "STATUS=4999");
    assert_in_range(n, 2, 4999);
}

static void in_order_with_descriptors_none_is_left_out(void **state)
{
    enum { MANY = 64 };
    unsigned n_added = 0, n_removed = 0;
    bool has_fd;
    (void)state;
    while (n_added < 1000 && sd_event_run(event, 0) == 0) { // until something waits
        notify_send("WATCHDOG=1", -EBADF);
        n_added++;
    }
    for (int i = 0; i < MANY; i++) {
        notify_send("FDSTORE=1\nFDNAME=line", STDERR_FILENO);
        notify_send("FDSTOREREMOVE=1\nFDNAME=line", -EBADF);
    }
    n_added = 0;
    for (;;) {
        const char *text = told(&has_fd);
        if (!text[0] && sd_event_run(event, 0) == 0)
            break;
        if (strcmp(text, "FDSTORE=1\nFDNAME=line") == 0) {
            assert_true(has_fd);
            assert_int_equal(++n_added, n_removed + 1);
        } else if (strcmp(text, "FDSTOREREMOVE=1\nFDNAME=line") == 0) {
            assert_int_equal(++n_removed, n_added);
        }
    }
    assert_int_equal(n_added, MANY);
    assert_int_equal(n_removed, MANY);
}

static void a_manager_that_comes_back_is_told(void **state)
{
    bool has_fd;
    (void)state;
    close(manager_fd);
    notify_send("STATUS=nobody hears", -EBADF);
    assert_int_equal(unlink(address.sun_path), 0);
    bind_manager();
    notify_send("STATUS=here", -EBADF);
    assert_string_equal(told(&has_fd), "STATUS=here");
    assert_false(has_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_manager_that_reads_nothing_is_not_waited_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(in_order_with_descriptors_none_is_left_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_manager_that_comes_back_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
