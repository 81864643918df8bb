// SPDX-License-Identifier: LGPL-2.1-or-later
// Times as text and as the hour of a day; see clock.h.
#include "util/clock.h"

#include <stdio.h>
#include <time.h>

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
