// SPDX-License-Identifier: LGPL-2.1-or-later
// The connector's end of the pair; see pair.h.
#include "connector/pair.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connector/process.h"

enum {
    FULL_SIZE = 256 << 10, // bytes of messages that wait for the daemon
    MAX_OUTGOING = 1 << 30,
};

static struct {
    struct frame_queue out;
    struct frame_reader reader;
    uint8_t frame[FRAME_MAX_SIZE];
} pair = { .reader = { .max_size = MAX_OUTGOING } };

void pair_put(const struct frame_record *record)
{
    int r = frame_queue_put(&pair.out, record);
    if (r < 0)
        process_end("cannot tell the daemon: %s", strerror(-r));
}

bool pair_is_full(void)
{
    return frame_queue_size(&pair.out) >= FULL_SIZE;
}

bool pair_has_output(void)
{
    return frame_queue_size(&pair.out) > 0;
}

void pair_flush(void)
{
    const void *bytes;
    size_t size;
    while (frame_queue_first(&pair.out, &bytes, &size)) {
        if (send(FRAME_FD, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EAGAIN || errno == ENOBUFS)
                return;
            process_end(NULL); // the daemon is gone
        }
        frame_queue_pop(&pair.out);
    }
}

void pair_drain(int limit_msec)
{
    pair_flush();
    while (pair_has_output()) {
        struct pollfd fd = { .fd = FRAME_FD, .events = POLLOUT };
        if (poll(&fd, 1, limit_msec) <= 0)
            return;
        pair_flush();
    }
}

/* A frame, if there is one. */
static bool receive(int flags)
{
    ssize_t n = recv(FRAME_FD, pair.frame, sizeof(pair.frame), flags | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0)
        process_end(NULL);
    if ((size_t)n > sizeof(pair.frame))
        process_end("a frame of the daemon is too long: %zd bytes", n);
    frame_reader_feed(&pair.reader, pair.frame, (size_t)n);
    return true;
}

bool pair_receive(void)
{
    return receive(MSG_DONTWAIT);
}

bool pair_next(struct frame_record *ret_record)
{
    int r = frame_reader_next(&pair.reader, ret_record);
    if (r == -EPROTO)
        process_end("it and the program that has started it are of different versions");
    if (r < 0)
        process_end("what the daemon says is malformed: %s", strerror(-r));
    return r > 0;
}

void pair_wait_for_options(struct frame_options *ret_options)
{
    static uint8_t kept[FRAME_MAX_SIZE]; // the strings are borrowed from here
    struct frame_record record = { .options = ret_options };
    while (!receive(0))
        continue;
    size_t size = (size_t)(pair.reader.end - pair.reader.at);
    memcpy(kept, pair.frame, size);
    frame_reader_feed(&pair.reader, kept, size);
    if (!pair_next(&record) || record.kind != FRAME_OPTIONS)
        process_end("the daemon does not begin with options");
}
