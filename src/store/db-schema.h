// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The tables of queue.db, each statement that is used on them, and how an older file becomes one of
 * today. Internal to src/store.
 *
 * A message's id is its stream's id and its number in one (DB_SEQ_BITS), so that one b-tree holds
 * all messages, by stream and in order, and no other index needs to be written.
 */
#pragma once

#include <stddef.h>

enum {
    DB_APPLICATION_ID = 0x4e4c7164, // "NLqd": PRAGMA application_id, so that file(1) can tell
    DB_PAGE_SIZE = 1024,            // measured: half the bytes written of 4096 (performance.md)
    DB_SEQ_BITS = 42,
    DB_MAX_STREAMS = 1 << 20,
};

enum db_statement {
    DB_BEGIN,
    DB_COMMIT,
    DB_ROLLBACK,
    DB_STREAMS,       // all streams
    DB_STREAM_INSERT, // name, id or NULL: a new one
    DB_STREAM_UPDATE, // id, then the columns
    DB_BOOTS,         // all boots
    DB_BOOT_INSERT,   // run, begin_wall_usec, id or NULL: a new one, the machine's boot or NULL
    DB_BOOT_UPDATE,   // the machine's boot, begin_wall_usec
    DB_BOOT_PRUNE,    // the machine's boot to keep
    DB_PUT,           // id, boot, mono_usec, n_samples, subject, payload
    DB_MESSAGES,      // first id, last id: whole messages in order
    DB_COSTS,         // first id, last id: id, samples, bytes, boot, mono_usec in order
    DB_SUM,           // first id, last id: messages, samples, bytes, last id that is there
    DB_DELETE,        // first id, last id
    DB_RECORDS,       // space: key, value, in order
    DB_RECORD_PUT,    // space, key, value
    DB_RECORD_DELETE, // space, key
    DB_FREE_PAGES,
    DB_N_STATEMENTS,
};

/* The SQL of each. */
extern const char *const db_schema_statements[DB_N_STATEMENTS];

/* What makes a file of version i one of version i + 1; the version is PRAGMA user_version. */
extern const char *const db_schema_migrations[];

/* Today's version. */
extern const int db_schema_version;

/* How a damaged table is read from both ends: ids between two bounds, upward and downward. */
struct db_schema_scan {
    const char *up, *down;
};
extern const struct db_schema_scan db_schema_scan_streams; // as DB_STREAMS
extern const struct db_schema_scan db_schema_scan_names;   // id, name; does not read the table
extern const struct db_schema_scan db_schema_scan_boots;   // as DB_BOOTS
extern const struct db_schema_scan db_schema_scan_old_boots;
extern const struct db_schema_scan db_schema_scan_messages; // as DB_MESSAGES
extern const struct db_schema_scan db_schema_scan_records;  // space, key, value, without bounds
