// SPDX-License-Identifier: LGPL-2.1-or-later
// A connected datagram socket, and the queue before it; see notify.h.
#include "io/notify.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/cleanup.h"

struct note {
    struct note *next;
    int fd; // ours; -EBADF: none
    char state[];
};

static sd_event_source *source; // while something waits: until the socket can be written to
static int socket_fd = -EBADF;
static struct sockaddr_un address;
static socklen_t address_size;
static struct note *waiting;
static size_t n_waiting;

static void note_free(struct note *note)
{
    closep(&note->fd);
    free(note);
}

/* Once more where the manager has made its socket anew. */
static int connect_socket(void)
{
    return connect(socket_fd, (const struct sockaddr *)&address, address_size) < 0 ? -errno : 0;
}

static bool find_address(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    if (length < 2 || length >= sizeof(address.sun_path))
        return false;
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') // of the abstract namespace
        address.sun_path[0] = '\0';
    address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    return true;
}

static int send_now(const char *state, int fd)
{
    union {
        struct cmsghdr header; // for its alignment
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    struct iovec text = { .iov_base = (void *)(uintptr_t)state, .iov_len = strlen(state) };
    struct msghdr message = { .msg_iov = &text, .msg_iovlen = 1 };
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control.bytes);
        control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
                                           .cmsg_level = SOL_SOCKET,
                                           .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    if (sendmsg(socket_fd, &message, MSG_NOSIGNAL) >= 0)
        return 0;
    bool again = errno != EAGAIN && connect_socket() == 0;
    return again && sendmsg(socket_fd, &message, MSG_NOSIGNAL) >= 0 ? 0 : -errno;
}

static void drop_first(void)
{
    struct note *note = waiting;
    waiting = note->next;
    n_waiting--;
    note_free(note);
}

static int on_writable(sd_event_source *writable, int fd, uint32_t events, void *userdata)
{
    (void)fd, (void)events, (void)userdata;
    while (waiting) {
        if (send_now(waiting->state, waiting->fd) == -EAGAIN)
            return 0;
        drop_first();
    }
    return sd_event_source_set_enabled(writable, SD_EVENT_OFF);
}

/* Whether one of these takes the place of the other: both say NAME=, and it is no descriptor's. */
static bool replaces(const char *state, const struct note *note)
{
    size_t length = strcspn(state, "=") + 1;
    return note->fd < 0 && strncmp(state, "FDSTORE", strlen("FDSTORE")) != 0 &&
           strncmp(state, note->state, length) == 0;
}

/* Without memory it is lost. */
static void queue(const char *state, int fd)
{
    size_t size = strlen(state) + 1;
    struct note **place = &waiting;
    while (*place && !replaces(state, *place))
        place = &(*place)->next;
    struct note *note = n_waiting < NOTIFY_MAX_WAITING ? malloc(sizeof(*note) + size) : NULL;
    if (!note)
        return;
    *note = (struct note){ .fd = fd < 0 ? -EBADF : fcntl(fd, F_DUPFD_CLOEXEC, 3) };
    memcpy(note->state, state, size);
    if (*place) {
        struct note *older = *place;
        note->next = older->next;
        note_free(older);
        n_waiting--;
    }
    *place = note;
    n_waiting++;
    sd_event_source_set_enabled(source, SD_EVENT_ON);
}

void notify_init(sd_event *event)
{
    if (!find_address())
        return;
    socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (socket_fd >= 0 && connect_socket() == 0 &&
        sd_event_add_io(event, &source, socket_fd, EPOLLOUT, on_writable, NULL) >= 0)
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
    else
        notify_done();
}

void notify_done(void)
{
    while (waiting)
        drop_first();
    source = sd_event_source_disable_unref(source);
    closep(&socket_fd);
    socket_fd = -EBADF;
}

void notify_send(const char *state, int fd)
{
    if (socket_fd >= 0 && (waiting || send_now(state, fd) == -EAGAIN))
        queue(state, fd);
}
