// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the clocks and writes times as text. Nothing else in the program calls clock_gettime().
#include "util/clock.h"

#include <stdio.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_mono_usec(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

uint64_t clock_from_monotonic(uint64_t monotonic_nsec)
{
    uint64_t now_usec = read_clock(CLOCK_MONOTONIC), mono_usec = clock_mono_usec();
    uint64_t then_usec = monotonic_nsec / 1000;
    uint64_t age_usec = now_usec > then_usec ? now_usec - then_usec : 0;
    return mono_usec > age_usec ? mono_usec - age_usec : 0;
}

uint64_t clock_wall_usec(void)
{
    return read_clock(CLOCK_REALTIME);
}

/*
 * adjtimex(2) is out of reach in the unit's sandbox, hence timesyncd's mark too. Where the kernel
 * knows of no kind of clock chip at all (a container, a small virtual machine) the time is the
 * host's.
 */
bool clock_is_right(void)
{
    static bool is_right; // once it is, it stays so
    struct timex status = { .modes = 0 };
    if (!is_right)
        is_right = access("/sys/class/rtc", F_OK) < 0 || access("/sys/class/rtc/rtc0", F_OK) == 0 ||
                   access("/run/systemd/timesync/synchronized", F_OK) == 0;
    if (!is_right) {
        int state = adjtimex(&status);
        is_right = state >= 0 && state != TIME_ERROR;
    }
    return is_right;
}

int clock_local_hour(uint64_t wall_usec)
{
    time_t seconds = (time_t)(wall_usec / USEC_PER_SEC);
    struct tm local;
    return localtime_r(&seconds, &local) ? local.tm_hour : 0;
}

/* n decimal digits and a separator. Returns where the next ones go. */
static char *put_digits(char *out, unsigned value, size_t n, char separator)
{
    for (size_t i = n; i-- > 0; value /= 10)
        out[i] = (char)('0' + value % 10);
    out[n] = separator;
    return out + n + 1;
}

const char *clock_format_rfc3339(uint64_t wall_usec, char text[static CLOCK_RFC3339_SIZE])
{
    static const uint64_t last_usec = 253402300799ULL * USEC_PER_SEC; // 9999-12-31T23:59:59
    if (wall_usec > last_usec)
        wall_usec = last_usec;
    time_t seconds = (time_t)(wall_usec / USEC_PER_SEC);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    // By hand, since a backlog has one in each message, twice, and printf() takes its time.
    char *out = put_digits(text, (unsigned)(utc.tm_year + 1900), 4, '-');
    out = put_digits(out, (unsigned)(utc.tm_mon + 1), 2, '-');
    out = put_digits(out, (unsigned)utc.tm_mday, 2, 'T');
    out = put_digits(out, (unsigned)utc.tm_hour, 2, ':');
    out = put_digits(out, (unsigned)utc.tm_min, 2, ':');
    out = put_digits(out, (unsigned)utc.tm_sec, 2, '.');
    out = put_digits(out, (unsigned)(wall_usec / USEC_PER_MSEC % 1000), 3, 'Z');
    *out = '\0';
    return text;
}

const char *clock_format_span(uint64_t span_usec, char *text, size_t size)
{
    static const struct {
        const char *name;
        uint64_t usec;
    } units[] = {
        { "d", 86400 * USEC_PER_SEC }, { "h", 3600 * USEC_PER_SEC }, { "min", 60 * USEC_PER_SEC },
        { "s", USEC_PER_SEC },         { "ms", USEC_PER_MSEC },
    };
    const size_t n_units = sizeof(units) / sizeof(units[0]);
    size_t i = 0;
    while (i < n_units - 1 && span_usec < units[i].usec)
        i++;
    uint64_t large = span_usec / units[i].usec;
    uint64_t small = i + 1 < n_units ? span_usec % units[i].usec / units[i + 1].usec : 0;
    if (small > 0 && i < 3) // "45 s" needs no milliseconds
        snprintf(text, size, "%llu %s %llu %s", (unsigned long long)large, units[i].name,
                 (unsigned long long)small, units[i + 1].name);
    else
        snprintf(text, size, "%llu %s", (unsigned long long)large, units[i].name);
    return text;
}
