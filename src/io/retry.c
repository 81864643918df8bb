// SPDX-License-Identifier: LGPL-2.1-or-later
// The order of hosts and protocols, and the pauses between; see retry.h.
#include "io/retry.h"

#include "util/clock.h"

/* A connection that held so long was a good one: what follows is a new story. */
static const uint64_t held_usec = 10 * USEC_PER_SEC;

int retry_protocol(const struct retry *retry)
{
    if (retry->protocol)
        return retry->protocol;
    return retry->falls_back ? MQTT_PROTOCOL_311 : MQTT_PROTOCOL_5;
}

void retry_connected(struct retry *retry)
{
    if (retry_protocol(retry) == MQTT_PROTOCOL_5)
        retry->has_spoken_5 = true;
}

/* Between the shortest pause and a bound that doubles: a fleet must not come back as one. */
static uint64_t pause_usec(struct retry *retry, uint32_t random)
{
    retry->bound_usec = clock_back_off(retry->bound_usec, 2 * retry->min_usec, retry->max_usec);
    if (retry->bound_usec <= retry->min_usec)
        return retry->bound_usec;
    uint64_t spread_usec = retry->bound_usec - retry->min_usec;
    return retry->min_usec + (uint64_t)((double)spread_usec * random / UINT32_MAX);
}

static bool may_fall_back(const struct retry *retry)
{
    return !retry->protocol && retry_protocol(retry) == MQTT_PROTOCOL_5;
}

uint64_t retry_failed(struct retry *retry, enum frame_failure failure, bool crashed, int host,
                      uint32_t random)
{
    // Brokers of old close rather than refuse. One that has spoken 5 before and now closes early
    // is being restarted: that is no reason to forget 5. An answer that kills the connector is.
    bool may_be_too_new =
        failure == FRAME_FAILURE_VERSION_REFUSED ||
        (failure == FRAME_FAILURE_CLOSED_EARLY && (crashed || !retry->has_spoken_5));
    if (may_fall_back(retry) && may_be_too_new) {
        retry->falls_back = true;
        retry->is_guess = failure == FRAME_FAILURE_CLOSED_EARLY;
        if (host >= 0)
            retry->i_host = (unsigned)host;
        return 0;
    }
    retry->falls_back = false;
    if (host >= 0) {
        retry->rotation++;
        retry->i_host = (unsigned)host + 1;
        if (retry->i_host < retry->n_hosts)
            return 0;
    }
    retry->i_host = 0;
    return pause_usec(retry, random);
}

uint64_t retry_lost(struct retry *retry, uint64_t lived_usec, bool crashed, int host,
                    uint32_t random)
{
    bool held = lived_usec >= held_usec;
    // What the broker says in MQTT 5 ends the connector at once: the two versions in turn.
    bool may_be_too_new = crashed && !held && may_fall_back(retry);
    if (may_be_too_new)
        retry->falls_back = retry->is_guess = true;
    // A proxy without a broker behind it closes early as well, and 3.1.1 knows no seq, no boot.
    else if (retry->is_guess)
        retry->falls_back = false;
    if (held) {
        retry->bound_usec = 0;
        retry->i_host = 0;
    } else {
        retry->i_host = (unsigned)(may_be_too_new ? host : host + 1) % retry->n_hosts;
    }
    return pause_usec(retry, random);
}
