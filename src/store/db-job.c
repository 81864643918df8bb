// SPDX-License-Identifier: LGPL-2.1-or-later
// A job as one transaction; see db-job.h. The query is part of it, so that it cannot fail when the
// rest has been committed.
#include "store/db-job.h"

#include <assert.h>
#include <string.h>

#include "store/db-mirror.h"
#include "store/store-message.h"
#include "util/killpoint.h"

/* What a job has come to; its own out members are set once it has succeeded. */
struct run {
    struct db *db;
    struct db_mirror *mirror; // of db
    struct store_job *job;
    struct db_stream **streams; // of the job, by their index
    struct store_trim *trims;   // copies
    struct store_query query;   // a copy
};

static void run_done(struct run *run)
{
    free(run->streams);
    free(run->trims);
    store_messages_free(run->query.messages, run->query.n_messages);
}

static int run_init(struct run *run, struct db *db, struct db_mirror *mirror, struct store_job *job,
                    struct why *why)
{
    *run = (struct run){ .db = db, .mirror = mirror, .job = job, .query = job->query };
    run->query.messages = NULL;
    run->query.n_messages = 0;
    run->query.at_end = true;
    run->streams = calloc(job->n_streams + 1, sizeof(struct db_stream *));
    run->trims = calloc(job->n_trims + 1, sizeof(*run->trims));
    if (!run->streams || !run->trims)
        return why_set(why, ENOMEM, "out of memory");
    if (job->n_trims > 0)
        memcpy(run->trims, job->trims, job->n_trims * sizeof(*run->trims));
    for (size_t i = 0; i < job->n_streams; i++)
        run->streams[i] = db_mirror_find(mirror, job->streams[i].name);
    return 0;
}

static bool is_new_begin(const struct run *run)
{
    return run->job->begin_wall_usec > 0 &&
           run->job->begin_wall_usec != db_mirror_boot_at(run->mirror, 0)->begin_wall_usec;
}

/* The highest number that a stream, which is there, has used. */
static uint64_t used_seq(const struct run *run, size_t i)
{
    uint64_t told = run->job->streams[i].used_seq;
    uint64_t known = run->streams[i]->work.used_seq;
    if (told == 0 || (!run->job->seals && told < known))
        return known;
    return told > run->streams[i]->last_seq ? told : run->streams[i]->last_seq;
}

static bool writes(const struct run *run)
{
    const struct store_job *job = run->job;
    if (job->n_puts > 0 || job->n_ranges > 0 || job->n_trims > 0 || job->n_records > 0 ||
        is_new_begin(run))
        return true;
    for (size_t i = 0; i < job->n_streams; i++) {
        const struct store_stream *stream = &job->streams[i];
        if (!run->streams[i] || !ledger_is_zero(&stream->delta) ||
            (run->job->seals && used_seq(run, i) != run->streams[i]->row_used_seq))
            return true;
    }
    return false;
}

static int add_streams(struct run *run, struct why *why)
{
    for (size_t i = 0; i < run->job->n_streams; i++) {
        const struct store_stream *stream = &run->job->streams[i];
        if (!run->streams[i]) // unless the job names it twice
            run->streams[i] = db_mirror_find(run->mirror, stream->name);
        if (!run->streams[i]) {
            int r = db_mirror_add(run->mirror, stream->name, 0, &run->streams[i], why);
            if (r < 0)
                return r;
        }
        struct store_state *work = &run->streams[i]->work;
        work->used_seq = used_seq(run, i);
        ledger_add(&work->ledger, &stream->delta);
        if (!ledger_is_zero(&stream->delta) ||
            (run->job->seals && work->used_seq != run->streams[i]->row_used_seq))
            run->streams[i]->is_due = true;
        KILL_POINT("job-stream");
    }
    return 0;
}

/* The id of the first number above seq; of the next stream's first if there is none above. */
static int64_t id_after(const struct db_stream *stream, uint64_t seq)
{
    return db_mirror_message_id(stream, seq) + 1;
}

static void bind_ids(const struct run *run, enum db_statement which, int64_t first, int64_t last)
{
    sqlite3_bind_int64(db_statement(run->db, which), 1, first);
    sqlite3_bind_int64(db_statement(run->db, which), 2, last);
}

int db_job_put(struct db *db, struct db_mirror *mirror, struct db_stream *stream,
               const struct store_message *message, struct why *why)
{
    assert(message->seq > 0 && message->seq < STORE_SEQ_END);
    int64_t boot;
    int r = db_mirror_boot_id(mirror, message, &boot, why);
    if (r < 0)
        return r;
    sqlite3_stmt *insert = db_statement(db, DB_PUT);
    sqlite3_bind_int64(insert, 1, db_mirror_message_id(stream, message->seq));
    sqlite3_bind_int64(insert, 2, boot);
    sqlite3_bind_int64(insert, 3, (sqlite3_int64)message->moment.mono_usec);
    sqlite3_bind_int64(insert, 4, message->n_samples);
    sqlite3_bind_text(insert, 5, message->subject, -1, SQLITE_STATIC);
    sqlite3_bind_blob(insert, 6, message->payload_size > 0 ? message->payload : "",
                      (int)message->payload_size, SQLITE_STATIC);
    r = db_run(db, DB_PUT, why);
    if (r < 0 || sqlite3_changes(db_handle(db)) == 0)
        return r;
    KILL_POINT("job-put");
    if (message->seq <= stream->counted_seq)
        stream->is_due = true;
    if (message->seq > stream->last_seq)
        stream->last_seq = message->seq;
    if (message->seq > stream->work.used_seq)
        stream->work.used_seq = message->seq;
    stream->work.ledger.sampled += message->n_samples;
    stream->work.n_messages++;
    stream->work.n_samples += message->n_samples;
    stream->work.bytes += store_cost(message);
    return 0;
}

/* Deletes the messages first..last, of which it is known what they come to. */
static int delete_messages(struct run *run, struct db_stream *stream, int64_t first, int64_t last,
                           const struct store_trim *what, struct why *why)
{
    if (what->n_gone == 0)
        return 0;
    struct store_state *work = &stream->work;
    if (what->n_gone > work->n_messages || what->n_samples > work->n_samples ||
        what->n_bytes > work->bytes)
        return why_set(why, EUCLEAN, "%s: there are more messages in a stream than were counted",
                       db_path(run->db));
    work->ledger.ended[what->end] += what->n_samples;
    work->n_messages -= what->n_gone;
    work->n_samples -= what->n_samples;
    work->bytes -= what->n_bytes;
    stream->is_due = true;
    bind_ids(run, DB_DELETE, first, last);
    KILL_POINT("job-delete");
    int r = db_run(run->db, DB_DELETE, why);
    KILL_POINT("job-deleted");
    return r;
}

static int delete_range(struct run *run, const struct store_range *range, struct why *why)
{
    assert(range->stream < run->job->n_streams);
    struct db_stream *stream = run->streams[range->stream];
    int64_t first = db_mirror_message_id(stream, range->first_seq);
    int64_t last = db_mirror_message_id(stream, range->last_seq);
    struct db_sum sum;
    int r = db_mirror_sum(run->mirror, first, last, &sum, why);
    if (r < 0)
        return r;
    const struct store_trim gone = {
        .end = range->end,
        .n_gone = sum.n_messages,
        .n_samples = sum.n_samples,
        .n_bytes = sum.bytes,
    };
    return delete_messages(run, stream, first, last, &gone, why);
}

/* Of a row of DB_COSTS. */
static uint64_t wall_of(const struct db_mirror *mirror, sqlite3_stmt *row)
{
    const struct db_boot *boot = db_mirror_boot(mirror, sqlite3_column_int64(row, 3));
    return store_wall_usec(boot ? boot->begin_wall_usec : 0,
                           (uint64_t)sqlite3_column_int64(row, 4));
}

static int trim_stream(struct run *run, struct store_trim *trim, struct why *why)
{
    assert(trim->stream < run->job->n_streams);
    struct db_stream *stream = run->streams[trim->stream];
    sqlite3_stmt *row = db_statement(run->db, DB_COSTS);
    int64_t first = id_after(stream, trim->after_seq);
    int64_t last = first;
    trim->n_gone = trim->n_samples = trim->n_bytes = 0;
    bind_ids(
        run, DB_COSTS, first,
        db_mirror_message_id(stream, trim->before_seq > 0 ? trim->before_seq - 1 : STORE_SEQ_END));
    int r;
    while ((r = db_step(run->db, DB_COSTS, why)) > 0) {
        if (!store_trim_goes_on(trim, trim->n_gone, trim->n_bytes, wall_of(run->mirror, row)))
            break;
        int64_t id = sqlite3_column_int64(row, 0);
        if (trim->n_gone > 0 && id <= last) {
            r = why_set(why, EUCLEAN, "%s: messages are in no order", db_path(run->db));
            break;
        }
        last = id;
        trim->n_gone++;
        trim->n_samples += (uint64_t)sqlite3_column_int64(row, 1);
        trim->n_bytes += (uint64_t)sqlite3_column_int64(row, 2);
    }
    db_reset(run->db, DB_COSTS);
    return r < 0 ? r : delete_messages(run, stream, first, last, trim, why);
}

int db_job_write_record(struct db *db, const struct store_record *record, struct why *why)
{
    enum db_statement which = record->value ? DB_RECORD_PUT : DB_RECORD_DELETE;
    sqlite3_stmt *statement = db_statement(db, which);
    sqlite3_bind_text(statement, 1, record->space, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, record->key, -1, SQLITE_STATIC);
    if (record->value)
        sqlite3_bind_text(statement, 3, record->value, -1, SQLITE_STATIC);
    return db_run(db, which, why);
}

int db_job_read_message(const struct db_mirror *mirror, sqlite3_stmt *row,
                        struct store_message *ret_message)
{
    int64_t mono_usec = sqlite3_column_int64(row, 2);
    int64_t n_samples = sqlite3_column_int64(row, 3);
    int subject_type = sqlite3_column_type(row, 4);
    if (mono_usec < 0 || n_samples < 0 || n_samples > UINT32_MAX ||
        (subject_type != SQLITE_TEXT && subject_type != SQLITE_NULL) ||
        sqlite3_column_type(row, 5) != SQLITE_BLOB)
        return -EUCLEAN;
    struct store_message message = {
        .seq = (uint64_t)sqlite3_column_int64(row, 0) & (STORE_SEQ_END - 1),
        .moment.mono_usec = (uint64_t)mono_usec,
        .n_samples = (uint32_t)n_samples,
        .subject = (const char *)sqlite3_column_text(row, 4),
        .payload = sqlite3_column_blob(row, 5),
        .payload_size = (size_t)sqlite3_column_bytes(row, 5),
    };
    if ((subject_type == SQLITE_TEXT && !message.subject) ||
        (message.payload_size > 0 && !message.payload))
        return -ENOMEM;
    const struct db_boot *boot = db_mirror_boot(mirror, sqlite3_column_int64(row, 1));
    if (boot) {
        memcpy(message.moment.boot, boot->uuid, STORE_BOOT_SIZE);
        memcpy(message.run, boot->run, STORE_RUN_SIZE);
        message.begin_wall_usec = boot->begin_wall_usec;
    }
    *ret_message = message;
    return 0;
}

/* Appends a copy of a row to what the query gives, which has room for *n_room. */
static int append_message(struct run *run, size_t *n_room, uint64_t *bytes, struct why *why)
{
    struct store_query *query = &run->query;
    struct store_message message;
    int r = db_job_read_message(run->mirror, db_statement(run->db, DB_MESSAGES), &message);
    uint64_t last_seq =
        query->n_messages > 0 ? query->messages[query->n_messages - 1].seq : query->after_seq;
    if (r == -EUCLEAN || (r == 0 && message.seq <= last_seq))
        return why_set(why, EUCLEAN, "%s: a message's row makes no sense", db_path(run->db));
    message.stream = query->stream;
    if (r == 0 && query->n_messages == *n_room) {
        size_t n = *n_room > 0 ? *n_room * 2 : 16;
        struct store_message *larger = reallocarray(query->messages, n, sizeof(*larger));
        r = larger ? 0 : -ENOMEM;
        if (larger) {
            query->messages = larger;
            *n_room = n;
        }
    }
    if (r == 0)
        r = store_copy_message(&message, &query->messages[query->n_messages]);
    if (r < 0)
        return why_set(why, ENOMEM, "out of memory");
    query->n_messages++;
    *bytes += store_cost(&message);
    return 0;
}

static int read_messages(struct run *run, struct why *why)
{
    struct store_query *query = &run->query;
    if (query->max_messages == 0)
        return 0;
    const struct db_stream *stream = run->streams[query->stream];
    size_t n_room = 0;
    uint64_t bytes = 0;
    bind_ids(run, DB_MESSAGES, id_after(stream, query->after_seq),
             db_mirror_message_id(stream, STORE_SEQ_END));
    int r;
    while ((r = db_step(run->db, DB_MESSAGES, why)) > 0) {
        if (query->n_messages == query->max_messages ||
            (query->n_messages > 0 && bytes >= query->max_bytes)) {
            query->at_end = false;
            r = 0;
            break;
        }
        r = append_message(run, &n_room, &bytes, why);
        if (r < 0)
            break;
    }
    db_reset(run->db, DB_MESSAGES);
    // A page that was lost without a trace.
    if (r == 0 && query->at_end && query->after_seq == 0 &&
        query->n_messages != stream->work.n_messages)
        r = why_set(why, EUCLEAN, "%s: there are not so many messages in a stream as were counted",
                    db_path(run->db));
    return r;
}

static int put(struct run *run, const struct store_message *message, struct why *why)
{
    assert(message->stream < run->job->n_streams);
    return db_job_put(run->db, run->mirror, run->streams[message->stream], message, why);
}

static int write_all(struct run *run, struct why *why)
{
    const struct store_job *job = run->job;
    int r = is_new_begin(run) ? db_mirror_set_begin(run->mirror, job->begin_wall_usec, why) : 0;
    if (r == 0)
        r = add_streams(run, why);
    for (size_t i = 0; r == 0 && i < job->n_puts; i++)
        r = put(run, job->puts[i], why);
    for (size_t i = 0; r == 0 && i < job->n_ranges; i++)
        r = delete_range(run, &job->ranges[i], why);
    for (size_t i = 0; r == 0 && i < job->n_trims; i++)
        r = trim_stream(run, &run->trims[i], why);
    KILL_POINT("job-counters");
    for (size_t i = 0; r == 0 && i < job->n_records; i++)
        r = db_job_write_record(run->db, &job->records[i], why);
    for (size_t i = 0; r == 0 && i < job->n_streams; i++)
        r = db_mirror_write(run->mirror, run->streams[i], why);
    return r < 0 ? r : db_mirror_prune(run->mirror, why);
}

static int transact(struct run *run, struct why *why)
{
    KILL_POINT("job-begin");
    int r = db_begin(run->db, run->job->n_puts == 0, run->job->sync, why);
    if (r < 0)
        return r;
    KILL_POINT("job-begun");
    r = write_all(run, why);
    if (r == 0)
        r = read_messages(run, why);
    KILL_POINT("job-commit");
    if (r == 0)
        r = db_commit(run->db, why);
    KILL_POINT("job-committed");
    if (r < 0)
        db_rollback(run->db);
    return r;
}

static void hand_over(struct run *run)
{
    struct store_job *job = run->job;
    for (size_t i = 0; i < job->n_streams; i++)
        job->streams[i].state = run->streams[i]->state;
    for (size_t i = 0; i < job->n_trims; i++)
        job->trims[i] = run->trims[i];
    job->query = run->query;
    run->query.messages = NULL;
    run->query.n_messages = 0;
}

int db_job_run(struct db *db, struct db_mirror *mirror, struct store_job *job, struct why *why)
{
    struct run run;
    int r = run_init(&run, db, mirror, job, why);
    bool has_to_write = r == 0 && writes(&run);
    if (r == 0)
        r = has_to_write ? transact(&run, why) : read_messages(&run, why);
    for (size_t i = 0; r == 0 && !has_to_write && i < job->n_streams; i++)
        run.streams[i]->work.used_seq = used_seq(&run, i); // for the row's next time
    if (r == 0) {
        db_mirror_settle(mirror);
        hand_over(&run);
        job->is_synced = job->sync && db_sync(db, why) == 0;
    } else {
        db_mirror_undo(mirror);
    }
    run_done(&run);
    return r;
}
