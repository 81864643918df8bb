// SPDX-License-Identifier: LGPL-2.1-or-later
// Copies what can be read of a queue.db into a new one; see db-salvage.h. What it reads may be
// anything: each row is checked, and what cannot be read costs only itself.
#include "store/db-salvage.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/db-job.h"
#include "store/db-mirror.h"
#include "store/db-run.h"
#include "store/store-message.h"
#include "util/killpoint.h"

enum {
    MAX_GAPS = 4096,          // of a table: how often its inner part is read
    COPIES_PER_COMMIT = 1000, // so that the new file's log stays small
    MAX_LOG_PAGES = 1024,
    MAX_PAYLOAD = 1024 * 1024,
    MIN_ROW_SIZE = 8, // on disk: the file has no more rows than fit
};
#define LAST_ID     ((INT64_C(1) << 62) - 1)
#define DB_SEQ_MASK ((INT64_C(1) << DB_SEQ_BITS) - 1)

/* Ids among which there may be rows that were not read yet. */
struct gap {
    int64_t first, last;
};

struct salvage {
    sqlite3 *from;
    struct db *to;
    struct db_mirror *mirror; // of to
    struct why *why;
    uint64_t max_rows;
    uint64_t n_lost;
    bool is_unsure; // there may have been streams that nothing tells of
    unsigned n_uncommitted;
    struct db_stream *stream;  // of the message before
    struct gap gaps[MAX_GAPS]; // first in, first out: the largest come first
    size_t n_gaps;
    uint8_t begin[FIRST_PAGE_BEGIN * DB_PAGE_SIZE]; // of to
    struct first_page first_page;                   // shown in from
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
    if (db_mirror_read_stream(row, &read) < 0 || db_mirror_find(salvage->mirror, read.name) ||
        db_mirror_by_id(salvage->mirror, read.id))
        return 0;
    int r = db_mirror_add(salvage->mirror, read.name, read.id, &stream, salvage->why);
    if (r < 0)
        return r;
    // As the damaged file had it; work counts what is copied.
    stream->state = read.state;
    stream->counted_seq = read.counted_seq;
    return 0;
}

/* What was known of the file while it was open is better than what it says now. */
static int take_known(struct salvage *salvage, const struct db_mirror *known)
{
    int r = 0;
    const struct db_stream *old;
    for (size_t i = 0; r == 0 && (old = db_mirror_stream(known, i)); i++) {
        struct db_stream *stream;
        r = db_mirror_add(salvage->mirror, old->name, old->id, &stream, salvage->why);
        if (r < 0)
            break;
        stream->state = old->state;
        stream->counted_seq = STORE_SEQ_END - 1;
    }
    const struct db_boot *boot;
    for (size_t i = 0; r == 0 && (boot = db_mirror_boot_at(known, i)); i++)
        r = db_mirror_restore_boot(salvage->mirror, boot, salvage->why);
    return r;
}

static int copy_name(struct salvage *salvage, sqlite3_stmt *row)
{
    int64_t id;
    const char *name;
    struct db_stream *stream;
    if (db_mirror_read_name(row, &id, &name) < 0 || db_mirror_find(salvage->mirror, name) ||
        db_mirror_by_id(salvage->mirror, id))
        return 0;
    return db_mirror_add(salvage->mirror, name, id, &stream, salvage->why);
}

static int copy_boot(struct salvage *salvage, sqlite3_stmt *row)
{
    struct db_boot boot;
    if (db_mirror_read_boot(row, &boot) < 0)
        return 0;
    return db_mirror_restore_boot(salvage->mirror, &boot, salvage->why);
}

static struct db_stream *stream_of(struct salvage *salvage, int64_t message_id)
{
    int64_t id = message_id >> DB_SEQ_BITS;
    if (!salvage->stream || salvage->stream->id != id)
        salvage->stream = db_mirror_by_id(salvage->mirror, id);
    return salvage->stream;
}

static int copy_message(struct salvage *salvage, sqlite3_stmt *row)
{
    struct store_message message;
    int r = db_job_read_message(salvage->mirror, row, &message);
    if (r == -ENOMEM)
        return why_set(salvage->why, ENOMEM, "out of memory");
    if (r < 0 || message.seq == 0 || message.payload_size > MAX_PAYLOAD)
        return 0;
    struct db_stream *stream = stream_of(salvage, sqlite3_column_int64(row, 0));
    if (!stream) {
        salvage->n_lost++;
        return 0;
    }
    r = db_job_put(salvage->to, salvage->mirror, stream, &message, salvage->why);
    return r < 0 ? r : after_copy(salvage);
}

static int copy_record(struct salvage *salvage, sqlite3_stmt *row)
{
    const struct store_record record = {
        .space = (const char *)sqlite3_column_text(row, 0),
        .key = (const char *)sqlite3_column_text(row, 1),
        .value = (const char *)sqlite3_column_text(row, 2),
    };
    if (!record.space || !record.key || !record.value || db_run_is_mark(&record))
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

/* Whether there may have been messages in a gap that no stream's row counts. */
static bool is_uncounted(struct salvage *salvage, const struct gap *gap)
{
    const struct db_stream *first = stream_of(salvage, gap->first);
    const struct db_stream *last = stream_of(salvage, gap->last);
    return !last || first != last || (gap->last & DB_SEQ_MASK) > (int64_t)last->counted_seq;
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
        if (r == 0)
            salvage->is_unsure |=
                copy == copy_stream || (copy == copy_message && is_uncounted(salvage, &gap));
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
    if (sqlite3_prepare_v2(salvage->from, sql->up, -1, &up, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(salvage->from, sql->down, -1, &down, NULL) == SQLITE_OK)
        r = how(salvage, up, down, copy);
    else
        salvage->is_unsure |= copy == copy_stream;
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
    int r = db_mirror_sum_rest(salvage->mirror, stream, &rest, salvage->why);
    if (r < 0)
        return r;
    salvage->is_unsure |= old->used_seq == 0; // its row is lost
    if (work->used_seq < old->used_seq)
        work->used_seq = old->used_seq;
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

static int copy_all(struct salvage *salvage, const struct db_mirror *known)
{
    int r = db_begin(salvage->to, true, false, salvage->why);
    if (r == 0 && known)
        r = take_known(salvage, known);
    if (r == 0)
        r = scan(salvage, scan_table, &db_schema_scan_streams, copy_stream);
    if (r == 0)
        r = scan(salvage, scan_list, &db_schema_scan_names, copy_name);
    if (r == 0)
        r = scan(salvage, scan_table, &db_schema_scan_boots, copy_boot);
    if (r == 0)
        r = scan(salvage, scan_table, &db_schema_scan_old_boots, copy_boot);
    if (r == 0)
        r = scan(salvage, scan_table, &db_schema_scan_messages, copy_message);
    if (r == 0)
        r = scan(salvage, scan_list, &db_schema_scan_records, copy_record);
    struct db_stream *stream;
    for (size_t i = 0; r == 0 && (stream = db_mirror_stream(salvage->mirror, i)); i++) {
        r = balance(salvage, stream);
        if (r == 0)
            r = db_mirror_write(salvage->mirror, stream, salvage->why);
    }
    return r < 0 ? r : commit(salvage);
}

static bool set_path(char path[static PATH_MAX], const struct db_options *options,
                     const char *suffix)
{
    int length = snprintf(path, PATH_MAX, "%s%s", options->path, suffix);
    return length > 0 && length < PATH_MAX;
}

static uint64_t size_of(const struct db_options *options, const char *suffix)
{
    char path[PATH_MAX];
    struct stat status;
    return set_path(path, options, suffix) && stat(path, &status) == 0 ? (uint64_t)status.st_size
                                                                       : 0;
}

/* Whether it says where all its tables are. */
static bool has_tables(sqlite3 *handle)
{
    const char *const needs[] = { db_schema_scan_streams.up, db_schema_scan_old_boots.up,
                                  db_schema_scan_messages.up, db_schema_scan_records.up };
    bool is_whole = true;
    for (size_t i = 0; is_whole && i < ELEMENTS(needs); i++) {
        sqlite3_stmt *statement = NULL;
        is_whole = sqlite3_prepare_v2(handle, needs[i], -1, &statement, NULL) == SQLITE_OK;
        sqlite3_finalize(statement);
    }
    return is_whole;
}

/* A file whose first page does not tell what is in it is read with that of the new one. */
static void open_damaged(struct salvage *salvage, const struct db_options *options)
{
    uint8_t *begin = salvage->begin;
    struct first_page *first_page = &salvage->first_page;
    if (db_read_begin(salvage->to, begin, sizeof(salvage->begin)) < 0)
        return;
    if (first_page_is_like(begin, options->path)) {
        first_page_init(first_page, begin, options->path, true);
        int r = db_open_damaged(options->path, options->vfs, first_page, &salvage->from);
        if (r == 0 && has_tables(salvage->from))
            return;
        sqlite3_close(TAKE_PTR(salvage->from));
    }
    first_page_init(first_page, begin, options->path, false);
    (void)db_open_damaged(options->path, options->vfs, first_page, &salvage->from);
}

static int make_new(const struct db_options *new_options, const struct db_salvage_source *source,
                    struct salvage *salvage)
{
    static const uint8_t none[STORE_BOOT_SIZE];
    int r = db_open(new_options, &salvage->to, salvage->why);
    if (r == 0)
        r = db_mirror_new(salvage->to, none, none, &salvage->mirror, salvage->why);
    if (r == 0)
        r = db_checkpoint(salvage->to, 0, salvage->why);
    if (r < 0)
        return r;
    const struct db_options *options = &source->options;
    salvage->max_rows = (size_of(options, "") + size_of(options, "-wal")) / MIN_ROW_SIZE;
    if (source->db) {
        salvage->from = db_handle(source->db);
        salvage->max_rows = UINT64_MAX;
    } else {
        open_damaged(salvage, options);
    }
    r = copy_all(salvage, source->known);
    if (!source->db)
        sqlite3_close(salvage->from);
    return r < 0 ? r : db_checkpoint(salvage->to, 0, salvage->why);
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
        return why_set(why, errno, "cannot rename %s to %s: %s", from, to, strerror(errno));
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
    if (r < 0)
        return r;
    sync_directory(options);
    return 1;
}

static int put_in_place(const struct db_options *options, bool *ret_is_kept, struct why *why)
{
    int r = move(options, "", ".damaged", why);
    *ret_is_kept = r == 0;
    KILL_POINT("salvage-set-aside");
    if (r == 0 || r == -ENOENT)
        r = db_salvage_finish(options, why);
    return r < 0 ? r : 0;
}

int db_salvage(const struct db_salvage_source *source, struct db_salvage_result *ret_result,
               struct why *why)
{
    char new_path[PATH_MAX];
    bool is_kept = false;
    _cleanup_(freep) struct salvage *salvage = calloc(1, sizeof(*salvage));
    if (!salvage)
        return why_set(why, ENOMEM, "out of memory");
    if (!set_path(new_path, &source->options, ".new"))
        return why_set(why, ENAMETOOLONG, "%s: %s", source->options.path, strerror(ENAMETOOLONG));
    struct db_options new_options = source->options;
    new_options.path = new_path;
    salvage->why = why;
    remove_new(&source->options);
    KILL_POINT("salvage");
    int r = make_new(&new_options, source, salvage);
    db_mirror_free(salvage->mirror);
    db_close(salvage->to);
    KILL_POINT("salvage-copied");
    if (r == 0)
        r = put_in_place(&source->options, &is_kept, why);
    if (r < 0) {
        remove_new(&source->options);
        return r;
    }
    *ret_result = (struct db_salvage_result){ .n_lost = salvage->n_lost,
                                              .is_sure = source->known || !salvage->is_unsure,
                                              .is_kept = is_kept };
    return 0;
}
