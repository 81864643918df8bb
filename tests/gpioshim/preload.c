// SPDX-License-Identifier: LGPL-2.1-or-later
// The C library's functions by which libgpiod and the daemon find and use a GPIO chip, each with a
// look at whether it is one of ours. libgpiod 1 checks a chip by /sys/bus/gpio/devices/NAME/dev,
// libgpiod 2 by /sys/dev/char/MAJOR:MINOR/subsystem.
#include "shim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { CHIP_MAJOR = 254 };

#define NEXT(function) ((__typeof__(&(function)))dlsym(RTLD_NEXT, #function))

/* The chip whose number stands between prefix and suffix; -1 if path is none of ours. */
static int match(const char *path, const char *prefix, const char *suffix)
{
    struct gpioshim_world *world = shim_world();
    size_t length = strlen(prefix);
    if (!world || !path || strncmp(path, prefix, length) != 0)
        return -1;
    int chip = path[length] - '0'; // there are no more than GPIOSHIM_CHIPS
    return chip >= 0 && chip < world->n_chips && strcmp(path + length + 1, suffix) == 0 ? chip : -1;
}

static int match_device(const char *path)
{
    int chip = match(path, "/dev/gpiochip", "");
    return chip >= 0 && gpioshim_chip(chip)->present ? chip : -1;
}

static int match_attribute(const char *path)
{
    return match(path, "/sys/bus/gpio/devices/gpiochip", "/dev");
}

static int open_chip(int chip)
{
    if (gpioshim_chip(chip)->refusal) {
        errno = gpioshim_chip(chip)->refusal;
        return -1;
    }
    int fd = memfd_create("gpiochip", MFD_CLOEXEC);
    if (fd >= 0 && fd < SHIM_FDS)
        shim_fds[fd] = (struct shim_fd){ .kind = SHIM_CHIP, .chip = chip };
    return fd;
}

static int open_attribute(int chip)
{
    int fd = memfd_create("dev", MFD_CLOEXEC);
    if (fd >= 0 && (dprintf(fd, "%d:%d\n", CHIP_MAJOR, chip) < 0 || lseek(fd, 0, SEEK_SET) < 0))
        return -1;
    return fd;
}

/* Opens what is ours: true, and *ret_fd may be -1. */
static bool open_ours(const char *path, int *ret_fd)
{
    int chip = match_device(path);
    int attribute = match_attribute(path);
    if (chip >= 0)
        *ret_fd = open_chip(chip);
    else if (attribute >= 0)
        *ret_fd = open_attribute(attribute);
    return chip >= 0 || attribute >= 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    int fd;
    return open_ours(path, &fd) ? fd : NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    int fd;
    return open_ours(path, &fd) ? fd : NEXT(open64)(path, flags, mode);
}

/* What open() becomes under _FORTIFY_SOURCE. */
int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
    return open64(path, flags);
}

int close(int fd)
{
    if (fd >= 0 && fd < SHIM_FDS && shim_fds[fd].kind == SHIM_LINE)
        return shim_close_line(fd);
    if (fd >= 0 && fd < SHIM_FDS)
        shim_fds[fd] = (struct shim_fd){ 0 };
    return NEXT(close)(fd);
}

ssize_t read(int fd, void *buffer, size_t size)
{
    if (fd >= 0 && fd < SHIM_FDS && shim_fds[fd].kind == SHIM_LINE &&
        !gpioshim_chip(shim_fds[fd].chip)->present) {
        errno = ENODEV;
        return -1;
    }
    return NEXT(read)(fd, buffer, size);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (fd >= 0 && fd < SHIM_FDS && (shim_fds[fd].kind != SHIM_NONE || shim_recognise(fd)))
        return shim_ioctl(fd, request, argument);
    return NEXT(ioctl)(fd, request, argument);
}

static int fill_status(int chip, struct stat *status)
{
    *status = (struct stat){
        .st_mode = S_IFCHR | 0660,
        .st_rdev = makedev(CHIP_MAJOR, (unsigned)chip),
    };
    return 0;
}

int stat(const char *path, struct stat *status)
{
    int chip = match_device(path);
    return chip >= 0 ? fill_status(chip, status) : NEXT(stat)(path, status);
}

int lstat(const char *path, struct stat *status)
{
    int chip = match_device(path);
    return chip >= 0 ? fill_status(chip, status) : NEXT(lstat)(path, status);
}

int access(const char *path, int mode)
{
    return match_attribute(path) >= 0 ? 0 : NEXT(access)(path, mode);
}

char *realpath(const char *path, char *resolved)
{
    static const char devices[] = "/sys/dev/char/254:"; // CHIP_MAJOR
    const char *answer = match_device(path) >= 0                   ? path
                         : match(path, devices, "/subsystem") >= 0 ? "/sys/bus/gpio"
                                                                   : NULL;
    if (!answer)
        return NEXT(realpath)(path, resolved);
    if (!resolved)
        return strdup(answer);
    snprintf(resolved, PATH_MAX, "%s", answer);
    return resolved;
}

char *__realpath_chk(const char *path, char *resolved, size_t size);
char *__realpath_chk(const char *path, char *resolved, size_t size)
{
    (void)size;
    return realpath(path, resolved);
}

/* /dev as it would be with nothing but our chips. */
int scandir(const char *path, struct dirent ***ret_entries, int (*filter)(const struct dirent *),
            int (*compare)(const struct dirent **, const struct dirent **))
{
    struct gpioshim_world *world = shim_world();
    if (!world || (strcmp(path, "/dev") != 0 && strcmp(path, "/dev/") != 0))
        return NEXT(scandir)(path, ret_entries, filter, compare);
    struct dirent **entries = calloc(GPIOSHIM_CHIPS, sizeof(struct dirent *));
    int n_entries = 0;
    for (int i = 0; entries && i < world->n_chips; i++) {
        struct dirent entry = { .d_type = DT_CHR };
        snprintf(entry.d_name, sizeof(entry.d_name), "gpiochip%d", i);
        if (!world->chips[i].present || (filter && !filter(&entry)))
            continue;
        entries[n_entries] = malloc(sizeof(entry));
        memcpy(entries[n_entries++], &entry, sizeof(entry));
    }
    *ret_entries = entries;
    return entries ? n_entries : -1;
}
