// SPDX-License-Identifier: LGPL-2.1-or-later
// Which connection wins the race when several stand at the same moment. The addresses are those of
// listeners on loopback whose queues are full: the kernel drops a SYN and sends it again a second
// later. When the last attempt begins, the queues have room, and dial() sees nothing before all
// attempts have come to their end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>

#include "connector/dial.h"
#include "connector/wire.h"
#include "util/cleanup.h"

#include "broker.h"

enum { N_ADDRESSES = 3 };

struct listener {
    const char *address;
    int fd, filler_fd;
};

static struct listener listeners[N_ADDRESSES] = {
    { "127.0.0.1", -EBADF, -EBADF },
    { "127.0.0.2", -EBADF, -EBADF },
    { "127.0.0.3", -EBADF, -EBADF },
};
static int port;
static int attempt_fds[N_ADDRESSES];
static size_t n_attempts;
static bool first_refuses;

/* --- what dial() calls instead of wire.c ----------------------------------------------------- */

static void make_room(const struct listener *listener)
{
    assert_int_equal(listen(listener->fd, 16), 0);
}

static void refuse(struct listener *listener)
{
    close(TAKE_FD(listener->fd));
}

static void wait_for_all_attempts(void)
{
    for (size_t i = 0; i < N_ADDRESSES; i++) {
        struct pollfd attempt = { .fd = attempt_fds[i], .events = POLLOUT };
        assert_int_equal(poll(&attempt, 1, 30000), 1);
    }
}

int wire_real_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    assert_true(n_attempts < N_ADDRESSES);
    int r = connect(fd, address, size), error = errno;
    attempt_fds[n_attempts++] = fd;
    if (n_attempts == N_ADDRESSES) {
        if (first_refuses)
            refuse(&listeners[0]);
        else
            make_room(&listeners[0]);
        make_room(&listeners[1]);
        wait_for_all_attempts();
    }
    errno = error;
    return r;
}

/* A name that has all the addresses, in their order. */
int wire_real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                          struct addrinfo **ret_result)
{
    struct addrinfo **end = ret_result;
    (void)node;
    for (size_t i = 0; i < N_ADDRESSES; i++) {
        int r = getaddrinfo(listeners[i].address, service, hints, end);
        if (r)
            return r;
        end = &(*end)->ai_next;
    }
    return 0;
}

/* --- tests ----------------------------------------------------------------------------------- */

/* A listener without backlog has room for one connection that it has not accepted. */
static void fill(struct listener *listener)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = inet_addr(listener->address) };
    assert_int_equal(listen(listener->fd, 0), 0);
    listener->filler_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(listener->filler_fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static int set_up(void **state)
{
    (void)state;
    port = 0;
    n_attempts = 0;
    first_refuses = false;
    for (size_t i = 0; i < N_ADDRESSES; i++)
        listeners[i].fd = listen_at(listeners[i].address, &port);
    fill(&listeners[0]);
    fill(&listeners[1]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ADDRESSES; i++) {
        closep(&listeners[i].fd);
        closep(&listeners[i].filler_fd);
        listeners[i].fd = listeners[i].filler_fd = -EBADF;
    }
    return 0;
}

static void check_winner(const char *expected)
{
    struct frame_options options = { .n_hosts = 1, .hosts = { "name" }, .port = (uint64_t)port };
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    char why[256];
    _cleanup_(closep) int fd = -EBADF;
    assert_int_equal(dial(&options, &fd, why, sizeof(why)), 0);
    assert_int_equal(n_attempts, N_ADDRESSES);
    assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &size), 0);
    assert_string_equal(inet_ntoa(peer.sin_addr), expected);
}

static void of_those_that_connect_at_once_the_one_that_began_first_wins(void **state)
{
    (void)state;
    check_winner("127.0.0.1");
}

static void one_that_fails_at_the_same_moment_leaves_the_order_as_it_is(void **state)
{
    (void)state;
    first_refuses = true;
    check_winner("127.0.0.2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_those_that_connect_at_once_the_one_that_began_first_wins,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_fails_at_the_same_moment_leaves_the_order_as_it_is,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
