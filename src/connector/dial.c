// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The race; see dial.h. A look-up is a thread, since getaddrinfo(3) waits as long as it likes and
 * cannot be interrupted; all else is the main thread and poll(2). A thread that hangs is left
 * behind with its struct host, which nobody frees: the process ends with its connection.
 */
#include "connector/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "connector/wire.h"
#include "util/cleanup.h"
#include "util/clock.h"

enum {
    MAX_ADDRESSES = 16, // of a host
    MAX_ATTEMPTS = 64,  // at the same time, and of all hosts
    STACK_SIZE = 256 << 10,
};

static const uint64_t address_limit_usec = 10 * USEC_PER_SEC;
static const uint64_t delay_usec = 250 * USEC_PER_MSEC; // RFC 8305, section 8

struct address {
    struct sockaddr_storage bytes;
    socklen_t size;
};

struct host {
    const char *name;
    int done_fd; // the thread says its index here
    uint8_t index;
    struct addrinfo *found; // the thread's until then, as the two below
    int error;              // getaddrinfo()'s code
    int system_error;       // and the errno beside it

    bool is_looked_up;
    struct address addresses[MAX_ADDRESSES];
    size_t n_addresses;
    size_t n_begun; // of them
    char why[192];  // of the last that has failed
};

struct attempt {
    int fd;
    struct host *host;
    uint64_t end_mono_usec;
};

struct race {
    const struct frame_options *options;
    struct host *hosts;
    size_t n_hosts;
    size_t n_looked_up;
    int looked_up_fd; // the threads' words come here
    struct attempt attempts[MAX_ATTEMPTS];
    size_t n_attempts;
    uint64_t next_mono_usec; // not before, unless one has failed
    // Until then the look-up of a host is waited for before those that are named later come in.
    uint64_t patience_mono_usec;
};

static atomic_uint n_threads;

bool dial_has_threads(void)
{
    return atomic_load(&n_threads) > 0;
}

void dial_format(const struct frame_options *options, const char *host, char *out, size_t size)
{
    if (options->unix_socket)
        snprintf(out, size, "%s", host);
    else
        snprintf(out, size, "%s:%d", host, (int)options->port);
}

void dial_keep(int fd)
{
    const struct linger keeps = { 0 };
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &keeps, sizeof(keeps));
}

/* --- addresses ------------------------------------------------------------------------------- */

static void *look_up(void *userdata)
{
    struct host *host = userdata;
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    host->error = wire_real_getaddrinfo(host->name, NULL, &hints, &host->found);
    host->system_error = errno;
    atomic_fetch_sub(&n_threads, 1);
    (void)send(host->done_fd, &host->index, sizeof(host->index), MSG_NOSIGNAL);
    return NULL;
}

static int begin_look_up(struct host *host)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    atomic_fetch_add(&n_threads, 1);
    int r = pthread_create(&thread, &attributes, look_up, host);
    if (r)
        atomic_fetch_sub(&n_threads, 1);
    pthread_attr_destroy(&attributes);
    return -r;
}

static void add_address(struct host *host, const struct sockaddr *bytes, socklen_t size)
{
    if (host->n_addresses == MAX_ADDRESSES)
        return;
    struct address *address = &host->addresses[host->n_addresses++];
    memcpy(&address->bytes, bytes, size);
    address->size = size;
}

static void set_port(struct address *address, uint16_t port)
{
    if (address->bytes.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&address->bytes)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&address->bytes)->sin_port = htons(port);
}

static const struct addrinfo *next_of_family(const struct addrinfo *at, int family, bool equal)
{
    while (at && (at->ai_family == family) != equal)
        at = at->ai_next;
    return at;
}

/* The families in turn, in the order that getaddrinfo(3) prefers (RFC 8305, section 4). */
static void sort_addresses(struct host *host)
{
    if (!host->found)
        return;
    int preferred = host->found->ai_family;
    const struct addrinfo *same = host->found;
    const struct addrinfo *other = next_of_family(host->found, preferred, false);
    while (same || other) {
        if (same) {
            add_address(host, same->ai_addr, same->ai_addrlen);
            same = next_of_family(same->ai_next, preferred, true);
        }
        if (other) {
            add_address(host, other->ai_addr, other->ai_addrlen);
            other = next_of_family(other->ai_next, preferred, false);
        }
    }
}

/* Not the one first that has answered on TCP and then not on MQTT. */
static void rotate_addresses(struct host *host, uint64_t rotation)
{
    struct address sorted[MAX_ADDRESSES];
    memcpy(sorted, host->addresses, sizeof(sorted));
    for (size_t i = 0; i < host->n_addresses; i++)
        host->addresses[i] = sorted[(i + rotation) % host->n_addresses];
}

static void take_look_up(struct race *race, struct host *host)
{
    race->n_looked_up++;
    host->is_looked_up = true;
    if (host->error) {
        const char *why =
            host->error == EAI_SYSTEM ? strerror(host->system_error) : gai_strerror(host->error);
        snprintf(host->why, sizeof(host->why), "name look-up of %.100s failed: %s", host->name,
                 why);
        return;
    }
    sort_addresses(host);
    freeaddrinfo(TAKE_PTR(host->found));
    rotate_addresses(host, race->options->rotation);
    for (size_t i = 0; i < host->n_addresses; i++)
        set_port(&host->addresses[i], (uint16_t)race->options->port);
}

static void take_path(struct race *race, struct host *host)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    race->n_looked_up++;
    host->is_looked_up = true;
    if (strlen(host->name) >= sizeof(address.sun_path)) {
        snprintf(host->why, sizeof(host->why),
                 "%.60s...: the path of a Unix socket has at most %zu bytes", host->name,
                 sizeof(address.sun_path) - 1);
        return;
    }
    memcpy(address.sun_path, host->name, strlen(host->name) + 1);
    add_address(host, (const struct sockaddr *)&address, sizeof(address));
}

/* --- attempts -------------------------------------------------------------------------------- */

static void fail(const struct race *race, struct host *host, int error)
{
    char where[128];
    dial_format(race->options, host->name, where, sizeof(where));
    snprintf(host->why, sizeof(host->why), "%s: %s", where, strerror(error));
}

/* 0, -EINPROGRESS, or another -errno. */
static int begin(struct race *race, struct host *host, uint64_t now_mono_usec)
{
    const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
    const struct address *address = &host->addresses[host->n_begun++];
    _cleanup_(closep) int fd =
        socket(address->bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if (wire_real_connect(fd, (const struct sockaddr *)&address->bytes, address->size) < 0 &&
        errno != EINPROGRESS)
        return -errno;
    race->attempts[race->n_attempts++] = (struct attempt){
        .fd = TAKE_FD(fd), .host = host, .end_mono_usec = now_mono_usec + address_limit_usec
    };
    return 0;
}

static void end(struct race *race, size_t i, int error)
{
    struct attempt *attempt = &race->attempts[i];
    fail(race, attempt->host, error);
    close(attempt->fd);
    race->n_attempts--;
    memmove(attempt, attempt + 1, (race->n_attempts - i) * sizeof(*attempt));
    race->next_mono_usec = 0;
}

/* The host whose next address is to be tried; NULL: none, or one that is still looked up. */
static struct host *next_host(struct race *race, uint64_t now_mono_usec)
{
    for (size_t i = 0; i < race->n_hosts; i++) {
        struct host *host = &race->hosts[i];
        if (host->is_looked_up && host->n_begun < host->n_addresses)
            return host;
        if (!host->is_looked_up && now_mono_usec < race->patience_mono_usec)
            return NULL;
    }
    return NULL;
}

static void begin_what_is_due(struct race *race, uint64_t now_mono_usec)
{
    struct host *host;
    while (now_mono_usec >= race->next_mono_usec && race->n_attempts < MAX_ATTEMPTS &&
           (host = next_host(race, now_mono_usec))) {
        int r = begin(race, host, now_mono_usec);
        if (r < 0)
            fail(race, host, -r);
        else
            race->next_mono_usec = now_mono_usec + delay_usec;
    }
}

static void end_what_is_late(struct race *race, uint64_t now_mono_usec)
{
    for (size_t i = race->n_attempts; i-- > 0;) {
        if (now_mono_usec >= race->attempts[i].end_mono_usec)
            end(race, i, ETIMEDOUT);
    }
}

static int poll_timeout(struct race *race, uint64_t now_mono_usec)
{
    uint64_t first_mono_usec = USEC_INFINITY;
    if (next_host(race, now_mono_usec))
        first_mono_usec = race->next_mono_usec;
    else if (now_mono_usec < race->patience_mono_usec)
        first_mono_usec = race->patience_mono_usec;
    for (size_t i = 0; i < race->n_attempts; i++) {
        if (race->attempts[i].end_mono_usec < first_mono_usec)
            first_mono_usec = race->attempts[i].end_mono_usec;
    }
    if (first_mono_usec == USEC_INFINITY)
        return -1;
    if (first_mono_usec <= now_mono_usec)
        return 0;
    return (int)((first_mono_usec - now_mono_usec) / USEC_PER_MSEC) + 1;
}

/* The attempt that is connected, of several the one that was begun first; -1: none is yet. */
static int find_winner(struct race *race, const struct pollfd *fds)
{
    int winner = -1;
    for (size_t i = race->n_attempts; i-- > 0;) {
        int error = 0;
        socklen_t size = sizeof(error);
        if (!fds[i].revents)
            continue;
        if (getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            error = errno;
        if (error == 0) {
            winner = (int)i;
            continue;
        }
        end(race, i, error);
        winner -= winner >= 0; // those behind it move up
    }
    return winner;
}

/* The winner's descriptor, with *ret_host; -ETIMEDOUT: all have failed. */
static int run(struct race *race, struct host **ret_host)
{
    for (;;) {
        uint64_t now_mono_usec = clock_mono_usec();
        struct pollfd fds[MAX_ATTEMPTS + 1];
        end_what_is_late(race, now_mono_usec);
        begin_what_is_due(race, now_mono_usec);
        if (race->n_attempts == 0 && race->n_looked_up == race->n_hosts)
            return -ETIMEDOUT;
        size_t n = race->n_attempts;
        for (size_t i = 0; i < n; i++)
            fds[i] = (struct pollfd){ .fd = race->attempts[i].fd, .events = POLLOUT };
        fds[n] = (struct pollfd){ .fd = race->looked_up_fd, .events = POLLIN };
        if (poll(fds, n + 1, poll_timeout(race, now_mono_usec)) < 0)
            continue; // a signal
        int i = find_winner(race, fds);
        if (i >= 0) {
            *ret_host = race->attempts[i].host;
            return TAKE_FD(race->attempts[i].fd);
        }
        uint8_t index;
        // Not read(), which is wire.c's: TSan would not see that this waits for the thread.
        if (fds[n].revents && recv(race->looked_up_fd, &index, sizeof(index), 0) == sizeof(index))
            take_look_up(race, &race->hosts[index]);
    }
}

static void explain(const struct race *race, char *why, size_t size)
{
    size_t length = 0;
    why[0] = '\0';
    for (size_t i = 0; i < race->n_hosts && length < size; i++)
        length += (size_t)snprintf(why + length, size - length, "%s%s", i > 0 ? "; " : "",
                                   race->hosts[i].why);
}

int dial(const struct frame_options *options, int *ret_fd, char *why, size_t size)
{
    static struct host hosts[FRAME_MAX_HOSTS]; // the threads' too
    static struct race race;
    int ends[2] = { -EBADF, -EBADF };
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        snprintf(why, size, "no socket: %s", strerror(errno));
        return -EIO;
    }
    race = (struct race){
        .options = options,
        .hosts = hosts,
        .n_hosts = options->n_hosts,
        .looked_up_fd = ends[0],
        .patience_mono_usec = clock_mono_usec() + delay_usec,
    };
    for (size_t i = 0; i < race.n_hosts; i++) {
        hosts[i] =
            (struct host){ .name = options->hosts[i], .done_fd = ends[1], .index = (uint8_t)i };
        if (options->unix_socket) {
            take_path(&race, &hosts[i]);
            continue;
        }
        int r = begin_look_up(&hosts[i]);
        if (r < 0) {
            hosts[i].error = EAI_SYSTEM;
            hosts[i].system_error = -r;
            take_look_up(&race, &hosts[i]);
        }
    }
    struct host *winner = NULL;
    int fd = run(&race, &winner);
    for (size_t i = 0; i < race.n_attempts; i++)
        closep(&race.attempts[i].fd);
    if (!dial_has_threads()) {
        close(ends[0]);
        close(ends[1]);
    }
    if (fd < 0) {
        explain(&race, why, size);
        return -EIO;
    }
    *ret_fd = fd;
    return winner->index;
}
