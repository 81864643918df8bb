// SPDX-License-Identifier: LGPL-2.1-or-later
#include "io/heartbeat.h"

#include "util/clock.h"

enum { SILENT_KEEPALIVES = 3 };

static const uint64_t longest_look_usec = 10 * USEC_PER_SEC; // or the keepalive
static const uint64_t idle_look_usec = 30 * USEC_PER_SEC;
const uint64_t heartbeat_ping_limit_usec = 10 * USEC_PER_SEC;

static uint64_t look_usec(const struct heartbeat *heartbeat)
{
    return heartbeat->keepalive_usec < longest_look_usec ? heartbeat->keepalive_usec
                                                         : longest_look_usec;
}

void heartbeat_begin(struct heartbeat *heartbeat, uint64_t keepalive_usec)
{
    *heartbeat = (struct heartbeat){ .keepalive_usec = keepalive_usec };
}

void heartbeat_heard(struct heartbeat *heartbeat)
{
    heartbeat->has_heard = true;
}

bool heartbeat_expect(struct heartbeat *heartbeat)
{
    if (heartbeat->n_unacknowledged++ > 0)
        return false;
    heartbeat->has_heard = false;
    heartbeat->silent_looks = 0;
    return true;
}

void heartbeat_acknowledged(struct heartbeat *heartbeat)
{
    heartbeat->silent_looks = 0;
    heartbeat->n_unacknowledged -= heartbeat->n_unacknowledged > 0;
}

uint64_t heartbeat_pause_usec(const struct heartbeat *heartbeat)
{
    bool waits = heartbeat->n_unacknowledged > 0 || heartbeat->ping_looks > 0;
    return waits ? look_usec(heartbeat) : idle_look_usec;
}

static enum heartbeat_verdict ask(struct heartbeat *heartbeat)
{
    bool has_heard = heartbeat->has_heard;
    heartbeat->has_heard = false;
    if (has_heard) {
        heartbeat->ping_looks = 0;
        return HEARTBEAT_FINE;
    }
    bool is_first = heartbeat->ping_looks == 0;
    if (heartbeat->ping_looks++ * look_usec(heartbeat) >= heartbeat_ping_limit_usec)
        return HEARTBEAT_DEAF;
    return is_first ? HEARTBEAT_PING : HEARTBEAT_FINE;
}

enum heartbeat_verdict heartbeat_look(struct heartbeat *heartbeat)
{
    enum heartbeat_verdict verdict = ask(heartbeat);
    if (verdict == HEARTBEAT_DEAF || heartbeat->n_unacknowledged == 0)
        return verdict;
    heartbeat->silent_looks++;
    return heartbeat_silence_usec(heartbeat) >= SILENT_KEEPALIVES * heartbeat->keepalive_usec
               ? HEARTBEAT_SILENT
               : verdict;
}

uint64_t heartbeat_silence_usec(const struct heartbeat *heartbeat)
{
    return heartbeat->silent_looks * look_usec(heartbeat);
}
