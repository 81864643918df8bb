// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An open queue.db: the connection, its prepared statements, and what became of a failed call.
 * Internal to src/store.
 *
 *     db_open(); bind to db->statements[x] and db_step(x) until it says 0; db_close().
 *
 * Errors are as store_run() has them, and one more: -EUCLEAN, the file is damaged.
 */
#pragma once

#include <sqlite3.h>

#include "store/db-schema.h"
#include "store/store.h"
#include "util/cleanup.h"
#include "util/why.h"

struct db_options {
    const char *path; // no component of it is a symbolic link
    const char *vfs;  // NULL: SQLite's own
    uint64_t max_size;
    uint8_t boot[STORE_BOOT_SIZE];
};

/*
 * A stream as it was last committed, and as the job under way leaves it. Messages that were added
 * behind all that its row counts do not make the row due: they are counted when the file is opened,
 * and a commit that only adds some writes a page less.
 */
struct db_stream {
    int64_t id;
    struct store_state state, work;
    uint64_t counted_seq; // the row counts the messages up to this one,
    uint64_t n_counted;   // which are so many
    uint64_t last_seq;    // no message has a higher number
    bool is_due;          // the job under way writes the row
    bool is_new;          // and makes it
    char name[STORE_MAX_NAME + 1];
};

struct db_boot {
    int64_t id;
    uint8_t uuid[STORE_BOOT_SIZE];
    uint64_t begin_wall_usec;
};

/* Those of the open file; the first member is what SQLite sees. */
struct db_methods {
    sqlite3_io_methods own;
    const sqlite3_io_methods *base;
};

struct db {
    sqlite3 *handle;
    struct db_methods methods;
    sqlite3_stmt *statements[DB_N_STATEMENTS];
    char *path;
    uint64_t max_pages;
    uint64_t limit_pages; // PRAGMA max_page_count as it is now; 0: not set yet
    bool syncs;           // PRAGMA synchronous: a commit syncs the log
    bool is_unsynced;     // there are commits that a power cut may take
    bool has_sync_failed;
    unsigned wal_pages; // in the log, since it was last moved into the file

    // What the rows say, so that they need not be read: db-mirror.h.
    struct db_stream **streams; // by name
    size_t n_streams;
    struct db_boot *boots; // this one first; its id is 0 while it has no row
    size_t n_boots;
    struct db_boot *boots_before; // a copy from before the job under way; NULL: nothing changed
    size_t n_boots_before;
};

/*
 * Opens or creates the file, migrates an older one, and reads what is to be mirrored.
 * 0 or -errno, with why.
 */
int db_open(const struct db_options *options, struct db **ret_db, struct why *why);

/* Opens a damaged one for reading what there is, and touches nothing. */
int db_open_damaged(const char *path, const char *vfs, sqlite3 **ret_handle, struct why *why);

void db_close(struct db *db);

/* From the next transaction on. */
void db_set_max_size(struct db *db, uint64_t max_size);
DEFINE_CLEANUP(struct db *, db_close)

/* Of an SQLite result code, with why; errno as the call left it. Returns -errno. */
int db_error(const struct db *db, int code, struct why *why);

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

/* Gives free pages back to the disk once there are many of them and few messages. */
void db_shrink(struct db *db);

/* Whether the file has been removed or replaced under us. */
bool db_has_moved(const struct db *db);
