// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The daemon's end of the pair of sockets that it shares with a connector: records out, in as few
 * frames as they fit in, and records in. Never waits: what the connector does not take is kept, and
 * sent when it does.
 *
 *     channel_open(); channel_put() whenever: it leaves with what else this turn of the loop
 * brings. on_io is called when there is something to read, or room again, and does
 *
 *     channel_flush(&channel);
 *     while (channel_receive(&channel) > 0)
 *         while (channel_next(&channel, &record) > 0) ...
 *     channel_flush(&channel);
 */
#pragma once

#include <systemd/sd-event.h>

#include "core/frame.h"

struct channel {
    int fd;
    sd_event_source *io;
    sd_event_source *later; // sends at the end of this turn of the loop
    bool watches_write;
    struct frame_queue queue;
    struct frame_reader reader;
    uint8_t frame[FRAME_MAX_SIZE];
};

/*
 * Takes fd over, also on failure. max_size: the longest record that may come in parts, in bytes.
 * 0, or what sd-event returns.
 */
int channel_open(struct channel *channel, sd_event *event, int fd, size_t max_size,
                 sd_event_io_handler_t on_io, void *userdata);
/* One that is closed, or zero, is fine. */
void channel_close(struct channel *channel);

/* 0, -ENOMEM, or -EINVAL and -EMSGSIZE as frame_queue_put(). */
int channel_put(struct channel *channel, const struct frame_record *record);

/* Sends what the connector takes now. That it is gone is seen when it is read. */
void channel_flush(struct channel *channel);

/*
 * Takes a frame in. 1; 0: there is none now; -EPIPE: its end has come, and nothing more is watched;
 * -EMSGSIZE: it is too long.
 */
int channel_receive(struct channel *channel);

/* The next record of that frame, as frame_reader_next(). */
int channel_next(struct channel *channel, struct frame_record *ret_record);

/* Nothing more is to be read. */
void channel_ignore(struct channel *channel);
