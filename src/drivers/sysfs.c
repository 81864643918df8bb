// SPDX-License-Identifier: LGPL-2.1-or-later
// Finds devices in sysfs, reads and writes their attributes; see sysfs.h.
#include "drivers/sysfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "drivers/reading.h"
#include "util/cleanup.h"
#include "util/files.h"

static const char *sysfs_root = "/sys";

DEFINE_CLEANUP(DIR *, closedir)

void sysfs_set_root(const char *root)
{
    sysfs_root = root;
}

int sysfs_check_name(const char *text, struct why *why)
{
    if (text[0] == '.' || strchr(text, '/'))
        return why_set(why, EINVAL, "a name is expected, not a path");
    return 0;
}

const char *sysfs_path(const char *directory, const char *attribute,
                       char path[static SYSFS_PATH_SIZE])
{
    snprintf(path, SYSFS_PATH_SIZE, "%s/%s%s%s", sysfs_root, directory, *attribute ? "/" : "",
             attribute);
    return path;
}

bool sysfs_exists(const char *directory, const char *attribute)
{
    char path[SYSFS_PATH_SIZE];
    return access(sysfs_path(directory, attribute, path), F_OK) == 0;
}

int sysfs_read_text(const char *directory, const char *attribute,
                    char ret_text[static SYSFS_TEXT_SIZE], struct why *why)
{
    char path[SYSFS_PATH_SIZE];
    _cleanup_(freep) char *text = NULL;
    int r = files_read_line(sysfs_path(directory, attribute, path), SYSFS_TEXT_SIZE - 1, &text);
    if (r < 0)
        return why_set(why, -r, "cannot read %s: %s", path, strerror(-r));
    snprintf(ret_text, SYSFS_TEXT_SIZE, "%s", text);
    return 0;
}

int sysfs_read_number(const char *directory, const char *attribute, double *ret_value,
                      struct why *why)
{
    char text[SYSFS_TEXT_SIZE], path[SYSFS_PATH_SIZE];
    struct why cause = { 0 };
    int r = sysfs_read_text(directory, attribute, text, why);
    if (r < 0)
        return r;
    r = reading_from_text(text, strlen(text), ret_value, &cause);
    if (r < 0)
        return why_set(why, -r, "%s: %s", sysfs_path(directory, attribute, path), cause.text);
    return 0;
}

int sysfs_write_integer(const char *directory, const char *attribute, uint64_t value,
                        struct why *why)
{
    char path[SYSFS_PATH_SIZE], text[32];
    int length = snprintf(text, sizeof(text), "%" PRIu64 "\n", value);
    sysfs_path(directory, attribute, path);
    // In place, in one write: each write is a request to the kernel of its own.
    _cleanup_(closep) int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return why_set(why, errno, "cannot write %s: %s", path, strerror(errno));
    if (write(fd, text, (size_t)length) < 0)
        return why_set(why, errno, "cannot write %" PRIu64 " to %s: %s", value, path,
                       strerror(errno));
    return 0;
}

/* Whether the entry's attribute `name` is wanted. */
static bool is_called(const char *directory, const char *entry, const char *wanted)
{
    char device[SYSFS_DIRECTORY_SIZE], name[SYSFS_TEXT_SIZE];
    int length = snprintf(device, sizeof(device), "%s/%s", directory, entry);
    return length > 0 && (size_t)length < sizeof(device) &&
           sysfs_read_text(device, "name", name, NULL) == 0 && strcmp(name, wanted) == 0;
}

int sysfs_find(const char *directory, const char *wanted,
               char ret_directory[static SYSFS_DIRECTORY_SIZE], struct why *why)
{
    char path[SYSFS_PATH_SIZE], found[256] = "";
    if (sysfs_exists(directory, wanted))
        snprintf(found, sizeof(found), "%s", wanted);
    sysfs_path(directory, "", path);
    _cleanup_(closedirp) DIR *entries = found[0] ? NULL : opendir(path);
    const struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        if (entry->d_name[0] == '.' || !is_called(directory, entry->d_name, wanted))
            continue;
        if (found[0])
            return why_set(why, ENOTUNIQ, "both %s and %s are called '%s': use one of those", found,
                           entry->d_name, wanted);
        snprintf(found, sizeof(found), "%s", entry->d_name);
    }
    if (!found[0])
        return why_set(why, ENODEV, "there is no '%s' in %s", wanted, path);
    char whole[SYSFS_DIRECTORY_SIZE];
    int length = snprintf(whole, sizeof(whole), "%s/%s", directory, found);
    if (length < 0 || (size_t)length >= sizeof(whole))
        return why_set(why, ENAMETOOLONG, "%s: too long a name", wanted);
    memcpy(ret_directory, whole, sizeof(whole));
    return 0;
}
