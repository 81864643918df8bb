// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A job as one transaction on queue.db. Internal to src/store.
 */
#pragma once

#include "store/db-mirror.h"

/*
 * What a row of DB_MESSAGES says, but for the stream; it points into the row. -EUCLEAN if it makes
 * no sense, -ENOMEM.
 */
int db_job_read_message(const struct db_mirror *mirror, sqlite3_stmt *row,
                        struct store_message *ret_message);

/*
 * Does the job, or nothing of it. mirror is db's. Sets all of its out members but generation,
 * n_lost, has_room and mishap. 0 or -errno, with why.
 */
int db_job_run(struct db *db, struct db_mirror *mirror, struct store_job *job, struct why *why);

/* The parts of it that a salvage uses, within a transaction. A put counts into stream->work. */
int db_job_put(struct db *db, struct db_mirror *mirror, struct db_stream *stream,
               const struct store_message *message, struct why *why);
int db_job_write_record(struct db *db, const struct store_record *record, struct why *why);
