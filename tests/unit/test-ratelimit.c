// SPDX-License-Identifier: LGPL-2.1-or-later
// A limit on repeats: what passes, and what is said about the rest.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/ratelimit.h"

static void a_burst_passes_and_the_rest_is_counted(void **state)
{
    (void)state;
    struct ratelimit limit = { .interval_usec = 1000, .burst = 2 };
    unsigned suppressed = 7;
    assert_true(ratelimit_pass(&limit, 5000, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_true(ratelimit_pass(&limit, 5001, NULL));
    suppressed = 7;
    for (int i = 0; i < 3; i++)
        assert_false(ratelimit_pass(&limit, 5999, &suppressed));
    assert_int_equal(suppressed, 7); // only set when one passes
    assert_true(ratelimit_pass(&limit, 6000, &suppressed));
    assert_int_equal(suppressed, 3);
    assert_true(ratelimit_pass(&limit, 6000, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_false(ratelimit_pass(&limit, 6999, NULL));
}

static void an_interval_begins_with_its_first_event(void **state)
{
    (void)state;
    struct ratelimit limit = { .interval_usec = 1000, .burst = 1 };
    assert_true(ratelimit_pass(&limit, 0, NULL));
    assert_false(ratelimit_pass(&limit, 999, NULL));
    assert_true(ratelimit_pass(&limit, 1700, NULL));
    assert_false(ratelimit_pass(&limit, 2699, NULL));
    assert_true(ratelimit_pass(&limit, 2700, NULL));
}

static void a_burst_of_none_lets_nothing_pass(void **state)
{
    (void)state;
    struct ratelimit limit = { .interval_usec = 1000 };
    assert_false(ratelimit_pass(&limit, 1, NULL));
    assert_false(ratelimit_pass(&limit, 5000, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_passes_and_the_rest_is_counted),
        cmocka_unit_test(an_interval_begins_with_its_first_event),
        cmocka_unit_test(a_burst_of_none_lets_nothing_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
