// SPDX-License-Identifier: LGPL-2.1-or-later
// The rows of streams and boots in memory, exact after each job, done or failed; see db-mirror.h.
#include "store/db-mirror.h"

#include <assert.h>
#include <string.h>

struct db_mirror {
    struct db *db;
    struct db_stream **streams; // by name
    size_t n_streams;
    struct db_boot *boots; // this one first; its id is 0 while it has no row
    size_t n_boots;
    struct db_boot *boots_before; // a copy from before the job under way; NULL: nothing changed
    size_t n_boots_before;
};

/* Where a stream of that name is, or would be. */
static size_t position(const struct db_mirror *mirror, const char *name)
{
    size_t low = 0;
    for (size_t high = mirror->n_streams; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(mirror->streams[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct db_stream *db_mirror_find(const struct db_mirror *mirror, const char *name)
{
    size_t i = position(mirror, name);
    bool is_there = i < mirror->n_streams && strcmp(mirror->streams[i]->name, name) == 0;
    return is_there ? mirror->streams[i] : NULL;
}

struct db_stream *db_mirror_by_id(const struct db_mirror *mirror, int64_t id)
{
    for (size_t i = 0; i < mirror->n_streams; i++)
        if (mirror->streams[i]->id == id)
            return mirror->streams[i];
    return NULL;
}

/* NULL, with why, without memory. */
static struct db_stream *insert(struct db_mirror *mirror, const char *name, struct why *why)
{
    struct db_stream **larger = mirror->streams;
    if ((mirror->n_streams & (mirror->n_streams - 1)) == 0) // full at each power of two
        larger = reallocarray(mirror->streams, mirror->n_streams ? mirror->n_streams * 2 : 1,
                              sizeof(struct db_stream *));
    struct db_stream *stream = larger ? calloc(1, sizeof(*stream)) : NULL;
    if (larger)
        mirror->streams = larger;
    if (!stream) {
        why_set(why, ENOMEM, "out of memory");
        return NULL;
    }
    memcpy(stream->name, name, strlen(name) + 1);
    size_t i = position(mirror, name);
    memmove(larger + i + 1, larger + i, (mirror->n_streams - i) * sizeof(struct db_stream *));
    larger[i] = stream;
    mirror->n_streams++;
    return stream;
}

static void remove_at(struct db_mirror *mirror, size_t i)
{
    free(mirror->streams[i]);
    mirror->n_streams--;
    memmove(mirror->streams + i, mirror->streams + i + 1,
            (mirror->n_streams - i) * sizeof(struct db_stream *));
}

/* The columns of a stream's row from the third on, in the order of DB_STREAMS; then counted_seq. */
enum { FIRST_COUNT = 2, N_COUNTS = 11, COUNTED_SEQ = FIRST_COUNT + N_COUNTS };
// So many messages of a stream, beside those of one job, are counted when the file is opened.
// Should it be damaged then, those of them that cannot be read are not known to have been there.
enum { MAX_UNCOUNTED = 500 };
#define MAX_COUNT (INT64_C(1) << 56) // so that no sum of them overflows
static void list_counts(struct store_state *state, uint64_t *counts[static N_COUNTS])
{
    uint64_t *ended = state->ledger.ended;
    uint64_t *all[N_COUNTS] = {
        &state->used_seq,        &state->ledger.sampled, &ended[LEDGER_FILTERED],
        &ended[LEDGER_MERGED],   &ended[LEDGER_EXPIRED], &ended[LEDGER_DROPPED],
        &ended[LEDGER_REJECTED], &ended[LEDGER_ACKED],   &state->n_messages,
        &state->n_samples,       &state->bytes,
    };
    memcpy(counts, all, sizeof(all));
}

int db_mirror_read_name(sqlite3_stmt *row, int64_t *ret_id, const char **ret_name)
{
    int64_t id = sqlite3_column_int64(row, 0);
    const char *name = (const char *)sqlite3_column_text(row, 1);
    if (id < 1 || id >= DB_MAX_STREAMS || !name || name[0] == '\0' ||
        strlen(name) > STORE_MAX_NAME || strlen(name) != (size_t)sqlite3_column_bytes(row, 1))
        return -EUCLEAN;
    *ret_id = id;
    *ret_name = name;
    return 0;
}

int db_mirror_read_stream(sqlite3_stmt *row, struct db_stream_row *ret_row)
{
    struct db_stream_row read;
    uint64_t *counts[N_COUNTS];
    list_counts(&read.state, counts);
    for (int i = 0; i < N_COUNTS; i++) {
        int64_t value = sqlite3_column_int64(row, FIRST_COUNT + i);
        if (value < 0 || value > MAX_COUNT)
            return -EUCLEAN;
        *counts[i] = (uint64_t)value;
    }
    read.state.used_seq -= read.state.used_seq > 0; // the row has the number behind it
    read.counted_seq = (uint64_t)sqlite3_column_int64(row, COUNTED_SEQ);
    int r = read.counted_seq < STORE_SEQ_END ? db_mirror_read_name(row, &read.id, &read.name)
                                             : -EUCLEAN;
    if (r == 0)
        *ret_row = read;
    return r;
}

int64_t db_mirror_message_id(const struct db_stream *stream, uint64_t seq)
{
    if (seq >= STORE_SEQ_END)
        seq = STORE_SEQ_END - 1;
    return (int64_t)((uint64_t)stream->id << DB_SEQ_BITS | seq);
}

int db_mirror_sum(struct db_mirror *mirror, int64_t first_id, int64_t last_id,
                  struct db_sum *ret_sum, struct why *why)
{
    sqlite3_stmt *sum = db_statement(mirror->db, DB_SUM);
    sqlite3_bind_int64(sum, 1, first_id);
    sqlite3_bind_int64(sum, 2, last_id);
    int r = db_step(mirror->db, DB_SUM, why);
    if (r < 0)
        return r;
    *ret_sum = (struct db_sum){
        .n_messages = (uint64_t)sqlite3_column_int64(sum, 0),
        .n_samples = (uint64_t)sqlite3_column_int64(sum, 1),
        .bytes = (uint64_t)sqlite3_column_int64(sum, 2),
        .last_seq = (uint64_t)sqlite3_column_int64(sum, 3) & (STORE_SEQ_END - 1),
    };
    db_reset(mirror->db, DB_SUM);
    return 0;
}

int db_mirror_sum_rest(struct db_mirror *mirror, const struct db_stream *stream,
                       struct db_sum *ret_sum, struct why *why)
{
    return db_mirror_sum(mirror, db_mirror_message_id(stream, stream->counted_seq) + 1,
                         db_mirror_message_id(stream, STORE_SEQ_END), ret_sum, why);
}

static int count_rest(struct db_mirror *mirror, struct db_stream *stream, struct why *why)
{
    struct db_sum rest;
    int r = db_mirror_sum_rest(mirror, stream, &rest, why);
    if (r < 0)
        return r;
    stream->last_seq = rest.n_messages > 0 ? rest.last_seq : stream->counted_seq;
    if (stream->state.used_seq < stream->last_seq)
        stream->state.used_seq = stream->last_seq;
    stream->state.ledger.sampled += rest.n_samples;
    stream->state.n_messages += rest.n_messages;
    stream->state.n_samples += rest.n_samples;
    stream->state.bytes += rest.bytes;
    stream->work = stream->state;
    return 0;
}

static int load_streams(struct db_mirror *mirror, struct why *why)
{
    int r;
    while ((r = db_step(mirror->db, DB_STREAMS, why)) > 0) {
        struct db_stream_row row;
        r = db_mirror_read_stream(db_statement(mirror->db, DB_STREAMS), &row);
        if (r < 0 || db_mirror_find(mirror, row.name)) {
            r = why_set(why, EUCLEAN, "%s: a stream's row makes no sense", db_path(mirror->db));
            break;
        }
        struct db_stream *stream = insert(mirror, row.name, why);
        if (!stream) {
            r = -ENOMEM;
            break;
        }
        stream->id = row.id;
        stream->state = row.state;
        stream->work = row.state;
        stream->counted_seq = row.counted_seq;
        stream->row_used_seq = row.state.used_seq;
        stream->n_counted = row.state.n_messages;
    }
    db_reset(mirror->db, DB_STREAMS);
    for (size_t i = 0; r == 0 && i < mirror->n_streams; i++)
        r = count_rest(mirror, mirror->streams[i], why);
    return r;
}

static int append_boot(struct db_mirror *mirror, const struct db_boot *boot, struct why *why)
{
    struct db_boot *larger = reallocarray(mirror->boots, mirror->n_boots + 1, sizeof(*larger));
    if (!larger)
        return why_set(why, ENOMEM, "out of memory");
    mirror->boots = larger;
    mirror->boots[mirror->n_boots++] = *boot;
    return 0;
}

int db_mirror_read_boot(sqlite3_stmt *row, struct db_boot *ret_boot)
{
    const void *run = sqlite3_column_blob(row, 1);
    int64_t begin_wall_usec = sqlite3_column_int64(row, 2);
    bool has_kernel = sqlite3_column_type(row, 3) != SQLITE_NULL; // or there is no such column
    const void *uuid = has_kernel ? sqlite3_column_blob(row, 3) : run;
    if (!run || sqlite3_column_bytes(row, 1) != STORE_RUN_SIZE || !uuid ||
        sqlite3_column_bytes(row, has_kernel ? 3 : 1) != STORE_BOOT_SIZE || begin_wall_usec < 0)
        return -EUCLEAN;
    ret_boot->id = sqlite3_column_int64(row, 0);
    memcpy(ret_boot->run, run, STORE_RUN_SIZE);
    memcpy(ret_boot->uuid, uuid, STORE_BOOT_SIZE);
    ret_boot->begin_wall_usec = (uint64_t)begin_wall_usec;
    return 0;
}

static bool is_same_boot(const struct db_boot *a, const struct db_boot *b)
{
    return memcmp(a->uuid, b->uuid, STORE_BOOT_SIZE) == 0;
}

static int load_boots(struct db_mirror *mirror, struct why *why)
{
    int r;
    while ((r = db_step(mirror->db, DB_BOOTS, why)) > 0) {
        struct db_boot boot;
        r = db_mirror_read_boot(db_statement(mirror->db, DB_BOOTS), &boot);
        if (r < 0) {
            r = why_set(why, EUCLEAN, "%s: a boot's row makes no sense", db_path(mirror->db));
            break;
        }
        if (is_same_boot(&boot, &mirror->boots[0]))
            mirror->boots[0].begin_wall_usec = boot.begin_wall_usec;
        if (memcmp(boot.run, mirror->boots[0].run, STORE_RUN_SIZE) == 0)
            mirror->boots[0] = boot;
        else if ((r = append_boot(mirror, &boot, why)) < 0)
            break;
    }
    db_reset(mirror->db, DB_BOOTS);
    return r;
}

int db_mirror_new(struct db *db, const uint8_t boot[static STORE_BOOT_SIZE],
                  const uint8_t run[static STORE_RUN_SIZE], struct db_mirror **ret_mirror,
                  struct why *why)
{
    _cleanup_(db_mirror_freep) struct db_mirror *mirror = calloc(1, sizeof(*mirror));
    if (!mirror || !(mirror->boots = calloc(1, sizeof(*mirror->boots))))
        return why_set(why, ENOMEM, "out of memory");
    mirror->db = db;
    memcpy(mirror->boots[0].uuid, boot, STORE_BOOT_SIZE);
    memcpy(mirror->boots[0].run, run, STORE_RUN_SIZE);
    mirror->n_boots = 1;
    int r = load_streams(mirror, why);
    if (r == 0)
        r = load_boots(mirror, why);
    if (r == 0)
        *ret_mirror = TAKE_PTR(mirror);
    return r;
}

void db_mirror_free(struct db_mirror *mirror)
{
    if (!mirror)
        return;
    while (mirror->n_streams > 0)
        free(mirror->streams[--mirror->n_streams]);
    free(mirror->streams);
    free(mirror->boots);
    free(mirror->boots_before);
    free(mirror);
}

struct db_stream *db_mirror_stream(const struct db_mirror *mirror, size_t i)
{
    return i < mirror->n_streams ? mirror->streams[i] : NULL;
}

int db_mirror_add(struct db_mirror *mirror, const char *name, int64_t id,
                  struct db_stream **ret_stream, struct why *why)
{
    assert(name[0] != '\0' && strlen(name) <= STORE_MAX_NAME);
    if (mirror->n_streams >= DB_MAX_STREAMS - 1)
        return why_set(why, ENOBUFS, "%s has too many streams", db_path(mirror->db));
    sqlite3_stmt *statement = db_statement(mirror->db, DB_STREAM_INSERT);
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    if (id > 0)
        sqlite3_bind_int64(statement, 2, id);
    else
        sqlite3_bind_null(statement, 2);
    int r = db_run(mirror->db, DB_STREAM_INSERT, why);
    if (r < 0)
        return r;
    struct db_stream *stream = insert(mirror, name, why);
    if (!stream)
        return -ENOMEM;
    stream->id = sqlite3_last_insert_rowid(db_handle(mirror->db));
    stream->is_new = true;
    *ret_stream = stream;
    return 0;
}

int db_mirror_write(struct db_mirror *mirror, struct db_stream *stream, struct why *why)
{
    if (!stream->is_due && stream->work.n_messages - stream->n_counted <= MAX_UNCOUNTED)
        return 0;
    stream->is_due = true;
    sqlite3_stmt *update = db_statement(mirror->db, DB_STREAM_UPDATE);
    uint64_t *counts[N_COUNTS];
    list_counts(&stream->work, counts);
    sqlite3_bind_int64(update, 1, stream->id);
    for (int i = 0; i < N_COUNTS; i++)
        sqlite3_bind_int64(update, FIRST_COUNT + i, (sqlite3_int64)*counts[i]);
    if (stream->work.used_seq > 0)
        sqlite3_bind_int64(update, FIRST_COUNT, (sqlite3_int64)stream->work.used_seq + 1);
    sqlite3_bind_int64(update, COUNTED_SEQ, (sqlite3_int64)stream->last_seq);
    return db_run(mirror->db, DB_STREAM_UPDATE, why);
}

const struct db_boot *db_mirror_boot_at(const struct db_mirror *mirror, size_t i)
{
    return i < mirror->n_boots ? &mirror->boots[i] : NULL;
}

const struct db_boot *db_mirror_boot(const struct db_mirror *mirror, int64_t id)
{
    for (size_t i = 0; i < mirror->n_boots; i++)
        if (mirror->boots[i].id == id && id > 0)
            return &mirror->boots[i];
    return NULL;
}

/* Before the boots change. */
static int keep_boots(struct db_mirror *mirror, struct why *why)
{
    if (mirror->boots_before)
        return 0;
    mirror->boots_before = reallocarray(NULL, mirror->n_boots, sizeof(*mirror->boots));
    if (!mirror->boots_before)
        return why_set(why, ENOMEM, "out of memory");
    memcpy(mirror->boots_before, mirror->boots, mirror->n_boots * sizeof(*mirror->boots));
    mirror->n_boots_before = mirror->n_boots;
    return 0;
}

/* Where the boot of that run is; at the end if there is none. */
static size_t find_boot(const struct db_mirror *mirror, const uint8_t run[static STORE_RUN_SIZE])
{
    size_t i = 0;
    while (i < mirror->n_boots && memcmp(mirror->boots[i].run, run, STORE_RUN_SIZE) != 0)
        i++;
    return i;
}

/* Writes the row of the i-th boot, which has none, with that id or (0) the next one. */
static int insert_boot(struct db_mirror *mirror, size_t i, int64_t id, struct why *why)
{
    sqlite3_stmt *statement = db_statement(mirror->db, DB_BOOT_INSERT);
    sqlite3_bind_blob(statement, 1, mirror->boots[i].run, STORE_RUN_SIZE, SQLITE_STATIC);
    sqlite3_bind_blob(statement, 4, mirror->boots[i].uuid, STORE_BOOT_SIZE, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)mirror->boots[i].begin_wall_usec);
    if (id > 0)
        sqlite3_bind_int64(statement, 3, id);
    else
        sqlite3_bind_null(statement, 3);
    int r = db_run(mirror->db, DB_BOOT_INSERT, why);
    if (r == 0)
        mirror->boots[i].id = sqlite3_last_insert_rowid(db_handle(mirror->db));
    return r;
}

int db_mirror_boot_id(struct db_mirror *mirror, const struct store_message *message,
                      int64_t *ret_id, struct why *why)
{
    static const uint8_t none[STORE_RUN_SIZE];
    const uint8_t *run =
        memcmp(message->run, none, sizeof(none)) == 0 ? message->moment.boot : message->run;
    size_t i = find_boot(mirror, run);
    int r = 0;
    if (i == mirror->n_boots || mirror->boots[i].id == 0) {
        struct db_boot boot = { 0 };
        memcpy(boot.run, run, STORE_RUN_SIZE);
        memcpy(boot.uuid, message->moment.boot, STORE_BOOT_SIZE);
        if (is_same_boot(&boot, &mirror->boots[0]))
            boot.begin_wall_usec = mirror->boots[0].begin_wall_usec;
        r = keep_boots(mirror, why);
        if (r == 0 && i == mirror->n_boots)
            r = append_boot(mirror, &boot, why);
        if (r == 0)
            r = insert_boot(mirror, i, 0, why);
    }
    if (r == 0)
        *ret_id = mirror->boots[i].id;
    return r;
}

int db_mirror_restore_boot(struct db_mirror *mirror, const struct db_boot *boot, struct why *why)
{
    size_t i = find_boot(mirror, boot->run);
    if (boot->id < 1 || db_mirror_boot(mirror, boot->id) ||
        (i < mirror->n_boots && mirror->boots[i].id > 0))
        return 0;
    struct db_boot copy = *boot;
    copy.id = 0;
    int r = i == mirror->n_boots ? append_boot(mirror, &copy, why) : 0;
    if (r < 0)
        return r;
    mirror->boots[i].begin_wall_usec = boot->begin_wall_usec;
    return insert_boot(mirror, i, boot->id, why);
}

int db_mirror_set_begin(struct db_mirror *mirror, uint64_t begin_wall_usec, struct why *why)
{
    int r = keep_boots(mirror, why);
    if (r < 0)
        return r;
    bool has_row = false; // it is made with its first message
    for (size_t i = 0; i < mirror->n_boots; i++) {
        if (!is_same_boot(&mirror->boots[i], &mirror->boots[0]))
            continue;
        mirror->boots[i].begin_wall_usec = begin_wall_usec;
        has_row |= mirror->boots[i].id > 0;
    }
    if (!has_row)
        return 0;
    sqlite3_stmt *statement = db_statement(mirror->db, DB_BOOT_UPDATE);
    sqlite3_bind_blob(statement, 1, mirror->boots[0].uuid, STORE_BOOT_SIZE, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)begin_wall_usec);
    return db_run(mirror->db, DB_BOOT_UPDATE, why);
}

/* Whether no stream has a message. */
static bool is_empty(const struct db_mirror *mirror)
{
    for (size_t i = 0; i < mirror->n_streams; i++)
        if (mirror->streams[i]->work.n_messages > 0)
            return false;
    return true;
}

uint64_t db_mirror_bytes(const struct db_mirror *mirror)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < mirror->n_streams; i++)
        bytes += mirror->streams[i]->work.bytes;
    return bytes;
}

int db_mirror_prune(struct db_mirror *mirror, struct why *why)
{
    size_t n_kept = 0;
    for (size_t i = 0; i < mirror->n_boots; i++)
        n_kept += is_same_boot(&mirror->boots[i], &mirror->boots[0]);
    if (mirror->n_boots == n_kept || !is_empty(mirror))
        return 0;
    int r = keep_boots(mirror, why);
    if (r < 0)
        return r;
    n_kept = 0;
    for (size_t i = 0; i < mirror->n_boots; i++)
        if (is_same_boot(&mirror->boots[i], &mirror->boots[0]))
            mirror->boots[n_kept++] = mirror->boots[i];
    mirror->n_boots = n_kept;
    sqlite3_bind_blob(db_statement(mirror->db, DB_BOOT_PRUNE), 1, mirror->boots[0].uuid,
                      STORE_BOOT_SIZE, SQLITE_STATIC);
    return db_run(mirror->db, DB_BOOT_PRUNE, why);
}

static void settle_stream(struct db_stream *stream)
{
    stream->state = stream->work;
    stream->is_new = false;
    if (!stream->is_due)
        return;
    stream->is_due = false;
    stream->row_used_seq = stream->work.used_seq;
    stream->counted_seq = stream->last_seq;
    stream->n_counted = stream->work.n_messages;
}

void db_mirror_settle(struct db_mirror *mirror)
{
    for (size_t i = 0; i < mirror->n_streams; i++)
        settle_stream(mirror->streams[i]);
    free(TAKE_PTR(mirror->boots_before));
}

void db_mirror_undo(struct db_mirror *mirror)
{
    for (size_t i = mirror->n_streams; i-- > 0;) {
        mirror->streams[i]->work = mirror->streams[i]->state;
        mirror->streams[i]->is_due = false;
        if (mirror->streams[i]->is_new)
            remove_at(mirror, i);
    }
    if (!mirror->boots_before)
        return;
    free(mirror->boots);
    mirror->boots = TAKE_PTR(mirror->boots_before);
    mirror->n_boots = mirror->n_boots_before;
}
