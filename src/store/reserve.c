// SPDX-License-Identifier: LGPL-2.1-or-later
// The reserve on disk; see reserve.h.
#include "store/reserve.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/killpoint.h"

#define SIZE       ((off_t)512 * 1024)
#define RETRY_USEC (10 * USEC_PER_SEC)

static bool set_path(const struct reserve *reserve, char path[static PATH_MAX])
{
    int length = snprintf(path, PATH_MAX, "%s/reserve", reserve->directory);
    return length > 0 && length < PATH_MAX;
}

/*
 * As much again must be free: else what was given back a moment ago and is not used up yet would be
 * taken again, and what is put then would use it up.
 */
static bool allocate(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return false;
    if (status.st_size == SIZE && (uint64_t)status.st_blocks * 512 >= (uint64_t)SIZE)
        return true; // of an earlier run
    return posix_fallocate(fd, 0, 2 * SIZE) == 0 && ftruncate(fd, SIZE) == 0;
}

void reserve_make(struct reserve *reserve, bool at_once)
{
    uint64_t now = clock_mono_usec();
    if (reserve->is_there || (now < reserve->next_mono_usec && !at_once))
        return;
    reserve->next_mono_usec = now + RETRY_USEC;
    char path[PATH_MAX];
    if (!set_path(reserve, path))
        return;
    _cleanup_(closep) int fd =
        open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return;
    KILL_POINT("reserve");
    reserve->is_there = allocate(fd);
    if (!reserve->is_there)
        unlink(path);
}

bool reserve_give_back(struct reserve *reserve)
{
    char path[PATH_MAX];
    if (!reserve->is_there || !set_path(reserve, path))
        return false;
    reserve->is_there = false;
    reserve->next_mono_usec = clock_mono_usec() + RETRY_USEC;
    return unlink(path) == 0;
}
