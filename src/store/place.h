// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The place of queue.db in its directory: whether the files that stand there are ours to open.
 * Internal to src/store.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "util/why.h"

/* Which file it is. */
struct place {
    dev_t device;
    ino_t inode;
};

/*
 * Looks at the file and at its logs, opens none of them and follows no link. path is absolute. 0,
 * also if there is nothing; -EPROTO: a link, a directory or anything else that is no regular file;
 * -EPERM: they, or the directory, belong to another user and cannot be used by us, or we are root,
 * whose new files their owner could not use. With why, which says what mends it.
 */
int place_check(const char *path, struct why *why);

/* Notes which file is there; whether it is the same one, another, or (*ret_is_there) none. */
void place_note(const char *path, struct place *ret_place);
bool place_is(const char *path, const struct place *place, bool *ret_is_there);

/* Whether another process holds a lock on it, as SQLite does. We must not have it open. */
bool place_is_in_use(const char *path);
