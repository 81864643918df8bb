// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Makes a sound queue.db of a damaged one. Internal to src/store.
 *
 * What can be read is copied into queue.db.new, then the damaged file and its log are renamed to
 * queue.db.damaged and queue.db.damaged-wal, in place of older ones, and the new one to queue.db.
 * db_salvage_finish() brings that to its end after a crash in the middle.
 */
#pragma once

#include "store/db.h"

/*
 * The file must not be open. *ret_n_lost: messages that are known to have been there and could not
 * be read. 0 or -errno, with why: then the damaged file is where it was.
 */
int db_salvage(const struct db_options *options, uint64_t *ret_n_lost, struct why *why);

/* Before the file is opened. 0 or -errno, with why. */
int db_salvage_finish(const struct db_options *options, struct why *why);
