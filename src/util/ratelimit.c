// SPDX-License-Identifier: LGPL-2.1-or-later
// Limits repeats; see ratelimit.h. Pure.
#include "util/ratelimit.h"

bool ratelimit_pass(struct ratelimit *limit, uint64_t now_mono_usec, unsigned *ret_suppressed)
{
    if (limit->n_passed == 0 || now_mono_usec - limit->begin_mono_usec >= limit->interval_usec) {
        limit->begin_mono_usec = now_mono_usec;
        limit->n_passed = 0;
    }
    if (limit->n_passed >= limit->burst) {
        limit->n_suppressed++;
        return false;
    }
    limit->n_passed++;
    if (ret_suppressed)
        *ret_suppressed = limit->n_suppressed;
    limit->n_suppressed = 0;
    return true;
}
