// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The rows of streams and boots in memory. A job works on db_stream.work and on the boots;
 * db_mirror_settle() when it was committed, db_mirror_undo() when it was not. Internal to
 * src/store.
 */
#pragma once

#include "store/db.h"

/* Reads all rows. 0 or -errno; -EUCLEAN if one makes no sense. */
int db_mirror_load(struct db *db, struct why *why);
void db_mirror_done(struct db *db);

/* What a row of DB_STREAMS says; the name is the row's. */
struct db_stream_row {
    int64_t id;
    const char *name;
    struct store_state state;
    uint64_t counted_seq;
};

/* Read a row of DB_STREAMS or DB_BOOTS; -EUCLEAN if it makes no sense. */
int db_mirror_read_stream(sqlite3_stmt *row, struct db_stream_row *ret_row);
int db_mirror_read_name(sqlite3_stmt *row, int64_t *ret_id, const char **ret_name);
int db_mirror_read_boot(sqlite3_stmt *row, struct db_boot *ret_boot);

/* NULL if there is none of that name; of that id, which takes longer. */
struct db_stream *db_mirror_find(const struct db *db, const char *name);
struct db_stream *db_mirror_by_id(const struct db *db, int64_t id);

/* One that is not there, with that id or (0) the next one. Within a transaction. */
int db_mirror_add(struct db *db, const char *name, int64_t id, struct db_stream **ret_stream,
                  struct why *why);

/* NULL if there is none. */
const struct db_boot *db_mirror_boot(const struct db *db, int64_t id);

/* The id of a boot's row, made if need be. Within a transaction. */
int db_mirror_boot_id(struct db *db, const uint8_t uuid[static STORE_BOOT_SIZE], int64_t *ret_id,
                      struct why *why);

/* Writes a boot as it was in another file, unless its id or uuid is there. In a transaction. */
int db_mirror_restore_boot(struct db *db, const struct db_boot *boot, struct why *why);

/* This boot began at begin_wall_usec. Within a transaction. */
int db_mirror_set_begin(struct db *db, uint64_t begin_wall_usec, struct why *why);

/* Writes the row of a stream if that is due. Within a transaction. */
int db_mirror_write(struct db *db, struct db_stream *stream, struct why *why);

/* A message's id. A seq that is too high for any message is taken for the highest. */
int64_t db_mirror_message_id(const struct db_stream *stream, uint64_t seq);

/* What messages come to. */
struct db_sum {
    uint64_t n_messages, n_samples, bytes;
    uint64_t last_seq; // the highest that is there; 0: there are none
};
int db_mirror_sum(struct db *db, int64_t first_id, int64_t last_id, struct db_sum *ret_sum,
                  struct why *why);

/* Of those that a stream's row does not count. */
int db_mirror_sum_rest(struct db *db, const struct db_stream *stream, struct db_sum *ret_sum,
                       struct why *why);

/* Removes the rows of other boots if there are no messages at all. Within a transaction. */
int db_mirror_prune(struct db *db, struct why *why);

void db_mirror_settle(struct db *db);
void db_mirror_undo(struct db *db);

/* Whether no stream has a message. */
bool db_mirror_is_empty(const struct db *db);

/* What all messages cost, as store_state counts it. */
uint64_t db_mirror_bytes(const struct db *db);
