// SPDX-License-Identifier: LGPL-2.1-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/ledger.h"

static void what_has_not_ended_waits(void **state)
{
    struct ledger ledger = { 0 };
    (void)state;
    assert_true(ledger_is_zero(&ledger));
    for (int end = 0; end < LEDGER_ENDS; end++) {
        struct ledger delta = { .sampled = 3 };
        delta.ended[end] = 2;
        ledger_add(&ledger, &delta);
        assert_non_null(ledger_end_names[end]);
    }
    assert_int_equal(ledger.sampled, 3 * LEDGER_ENDS);
    assert_int_equal(ledger_waiting(&ledger), LEDGER_ENDS);
    assert_false(ledger_is_zero(&ledger));
}

static void one_end_alone_is_not_nothing(void **state)
{
    (void)state;
    for (int end = 0; end < LEDGER_ENDS; end++) {
        struct ledger ledger = { 0 };
        ledger.ended[end] = 1;
        assert_false(ledger_is_zero(&ledger));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_not_ended_waits),
        cmocka_unit_test(one_end_alone_is_not_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
