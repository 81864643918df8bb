// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An open queue.db: the connection, its prepared statements, and what became of a failed call.
 * Internal to src/store.
 *
 *     db_open(); bind to db_statement(x) and db_step(x) until it says 0; db_close().
 *
 * Errors are as store_run() has them, and one more: -EUCLEAN, the file is damaged.
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/db-schema.h"
#include "store/first-page.h"
#include "util/cleanup.h"
#include "util/why.h"

struct db_options {
    const char *path; // no component of it is a symbolic link
    const char *vfs;  // NULL: SQLite's own
    uint64_t max_size;
};

struct db;

/* Opens or creates the file, and migrates an older one. 0 or -errno, with why. */
int db_open(const struct db_options *options, struct db **ret_db, struct why *why);

/*
 * Opens a damaged one for reading what there is, and touches nothing. first_page is shown in place
 * of its own, and must outlive the handle.
 */
int db_open_damaged(const char *path, const char *vfs, struct first_page *first_page,
                    sqlite3 **ret_handle);

void db_close(struct db *db);
DEFINE_CLEANUP(struct db *, db_close)

const char *db_path(const struct db *db);
sqlite3 *db_handle(const struct db *db);

/* From the next transaction on. */
void db_set_max_size(struct db *db, uint64_t max_size);

/* One of those prepared: the db's. */
sqlite3_stmt *db_statement(const struct db *db, enum db_statement which);

/* 1: there is a row; 0: done, and reset; -errno: failed, and reset. */
int db_step(struct db *db, enum db_statement which, struct why *why);

/* For statements without rows: 0 or -errno. */
int db_run(struct db *db, enum db_statement which, struct why *why);

/* Resets a statement that has not come to its end. */
void db_reset(struct db *db, enum db_statement which);

/*
 * Opens a transaction. has_headroom: it may grow the file a little above max_size, for jobs that
 * make it smaller in the end. sync: db_commit() makes it last through a power cut, which may take
 * it until db_sync() else.
 */
int db_begin(struct db *db, bool has_headroom, bool sync, struct why *why);

/* Commits it: 0 or -errno, and then db_rollback() is due. */
int db_commit(struct db *db, struct why *why);

/* Ends a transaction that failed, which SQLite may have done already. */
void db_rollback(struct db *db);

/* Makes what was committed last through a power cut. */
int db_sync(struct db *db, struct why *why);

/*
 * Moves what is in the log into the file, if there are more than max_wal_pages in it, so that the
 * log begins anew.
 */
int db_checkpoint(struct db *db, unsigned max_wal_pages, struct why *why);

/*
 * Gives free pages back to the disk once there are many of them and few messages, which come to
 * n_bytes.
 */
void db_shrink(struct db *db, uint64_t n_bytes);

/* Whether somebody else has made the file shorter. */
bool db_has_shrunk(const struct db *db);

/* The first size bytes of the file, with zeros behind its end. 0 or -EIO. */
int db_read_begin(const struct db *db, void *bytes, int size);
