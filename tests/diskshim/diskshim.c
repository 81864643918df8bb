// SPDX-License-Identifier: LGPL-2.1-or-later
// A disk that hangs, for a daemon that this is loaded into: while the file that DISKSHIM_STALL
// names exists, whatever changes a file at a place of it, or waits for the disk, does not come
// back. Those are the calls that SQLite writes with; log lines are written otherwise.
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(function) ((__typeof__(&(function)))dlsym(RTLD_NEXT, #function))

static void stall(void)
{
    const char *path = getenv("DISKSHIM_STALL");
    while (path && access(path, F_OK) == 0)
        usleep(5000);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    stall();
    return NEXT(pwrite)(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    stall();
    return NEXT(pwrite64)(fd, data, size, offset);
}

int fsync(int fd)
{
    stall();
    return NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
    stall();
    return NEXT(fdatasync)(fd);
}
