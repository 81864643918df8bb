// SPDX-License-Identifier: LGPL-2.1-or-later
#include "io/channel.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"

static void watch_write(struct channel *channel, bool wants)
{
    if (wants == channel->watches_write)
        return;
    channel->watches_write = wants;
    sd_event_source_set_io_events(channel->io, wants ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void channel_flush(struct channel *channel)
{
    const void *bytes;
    size_t size;
    if (!channel->io)
        return;
    while (frame_queue_first(&channel->queue, &bytes, &size)) {
        if (send(channel->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            watch_write(channel, errno == EAGAIN);
            return;
        }
        frame_queue_pop(&channel->queue);
    }
    watch_write(channel, false);
    sd_event_source_set_enabled(channel->later, SD_EVENT_OFF);
}

static int on_later(sd_event_source *source, void *userdata)
{
    (void)source;
    channel_flush(userdata);
    return 0;
}

int channel_open(struct channel *channel, sd_event *event, int fd, size_t max_size,
                 sd_event_io_handler_t on_io, void *userdata)
{
    channel->fd = fd;
    channel->reader.max_size = max_size;
    int r = sd_event_add_io(event, &channel->io, fd, EPOLLIN, on_io, userdata);
    if (r >= 0)
        r = sd_event_add_defer(event, &channel->later, on_later, channel);
    if (r >= 0)
        r = sd_event_source_set_enabled(channel->later, SD_EVENT_OFF);
    if (r >= 0)
        return 0;
    if (!channel->io)
        close(TAKE_FD(channel->fd));
    channel_close(channel);
    return r;
}

void channel_close(struct channel *channel)
{
    if (channel->io)
        close(TAKE_FD(channel->fd));
    channel->io = sd_event_source_disable_unref(channel->io);
    channel->later = sd_event_source_disable_unref(channel->later);
    channel->watches_write = false;
    frame_queue_done(&channel->queue);
    frame_reader_done(&channel->reader);
}

int channel_put(struct channel *channel, const struct frame_record *record)
{
    int r = frame_queue_put(&channel->queue, record);
    if (r == 0 && !channel->watches_write)
        sd_event_source_set_enabled(channel->later, SD_EVENT_ONESHOT);
    return r;
}

void channel_ignore(struct channel *channel)
{
    sd_event_source_set_enabled(channel->io, SD_EVENT_OFF);
}

int channel_receive(struct channel *channel)
{
    ssize_t n = recv(channel->fd, channel->frame, sizeof(channel->frame), MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0) // ECONNRESET: it has not read all; what it has sent comes next
        return 0;
    if (n == 0) {
        channel_ignore(channel);
        return -EPIPE;
    }
    if ((size_t)n > sizeof(channel->frame))
        return -EMSGSIZE;
    frame_reader_feed(&channel->reader, channel->frame, (size_t)n);
    return 1;
}

int channel_next(struct channel *channel, struct frame_record *ret_record)
{
    ret_record->options = NULL;
    return frame_reader_next(&channel->reader, ret_record);
}
