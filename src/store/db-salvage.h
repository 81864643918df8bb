// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Makes a sound queue.db of one that is damaged, or is not where it was. Internal to src/store.
 *
 * What can be read is copied into queue.db.new, then the damaged file and its log are renamed to
 * queue.db.damaged and queue.db.damaged-wal, in place of older ones, and the new one to queue.db.
 * db_salvage_finish() brings that to its end after a crash in the middle.
 */
#pragma once

#include "store/db-mirror.h"

/* What became of what was in it. */
struct db_salvage_result {
    uint64_t n_lost; // messages that are known to have been there and could not be read
    bool is_sure;    // there were no others
    bool is_kept;    // what stood there is now queue.db.damaged
};

struct db_salvage_source {
    struct db_options options;     // where it was, and the new one is to be
    const struct db *db;           // what is read: open, since another file, or none, is there now;
                                   // NULL: the file there, which must not be open
    const struct db_mirror *known; // what was in it when that could be read; NULL: nobody knows
};

/* 0 or -errno, with why: then what is there is where it was. */
int db_salvage(const struct db_salvage_source *source, struct db_salvage_result *ret_result,
               struct why *why);

/* Before the file is opened. 1: there was one to finish; 0, or -errno, with why. */
int db_salvage_finish(const struct db_options *options, struct why *why);
