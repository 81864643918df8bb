// SPDX-License-Identifier: LGPL-2.1-or-later
// Leases and outages on a simulated clock: restarts, reboots, clocks that jump.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "core/guard.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SECOND USEC_PER_SEC
#define HOUR   (3600 * USEC_PER_SEC)

static const struct guard_policy keep = { .disconnect_after_usec = 60 * SECOND };
static const struct guard_policy safe = { .on_disconnect = true,
                                          .disconnect_after_usec = 60 * SECOND };

/* A minute after a boot in 2026. */
static struct guard_time morning(void)
{
    return (struct guard_time){ .boot = { 7 },
                                .mono_usec = 60 * SECOND,
                                .wall_usec = 1795523696 * SECOND };
}

static struct guard_time later(struct guard_time time, uint64_t usec)
{
    time.mono_usec += usec;
    time.wall_usec += usec;
    return time;
}

/* The next boot, usec after time. */
static struct guard_time reboot(struct guard_time time, uint64_t usec)
{
    time.boot[0]++;
    time.mono_usec = 5 * SECOND;
    time.wall_usec += usec;
    return time;
}

static void assert_step(const struct guard_policy *policy, struct guard *guard,
                        struct guard_time now, uint64_t lost_mono_usec, enum guard_event expected,
                        uint64_t expected_next)
{
    uint64_t next;
    assert_int_equal(guard_step(policy, guard, &now, lost_mono_usec, &next), expected);
    assert_int_equal(next, expected_next);
}

static void nothing_happens_without_a_lease_and_an_outage(void **state)
{
    (void)state;
    struct guard guard = { 0 };
    assert_step(&safe, &guard, morning(), 0, GUARD_NONE, USEC_INFINITY);
    assert_step(&keep, &guard, later(morning(), 1000 * HOUR), SECOND, GUARD_NONE, USEC_INFINITY);
}

static void a_lease_ends_once_and_to_the_microsecond(void **state)
{
    (void)state;
    struct guard_time now = morning();
    struct guard guard = { .lease = guard_lease(10 * SECOND, &now) };
    assert_step(&keep, &guard, now, 0, GUARD_NONE, 70 * SECOND);
    assert_step(&keep, &guard, later(now, 10 * SECOND - 1), 0, GUARD_NONE, 70 * SECOND);
    assert_step(&keep, &guard, later(now, 10 * SECOND), 0, GUARD_LEASE_ENDED, USEC_INFINITY);
    assert_step(&keep, &guard, later(now, 20 * SECOND), 0, GUARD_NONE, USEC_INFINITY);
}

static void a_lease_that_is_renewed_in_time_goes_on(void **state)
{
    (void)state;
    struct guard guard = { 0 };
    struct guard_time now = morning();
    for (int i = 0; i < 10000; i++, now = later(now, 9 * SECOND)) {
        guard.lease = guard_lease(10 * SECOND, &now);
        assert_step(&keep, &guard, now, 0, GUARD_NONE, now.mono_usec + 10 * SECOND);
    }
    assert_step(&keep, &guard, later(now, SECOND), 0, GUARD_LEASE_ENDED, USEC_INFINITY);
}

static void a_wall_clock_that_jumps_does_not_touch_a_lease(void **state)
{
    (void)state;
    struct guard_time now = morning();
    struct guard guard = { .lease = guard_lease(10 * SECOND, &now) };
    now = later(now, 5 * SECOND);
    now.wall_usec += 1000 * HOUR;
    assert_step(&keep, &guard, now, 0, GUARD_NONE, 70 * SECOND);
    now.wall_usec = 0;
    assert_step(&keep, &guard, now, 0, GUARD_NONE, 70 * SECOND);
    now.mono_usec += 5 * SECOND;
    assert_step(&keep, &guard, now, 0, GUARD_LEASE_ENDED, USEC_INFINITY);
}

static void over_a_reboot_a_lease_goes_by_the_wall_clock(void **state)
{
    (void)state;
    struct guard_time now = morning();
    const struct guard_lease lease = guard_lease(HOUR, &now);
    struct guard_time then = reboot(now, HOUR / 2);
    assert_int_equal(guard_lease_left(&lease, &then), HOUR / 2);
    struct guard guard = { .lease = lease };
    assert_step(&keep, &guard, then, 0, GUARD_NONE, then.mono_usec + HOUR / 2);
    then = reboot(now, HOUR);
    assert_int_equal(guard_lease_left(&lease, &then), 0);
    assert_step(&keep, &guard, then, 0, GUARD_LEASE_ENDED, USEC_INFINITY);
}

static void a_clock_that_has_gone_back_over_a_reboot_ends_a_lease(void **state)
{
    (void)state;
    struct guard_time now = morning();
    const struct guard_lease lease = guard_lease(HOUR, &now);
    struct guard_time then = reboot(now, 0);
    then.wall_usec -= 1;
    assert_int_equal(guard_lease_left(&lease, &then), 0);
    then.wall_usec = 3 * SECOND; // 1970: no clock at all
    assert_int_equal(guard_lease_left(&lease, &then), 0);
}

static void an_outage_counts_once_it_has_lasted(void **state)
{
    (void)state;
    struct guard guard = { 0 };
    struct guard_time now = morning();
    const uint64_t lost = now.mono_usec;
    assert_step(&safe, &guard, now, lost, GUARD_NONE, 120 * SECOND);
    assert_step(&safe, &guard, later(now, 60 * SECOND - 1), lost, GUARD_NONE, 120 * SECOND);
    assert_step(&safe, &guard, later(now, 60 * SECOND), lost, GUARD_CUT_OFF, USEC_INFINITY);
    assert_step(&safe, &guard, later(now, 90 * SECOND), lost, GUARD_NONE, USEC_INFINITY);
    // The connection is back, and lost again.
    assert_step(&safe, &guard, later(now, 91 * SECOND), 0, GUARD_NONE, USEC_INFINITY);
    now = later(now, 92 * SECOND);
    assert_step(&safe, &guard, now, now.mono_usec, GUARD_NONE, now.mono_usec + 60 * SECOND);
    assert_step(&safe, &guard, later(now, 60 * SECOND), now.mono_usec, GUARD_CUT_OFF,
                USEC_INFINITY);
}

static void a_lease_and_an_outage_end_in_their_own_time(void **state)
{
    (void)state;
    struct guard_time now = morning();
    struct guard guard = { .lease = guard_lease(90 * SECOND, &now) };
    const uint64_t lost = now.mono_usec;
    assert_step(&safe, &guard, now, lost, GUARD_NONE, 120 * SECOND);
    assert_step(&safe, &guard, later(now, 60 * SECOND), lost, GUARD_CUT_OFF, 150 * SECOND);
    assert_step(&safe, &guard, later(now, 90 * SECOND), lost, GUARD_LEASE_ENDED, USEC_INFINITY);
}

static void times_beyond_the_clock_are_never(void **state)
{
    (void)state;
    struct guard_time now = morning();
    const struct guard_lease lease = guard_lease(USEC_INFINITY - 1, &now);
    assert_int_equal(lease.end.mono_usec, USEC_INFINITY);
    assert_true(guard_lease_left(&lease, &now) > 0);
    assert_int_equal(guard_cut_off_at(5, USEC_INFINITY), USEC_INFINITY);
    assert_int_equal(guard_cut_off_at(0, 5), USEC_INFINITY);
}

static void a_lease_is_read_as_it_was_written(void **state)
{
    (void)state;
    char text[GUARD_TEXT_SIZE];
    struct guard_time now = morning();
    now.boot[15] = 0xfa;
    const struct guard_lease lease = guard_lease(10 * SECOND, &now);
    struct guard_lease read;
    assert_int_equal(guard_parse(guard_format(&lease, text), &read), 0);
    assert_string_equal(text,
                        "070000000000000000000000000000fa 70000000 1795523706000000 10000000");
    assert_memory_equal(read.end.boot, lease.end.boot, GUARD_BOOT_SIZE);
    assert_int_equal(read.end.mono_usec, lease.end.mono_usec);
    assert_int_equal(read.end.wall_usec, lease.end.wall_usec);
    assert_int_equal(read.span_usec, lease.span_usec);
}

static void what_is_no_lease_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "070000000000000000000000000000fa",
        "070000000000000000000000000000fa 1 2",
        "070000000000000000000000000000fa 1 2 0",
        "070000000000000000000000000000fa 1 2 -3",
        "070000000000000000000000000000fa 1 2 3 ",
        "070000000000000000000000000000fa 1  2 3",
        "070000000000000000000000000000fa 1 2 99999999999999999999",
        "070000000000000000000000000000fa 1 2 999999999999999999999999999999",
        "070000000000000000000000000000FA 1 2 3",
        "070000000000000000000000000000f 1 2 3",
    };
    struct guard_lease lease = { .span_usec = 42 };
    for (size_t i = 0; i < ELEMENTS(texts); i++)
        assert_int_equal(guard_parse(texts[i], &lease), -EINVAL);
    assert_int_equal(lease.span_usec, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_happens_without_a_lease_and_an_outage),
        cmocka_unit_test(a_lease_ends_once_and_to_the_microsecond),
        cmocka_unit_test(a_lease_that_is_renewed_in_time_goes_on),
        cmocka_unit_test(a_wall_clock_that_jumps_does_not_touch_a_lease),
        cmocka_unit_test(over_a_reboot_a_lease_goes_by_the_wall_clock),
        cmocka_unit_test(a_clock_that_has_gone_back_over_a_reboot_ends_a_lease),
        cmocka_unit_test(an_outage_counts_once_it_has_lasted),
        cmocka_unit_test(a_lease_and_an_outage_end_in_their_own_time),
        cmocka_unit_test(times_beyond_the_clock_are_never),
        cmocka_unit_test(a_lease_is_read_as_it_was_written),
        cmocka_unit_test(what_is_no_lease_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
