// SPDX-License-Identifier: LGPL-2.1-or-later
// The order of hosts and protocols, and the pauses between; see mqtt-retry.h.
#include "io/mqtt-retry.h"

#include "util/clock.h"

enum {
    PROTOCOL_5 = 5,
    PROTOCOL_311 = 4,
    MAX_ROUNDS = 16, // more only doubles what is capped anyway
};

/* A connection that held so long was a good one: what follows is a new story. */
#define HELD_USEC (10 * USEC_PER_SEC)

int mqtt_retry_protocol(const struct mqtt_retry *retry)
{
    if (retry->protocol)
        return retry->protocol;
    return retry->falls_back ? PROTOCOL_311 : PROTOCOL_5;
}

void mqtt_retry_connected(struct mqtt_retry *retry)
{
    if (mqtt_retry_protocol(retry) == PROTOCOL_5)
        retry->has_spoken_5 = true;
}

/* Between the shortest pause and a bound that doubles: a fleet must not come back as one. */
static uint64_t pause_usec(struct mqtt_retry *retry, uint32_t random)
{
    if (retry->n_rounds < MAX_ROUNDS)
        retry->n_rounds++;
    uint64_t bound_usec = retry->max_usec;
    if (retry->min_usec < bound_usec >> retry->n_rounds)
        bound_usec = retry->min_usec << retry->n_rounds;
    if (bound_usec <= retry->min_usec)
        return bound_usec;
    uint64_t spread_usec = bound_usec - retry->min_usec;
    return retry->min_usec + (uint64_t)((double)spread_usec * random / UINT32_MAX);
}

uint64_t mqtt_retry_failed(struct mqtt_retry *retry, enum mqtt_failure failure, uint32_t random)
{
    // Brokers of old close rather than refuse. One that has spoken 5 before and now closes early
    // is being restarted: that is no reason to forget 5.
    bool may_be_too_new =
        failure == MQTT_VERSION_REFUSED || (failure == MQTT_CLOSED_EARLY && !retry->has_spoken_5);
    if (mqtt_retry_protocol(retry) == PROTOCOL_5 && !retry->protocol && may_be_too_new) {
        retry->falls_back = true;
        retry->is_guess = failure == MQTT_CLOSED_EARLY;
        return 0;
    }
    retry->falls_back = false;
    if (++retry->i_host < retry->n_hosts)
        return 0;
    retry->i_host = 0;
    return pause_usec(retry, random);
}

uint64_t mqtt_retry_lost(struct mqtt_retry *retry, uint64_t lived_usec, uint32_t random)
{
    // A proxy without a broker behind it closes early as well, and 3.1.1 knows no seq, no boot.
    if (retry->is_guess)
        retry->falls_back = false;
    if (lived_usec >= HELD_USEC) {
        retry->n_rounds = 0;
        retry->i_host = 0;
    } else {
        retry->i_host = (retry->i_host + 1) % retry->n_hosts;
    }
    return pause_usec(retry, random);
}
