// SPDX-License-Identifier: LGPL-2.1-or-later
// Clocks that can be set, for a daemon that this is loaded into. The file that CLOCKSHIM names
// holds two 64-bit numbers of microseconds in the machine's own byte order: one is added to the
// time of day, as a person or NTP sets it; the other to the time since boot, as if so much had
// passed. The kernel's times stay what they are: for timers, which fire late but are looked at
// whenever the daemon wakes up, and for the times of files.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NEXT(function) ((__typeof__(&(function)))dlsym(RTLD_NEXT, #function))

static const int64_t usec_per_sec = 1000000;

struct added {
    _Atomic int64_t wall_usec, boot_usec;
};

static const struct added *added;

__attribute__((constructor)) static void share(void)
{
    const char *path = getenv("CLOCKSHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof(*added), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        added = memory;
}

static int64_t added_to(clockid_t clock)
{
    if (!added)
        return 0;
    if (clock == CLOCK_BOOTTIME)
        return atomic_load(&added->boot_usec);
    bool is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    return is_wall ? atomic_load(&added->wall_usec) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int r = NEXT(clock_gettime)(clock, now);
    int64_t more_usec = added_to(clock);
    if (r < 0 || more_usec == 0)
        return r;
    int64_t usec = (int64_t)now->tv_sec * usec_per_sec + now->tv_nsec / 1000 + more_usec;
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
