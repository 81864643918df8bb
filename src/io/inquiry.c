// SPDX-License-Identifier: LGPL-2.1-or-later
// A Unix socket for questions; see inquiry.h. Both ends, so that they agree.
#include "io/inquiry.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util/clock.h"

struct inquiry {
    int fd;
    sd_event_source *source;
    inquiry_answer_fn answer;
    void *userdata;
    struct sockaddr_un address;
};

char *inquiry_path(const char *name)
{
    char *path;
    const char *directories = getenv("RUNTIME_DIRECTORY"); // systemd's, which may be several
    if (!directories || !*directories)
        directories = NIGHTLIGHT_RUNDIR;
    int length = (int)strcspn(directories, ":");
    return asprintf(&path, "%.*s/%s", length, directories, name) < 0 ? NULL : path;
}

static int set_address(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address->sun_path))
        return -ENAMETOOLONG;
    memcpy(address->sun_path, path, strlen(path) + 1);
    return 0;
}

static int make_socket(int *ret_fd)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

static int connect_to(int fd, const struct sockaddr_un *address)
{
    return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

/* --- the daemon ------------------------------------------------------------------------------ */

/* One question a turn of the loop: the others have theirs in between. */
static int on_question(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    (void)source, (void)events;
    struct inquiry *inquiry = userdata;
    char question[INQUIRY_MAX_QUESTION];
    struct sockaddr_un sender;
    socklen_t length = sizeof(sender);
    ssize_t n = recvfrom(fd, question, sizeof(question), MSG_DONTWAIT | MSG_TRUNC,
                         (struct sockaddr *)&sender, &length);
    if (n < 0 || (size_t)n > sizeof(question) || length <= sizeof(sender.sun_family))
        return 0; // nothing, too much, or nobody to answer to
    _cleanup_(freep) char *answer = inquiry->answer(inquiry->userdata, question, (size_t)n);
    if (answer) // one that does not take it has gone, or is not worth waiting for
        (void)sendto(fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL,
                     (const struct sockaddr *)&sender, length);
    return 0;
}

/* Takes the place of a socket that nobody answers at any more. */
static int bind_to(int fd, const struct sockaddr_un *address)
{
    _cleanup_(closep) int probe = -EBADF;
    int r = make_socket(&probe);
    if (r < 0)
        return r;
    r = connect_to(probe, address);
    if (r == 0)
        return -EADDRINUSE;
    if (r == -ECONNREFUSED && unlink(address->sun_path) < 0)
        return -errno;
    return bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

int inquiry_new(sd_event *event, const char *path, inquiry_answer_fn answer, void *userdata,
                struct inquiry **ret_inquiry)
{
    struct sockaddr_un address;
    _cleanup_(closep) int fd = -EBADF;
    int r = set_address(path, &address);
    if (r == 0)
        r = make_socket(&fd);
    if (r == 0)
        r = bind_to(fd, &address);
    if (r < 0)
        return r;
    _cleanup_(inquiry_freep) struct inquiry *inquiry = calloc(1, sizeof(*inquiry));
    if (!inquiry) {
        unlink(path);
        return -ENOMEM;
    }
    *inquiry = (struct inquiry){ TAKE_FD(fd), NULL, answer, userdata, address };
    // From the mode that the umask gives, which lets no group write.
    if (chmod(path, 0660) < 0)
        return -errno;
    r = sd_event_add_io(event, &inquiry->source, inquiry->fd, EPOLLIN, on_question, inquiry);
    if (r < 0)
        return r;
    *ret_inquiry = TAKE_PTR(inquiry);
    return 0;
}

void inquiry_free(struct inquiry *inquiry)
{
    if (!inquiry)
        return;
    sd_event_source_disable_unref(inquiry->source);
    unlink(inquiry->address.sun_path);
    close(inquiry->fd);
    free(inquiry);
}

/* --- who asks -------------------------------------------------------------------------------- */

/* With an address of its own, which the kernel makes up (unix(7), autobind), to be answered at. */
static int open_to(const char *path, int *ret_fd)
{
    const struct sockaddr_un nameless = { .sun_family = AF_UNIX };
    struct sockaddr_un address;
    _cleanup_(closep) int fd = -EBADF;
    int r = set_address(path, &address);
    if (r == 0)
        r = make_socket(&fd);
    if (r < 0)
        return r;
    if (bind(fd, (const struct sockaddr *)&nameless, sizeof(nameless.sun_family)) < 0)
        return -errno;
    r = connect_to(fd, &address); // hence nobody else can answer
    if (r < 0)
        return r;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Waits until fd can be read or written. */
static int await(int fd, short events, uint64_t until_mono_usec)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };
    uint64_t now_mono_usec = clock_mono_usec();
    uint64_t left_usec = until_mono_usec > now_mono_usec ? until_mono_usec - now_mono_usec : 0;
    int r = poll(&poll_fd, 1, (int)(left_usec / USEC_PER_MSEC));
    return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

int inquiry_ask(const char *path, const char *question, uint64_t wait_usec, char **ret_answer)
{
    uint64_t until_mono_usec = clock_mono_usec() + wait_usec;
    _cleanup_(closep) int fd = -EBADF;
    char answer[INQUIRY_MAX_ANSWER];
    if (strlen(question) > INQUIRY_MAX_QUESTION)
        return -EMSGSIZE;
    int r = open_to(path, &fd);
    if (r == 0)
        r = await(fd, POLLOUT, until_mono_usec); // many ask at once
    if (r < 0)
        return r;
    if (send(fd, question, strlen(question), MSG_NOSIGNAL) < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    r = await(fd, POLLIN, until_mono_usec);
    if (r < 0)
        return r;
    ssize_t n = recv(fd, answer, sizeof(answer), 0);
    if (n < 0)
        return -errno;
    char *copy = strndup(answer, (size_t)n);
    if (!copy)
        return -ENOMEM;
    *ret_answer = copy;
    return 0;
}
