// SPDX-License-Identifier: LGPL-2.1-or-later
// What became of a stream's samples. Pure.
#include "core/ledger.h"

const char *const ledger_end_names[LEDGER_ENDS] = {
    [LEDGER_FILTERED] = "filtered", [LEDGER_MERGED] = "merged",     [LEDGER_EXPIRED] = "expired",
    [LEDGER_DROPPED] = "dropped",   [LEDGER_REJECTED] = "rejected", [LEDGER_ACKED] = "acked",
};

void ledger_add(struct ledger *ledger, const struct ledger *delta)
{
    ledger->sampled += delta->sampled;
    for (int end = 0; end < LEDGER_ENDS; end++)
        ledger->ended[end] += delta->ended[end];
}

uint64_t ledger_waiting(const struct ledger *ledger)
{
    uint64_t waiting = ledger->sampled;
    for (int end = 0; end < LEDGER_ENDS; end++)
        waiting -= ledger->ended[end];
    return waiting;
}

bool ledger_is_zero(const struct ledger *ledger)
{
    uint64_t any = ledger->sampled;
    for (int end = 0; end < LEDGER_ENDS; end++)
        any |= ledger->ended[end];
    return any == 0;
}
