// SPDX-License-Identifier: LGPL-2.1-or-later
// All SQL there is, but for pragmas; see db-schema.h. A migration that was released never changes.
#include "store/db-schema.h"

#include "util/cleanup.h"

const char *const db_schema_migrations[] = {
    "CREATE TABLE stream ("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL UNIQUE,"
    " reserved_seq INTEGER NOT NULL,"
    " sampled INTEGER NOT NULL,"
    " filtered INTEGER NOT NULL,"
    " merged INTEGER NOT NULL,"
    " expired INTEGER NOT NULL,"
    " dropped INTEGER NOT NULL,"
    " rejected INTEGER NOT NULL,"
    " acked INTEGER NOT NULL,"
    " n_messages INTEGER NOT NULL,"
    " n_samples INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL) STRICT;"
    "CREATE TABLE boot ("
    " id INTEGER PRIMARY KEY,"
    " uuid BLOB NOT NULL UNIQUE,"
    " begin_wall_usec INTEGER NOT NULL) STRICT;"
    "CREATE TABLE message ("
    " id INTEGER PRIMARY KEY," // stream.id << 42 | seq
    " boot INTEGER NOT NULL,"
    " mono_usec INTEGER NOT NULL,"
    " n_samples INTEGER NOT NULL,"
    " subject TEXT,"
    " payload BLOB NOT NULL) STRICT;",

    "CREATE TABLE record ("
    " space TEXT NOT NULL,"
    " key TEXT NOT NULL,"
    " value TEXT NOT NULL,"
    " PRIMARY KEY (space, key)) STRICT, WITHOUT ROWID;",

    // The counts of a stream include its messages up to that number.
    "ALTER TABLE stream ADD COLUMN counted_seq INTEGER NOT NULL DEFAULT 0;"
    "UPDATE stream SET counted_seq = 4398046511103 & ifnull((SELECT max(id) FROM message"
    " WHERE message.id BETWEEN stream.id << 42 AND stream.id << 42 | 4398046511103), 0);",

    // uuid is the id of a run from now on, and this that of the machine's boot; NULL: the same.
    "ALTER TABLE boot ADD COLUMN kernel BLOB;",
};
const int db_schema_version = ELEMENTS(db_schema_migrations);

// As STORE_MESSAGE_OVERHEAD has it. The payload's length is in the row's header: it is not read.
#define COST "length(payload) + ifnull(length(CAST(subject AS BLOB)), 0) + 48"

#define STREAMS                                                                                    \
    "SELECT id, name, reserved_seq, sampled, filtered, merged, expired, dropped, rejected, acked," \
    " n_messages, n_samples, bytes, counted_seq FROM stream"
#define BOOTS    "SELECT id, uuid, begin_wall_usec, kernel FROM boot"
#define MESSAGES "SELECT id, boot, mono_usec, n_samples, subject, payload FROM message"
#define BETWEEN  " WHERE id BETWEEN ?1 AND ?2 ORDER BY id"

const char *const db_schema_statements[DB_N_STATEMENTS] = {
    [DB_BEGIN] = "BEGIN IMMEDIATE",
    [DB_COMMIT] = "COMMIT",
    [DB_ROLLBACK] = "ROLLBACK",
    [DB_STREAMS] = STREAMS,
    [DB_STREAM_INSERT] = "INSERT INTO stream VALUES (?2, ?1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
    [DB_STREAM_UPDATE] = "UPDATE stream SET reserved_seq = ?2, sampled = ?3, filtered = ?4,"
                         " merged = ?5, expired = ?6, dropped = ?7, rejected = ?8, acked = ?9,"
                         " n_messages = ?10, n_samples = ?11, bytes = ?12, counted_seq = ?13"
                         " WHERE id = ?1",
    [DB_BOOTS] = BOOTS,
    [DB_BOOT_INSERT] = "INSERT INTO boot VALUES (?3, ?1, ?2, ?4)",
    [DB_BOOT_UPDATE] = "UPDATE boot SET begin_wall_usec = ?2 WHERE ifnull(kernel, uuid) = ?1",
    [DB_BOOT_PRUNE] = "DELETE FROM boot WHERE ifnull(kernel, uuid) <> ?1",
    [DB_PUT] = "INSERT OR IGNORE INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [DB_MESSAGES] = MESSAGES BETWEEN,
    [DB_COSTS] = "SELECT id, n_samples, " COST ", boot, mono_usec FROM message" BETWEEN,
    [DB_SUM] = "SELECT count(*), total(n_samples), total(" COST "), max(id) FROM message"
               " WHERE id BETWEEN ?1 AND ?2",
    [DB_DELETE] = "DELETE FROM message WHERE id BETWEEN ?1 AND ?2",
    [DB_RECORDS] = "SELECT key, value FROM record WHERE space = ?1 ORDER BY key",
    [DB_RECORD_PUT] = "INSERT INTO record VALUES (?1, ?2, ?3)"
                      " ON CONFLICT DO UPDATE SET value = excluded.value"
                      " WHERE value <> excluded.value", // what is the same is not written again
    [DB_RECORD_DELETE] = "DELETE FROM record WHERE space = ?1 AND key = ?2",
    [DB_FREE_PAGES] = "PRAGMA freelist_count",
};

const struct db_schema_scan db_schema_scan_streams = { STREAMS BETWEEN, STREAMS BETWEEN " DESC" };
const struct db_schema_scan db_schema_scan_boots = { BOOTS BETWEEN, BOOTS BETWEEN " DESC" };
// Of a file that was damaged before it could be migrated.
const struct db_schema_scan db_schema_scan_old_boots = {
    "SELECT id, uuid, begin_wall_usec FROM boot" BETWEEN,
    "SELECT id, uuid, begin_wall_usec FROM boot" BETWEEN " DESC",
};
const struct db_schema_scan db_schema_scan_messages = { MESSAGES BETWEEN,
                                                        MESSAGES BETWEEN " DESC" };
// The index on the names holds the ids too.
const struct db_schema_scan db_schema_scan_names = {
    "SELECT id, name FROM stream ORDER BY name",
    "SELECT id, name FROM stream ORDER BY name DESC",
};
const struct db_schema_scan db_schema_scan_records = {
    "SELECT space, key, value FROM record ORDER BY space, key",
    "SELECT space, key, value FROM record ORDER BY space DESC, key DESC",
};
