// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the clocks. Nothing else in the program calls clock_gettime(); tests link another clock.
#include "util/clock.h"

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
