// SPDX-License-Identifier: LGPL-2.1-or-later
// Where, how and when to connect next.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/mqtt-retry.h"
#include "util/clock.h"

#define MIN_USEC USEC_PER_SEC
#define MAX_USEC (120 * USEC_PER_SEC)

static struct mqtt_retry fresh(unsigned n_hosts, int protocol)
{
    return (struct mqtt_retry){
        .n_hosts = n_hosts, .protocol = protocol, .min_usec = MIN_USEC, .max_usec = MAX_USEC
    };
}

static void hosts_take_turns_and_a_round_is_followed_by_a_pause(void **state)
{
    struct mqtt_retry retry = fresh(3, 5);
    (void)state;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(retry.i_host, 0);
        assert_int_equal(mqtt_retry_failed(&retry, MQTT_FAILED, 0), 0);
        assert_int_equal(retry.i_host, 1);
        assert_int_equal(mqtt_retry_failed(&retry, MQTT_FAILED, 0), 0);
        assert_int_equal(retry.i_host, 2);
        assert_int_equal(mqtt_retry_failed(&retry, MQTT_FAILED, 0), MIN_USEC);
    }
}

static void pauses_are_spread_below_a_bound_that_doubles(void **state)
{
    struct mqtt_retry low = fresh(1, 5), high = fresh(1, 5);
    uint64_t bound_usec = MIN_USEC;
    (void)state;
    for (int i = 0; i < 1000; i++) {
        bound_usec = bound_usec * 2 < MAX_USEC ? bound_usec * 2 : MAX_USEC;
        assert_int_equal(mqtt_retry_failed(&low, MQTT_FAILED, 0), MIN_USEC);
        assert_int_equal(mqtt_retry_failed(&high, MQTT_FAILED, UINT32_MAX), bound_usec);
    }
    struct mqtt_retry middle = fresh(1, 5);
    uint64_t pause_usec = mqtt_retry_failed(&middle, MQTT_FAILED, UINT32_MAX / 2);
    assert_true(pause_usec > MIN_USEC && pause_usec < 2 * MIN_USEC);
}

static void equal_bounds_give_that_pause(void **state)
{
    struct mqtt_retry retry = fresh(1, 5);
    (void)state;
    retry.max_usec = retry.min_usec;
    assert_int_equal(mqtt_retry_failed(&retry, MQTT_FAILED, UINT32_MAX), MIN_USEC);
    retry.max_usec = retry.min_usec / 2; // the configuration does not forbid it
    assert_int_equal(mqtt_retry_failed(&retry, MQTT_FAILED, UINT32_MAX), MIN_USEC / 2);
}

static void connection_that_held_begins_anew(void **state)
{
    struct mqtt_retry retry = fresh(2, 5);
    (void)state;
    for (int i = 0; i < 7; i++)
        mqtt_retry_failed(&retry, MQTT_FAILED, 0);
    assert_int_equal(retry.i_host, 1);
    mqtt_retry_connected(&retry);
    assert_int_equal(mqtt_retry_lost(&retry, 11 * USEC_PER_SEC, UINT32_MAX), 2 * MIN_USEC);
    assert_int_equal(retry.i_host, 0);
}

static void connection_that_breaks_at_once_does_not(void **state)
{
    struct mqtt_retry retry = fresh(2, 5);
    (void)state;
    assert_int_equal(mqtt_retry_lost(&retry, USEC_PER_SEC, UINT32_MAX), 2 * MIN_USEC);
    assert_int_equal(retry.i_host, 1);
    assert_int_equal(mqtt_retry_lost(&retry, USEC_PER_SEC, UINT32_MAX), 4 * MIN_USEC);
    assert_int_equal(retry.i_host, 0);
}

static void falls_back_to_3_1_1_at_once_on_the_same_host(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mqtt_retry retry = fresh(2, 0);
        assert_int_equal(mqtt_retry_protocol(&retry), 5);
        assert_int_equal(mqtt_retry_failed(&retry, i ? MQTT_CLOSED_EARLY : MQTT_VERSION_REFUSED, 0),
                         0);
        assert_int_equal(mqtt_retry_protocol(&retry), 4);
        assert_int_equal(retry.i_host, 0);

        // What was refused in words is remembered, what failed is not.
        mqtt_retry_connected(&retry);
        mqtt_retry_lost(&retry, 60 * USEC_PER_SEC, 0);
        assert_int_equal(mqtt_retry_protocol(&retry), i ? 5 : 4);
        mqtt_retry_failed(&retry, MQTT_FAILED, 0);
        assert_int_equal(mqtt_retry_protocol(&retry), 5);
        assert_int_equal(retry.i_host, 1);
    }
}

static void does_not_fall_back_without_reason(void **state)
{
    struct mqtt_retry automatic = fresh(1, 0), fixed = fresh(1, 5);
    (void)state;
    mqtt_retry_failed(&automatic, MQTT_FAILED, 0);
    assert_int_equal(mqtt_retry_protocol(&automatic), 5);
    mqtt_retry_failed(&fixed, MQTT_VERSION_REFUSED, 0);
    assert_int_equal(mqtt_retry_protocol(&fixed), 5);

    // A broker that is being restarted closes early too.
    mqtt_retry_connected(&automatic);
    mqtt_retry_lost(&automatic, 60 * USEC_PER_SEC, 0);
    assert_true(mqtt_retry_failed(&automatic, MQTT_CLOSED_EARLY, 0) > 0);
    assert_int_equal(mqtt_retry_protocol(&automatic), 5);
    // An older one in its place says so.
    assert_int_equal(mqtt_retry_failed(&automatic, MQTT_VERSION_REFUSED, 0), 0);
    assert_int_equal(mqtt_retry_protocol(&automatic), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_take_turns_and_a_round_is_followed_by_a_pause),
        cmocka_unit_test(pauses_are_spread_below_a_bound_that_doubles),
        cmocka_unit_test(equal_bounds_give_that_pause),
        cmocka_unit_test(connection_that_held_begins_anew),
        cmocka_unit_test(connection_that_breaks_at_once_does_not),
        cmocka_unit_test(falls_back_to_3_1_1_at_once_on_the_same_host),
        cmocka_unit_test(does_not_fall_back_without_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
