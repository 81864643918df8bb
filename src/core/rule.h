// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A rule's decision: two conditions, hysteresis and a shortest time between changes, and its state
 * for one device. Pure.
 *
 * Without `until`: `when` true decides THEN, false ELSE. With it: THEN from when `when` becomes
 * true until `until` becomes true, then ELSE until `when` again; between the two nothing changes.
 * While both are true, `until` wins: no flicker with every evaluation. An unknown condition counts
 * as neither, so it changes nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/expr.h"

enum rule_outcome { RULE_UNDECIDED, RULE_THEN, RULE_ELSE };

struct rule_state {
    enum rule_outcome outcome;
    uint64_t changed_mono_usec; // when outcome last changed; meaningless while undecided
};

/*
 * Takes one evaluation. when and until are 1, 0 or -1 for unknown; has_until is false if the rule
 * has no `until`. A change sooner than hold_usec after the last one is put off: the state stays,
 * and *ret_retry_mono_usec is when to evaluate again (else 0). The first decision is never held.
 * Returns whether outcome changed.
 */
bool rule_step(struct rule_state *state, bool has_until, int when, int until, uint64_t hold_usec,
               uint64_t now_mono_usec, uint64_t *ret_retry_mono_usec);

/* What a rule decides by. The expressions are borrowed; until may be NULL. */
struct rule_spec {
    const struct expr *when, *until;
    uint64_t hold_usec, stale_after_usec;
};

struct rule_decision {
    bool changed;             // state's outcome has just changed
    bool unknown;             // the condition that counts is not known, and nothing has changed
    const char *unknown_name; // then: the name without a fresh reading; NULL for another cause
    uint64_t retry_mono_usec; // when a change that was put off is due; 0: none is
};

/* Evaluates a rule's conditions in context and takes the step. */
void rule_evaluate(const struct rule_spec *spec, struct rule_state *state,
                   const struct expr_context *context, struct rule_decision *ret_decision);
