// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Where, how and when a link connects next: hosts in turn, from MQTT 5 to 3.1.1, a pause with
 * jitter after each round of hosts. Pure: no I/O, no clock.
 *
 * Plain value: fill in the first four, leave the rest zero. An attempt is for all hosts from i_host
 * on: the connector races them over TCP, and speaks MQTT with the one that answers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/frame.h"

struct retry {
    unsigned n_hosts; // at least 1
    int protocol;     // 5, 4 (3.1.1), or 0: 5, and 3.1.1 where 5 is refused
    uint64_t min_usec, max_usec;

    unsigned i_host; // the first host to try
    unsigned
        rotation;    // which of a host's addresses comes first: grows with each that was no broker
    bool falls_back; // to 3.1.1, in the next attempt
    bool is_guess;   // since 5 was not refused in words
    bool has_spoken_5;
    uint64_t bound_usec; // of the last pause; 0: a connection held
};

enum { RETRY_NO_HOST = -1 };

/* The protocol of the attempt at hand, MQTT_PROTOCOL_5 or MQTT_PROTOCOL_311. */
int retry_protocol(const struct retry *retry);

/* CONNACK came: the protocol is remembered. */
void retry_connected(struct retry *retry);

/*
 * The attempt has failed at a host, or at all of them on TCP (RETRY_NO_HOST); crashed: the
 * connector has died of it. Returns the pause before the next one; random is spread evenly over its
 * range.
 */
uint64_t retry_failed(struct retry *retry, enum frame_failure failure, bool crashed, int host,
                      uint32_t random);

/* A connection that had come up is lost. Likewise. */
uint64_t retry_lost(struct retry *retry, uint64_t lived_usec, bool crashed, int host,
                    uint32_t random);
