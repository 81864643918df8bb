// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/outage.h"

#include <inttypes.h>

#include "util/clock.h"
#include "util/log.h"

void outage_begin(struct outage *outage, uint64_t n_lost, uint64_t now_mono_usec)
{
    outage->lost_mono_usec = now_mono_usec;
    outage->n_lost_before = n_lost;
}

void outage_end(struct outage *outage, uint64_t n_backlog, uint64_t n_lost, uint64_t now_mono_usec)
{
    // The first sample mostly precedes the first connection: that is no outage.
    bool is_outage = outage->was_connected || outage->n_inherited > 0;
    outage->was_connected = true;
    outage->connected_mono_usec = now_mono_usec;
    outage->span_usec = now_mono_usec - outage->lost_mono_usec;
    outage->lost_mono_usec = 0;
    outage->n_backlog = n_backlog;
    outage->n_sent = outage->n_lost = 0;
    outage->n_lost_meanwhile = n_lost - outage->n_lost_before;
    outage->is_told = n_backlog == 0 || !is_outage;
}

void outage_count(struct outage *outage, uint64_t n, bool is_sent, bool is_lost)
{
    if (n > outage->n_backlog)
        n = outage->n_backlog;
    outage->n_backlog -= n;
    outage->n_sent += is_sent ? n : 0;
    outage->n_lost += is_lost ? n : 0;
}

void outage_tell(struct outage *outage, const char *name)
{
    char span[32];
    if (outage->is_told || outage->n_backlog > 0)
        return;
    outage->is_told = true;
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_DRAINED), { "DEVICE", name }),
               "%s: back after %s: %" PRIu64 " sent, %" PRIu64 " lost", name,
               clock_format_span(outage->span_usec, span, sizeof(span)), outage->n_sent,
               outage->n_lost_meanwhile + outage->n_lost);
}
