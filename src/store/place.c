// SPDX-License-Identifier: LGPL-2.1-or-later
// What stands where queue.db belongs; see place.h.
#include "store/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

static void name_user(uid_t uid, char name[static 33])
{
    char bytes[1024];
    struct passwd entry;
    struct passwd *user = NULL;
    if (getpwuid_r(uid, &entry, bytes, sizeof(bytes), &user) == 0 && user)
        snprintf(name, 33, "%s", user->pw_name);
    else
        snprintf(name, 33, "%u", (unsigned)uid);
}

static int refuse_owner(const char *directory, const char *path, uid_t owner, struct why *why)
{
    char theirs[33], ours[33];
    name_user(owner, theirs);
    name_user(geteuid(), ours);
    if (geteuid() == 0)
        return why_set(why, EPERM,
                       "%s belongs to %s, and nightlightd runs as root: run it as %s, or "
                       "chown -R root: %s",
                       path, theirs, theirs, directory);
    return why_set(why, EPERM, "%s belongs to %s, and nightlightd runs as %s: chown -R %s: %s",
                   path, theirs, ours, ours, directory);
}

/* Root may use everything, but what root makes there is of no use to the owner. */
static bool is_shut(const char *path, uid_t owner, int access_mode)
{
    if (owner == geteuid())
        return false;
    return geteuid() == 0 ||
           (faccessat(AT_FDCWD, path, access_mode, AT_EACCESS) < 0 && errno == EACCES);
}

static int check_file(const char *directory, const char *path, bool *ret_is_there, struct why *why)
{
    struct stat status;
    *ret_is_there = lstat(path, &status) == 0;
    if (!*ret_is_there)
        return 0; // whatever is wrong with the path, opening tells
    if (!S_ISREG(status.st_mode))
        return why_set(why, EPROTO,
                       "%s is %s, and is neither followed nor touched; once it is moved away, a "
                       "new file is made",
                       path, S_ISLNK(status.st_mode) ? "a symbolic link" : "no regular file");
    if (is_shut(path, status.st_uid, R_OK | W_OK))
        return refuse_owner(directory, path, status.st_uid, why);
    return 0;
}

/* A directory in which root already has a queue may be anybody's. */
static int check_directory(const char *directory, bool has_file, struct why *why)
{
    struct stat status;
    if ((has_file && geteuid() == 0) || stat(directory, &status) < 0 ||
        !is_shut(directory, status.st_uid, W_OK | X_OK))
        return 0;
    return refuse_owner(directory, directory, status.st_uid, why);
}

int place_check(const char *path, struct why *why)
{
    static const char *const suffixes[] = { "", "-wal", "-journal" };
    char directory[PATH_MAX], file[PATH_MAX];
    bool has_file = false;
    snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path);
    for (size_t i = 0; i < ELEMENTS(suffixes); i++) {
        bool is_there;
        int length = snprintf(file, sizeof(file), "%s%s", path, suffixes[i]);
        if (length >= PATH_MAX)
            return why_set(why, ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
        int r = check_file(directory, file, &is_there, why);
        if (r < 0)
            return r;
        has_file |= is_there;
    }
    return check_directory(directory, has_file, why);
}

void place_note(const char *path, struct place *ret_place)
{
    struct stat status = { 0 };
    (void)lstat(path, &status);
    *ret_place = (struct place){ status.st_dev, status.st_ino };
}

bool place_is(const char *path, const struct place *place, bool *ret_is_there)
{
    struct stat status;
    *ret_is_there = lstat(path, &status) == 0;
    return *ret_is_there ? status.st_dev == place->device && status.st_ino == place->inode
                         : errno != ENOENT; // nobody can tell now
}

bool place_is_in_use(const char *path)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    return fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}
