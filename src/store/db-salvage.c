// SPDX-License-Identifier: LGPL-2.1-or-later
// Copies what can be read of a damaged queue.db into a new one; see db-salvage.h. What it reads may
// be anything: each row is checked, and what cannot be read costs only itself.
#include "store/db-salvage.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/db-job.h"
#include "store/db-mirror.h"
#include "store/store-internal.h"
#include "util/killpoint.h"

enum {
    MAX_GAPS = 4096,          // of a table: how often its inner part is read
    COPIES_PER_COMMIT = 1000, // so that the new file's log stays small
    MAX_LOG_PAGES = 1024,
    MAX_PAYLOAD = 1024 * 1024,
    MIN_ROW_SIZE = 8, // on disk: the file has no more rows than fit
    // Of a stream whose row is lost, numbers up to so many above the last one may have been used.
    LOST_SEQS = 1 << 20,
};
#define LAST_ID ((INT64_C(1) << 62) - 1)

/* Ids among which there may be rows that were not read yet. */
struct gap {
    int64_t first, last;
};

struct salvage {
    sqlite3 *from;
    struct db *to;
    struct why *why;
    uint64_t max_rows;
    uint64_t n_lost;
    unsigned n_uncommitted;
    struct db_stream *stream;  // of the message before
    struct gap gaps[MAX_GAPS]; // first in, first out: the largest come first
    size_t n_gaps;
};

/* Copies one row. 0, also for a row that makes no sense, or -errno of the new file. */
typedef int copy_row(struct salvage *salvage, sqlite3_stmt *row);

static int commit(struct salvage *salvage)
{
    salvage->n_uncommitted = 0;
    int r = db_commit(salvage->to, salvage->why);
    return r < 0 ? r : db_checkpoint(salvage->to, MAX_LOG_PAGES, salvage->why);
}

static int after_copy(struct salvage *salvage)
{
    KILL_POINT("salvage-copy");
    if (++salvage->n_uncommitted < COPIES_PER_COMMIT)
        return 0;
    int r = commit(salvage);
    return r < 0 ? r : db_begin(salvage->to, true, false, salvage->why);
}

static int copy_stream(struct salvage *salvage, sqlite3_stmt *row)
{
    struct db_stream_row read;
    struct db_stream *stream;
    if (db_mirror_read_stream(row, &read) < 0 || db_mirror_find(salvage->to, read.name))
        return 0;
    int r = db_mirror_add(salvage->to, read.name, read.id, &stream, salvage->why);
    if (r < 0)
        return r;
    // As the damaged file had it; work counts what is copied.
    stream->state = read.state;
    stream->counted_seq = read.counted_seq;
    return 0;
}

static int copy_name(struct salvage *salvage, sqlite3_stmt *row)
{
    int64_t id;
    const char *name;
    struct db_stream *stream;
    if (db_mirror_read_name(row, &id, &name) < 0 || db_mirror_find(salvage->to, name) ||
        db_mirror_by_id(salvage->to, id))
        return 0;
    return db_mirror_add(salvage->to, name, id, &stream, salvage->why);
}

static int copy_boot(struct salvage *salvage, sqlite3_stmt *row)
{
    struct db_boot boot;
    if (db_mirror_read_boot(row, &boot) < 0)
        return 0;
    return db_mirror_restore_boot(salvage->to, &boot, salvage->why);
}

static struct db_stream *stream_of(struct salvage *salvage, int64_t message_id)
{
    int64_t id = message_id >> DB_SEQ_BITS;
    if (!salvage->stream || salvage->stream->id != id)
        salvage->stream = db_mirror_by_id(salvage->to, id);
    return salvage->stream;
}

static int copy_message(struct salvage *salvage, sqlite3_stmt *row)
{
    struct store_message message;
    int r = db_job_read_message(salvage->to, row, &message);
    if (r == -ENOMEM)
        return why_set(salvage->why, ENOMEM, "out of memory");
    if (r < 0 || message.seq == 0 || message.payload_size > MAX_PAYLOAD)
        return 0;
    struct db_stream *stream = stream_of(salvage, sqlite3_column_int64(row, 0));
    if (!stream) {
        salvage->n_lost++;
        return 0;
    }
    if (message.seq >= stream->work.reserved_seq)
        stream->work.reserved_seq = message.seq + 1;
    r = db_job_put(salvage->to, stream, &message, salvage->why);
    return r < 0 ? r : after_copy(salvage);
}

static int copy_record(struct salvage *salvage, sqlite3_stmt *row)
{
    const struct store_record record = {
        .space = (const char *)sqlite3_column_text(row, 0),
        .key = (const char *)sqlite3_column_text(row, 1),
        .value = (const char *)sqlite3_column_text(row, 2),
    };
    if (!record.space || !record.key || !record.value)
        return 0;
    int r = db_job_write_record(salvage->to, &record, salvage->why);
    return r < 0 ? r : after_copy(salvage);
}

/*
 * Reads the rows of a gap until its end (1) or until it cannot read on (0), and narrows the gap to
 * what was not read. A page that was written to a wrong place holds rows out of order, and those
 * behind it are none the worse; but a tree that was tied to itself must not be read for ever.
 */
static int scan_gap(struct salvage *salvage, sqlite3_stmt *row, bool is_down, copy_row *copy,
                    struct gap *gap)
{
    const struct gap bounds = *gap;
    sqlite3_bind_int64(row, 1, bounds.first);
    sqlite3_bind_int64(row, 2, bounds.last);
    int r = 0;
    int code = SQLITE_ROW;
    for (uint64_t n = 0; r == 0 && n < salvage->max_rows; n++) {
        code = sqlite3_step(row);
        if (code != SQLITE_ROW)
            break;
        int64_t id = sqlite3_column_int64(row, 0);
        if (id < bounds.first || id > bounds.last)
            continue;
        if (is_down)
            gap->last = id - 1;
        else
            gap->first = id + 1;
        r = copy(salvage, row);
    }
    sqlite3_reset(row);
    return r < 0 ? r : code == SQLITE_DONE;
}

static void add_gap(struct salvage *salvage, int64_t first, int64_t last)
{
    if (first <= last && salvage->n_gaps < MAX_GAPS)
        salvage->gaps[salvage->n_gaps++] = (struct gap){ first, last };
}

/*
 * Reads a table from both ends; what is left in the middle begins and ends with something damaged,
 * and is read in halves, and so on.
 */
static int scan_table(struct salvage *salvage, sqlite3_stmt *up, sqlite3_stmt *down, copy_row *copy)
{
    salvage->n_gaps = 0;
    add_gap(salvage, 1, LAST_ID);
    for (size_t i = 0; i < salvage->n_gaps; i++) {
        struct gap gap = salvage->gaps[i];
        int r = scan_gap(salvage, up, false, copy, &gap);
        if (r == 0)
            r = scan_gap(salvage, down, true, copy, &gap);
        if (r < 0)
            return r;
        if (r > 0 || gap.first >= gap.last)
            continue;
        int64_t middle = gap.first + (gap.last - gap.first) / 2;
        add_gap(salvage, gap.first, middle);
        add_gap(salvage, middle + 1, gap.last);
    }
    return 0;
}

/* Reads what is in no order of numbers from both ends. */
static int scan_list(struct salvage *salvage, sqlite3_stmt *up, sqlite3_stmt *down, copy_row *copy)
{
    sqlite3_stmt *rows[] = { up, down };
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        int code = SQLITE_DONE;
        for (uint64_t n = 0; n < salvage->max_rows; n++) {
            code = sqlite3_step(rows[i]);
            if (code != SQLITE_ROW)
                break;
            int r = copy(salvage, rows[i]);
            if (r < 0)
                return r;
        }
        if (code == SQLITE_DONE)
            break;
    }
    return 0;
}

typedef int scan_function(struct salvage *salvage, sqlite3_stmt *up, sqlite3_stmt *down,
                          copy_row *copy);

static int scan(struct salvage *salvage, scan_function *how, const struct db_schema_scan *sql,
                copy_row *copy)
{
    sqlite3_stmt *up = NULL;
    sqlite3_stmt *down = NULL;
    int r = 0;
    // A table that is not there, or whose definition is lost, has nothing to copy.
    if (sqlite3_prepare_v2(salvage->from, sql->up, -1, &up, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(salvage->from, sql->down, -1, &down, NULL) == SQLITE_OK)
        r = how(salvage, up, down, copy);
    sqlite3_finalize(up);
    sqlite3_finalize(down);
    return r;
}

/* Makes a stream's counts those of what was copied; what is missing was dropped. */
static int balance(struct salvage *salvage, struct db_stream *stream)
{
    struct store_state *work = &stream->work;
    struct store_state *old = &stream->state;
    struct db_sum rest; // what the old row did not count
    int r = db_mirror_sum_rest(salvage->to, stream, &rest, salvage->why);
    if (r < 0)
        return r;
    if (old->reserved_seq == 0) // its row is lost
        work->reserved_seq += LOST_SEQS;
    else if (work->reserved_seq < old->reserved_seq)
        work->reserved_seq = old->reserved_seq;
    old->n_messages += rest.n_messages;
    if (old->n_messages > work->n_messages && old->n_messages <= salvage->max_rows)
        salvage->n_lost += old->n_messages - work->n_messages;
    work->ledger = old->ledger;
    work->ledger.sampled += rest.n_samples;
    uint64_t waiting = ledger_waiting(&work->ledger);
    if (waiting > INT64_MAX || waiting < work->n_samples)
        work->ledger.sampled += work->n_samples - waiting;
    else
        work->ledger.ended[LEDGER_DROPPED] += waiting - work->n_samples;
    stream->is_due = true;
    return 0;
}

static int copy_all(struct salvage *salvage)
{
    int r = db_begin(salvage->to, true, false, salvage->why);
    if (r == 0)
        r = scan(salvage, scan_table, &db_schema_scan_streams, copy_stream);
    if (r == 0)
        r = scan(salvage, scan_list, &db_schema_scan_names, copy_name);
    if (r == 0)
        r = scan(salvage, scan_table, &db_schema_scan_boots, copy_boot);
    if (r == 0)
        r = scan(salvage, scan_table, &db_schema_scan_messages, copy_message);
    if (r == 0)
        r = scan(salvage, scan_list, &db_schema_scan_records, copy_record);
    for (size_t i = 0; r == 0 && i < salvage->to->n_streams; i++) {
        struct db_stream *stream = salvage->to->streams[i];
        r = balance(salvage, stream);
        if (r == 0)
            r = db_mirror_write(salvage->to, stream, salvage->why);
    }
    return r < 0 ? r : commit(salvage);
}

static int make_new(const struct db_options *options, const char *new_path, uint64_t *ret_n_lost,
                    struct why *why)
{
    _cleanup_(freep) struct salvage *salvage = calloc(1, sizeof(*salvage));
    if (!salvage)
        return why_set(why, ENOMEM, "out of memory");
    salvage->why = why;
    struct stat status;
    if (stat(options->path, &status) == 0)
        salvage->max_rows = (uint64_t)status.st_size / MIN_ROW_SIZE;
    struct db_options new_options = *options;
    new_options.path = new_path;
    int r = db_open(&new_options, &salvage->to, why);
    if (r < 0)
        return r;
    if (db_open_damaged(options->path, options->vfs, &salvage->from, why) == 0)
        r = copy_all(salvage);
    sqlite3_close(salvage->from);
    if (r == 0)
        r = db_checkpoint(salvage->to, 0, why);
    db_close(salvage->to);
    if (r == 0)
        *ret_n_lost = salvage->n_lost;
    return r;
}

static bool set_path(char path[static PATH_MAX], const struct db_options *options,
                     const char *suffix)
{
    int length = snprintf(path, PATH_MAX, "%s%s", options->path, suffix);
    return length > 0 && length < PATH_MAX;
}

static int move(const struct db_options *options, const char *from_suffix, const char *to_suffix,
                struct why *why)
{
    char from[PATH_MAX];
    char to[PATH_MAX];
    if (!set_path(from, options, from_suffix) || !set_path(to, options, to_suffix))
        return why_set(why, ENAMETOOLONG, "%s: %s", options->path, strerror(ENAMETOOLONG));
    if (rename(from, to) == 0)
        return 0;
    if (errno != ENOENT)
        return why_set(why, errno, "cannot rename %s: %s", from, strerror(errno));
    unlink(to); // an older one does not belong to what is here now
    return -ENOENT;
}

static void remove_new(const struct db_options *options)
{
    static const char *const suffixes[] = { ".new", ".new-wal", ".new-journal" };
    char path[PATH_MAX];
    for (size_t i = 0; i < ELEMENTS(suffixes); i++)
        if (set_path(path, options, suffixes[i]))
            unlink(path);
}

static void sync_directory(const struct db_options *options)
{
    char path[PATH_MAX];
    if (!set_path(path, options, ""))
        return;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)fsync(fd);
}

int db_salvage_finish(const struct db_options *options, struct why *why)
{
    char new_path[PATH_MAX];
    if (access(options->path, F_OK) == 0 || !set_path(new_path, options, ".new") ||
        access(new_path, F_OK) < 0)
        return 0;
    int r = move(options, "-wal", ".damaged-wal", why);
    KILL_POINT("salvage-log-moved");
    if (r == 0 || r == -ENOENT)
        r = move(options, ".new", "", why);
    KILL_POINT("salvage-moved");
    if (r == 0)
        sync_directory(options);
    return r;
}

int db_salvage(const struct db_options *options, uint64_t *ret_n_lost, struct why *why)
{
    char new_path[PATH_MAX];
    if (!set_path(new_path, options, ".new"))
        return why_set(why, ENAMETOOLONG, "%s: %s", options->path, strerror(ENAMETOOLONG));
    remove_new(options);
    uint64_t n_lost = 0;
    KILL_POINT("salvage");
    int r = make_new(options, new_path, &n_lost, why);
    KILL_POINT("salvage-copied");
    if (r == 0)
        r = move(options, "", ".damaged", why);
    KILL_POINT("salvage-set-aside");
    if (r == 0)
        r = db_salvage_finish(options, why);
    if (r < 0) {
        remove_new(options);
        return r;
    }
    *ret_n_lost = n_lost;
    return 0;
}
