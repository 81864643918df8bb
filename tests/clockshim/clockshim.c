// SPDX-License-Identifier: LGPL-2.1-or-later
// A time of day that can be set, for a daemon that this is loaded into: what the file that
// CLOCKSHIM names holds, a 64-bit number of microseconds in the machine's own byte order, is added
// to it. All other clocks go on, as they do when a person or NTP sets the time. The kernel's time
// stays what it is, for timers and the times of files.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NEXT(function) ((__typeof__(&(function)))dlsym(RTLD_NEXT, #function))

static const int64_t usec_per_sec = 1000000;

static _Atomic int64_t *shared_usec;

__attribute__((constructor)) static void share(void)
{
    const char *path = getenv("CLOCKSHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof(*shared_usec), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        shared_usec = memory;
}

/* The time of day with what is added, in whole microseconds. */
static int64_t wall_usec(const struct timespec *real)
{
    int64_t more_usec = shared_usec ? atomic_load(shared_usec) : 0;
    return (int64_t)real->tv_sec * usec_per_sec + real->tv_nsec / 1000 + more_usec;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int r = NEXT(clock_gettime)(clock, now);
    if (r < 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return r;
    int64_t usec = wall_usec(now);
    now->tv_nsec = usec % usec_per_sec * 1000;
    now->tv_sec = usec / usec_per_sec;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec shifted;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &shifted) < 0)
        return -1;
    *now = (struct timeval){ .tv_sec = shifted.tv_sec, .tv_usec = shifted.tv_nsec / 1000 };
    return 0;
}

time_t time(time_t *ret)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0)
        return -1;
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}
