// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The decision of a rule, a set-reset latch with a shortest time between its changes. It knows
 * nothing of devices, readings and clocks.
 */
#include "core/rule.h"

#include "util/clock.h"

static enum rule_outcome wanted_outcome(enum rule_outcome now, bool has_until, int when, int until)
{
    if (has_until && until == 1)
        return RULE_ELSE;
    if (when == 1)
        return RULE_THEN;
    if (!has_until && when == 0)
        return RULE_ELSE;
    return now;
}

bool rule_step(struct rule_state *state, bool has_until, int when, int until, uint64_t hold_usec,
               uint64_t now_mono_usec, uint64_t *ret_retry_mono_usec)
{
    *ret_retry_mono_usec = 0;
    enum rule_outcome wanted = wanted_outcome(state->outcome, has_until, when, until);
    if (wanted == state->outcome)
        return false;

    if (state->outcome != RULE_UNDECIDED) {
        uint64_t free_mono_usec; // when the hold is over
        if (__builtin_add_overflow(state->changed_mono_usec, hold_usec, &free_mono_usec))
            free_mono_usec = USEC_INFINITY;
        if (now_mono_usec < free_mono_usec) {
            *ret_retry_mono_usec = free_mono_usec;
            return false;
        }
    }
    state->outcome = wanted;
    state->changed_mono_usec = now_mono_usec;
    return true;
}

void rule_evaluate(const struct rule_spec *spec, struct rule_state *state,
                   const struct expr_context *context, struct rule_decision *ret_decision)
{
    // Of the two conditions, the one that can end the present outcome is the one to be missed.
    bool until_counts = spec->until && state->outcome == RULE_THEN;
    const struct expr *counts = until_counts ? spec->until : spec->when;
    int when = expr_condition(spec->when, context);
    int until = spec->until ? expr_condition(spec->until, context) : 0;
    struct rule_decision decision = { 0 };
    decision.changed = rule_step(state, spec->until, when, until, spec->hold_usec,
                                 context->now_mono_usec, &decision.retry_mono_usec);
    decision.unknown = !decision.changed && (until_counts ? until : when) < 0;
    if (decision.unknown) {
        size_t i = expr_first_unknown(counts, context);
        decision.unknown_name = i != SIZE_MAX ? expr_name(counts, i) : NULL;
    }
    *ret_decision = decision;
}
