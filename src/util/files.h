// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Small files, whole. These calls may sleep as long as the file system likes: a path that a user
 * names is read in a worker (io/worker.h), never on the main loop.
 */
#pragma once

#include <stddef.h>

/*
 * Reads all of path, at most max_size bytes, into a new NUL-terminated string; *ret_size (may be
 * NULL) is its length without the NUL. sysfs and /proc files, whose size is not known, work.
 * Returns 0 or -errno: -EFBIG if it is larger than max_size, -EISDIR for a directory.
 */
int files_read(const char *path, size_t max_size, char **ret_text, size_t *ret_size);

/* Like files_read(), without white space at the end, and -EINVAL if it holds a NUL byte. */
int files_read_line(const char *path, size_t max_size, char **ret_text);

/*
 * Writes text to path. A regular file, or one that is not there, is replaced atomically (a new file
 * beside it with the old one's mode, owner kept where allowed, renamed over it; a symbolic link is
 * followed, and the file it points to made where there is none). Anything else (sysfs, a FIFO, a
 * device) is opened and written with one write(), without waiting for a FIFO's reader (-ENXIO).
 * sysfs attributes are regular files to stat(2): pass a path below /sys and it is written in place.
 * Does not fsync. Returns 0 or -errno.
 */
int files_write(const char *path, const char *text);
