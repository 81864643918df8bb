// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Attributes in sysfs: one value a file, found by a device's name. For drivers that are blocking,
 * since some attributes ask the hardware.
 *
 *     r = sysfs_find("class/hwmon", "k10temp", directory, why);
 *     r = sysfs_read_number(directory, "temp1_input", &value, why);
 *
 * A directory is relative to the root of sysfs. Each call returns 0 or -errno, with why.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/why.h"

enum {
    SYSFS_PATH_SIZE = 768,      // of a whole path
    SYSFS_DIRECTORY_SIZE = 320, // a class and a name of up to 255 bytes
    SYSFS_TEXT_SIZE = 256,      // of an attribute that is a name or a number
};

/* Where sysfs is, for tests; static storage. /sys until then. */
void sysfs_set_root(const char *root);

/* For a configuration key that becomes part of a path: -EINVAL for a slash or a leading dot. */
int sysfs_check_name(const char *text, struct why *why);

/*
 * The device in directory (class/hwmon, bus/iio/devices) that wanted means: its entry there, else
 * the entry whose attribute `name` says so. -ENODEV if there is none, -ENOTUNIQ if several are
 * called that.
 */
int sysfs_find(const char *directory, const char *wanted,
               char ret_directory[static SYSFS_DIRECTORY_SIZE], struct why *why);

/* Whether the attribute, or with "" the directory, is there. */
bool sysfs_exists(const char *directory, const char *attribute);

/* Writes the path of an attribute, for messages and for other readers; cut if it is too long. */
const char *sysfs_path(const char *directory, const char *attribute,
                       char path[static SYSFS_PATH_SIZE]);

/* The text without the newline; -EFBIG if it has more than fits. */
int sysfs_read_text(const char *directory, const char *attribute,
                    char ret_text[static SYSFS_TEXT_SIZE], struct why *why);

/* -EBADMSG if it is no number. */
int sysfs_read_number(const char *directory, const char *attribute, double *ret_value,
                      struct why *why);

int sysfs_write_integer(const char *directory, const char *attribute, uint64_t value,
                        struct why *why);
