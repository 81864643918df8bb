// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether a connector and a broker still do what is expected of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/heartbeat.h"
#include "util/clock.h"

static const uint64_t minute_usec = 60 * USEC_PER_SEC;

static struct heartbeat begin(uint64_t keepalive_usec)
{
    struct heartbeat heartbeat;
    heartbeat_begin(&heartbeat, keepalive_usec);
    return heartbeat;
}

static void idle_connector_is_looked_at_seldom(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(heartbeat_pause_usec(&heartbeat), 30 * USEC_PER_SEC);
        heartbeat_heard(&heartbeat);
        assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_FINE);
    }
}

static void silent_connector_is_asked_and_given_up(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_PING);
    assert_int_equal(heartbeat_pause_usec(&heartbeat), 10 * USEC_PER_SEC);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_DEAF);
}

static void short_keepalive_asks_once_and_waits_as_long(void **state)
{
    struct heartbeat heartbeat = begin(4 * USEC_PER_SEC);
    (void)state;
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_PING);
    assert_int_equal(heartbeat_pause_usec(&heartbeat), 4 * USEC_PER_SEC);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_FINE);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_FINE);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_DEAF);
}

static void answer_to_a_ping_is_enough(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_PING);
        heartbeat_heard(&heartbeat); // PONG
        assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_FINE);
        assert_int_equal(heartbeat_pause_usec(&heartbeat), 30 * USEC_PER_SEC);
    }
}

static void what_is_expected_is_looked_for_soon(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    assert_true(heartbeat_expect(&heartbeat));
    assert_false(heartbeat_expect(&heartbeat)); // the look is set
    assert_int_equal(heartbeat_pause_usec(&heartbeat), 10 * USEC_PER_SEC);
    heartbeat_acknowledged(&heartbeat);
    assert_int_equal(heartbeat_pause_usec(&heartbeat), 10 * USEC_PER_SEC);
    heartbeat_acknowledged(&heartbeat);
    assert_int_equal(heartbeat_pause_usec(&heartbeat), 30 * USEC_PER_SEC);
    assert_true(heartbeat_expect(&heartbeat));
}

/* What it said before does not count for it. */
static void connector_that_hangs_with_the_first_message_is_found_in_20_s(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    heartbeat_heard(&heartbeat);
    heartbeat_expect(&heartbeat);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_PING);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_DEAF);
}

static void broker_that_acknowledges_nothing_is_given_up_after_three_keepalives(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    heartbeat_expect(&heartbeat);
    for (int i = 1; i < 18; i++) {
        heartbeat_heard(&heartbeat); // messages, answers to pings
        assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_FINE);
        assert_int_equal(heartbeat_silence_usec(&heartbeat), i * 10 * USEC_PER_SEC);
    }
    heartbeat_heard(&heartbeat);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_SILENT);
    assert_int_equal(heartbeat_silence_usec(&heartbeat), 3 * minute_usec);
}

static void one_acknowledgement_begins_the_silence_anew(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    heartbeat_expect(&heartbeat);
    heartbeat_expect(&heartbeat);
    for (int i = 0; i < 17; i++) {
        heartbeat_heard(&heartbeat);
        heartbeat_look(&heartbeat);
    }
    heartbeat_acknowledged(&heartbeat);
    assert_int_equal(heartbeat_silence_usec(&heartbeat), 0);
    heartbeat_heard(&heartbeat);
    assert_int_equal(heartbeat_look(&heartbeat), HEARTBEAT_FINE);
}

static void acknowledgement_of_nothing_changes_nothing(void **state)
{
    struct heartbeat heartbeat = begin(minute_usec);
    (void)state;
    heartbeat_acknowledged(&heartbeat);
    assert_true(heartbeat_expect(&heartbeat));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_connector_is_looked_at_seldom),
        cmocka_unit_test(silent_connector_is_asked_and_given_up),
        cmocka_unit_test(short_keepalive_asks_once_and_waits_as_long),
        cmocka_unit_test(answer_to_a_ping_is_enough),
        cmocka_unit_test(what_is_expected_is_looked_for_soon),
        cmocka_unit_test(connector_that_hangs_with_the_first_message_is_found_in_20_s),
        cmocka_unit_test(broker_that_acknowledges_nothing_is_given_up_after_three_keepalives),
        cmocka_unit_test(one_acknowledgement_begins_the_silence_anew),
        cmocka_unit_test(acknowledgement_of_nothing_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
