// SPDX-License-Identifier: LGPL-2.1-or-later
// What became of a stream's samples. Pure.
#include "core/ledger.h"

void ledger_add(struct ledger *ledger, const struct ledger *delta)
{
    ledger->sampled += delta->sampled;
    ledger->filtered += delta->filtered;
    ledger->merged += delta->merged;
    ledger->expired += delta->expired;
    ledger->dropped += delta->dropped;
    ledger->rejected += delta->rejected;
    ledger->acked += delta->acked;
}

uint64_t ledger_waiting(const struct ledger *ledger)
{
    return ledger->sampled - ledger->filtered - ledger->merged - ledger->expired - ledger->dropped -
           ledger->rejected - ledger->acked;
}
