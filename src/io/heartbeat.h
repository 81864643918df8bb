// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Whether a connector, and the broker behind it, still do what is expected of them. A connector is
 * looked at every so often: closely while an acknowledgement or an answer is due, else seldom, so
 * that an idle daemon does not wake up for it.
 *
 *     heartbeat_begin() with a connection; heartbeat_expect(), heartbeat_acknowledged() and
 * heartbeat_heard() as things happen; heartbeat_look() after each heartbeat_pause_usec().
 *
 * Pure, a plain value. It counts looks and not time, since a clock jumps when the machine sleeps or
 * this process is stopped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct heartbeat {
    uint64_t keepalive_usec;
    bool has_heard;            // something, since the last look
    unsigned ping_looks;       // since a PING was sent; 0: none is unanswered
    unsigned silent_looks;     // without an acknowledgement, while some are missing
    uint64_t n_unacknowledged; // of what the broker acknowledges
};

enum heartbeat_verdict {
    HEARTBEAT_FINE,
    HEARTBEAT_PING,   // a PING is to be sent
    HEARTBEAT_DEAF,   // the connector hangs: a PING was not answered for 10 s
    HEARTBEAT_SILENT, // the broker has acknowledged nothing for three keepalives
};

/* How long a PING may be unanswered. */
extern const uint64_t heartbeat_ping_limit_usec;

void heartbeat_begin(struct heartbeat *heartbeat, uint64_t keepalive_usec);

/* The connector has said something. */
void heartbeat_heard(struct heartbeat *heartbeat);

/* An acknowledgement is due. Whether it is the only one: then the next look is to be soon. */
bool heartbeat_expect(struct heartbeat *heartbeat);

/* One has come. */
void heartbeat_acknowledged(struct heartbeat *heartbeat);

uint64_t heartbeat_pause_usec(const struct heartbeat *heartbeat);
enum heartbeat_verdict heartbeat_look(struct heartbeat *heartbeat);

/* How long the broker has been silent. */
uint64_t heartbeat_silence_usec(const struct heartbeat *heartbeat);
