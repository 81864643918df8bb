// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What there is to tell of an outage once all that has waited for its end is sent. Plain value: set
 * lost_mono_usec, leave the rest zero.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct outage {
    uint64_t connected_mono_usec;
    uint64_t lost_mono_usec; // when the connection broke, or the start; 0 while connected
    uint64_t span_usec;      // how long the last one took
    uint64_t n_backlog;      // what waited when it ended and still waits
    uint64_t n_sent, n_lost; // of those
    bool is_told;
    bool was_connected;     // ever
    uint64_t n_inherited;   // messages that an earlier run has left
    uint64_t n_lost_before; // messages, when the outage began
    uint64_t n_lost_meanwhile;
};

/* n_lost: messages, so far. */
void outage_begin(struct outage *outage, uint64_t n_lost, uint64_t now_mono_usec);

/* n_backlog: what waits. */
void outage_end(struct outage *outage, uint64_t n_backlog, uint64_t n_lost, uint64_t now_mono_usec);

/* n of what waited have come to their end. */
void outage_count(struct outage *outage, uint64_t n, bool is_sent, bool is_lost);

/* Connected: logs, once, that what waited is sent. */
void outage_tell(struct outage *outage, const char *name);
