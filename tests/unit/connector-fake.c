// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A connector that does as its test says: it hands its end of the pair to the test, which speaks
 * for it from then on, and then takes orders, a letter and a text each:
 *
 *     sTEXT   writes it to standard error
 *     f       writes to standard error and does not end
 *     eN      ends with status N
 *     a       aborts
 *
 * The test listens at the abstract address in $FAKE_CONNECTOR (unix(7)). When it hangs up, this
 * ends with status 0.
 */
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/frame.h"

static int call_test(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *name = getenv("FAKE_CONNECTOR");
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || !name)
        return -1;
    size_t length = strnlen(name, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path + 1, name, length);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    return connect(fd, (const struct sockaddr *)&address, size) < 0 ? -1 : fd;
}

static int hand_over(int fd, int given_fd)
{
    char byte = 0;
    struct iovec data = { .iov_base = &byte, .iov_len = 1 };
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct msghdr message = { .msg_iov = &data,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof(control.bytes) };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &given_fd, sizeof(given_fd));
    return sendmsg(fd, &message, 0) == 1 ? 0 : -1;
}

/* Faster than anybody listens. */
static void babble(void)
{
    static const char line[16] = "blah blah blah \n";
    static char lines[64 << 10];
    for (size_t i = 0; i < sizeof(lines); i += sizeof(line))
        memcpy(lines + i, line, sizeof(line));
    while (write(STDERR_FILENO, lines, sizeof(lines)) > 0)
        continue;
}

static void obey(const char *order, size_t length)
{
    switch (order[0]) {
    case 's':
        (void)!write(STDERR_FILENO, order + 1, length - 1);
        break;
    case 'f':
        babble();
        break;
    case 'e':
        _exit((int)strtol(order + 1, NULL, 10));
    case 'a':
        abort();
    }
}

int main(void)
{
    const struct rlimit no_core = { 0, 0 };
    char order[1024];
    ssize_t n;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "nl-connector");
    setrlimit(RLIMIT_CORE, &no_core);
    int fd = call_test();
    if (fd < 0 || hand_over(fd, FRAME_FD) < 0)
        return 3;
    close(FRAME_FD);
    while ((n = recv(fd, order, sizeof(order) - 1, 0)) > 0) {
        order[n] = '\0';
        obey(order, (size_t)n);
    }
    return 0;
}
