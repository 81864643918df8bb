// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The rows of streams and boots in memory. A job works on db_stream.work and on the boots;
 * db_mirror_settle() when it was committed, db_mirror_undo() when it was not. Internal to
 * src/store.
 */
#pragma once

#include "store/db.h"
#include "store/store.h"

/*
 * A stream as it was last committed, and as the job under way leaves it. Messages that were added
 * behind all that its row counts do not make the row due: they are counted when the file is opened,
 * and a commit that only adds some writes a page less.
 */
struct db_stream {
    int64_t id;
    struct store_state state, work;
    uint64_t counted_seq;  // the row counts the messages up to this one,
    uint64_t n_counted;    // which are so many
    uint64_t last_seq;     // no message has a higher number
    uint64_t row_used_seq; // as the row has it
    bool is_due;           // the job under way writes the row
    bool is_new;           // and makes it
    char name[STORE_MAX_NAME + 1];
};

/* A run of ours, within a boot of the machine. */
struct db_boot {
    int64_t id;
    uint8_t run[STORE_RUN_SIZE];
    uint8_t uuid[STORE_BOOT_SIZE]; // the machine's
    uint64_t begin_wall_usec;      // likewise
};

struct db_mirror;

/*
 * Reads all rows. db is borrowed, and not used any more once only what is mirrored is asked for.
 * boot and run are this one's. 0 or -errno, with why; -EUCLEAN if a row makes no sense.
 */
int db_mirror_new(struct db *db, const uint8_t boot[static STORE_BOOT_SIZE],
                  const uint8_t run[static STORE_RUN_SIZE], struct db_mirror **ret_mirror,
                  struct why *why);
void db_mirror_free(struct db_mirror *mirror);
DEFINE_CLEANUP(struct db_mirror *, db_mirror_free)

/* The i-th, streams by name, boots with this one first; NULL beyond the last. */
struct db_stream *db_mirror_stream(const struct db_mirror *mirror, size_t i);
const struct db_boot *db_mirror_boot_at(const struct db_mirror *mirror, size_t i);

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
struct db_stream *db_mirror_find(const struct db_mirror *mirror, const char *name);
struct db_stream *db_mirror_by_id(const struct db_mirror *mirror, int64_t id);

/* One that is not there, with that id or (0) the next one. Within a transaction. */
int db_mirror_add(struct db_mirror *mirror, const char *name, int64_t id,
                  struct db_stream **ret_stream, struct why *why);

/* NULL if there is none. */
const struct db_boot *db_mirror_boot(const struct db_mirror *mirror, int64_t id);

/* The id of the row of a message's boot and run, made if need be. Within a transaction. */
int db_mirror_boot_id(struct db_mirror *mirror, const struct store_message *message,
                      int64_t *ret_id, struct why *why);

/* Writes a boot as it was in another file, unless its id or run is there. In a transaction. */
int db_mirror_restore_boot(struct db_mirror *mirror, const struct db_boot *boot, struct why *why);

/* This boot began at begin_wall_usec. Within a transaction. */
int db_mirror_set_begin(struct db_mirror *mirror, uint64_t begin_wall_usec, struct why *why);

/* Writes the row of a stream if that is due. Within a transaction. */
int db_mirror_write(struct db_mirror *mirror, struct db_stream *stream, struct why *why);

/* A message's id. A seq that is too high for any message is taken for the highest. */
int64_t db_mirror_message_id(const struct db_stream *stream, uint64_t seq);

/* What messages come to. */
struct db_sum {
    uint64_t n_messages, n_samples, bytes;
    uint64_t last_seq; // the highest that is there; 0: there are none
};
int db_mirror_sum(struct db_mirror *mirror, int64_t first_id, int64_t last_id,
                  struct db_sum *ret_sum, struct why *why);

/* Of those that a stream's row does not count. */
int db_mirror_sum_rest(struct db_mirror *mirror, const struct db_stream *stream,
                       struct db_sum *ret_sum, struct why *why);

/* Removes the rows of other boots if there are no messages at all. Within a transaction. */
int db_mirror_prune(struct db_mirror *mirror, struct why *why);

void db_mirror_settle(struct db_mirror *mirror);
void db_mirror_undo(struct db_mirror *mirror);

/* What all messages cost, as store_state counts it. */
uint64_t db_mirror_bytes(const struct db_mirror *mirror);
