// SPDX-License-Identifier: LGPL-2.1-or-later
// Where, how and when to connect next.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/retry.h"
#include "util/clock.h"

#define MIN_USEC   USEC_PER_SEC
#define MAX_USEC   (120 * USEC_PER_SEC)
#define SHORT_USEC (1 * USEC_PER_SEC) // a connection that did not hold
#define LONG_USEC  (60 * USEC_PER_SEC)

static struct retry fresh(unsigned n_hosts, int protocol)
{
    return (struct retry){
        .n_hosts = n_hosts, .protocol = protocol, .min_usec = MIN_USEC, .max_usec = MAX_USEC
    };
}

/* All hosts have failed on TCP, or the one whose index it is in MQTT. */
static uint64_t fail_at(struct retry *retry, int host, uint32_t random)
{
    return retry_failed(retry, FRAME_FAILURE_OTHER, false, host, random);
}

static void hosts_behind_one_that_is_no_broker_come_next(void **state)
{
    struct retry retry = fresh(3, MQTT_PROTOCOL_5);
    (void)state;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(retry.i_host, 0);
        assert_int_equal(fail_at(&retry, 0, 0), 0);
        assert_int_equal(retry.i_host, 1);
        assert_int_equal(fail_at(&retry, 1, 0), 0);
        assert_int_equal(retry.i_host, 2);
        assert_int_equal(fail_at(&retry, 2, 0), MIN_USEC);
    }
    // Those in front of it have failed on TCP.
    assert_int_equal(fail_at(&retry, 1, 0), 0);
    assert_int_equal(retry.i_host, 2);
}

static void round_is_over_when_no_host_answers(void **state)
{
    struct retry retry = fresh(3, MQTT_PROTOCOL_5);
    (void)state;
    assert_int_equal(fail_at(&retry, RETRY_NO_HOST, 0), MIN_USEC);
    assert_int_equal(retry.i_host, 0);
    assert_int_equal(fail_at(&retry, 0, 0), 0);
    assert_int_equal(fail_at(&retry, RETRY_NO_HOST, 0), MIN_USEC); // of those from the second on
    assert_int_equal(retry.i_host, 0);
}

static void another_address_comes_first_after_one_that_is_no_broker(void **state)
{
    struct retry retry = fresh(1, MQTT_PROTOCOL_5);
    (void)state;
    fail_at(&retry, RETRY_NO_HOST, 0); // the race has tried all of them
    assert_int_equal(retry.rotation, 0);
    fail_at(&retry, 0, 0);
    assert_int_equal(retry.rotation, 1);
    fail_at(&retry, 0, 0);
    assert_int_equal(retry.rotation, 2);
    retry_connected(&retry);
    retry_lost(&retry, LONG_USEC, false, 0, 0);
    assert_int_equal(retry.rotation, 2); // it was good
}

static void pauses_are_spread_below_a_bound_that_doubles(void **state)
{
    struct retry low = fresh(1, MQTT_PROTOCOL_5), high = fresh(1, MQTT_PROTOCOL_5);
    uint64_t bound_usec = MIN_USEC;
    (void)state;
    for (int i = 0; i < 1000; i++) {
        bound_usec = bound_usec * 2 < MAX_USEC ? bound_usec * 2 : MAX_USEC;
        assert_int_equal(fail_at(&low, RETRY_NO_HOST, 0), MIN_USEC);
        assert_int_equal(fail_at(&high, RETRY_NO_HOST, UINT32_MAX), bound_usec);
    }
    struct retry middle = fresh(1, MQTT_PROTOCOL_5);
    uint64_t pause_usec = fail_at(&middle, RETRY_NO_HOST, UINT32_MAX / 2);
    assert_true(pause_usec > MIN_USEC && pause_usec < 2 * MIN_USEC);
}

static void longest_pause_is_reached_from_the_shortest(void **state)
{
    struct retry retry = fresh(1, MQTT_PROTOCOL_5);
    uint64_t pause_usec = 0;
    (void)state;
    retry.min_usec = 100 * USEC_PER_MSEC; // the least and the most that the configuration takes
    retry.max_usec = 86400 * USEC_PER_SEC;
    for (int i = 0; i < 30; i++)
        pause_usec = fail_at(&retry, RETRY_NO_HOST, UINT32_MAX);
    assert_int_equal(pause_usec, retry.max_usec);
}

static void equal_bounds_give_that_pause(void **state)
{
    struct retry retry = fresh(1, MQTT_PROTOCOL_5);
    (void)state;
    retry.max_usec = retry.min_usec;
    assert_int_equal(fail_at(&retry, RETRY_NO_HOST, UINT32_MAX), MIN_USEC);
    retry.max_usec = retry.min_usec / 2; // the configuration does not forbid it
    assert_int_equal(fail_at(&retry, RETRY_NO_HOST, UINT32_MAX), MIN_USEC / 2);
}

static void connection_that_held_begins_anew(void **state)
{
    struct retry retry = fresh(2, MQTT_PROTOCOL_5);
    (void)state;
    for (int i = 0; i < 7; i++)
        fail_at(&retry, RETRY_NO_HOST, 0);
    fail_at(&retry, 0, 0);
    assert_int_equal(retry.i_host, 1);
    retry_connected(&retry);
    assert_int_equal(retry_lost(&retry, 11 * USEC_PER_SEC, false, 1, UINT32_MAX), 2 * MIN_USEC);
    assert_int_equal(retry.i_host, 0);
}

static void connection_that_breaks_at_once_gives_way_to_the_next_host(void **state)
{
    struct retry retry = fresh(3, MQTT_PROTOCOL_5);
    (void)state;
    assert_int_equal(retry_lost(&retry, SHORT_USEC, false, 0, UINT32_MAX), 2 * MIN_USEC);
    assert_int_equal(retry.i_host, 1);
    assert_int_equal(retry_lost(&retry, SHORT_USEC, false, 2, UINT32_MAX), 4 * MIN_USEC);
    assert_int_equal(retry.i_host, 0);
}

static void falls_back_to_3_1_1_at_once_on_the_same_host(void **state)
{
    (void)state;
    for (int is_guess = 0; is_guess < 2; is_guess++) {
        struct retry retry = fresh(3, 0);
        enum frame_failure failure =
            is_guess ? FRAME_FAILURE_CLOSED_EARLY : FRAME_FAILURE_VERSION_REFUSED;
        assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_5);
        assert_int_equal(retry_failed(&retry, failure, false, 1, 0), 0);
        assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_311);
        assert_int_equal(retry.i_host, 1);
        assert_int_equal(retry.rotation, 0);

        // What was refused in words is remembered, what failed is not.
        retry_connected(&retry);
        retry_lost(&retry, LONG_USEC, false, 1, 0);
        assert_int_equal(retry_protocol(&retry), is_guess ? MQTT_PROTOCOL_5 : MQTT_PROTOCOL_311);
        fail_at(&retry, 0, 0);
        assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_5);
        assert_int_equal(retry.i_host, 1);
    }
}

static void broker_of_old_that_breaks_at_once_gives_way_to_the_next_host(void **state)
{
    struct retry retry = fresh(2, 0);
    (void)state;
    retry_failed(&retry, FRAME_FAILURE_VERSION_REFUSED, false, 0, 0);
    retry_connected(&retry);
    retry_lost(&retry, SHORT_USEC, false, 0, 0);
    assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_311);
    assert_int_equal(retry.i_host, 1);
}

static void does_not_fall_back_without_reason(void **state)
{
    struct retry automatic = fresh(1, 0), fixed = fresh(1, MQTT_PROTOCOL_5);
    (void)state;
    fail_at(&automatic, RETRY_NO_HOST, 0);
    assert_int_equal(retry_protocol(&automatic), MQTT_PROTOCOL_5);
    fail_at(&automatic, 0, 0);
    assert_int_equal(retry_protocol(&automatic), MQTT_PROTOCOL_5);
    retry_failed(&fixed, FRAME_FAILURE_VERSION_REFUSED, false, 0, 0);
    assert_int_equal(retry_protocol(&fixed), MQTT_PROTOCOL_5);

    // A broker that is being restarted closes early too.
    retry_connected(&automatic);
    retry_lost(&automatic, LONG_USEC, false, 0, 0);
    assert_true(retry_failed(&automatic, FRAME_FAILURE_CLOSED_EARLY, false, 0, 0) > 0);
    assert_int_equal(retry_protocol(&automatic), MQTT_PROTOCOL_5);
    // An older one in its place says so.
    assert_int_equal(retry_failed(&automatic, FRAME_FAILURE_VERSION_REFUSED, false, 0, 0), 0);
    assert_int_equal(retry_protocol(&automatic), MQTT_PROTOCOL_311);
}

/* What the broker says in MQTT 5 ends the connector; it may say it in 3.1.1, too. */
static void crashes_of_mqtt_5_make_the_versions_alternate(void **state)
{
    struct retry retry = fresh(1, 0);
    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_5);
        retry_connected(&retry);
        assert_true(retry_lost(&retry, SHORT_USEC, true, 0, 0) > 0);
        assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_311);
        retry_connected(&retry);
        assert_true(retry_lost(&retry, SHORT_USEC, i % 2, 0, 0) > 0);
    }
    // An early guess that has failed is forgotten.
    struct retry other = fresh(1, 0);
    retry_failed(&other, FRAME_FAILURE_CLOSED_EARLY, false, 0, 0);
    fail_at(&other, 0, 0);
    retry_connected(&other);
    retry_lost(&other, SHORT_USEC, true, 0, 0);
    assert_int_equal(retry_protocol(&other), MQTT_PROTOCOL_311);
}

/* An answer to CONNECT that ends the connector: a newer broker in the place of the one that was. */
static void crash_before_connack_falls_back_though_5_was_spoken(void **state)
{
    struct retry retry = fresh(1, 0);
    (void)state;
    retry_connected(&retry);
    retry_lost(&retry, LONG_USEC, false, 0, 0);
    assert_int_equal(retry_failed(&retry, FRAME_FAILURE_CLOSED_EARLY, true, 0, 0), 0);
    assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_311);
}

static void host_whose_mqtt_5_crashes_is_tried_with_3_1_1_first(void **state)
{
    struct retry retry = fresh(3, 0);
    (void)state;
    fail_at(&retry, 0, 0);
    retry_connected(&retry);
    retry_lost(&retry, SHORT_USEC, true, 1, 0);
    assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_311);
    assert_int_equal(retry.i_host, 1);
    retry_lost(&retry, SHORT_USEC, true, 1, 0);
    assert_int_equal(retry_protocol(&retry), MQTT_PROTOCOL_5);
    assert_int_equal(retry.i_host, 2);
}

static void crash_changes_no_version_that_is_fixed_or_held(void **state)
{
    struct retry fixed = fresh(1, MQTT_PROTOCOL_5), held = fresh(1, 0);
    (void)state;
    retry_lost(&fixed, SHORT_USEC, true, 0, 0);
    assert_int_equal(retry_protocol(&fixed), MQTT_PROTOCOL_5);
    retry_lost(&held, LONG_USEC, true, 0, 0);
    assert_int_equal(retry_protocol(&held), MQTT_PROTOCOL_5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_behind_one_that_is_no_broker_come_next),
        cmocka_unit_test(round_is_over_when_no_host_answers),
        cmocka_unit_test(another_address_comes_first_after_one_that_is_no_broker),
        cmocka_unit_test(pauses_are_spread_below_a_bound_that_doubles),
        cmocka_unit_test(longest_pause_is_reached_from_the_shortest),
        cmocka_unit_test(equal_bounds_give_that_pause),
        cmocka_unit_test(connection_that_held_begins_anew),
        cmocka_unit_test(connection_that_breaks_at_once_gives_way_to_the_next_host),
        cmocka_unit_test(falls_back_to_3_1_1_at_once_on_the_same_host),
        cmocka_unit_test(broker_of_old_that_breaks_at_once_gives_way_to_the_next_host),
        cmocka_unit_test(does_not_fall_back_without_reason),
        cmocka_unit_test(crashes_of_mqtt_5_make_the_versions_alternate),
        cmocka_unit_test(crash_before_connack_falls_back_though_5_was_spoken),
        cmocka_unit_test(host_whose_mqtt_5_crashes_is_tried_with_3_1_1_first),
        cmocka_unit_test(crash_changes_no_version_that_is_fixed_or_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
