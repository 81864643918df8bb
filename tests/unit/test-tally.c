// SPDX-License-Identifier: LGPL-2.1-or-later
// What devices say together: numbers and conditions, coming, changing and going.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "core/tally.h"

static void every_aggregate_is_of_those_that_say_something(void **state)
{
    (void)state;
    static const struct {
        enum aggregate aggregate;
        double value;
    } cases[] = {
        { AGGREGATE_MIN, 2 },    { AGGREGATE_MAX, 9 },
        { AGGREGATE_MEAN, 5 },   { AGGREGATE_MEDIAN, 4 },
        { AGGREGATE_SUM, 15 },   { AGGREGATE_COUNT, 3 },
        { AGGREGATE_RATE, NAN }, { AGGREGATE_STDDEV, 2.943920288775949 },
    };
    struct tally tally = { 0 };
    struct tally_entry entries[4] = { 0 };
    tally_put(&tally, &entries[0], 4);
    tally_put(&tally, &entries[1], 2);
    tally_put(&tally, &entries[2], 7);
    tally_put(&tally, &entries[2], 9); // instead of 7
    tally_put(&tally, &entries[3], 1);
    tally_put(&tally, &entries[3], NAN); // leaves
    assert_int_equal(tally_count(&tally), 3);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double value = tally_value(&tally, cases[i].aggregate, 1);
        assert_true(isnan(cases[i].value) ? isnan(value) : fabs(value - cases[i].value) < 1e-12);
    }
}

static void of_too_few_it_is_unknown(void **state)
{
    (void)state;
    struct tally tally = { 0 };
    struct tally_entry entries[2] = { 0 };
    assert_true(isnan(tally_value(&tally, AGGREGATE_COUNT, 0)));
    tally_put(&tally, &entries[0], 4);
    assert_true(isnan(tally_value(&tally, AGGREGATE_MAX, 2)));
    tally_put(&tally, &entries[1], 4);
    assert_true(tally_value(&tally, AGGREGATE_MAX, 2) == 4);
}

static void what_is_not_finite_is_unknown(void **state)
{
    (void)state;
    struct tally tally = { 0 };
    struct tally_entry entries[2] = { 0 };
    tally_put(&tally, &entries[0], 1.5e308);
    tally_put(&tally, &entries[1], 1.5e308);
    assert_true(isnan(tally_value(&tally, AGGREGATE_SUM, 1)));
    assert_true(tally_value(&tally, AGGREGATE_MEDIAN, 1) == 1.5e308);
    tally_put(&tally, &entries[1], 1);
    assert_true(tally_value(&tally, AGGREGATE_SUM, 1) == 1.5e308); // and no trace is left
}

static void of_conditions_those_that_hold_are_counted(void **state)
{
    (void)state;
    struct tally tally = { .of_conditions = true };
    struct tally_entry entries[3] = { 0 };
    tally_put(&tally, &entries[0], 1);
    tally_put(&tally, &entries[1], 0);
    tally_put(&tally, &entries[2], 1);
    assert_true(tally_value(&tally, AGGREGATE_COUNT, 3) == 2);
    tally_put(&tally, &entries[2], 0);
    assert_true(tally_value(&tally, AGGREGATE_COUNT, 3) == 1);
    tally_put(&tally, &entries[1], NAN);
    assert_true(isnan(tally_value(&tally, AGGREGATE_COUNT, 3)));
    assert_true(tally_value(&tally, AGGREGATE_COUNT, 2) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_aggregate_is_of_those_that_say_something),
        cmocka_unit_test(of_too_few_it_is_unknown),
        cmocka_unit_test(what_is_not_finite_is_unknown),
        cmocka_unit_test(of_conditions_those_that_hold_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
