// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Where, how and when an MQTT client connects next: hosts in turn, from MQTT 5 to 3.1.1, a pause
 * with jitter after each round of hosts; internal to io/mqtt.c. Pure: no I/O, no clock.
 *
 * Plain value: fill in the first four, leave the rest zero.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct mqtt_retry {
    unsigned n_hosts; // at least 1
    int protocol;     // 5, 4 (3.1.1), or 0: 5, and 3.1.1 where 5 is refused
    uint64_t min_usec, max_usec;

    unsigned i_host; // the host to try
    bool falls_back; // to 3.1.1, in the next attempt
    bool is_guess;   // since 5 was not refused in words
    bool has_spoken_5;
    unsigned n_rounds; // that failed, since a connection held
};

enum mqtt_failure {
    MQTT_FAILED,          // nothing that another version could mend
    MQTT_CLOSED_EARLY,    // it came up, and was closed or answered with rubbish before CONNACK
    MQTT_VERSION_REFUSED, // by CONNACK
};

/* The protocol of the attempt at hand, 5 or 4. */
int mqtt_retry_protocol(const struct mqtt_retry *retry);

/* CONNACK came: the protocol is remembered. */
void mqtt_retry_connected(struct mqtt_retry *retry);

/* Each returns the pause before the next attempt; random is spread evenly over its range. */
uint64_t mqtt_retry_failed(struct mqtt_retry *retry, enum mqtt_failure failure, uint32_t random);
uint64_t mqtt_retry_lost(struct mqtt_retry *retry, uint64_t lived_usec, uint32_t random);
