// SPDX-License-Identifier: LGPL-2.1-or-later
// Times as text, and the local hour.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "util/clock.h"

static const char *rfc3339(uint64_t wall_usec)
{
    static char text[CLOCK_RFC3339_SIZE];
    return clock_format_rfc3339(wall_usec, text);
}

static void times_are_rfc_3339_in_utc_with_milliseconds(void **state)
{
    (void)state;
    setenv("TZ", "Asia/Tokyo", 1);
    tzset();
    assert_string_equal(rfc3339(0), "1970-01-01T00:00:00.000Z");
    assert_string_equal(rfc3339(1795523696789999), "2026-11-24T12:34:56.789Z");
    assert_string_equal(rfc3339(951782400000000), "2000-02-29T00:00:00.000Z");
    assert_string_equal(rfc3339(999999), "1970-01-01T00:00:00.999Z");
}

static void a_time_beyond_the_year_9999_is_the_last_one(void **state)
{
    (void)state;
    assert_string_equal(rfc3339(253402300799ULL * USEC_PER_SEC), "9999-12-31T23:59:59.000Z");
    assert_string_equal(rfc3339(UINT64_MAX), "9999-12-31T23:59:59.000Z");
}

static void the_hour_is_local(void **state)
{
    (void)state;
    const uint64_t noon = 1795521600ULL * USEC_PER_SEC; // 2026-11-24T12:00:00Z
    setenv("TZ", "UTC0", 1);
    tzset();
    assert_int_equal(clock_local_hour(noon), 12);
    assert_int_equal(clock_local_hour(noon - 1), 11);
    setenv("TZ", "XXX-9", 1); // nine hours ahead
    tzset();
    assert_int_equal(clock_local_hour(noon), 21);
    setenv("TZ", "XXX+13", 1);
    tzset();
    assert_int_equal(clock_local_hour(noon), 23);
}

static void spans_are_said_in_their_two_largest_units(void **state)
{
    (void)state;
    static const struct {
        uint64_t usec;
        const char *text;
    } cases[] = {
        { 0, "0 ms" },
        { 999, "0 ms" },
        { 120 * USEC_PER_MSEC, "120 ms" },
        { 45 * USEC_PER_SEC, "45 s" },
        { 45 * USEC_PER_SEC + 300 * USEC_PER_MSEC, "45 s" },
        { 60 * USEC_PER_SEC, "1 min" },
        { 61 * USEC_PER_SEC, "1 min 1 s" },
        { 11520 * USEC_PER_SEC, "3 h 12 min" },
        { 3605 * USEC_PER_SEC, "1 h" },
        { 90000 * USEC_PER_SEC, "1 d 1 h" },
        { USEC_INFINITY, "213503982 d 8 h" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[32];
        assert_string_equal(clock_format_span(cases[i].usec, text, sizeof(text)), cases[i].text);
    }
}

static void clocks_run_in_microseconds(void **state)
{
    (void)state;
    uint64_t mono = clock_mono_usec(), wall = clock_wall_usec();
    assert_true(clock_mono_usec() >= mono);
    assert_true(wall / USEC_PER_SEC - (uint64_t)time(NULL) + 1 <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_rfc_3339_in_utc_with_milliseconds),
        cmocka_unit_test(a_time_beyond_the_year_9999_is_the_last_one),
        cmocka_unit_test(the_hour_is_local),
        cmocka_unit_test(spans_are_said_in_their_two_largest_units),
        cmocka_unit_test(clocks_run_in_microseconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
