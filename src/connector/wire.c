// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Stands between libmosquitto and the C library, by defining five of the latter's functions in this
 * program: the dynamic linker takes the program's definition for every library's calls.
 *
 *   read(), write()   libmosquitto reads a packet in three calls (its type, its length, the rest)
 *                     and writes each by itself. Here they go through a buffer, so that a burst
 * costs a system call and not a few for each message. OpenSSL's calls come by here as well. close()
 * The library closes right behind its DISCONNECT: what is buffered goes first. connect(),        A
 * connection is made before (dial.c), from the addresses of all hosts. The getaddrinfo() library
 * gets it under the name that the certificate is checked against: it looks the name up and is told
 * the address that has answered, it connects and its socket becomes a copy of ours.
 *
 * All other descriptors go straight to the kernel, but for one: with each message libmosquitto
 * writes a byte to a pair of sockets, to wake up a thread that there is not. Nobody reads it.
 *
 * The linker must see these definitions from outside. -fvisibility=hidden or link-time optimisation
 * would undo that without a word, so they are marked, and session.c refuses to go on when the
 * library's calls do not come by here.
 */
#include "connector/wire.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INTERPOSED __attribute__((visibility("default"), used))

enum { BUFFER_SIZE = 64 << 10 };

struct buffer {
    size_t begin, end;
    uint8_t bytes[BUFFER_SIZE];
};

static struct {
    int offered; // the connection that connect() hands over; -1: none
    int fd;      // the library's, once it has and until it closes it; -1
    bool is_taken;
    unsigned n_reads, n_writes;
    struct buffer in, out;
} wire = { .offered = -1, .fd = -1 };

void wire_hand_over(int fd)
{
    wire.offered = fd;
}

bool wire_is_taken(void)
{
    return wire.is_taken;
}

bool wire_has_input(void)
{
    return wire.in.begin < wire.in.end;
}

bool wire_has_output(void)
{
    return wire.out.begin < wire.out.end;
}

unsigned wire_count_reads(void)
{
    return wire.n_reads;
}

unsigned wire_count_writes(void)
{
    return wire.n_writes;
}

static ssize_t kernel_read(int fd, void *bytes, size_t size)
{
    return syscall(SYS_read, fd, bytes, size);
}

static ssize_t kernel_write(int fd, const void *bytes, size_t size)
{
    return syscall(SYS_write, fd, bytes, size);
}

int wire_flush(void)
{
    struct buffer *out = &wire.out;
    while (out->begin < out->end) {
        ssize_t n = send(wire.fd, out->bytes + out->begin, out->end - out->begin,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        out->begin += (size_t)n;
    }
    out->begin = out->end = 0;
    return 0;
}

/* --- what libmosquitto and OpenSSL call ------------------------------------------------------ */

INTERPOSED ssize_t read(int fd, void *bytes, size_t size)
{
    struct buffer *in = &wire.in;
    if (fd != wire.fd)
        return kernel_read(fd, bytes, size);
    if (in->begin == in->end) {
        bool is_long = size >= sizeof(in->bytes); // a payload: not by way of the buffer
        ssize_t n =
            kernel_read(fd, is_long ? bytes : in->bytes, is_long ? size : sizeof(in->bytes));
        wire.n_reads += n > 0;
        if (n <= 0 || is_long)
            return n;
        in->begin = 0;
        in->end = (size_t)n;
    }
    if (size > in->end - in->begin)
        size = in->end - in->begin;
    memcpy(bytes, in->bytes + in->begin, size);
    in->begin += size;
    // The library looks at errno after a packet as well, and would take an old EAGAIN for its end.
    errno = 0;
    return (ssize_t)size;
}

INTERPOSED ssize_t write(int fd, const void *bytes, size_t size)
{
    struct buffer *out = &wire.out;
    if (fd != wire.fd && (fd <= STDERR_FILENO || size != 1))
        return kernel_write(fd, bytes, size);
    if (fd != wire.fd) // the wake-up pair's
        return 1;
    wire.n_writes++;
    if (sizeof(out->bytes) - out->end < size) {
        int r = wire_flush();
        if (r < 0 && (r != -EAGAIN || out->end == sizeof(out->bytes))) {
            errno = -r;
            return -1;
        }
    }
    if (size > sizeof(out->bytes) - out->end)
        size = sizeof(out->bytes) - out->end;
    memcpy(out->bytes + out->end, bytes, size);
    out->end += size;
    return (ssize_t)size;
}

INTERPOSED int close(int fd)
{
    if (fd == wire.fd) {
        (void)wire_flush();
        wire.fd = -1;
    }
    return (int)syscall(SYS_close, fd);
}

int wire_real_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "connect");
    return real(fd, address, size);
}

int wire_real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                          struct addrinfo **ret_result)
{
    // Not kept: several threads come by here.
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, ret_result);
}

/* The library's socket becomes a copy of the one that is connected. */
INTERPOSED int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    if (wire.offered < 0)
        return wire_real_connect(fd, address, size);
    if (dup3(wire.offered, fd, O_CLOEXEC) < 0)
        return -1;
    close(wire.offered);
    wire.offered = -1;
    wire.fd = fd;
    wire.is_taken = true;
    return 0;
}

/* Whatever the name, the address is that of the connection; freeaddrinfo(3) can free the answer. */
INTERPOSED int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                           struct addrinfo **result)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof(peer);
    char text[NI_MAXHOST];
    struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
    if (wire.offered < 0)
        return wire_real_getaddrinfo(node, service, hints, result);
    if (getpeername(wire.offered, (struct sockaddr *)&peer, &size) < 0)
        return EAI_SYSTEM;
    int r =
        getnameinfo((struct sockaddr *)&peer, size, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
    return r ? r : wire_real_getaddrinfo(text, service, &numeric, result);
}
