// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads and writes small files whole; see files.h.
#include "util/files.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include "util/cleanup.h"

static int read_all(int fd, char *buffer, size_t size)
{
    size_t length = 0;
    while (length < size) {
        ssize_t n = read(fd, buffer + length, size - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    return (int)length;
}

int files_read(const char *path, size_t max_size, char **ret_text, size_t *ret_size)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    // The size of a regular file saves memory; sysfs says 4096 and /proc 0 whatever they hold.
    size_t limit = max_size < INT_MAX - 2 ? max_size : INT_MAX - 2;
    size_t expect = status.st_size > 4096 ? (size_t)status.st_size : 4096;
    size_t length = 0;
    _cleanup_(freep) char *text = NULL;
    for (size_t size = expect < limit ? expect : limit;; size = limit) {
        char *larger = realloc(text, size + 2); // one byte to see that there is more, and the NUL
        if (!larger)
            return -ENOMEM;
        text = larger;
        int n = read_all(fd, text + length, size + 1 - length);
        if (n < 0)
            return n;
        length += (size_t)n;
        if (length <= size)
            break;
        if (size == limit)
            return -EFBIG;
    }
    text[length] = '\0';
    if (ret_size)
        *ret_size = length;
    *ret_text = TAKE_PTR(text);
    return 0;
}

int files_read_line(const char *path, size_t max_size, char **ret_text)
{
    char *text = NULL;
    size_t size = 0;
    int r = files_read(path, max_size, &text, &size);
    if (r < 0)
        return r;
    assert(text);
    if (strlen(text) != size) {
        free(text);
        return -EINVAL;
    }
    while (size > 0 && strchr(" \t\r\n", text[size - 1]))
        text[--size] = '\0';
    *ret_text = text;
    return 0;
}

static int write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static int write_in_place(const char *path, const char *text, int flags)
{
    _cleanup_(closep) int fd =
        open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags, 0644);
    if (fd < 0)
        return -errno;
    return write_all(fd, text);
}

static int replace(const char *path, const char *text, const struct stat *old)
{
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof(temporary))
        return -ENAMETOOLONG;
    _cleanup_(closep) int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = write_all(fd, text);
    if (r == 0 && fchmod(fd, old ? old->st_mode & 07777 : 0644) < 0)
        r = -errno;
    if (r == 0 && old && fchown(fd, old->st_uid, old->st_gid) < 0 && errno != EPERM)
        r = -errno; // EPERM: not our file to give away; its mode is kept
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r < 0)
        unlink(temporary);
    return r;
}

int files_write(const char *path, const char *text)
{
    char resolved[PATH_MAX];
    struct stat status;
    if (stat(path, &status) < 0) {
        if (errno != ENOENT)
            return -errno;
        if (lstat(path, &status) < 0)
            return replace(path, text, NULL);
        return write_in_place(path, text, O_CREAT); // what the link will point to
    }
    if (!S_ISREG(status.st_mode))
        return write_in_place(path, text, 0);
    struct statfs file_system;
    if (statfs(path, &file_system) == 0 && (uint32_t)file_system.f_type == SYSFS_MAGIC)
        return write_in_place(path, text, 0);
    if (!realpath(path, resolved))
        return -errno;
    return replace(resolved, text, &status);
}
