// SPDX-License-Identifier: LGPL-2.1-or-later
// Decisions: hysteresis, unknown conditions, and the shortest time between changes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/rule.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* A step without a hold. */
static enum rule_outcome step(struct rule_state *state, bool has_until, int when, int until)
{
    enum rule_outcome before = state->outcome;
    uint64_t retry = 1;
    bool changed = rule_step(state, has_until, when, until, 0, 1000, &retry);
    assert_int_equal(changed, before != state->outcome);
    assert_int_equal(retry, 0);
    return state->outcome;
}

static void every_step_of_the_table(void **state)
{
    (void)state;
    static const char letters[] = "UTE"; // of enum rule_outcome
    static const struct {
        bool has_until;
        int when, until;
        const char *becomes; // from undecided, from then, from else
    } cases[] = {
        { false, 1, 0, "TTT" },  { false, 0, 0, "EEE" }, { false, -1, 0, "UTE" },
        { false, 1, 1, "TTT" }, // until is not looked at
        { false, -1, 1, "UTE" }, { true, 1, 0, "TTT" },  { true, 0, 1, "EEE" },
        { true, 0, 0, "UTE" }, // between the two
        { true, 1, 1, "EEE" },   { true, -1, 0, "UTE" }, { true, -1, 1, "EEE" },
        { true, -1, -1, "UTE" }, { true, 1, -1, "TTT" }, { true, 0, -1, "UTE" },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        for (int from = RULE_UNDECIDED; from <= RULE_ELSE; from++) {
            struct rule_state rule = { .outcome = (enum rule_outcome)from };
            step(&rule, cases[i].has_until, cases[i].when, cases[i].until);
            if (letters[rule.outcome] != cases[i].becomes[from])
                fail_msg("case %zu from %c: %c", i, letters[from], letters[rule.outcome]);
        }
    }
}

static void hysteresis_ignores_flicker_between_the_thresholds(void **state)
{
    (void)state;
    static const int lights[] = { 310, 299, 301, 299, 319, 305, 321, 319, 301, 310, 299, 310 };
    static const int lamp_on[] = { 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1 };
    struct rule_state rule = { 0 };
    for (size_t i = 0; i < ELEMENTS(lights); i++)
        assert_int_equal(step(&rule, true, lights[i]<300, lights[i]> 320) == RULE_THEN, lamp_on[i]);
}

static void first_decision_is_never_held(void **state)
{
    (void)state;
    struct rule_state rule = { 0 };
    uint64_t retry = 1;
    assert_true(rule_step(&rule, false, 0, 0, USEC_PER_SEC, 5, &retry));
    assert_int_equal(rule.outcome, RULE_ELSE);
    assert_int_equal(rule.changed_mono_usec, 5);
    assert_int_equal(retry, 0);
}

static void change_within_the_hold_is_put_off_and_says_until_when(void **state)
{
    (void)state;
    struct rule_state rule = { RULE_THEN, 1000 };
    uint64_t retry = 0;
    assert_false(rule_step(&rule, false, 0, 0, 500, 1001, &retry));
    assert_int_equal(rule.outcome, RULE_THEN);
    assert_int_equal(rule.changed_mono_usec, 1000);
    assert_int_equal(retry, 1500);
    assert_false(rule_step(&rule, false, 0, 0, 500, 1499, &retry));
    assert_int_equal(retry, 1500);
    assert_true(rule_step(&rule, false, 0, 0, 500, 1500, &retry));
    assert_int_equal(rule.outcome, RULE_ELSE);
    assert_int_equal(rule.changed_mono_usec, 1500);
    assert_int_equal(retry, 0);
}

static void change_of_mind_within_the_hold_needs_no_retry(void **state)
{
    (void)state;
    struct rule_state rule = { RULE_THEN, 1000 };
    uint64_t retry = 0;
    assert_false(rule_step(&rule, false, 0, 0, 500, 1100, &retry));
    assert_int_equal(retry, 1500);
    assert_false(rule_step(&rule, false, 1, 0, 500, 1200, &retry));
    assert_int_equal(retry, 0);
    assert_false(rule_step(&rule, false, -1, 0, 500, 1300, &retry));
    assert_int_equal(retry, 0);
}

static void endless_hold_does_not_overflow(void **state)
{
    (void)state;
    struct rule_state rule = { RULE_THEN, 1000 };
    uint64_t retry = 0;
    assert_false(rule_step(&rule, false, 0, 0, USEC_INFINITY, UINT64_MAX - 1, &retry));
    assert_true(retry == USEC_INFINITY);
    assert_false(rule_step(&rule, false, 0, 0, UINT64_MAX - 5, 2000, &retry));
    assert_true(retry == USEC_INFINITY);
}

static void clock_before_the_last_change_holds(void **state)
{
    (void)state;
    struct rule_state rule = { RULE_THEN, 1000 };
    uint64_t retry = 0;
    assert_false(rule_step(&rule, false, 0, 0, 500, 10, &retry));
    assert_int_equal(retry, 1500);
}

/* One evaluation of "light < 300" until "light > 320 and dark / dark == 1". */
static struct rule_decision evaluate(struct rule_state *rule, struct expr_reading light,
                                     struct expr_reading dark, uint64_t now_mono_usec)
{
    _cleanup_(expr_freep) struct expr *when = NULL;
    _cleanup_(expr_freep) struct expr *until = NULL;
    assert_int_equal(expr_parse("light < 300", EXPR_CONDITION, &when, NULL), 0);
    assert_int_equal(expr_parse("light > 320 and dark / dark == 1", EXPR_CONDITION, &until, NULL),
                     0);
    struct expr_reading readings[] = { light, dark };
    struct expr_context context = { .readings = readings,
                                    .now_mono_usec = now_mono_usec,
                                    .stale_after_usec = 100 };
    struct rule_spec spec = { .when = when, .until = until, .hold_usec = 50 };
    struct rule_decision decision;
    rule_evaluate(&spec, rule, &context, &decision);
    if (decision.unknown_name) // borrowed from the expressions that end here
        decision.unknown_name = decision.unknown_name[0] == 'l' ? "light" : "dark";
    return decision;
}

static void evaluation_decides_holds_and_names_what_is_unknown(void **state)
{
    (void)state;
    struct rule_state rule = { 0 };
    struct expr_reading none = { 0 }, one = { 1, 1000 }, zero = { 0, 1000 };
    struct expr_reading low = { 250, 1000 }, high = { 330, 1000 };

    struct rule_decision decision = evaluate(&rule, none, none, 1000);
    assert_false(decision.changed);
    assert_true(decision.unknown);
    assert_string_equal(decision.unknown_name, "light");

    decision = evaluate(&rule, low, none, 1000);
    assert_true(decision.changed);
    assert_false(decision.unknown);
    assert_int_equal(rule.outcome, RULE_THEN);

    decision = evaluate(&rule, high, none, 1010);
    assert_true(decision.unknown);
    assert_string_equal(decision.unknown_name, "dark");
    decision = evaluate(&rule, high, zero, 1010); // no name is to blame
    assert_true(decision.unknown);
    assert_null(decision.unknown_name);

    decision = evaluate(&rule, high, one, 1010);
    assert_false(decision.unknown || decision.changed);
    assert_int_equal(decision.retry_mono_usec, 1050);
    decision = evaluate(&rule, high, one, 1050);
    assert_true(decision.changed);
    assert_int_equal(rule.outcome, RULE_ELSE);

    decision = evaluate(&rule, high, none, 1060); // dark does not count now
    assert_false(decision.unknown);

    decision = evaluate(&rule, low, one, 1101); // stale by now
    assert_true(decision.unknown);
    assert_string_equal(decision.unknown_name, "light");
    assert_int_equal(rule.outcome, RULE_ELSE);
}

static void what_decides_is_known_whatever_the_other_condition_is(void **state)
{
    (void)state;
    struct rule_state rule = { 0 };
    _cleanup_(expr_freep) struct expr *when = NULL;
    _cleanup_(expr_freep) struct expr *until = NULL;
    assert_int_equal(expr_parse("light < 300", EXPR_CONDITION, &when, NULL), 0);
    assert_int_equal(expr_parse("motion == 1", EXPR_CONDITION, &until, NULL), 0);
    expr_bind(until, 0, 1);
    const struct expr_reading readings[] = { { 0 }, { 1, 1000 } };
    const struct expr_context context = { .readings = readings,
                                          .now_mono_usec = 1000,
                                          .stale_after_usec = USEC_INFINITY };
    const struct rule_spec spec = { .when = when, .until = until };
    struct rule_decision decision;
    rule_evaluate(&spec, &rule, &context, &decision);
    assert_true(decision.changed); // undecided until now
    assert_int_equal(rule.outcome, RULE_ELSE);
    assert_false(decision.unknown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_of_the_table),
        cmocka_unit_test(hysteresis_ignores_flicker_between_the_thresholds),
        cmocka_unit_test(first_decision_is_never_held),
        cmocka_unit_test(change_within_the_hold_is_put_off_and_says_until_when),
        cmocka_unit_test(change_of_mind_within_the_hold_needs_no_retry),
        cmocka_unit_test(endless_hold_does_not_overflow),
        cmocka_unit_test(clock_before_the_last_change_holds),
        cmocka_unit_test(evaluation_decides_holds_and_names_what_is_unknown),
        cmocka_unit_test(what_decides_is_known_whatever_the_other_condition_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
