// SPDX-License-Identifier: LGPL-2.1-or-later
// A disk that hangs or fails, for a daemon that this is loaded into. While the file that
// DISKSHIM_STALL names exists, whatever changes a file at a place of it, or waits for the disk,
// does not come back; while there is one that DISKSHIM_FAIL names, it fails with the errno whose
// number is in there. Those are the calls that SQLite writes with; log lines are written otherwise.
// With EROFS no file of STATE_DIRECTORY can be opened for writing either.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(function) ((__typeof__(&(function)))dlsym(RTLD_NEXT, #function))

static int next_open(const char *path, int flags, mode_t mode)
{
    return NEXT(open)(path, flags, mode);
}

/* The errno that calls are to fail with; 0: none. */
static int failure(void)
{
    const char *path = getenv("DISKSHIM_FAIL");
    char text[16] = "";
    int fd = path ? next_open(path, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof(text) - 1) < 0)
        text[0] = '\0';
    close(fd);
    return (int)strtol(text, NULL, 10);
}

/* Whether the call may be made. */
static bool works(void)
{
    const char *path = getenv("DISKSHIM_STALL");
    while (path && access(path, F_OK) == 0)
        usleep(5000);
    int error = failure();
    if (error)
        errno = error;
    return !error;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return works() ? NEXT(pwrite)(fd, data, size, offset) : -1;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    return works() ? NEXT(pwrite64)(fd, data, size, offset) : -1;
}

int fsync(int fd)
{
    return works() ? NEXT(fsync)(fd) : -1;
}

int fdatasync(int fd)
{
    return works() ? NEXT(fdatasync)(fd) : -1;
}

static bool is_of_the_state(const char *path)
{
    const char *directory = getenv("STATE_DIRECTORY");
    size_t length = directory ? strlen(directory) : 0;
    return length > 0 && strncmp(path, directory, length) == 0 && path[length] == '/';
}

static int try_open(const char *path, int flags, mode_t mode)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    if (writes && is_of_the_state(path) && failure() == EROFS) {
        errno = EROFS;
        return -1;
    }
    return next_open(path, flags, mode);
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;                             \
        va_end(arguments);                                                                         \
        return try_open(path, flags, mode);                                                        \
    }

OPEN(open)
OPEN(open64)
