// SPDX-License-Identifier: LGPL-2.1-or-later
// What is particular to the store on disk: the file, its versions, its bounds, a full disk.
#include "store-fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "faultvfs.h"
#include "store/db-schema.h"
#include "util/strings.h"

static int set_up(void **state)
{
    (void)state;
    empty_directory();
    faultvfs_reset();
    return 0;
}

/* Runs SQL on the file, as another program would while it is closed. */
static void change_file(const char *sql)
{
    sqlite3 *handle;
    char *message = NULL;
    assert_int_equal(sqlite3_open(in_directory("queue.db"), &handle), SQLITE_OK);
    if (sqlite3_exec(handle, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(handle);
}

static int64_t ask_file(const char *sql)
{
    sqlite3 *handle;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(in_directory("queue.db"), &handle), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(handle, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(handle);
    return value;
}

static off_t size_of(const char *name)
{
    struct stat status;
    return stat(in_directory(name), &status) == 0 ? status.st_size : -1;
}

/* Gets and deletes all messages of a stream, so many a job. Returns how many there were. */
static uint64_t drain(struct store *store, const char *name, size_t max_messages)
{
    struct store_stream stream = { .name = name };
    struct store_range range = { .end = LEDGER_ACKED };
    struct store_job job = { .streams = &stream, .n_streams = 1, .ranges = &range };
    uint64_t n = 0;
    do {
        job.query.max_messages = max_messages;
        job.query.max_bytes = SIZE_MAX;
        n += take_messages(store, &job);
        range.last_seq = job.query.after_seq;
        job.n_ranges = 1;
    } while (!job.query.at_end || stream.state.n_messages > 0);
    return n;
}

static void all_is_there_after_reopening(void **state)
{
    (void)state;
    struct store *store = open_store();
    struct store_state before;
    assert_int_equal(put_messages(store, "s", 1, 50, false, &before), 0);
    struct store_record record = { "space", "key", "value" };
    struct store_job job = { .begin_wall_usec = 5000, .records = &record, .n_records = 1 };
    run_ok(store, &job);
    assert_int_equal(job.generation, 1);
    store_free(store);
    assert_int_equal(size_of("queue.db-wal"), -1);

    store = open_store();
    char **names;
    assert_int_equal(store_names(store, &names), -ENOTCONN);
    assert_int_equal(store_records(store, "space", NULL, NULL, NULL), -ENOTCONN);
    struct store_state after = state_of(store, "s");
    assert_memory_equal(&after, &before, sizeof(after));
    assert_int_equal(store_names(store, &names), 0);
    assert_int_equal(strings_count(names), 1);
    assert_string_equal(names[0], "s");
    strings_free(names);
    struct store_stream stream = { .name = "s" };
    job = (struct store_job){ .streams = &stream,
                              .n_streams = 1,
                              .query = { .max_messages = 1, .after_seq = 49 } };
    run_ok(store, &job);
    assert_int_equal(job.query.messages[0].seq, 50);
    assert_int_equal(job.query.messages[0].begin_wall_usec, 5000);
    assert_memory_equal(job.query.messages[0].payload, "message 50", 10);
    store_messages_free(job.query.messages, job.query.n_messages);
    store_free(store);
    assert_int_equal(ask_file("SELECT count(*) FROM message"), 50);
    assert_int_equal(ask_file("SELECT sampled - acked - n_samples FROM stream"), 0);
    assert_int_equal(ask_file("PRAGMA page_size"), 1024);
    assert_int_equal(ask_file("PRAGMA auto_vacuum"), 0);
}

/* What it does not count is counted when the file is opened. */
static void row_of_a_stream_counts_up_to_some_message(void **state)
{
    (void)state;
    static const char rest[] =
        "SELECT (SELECT count(*) FROM message) - n_messages FROM stream WHERE name = 's'";
    struct store *store = open_store();
    struct store_state before;
    for (uint64_t seq = 11; seq <= 20; seq++)
        assert_int_equal(put_sealing(store, "s", seq, seq, 10000, false, &before), 0);
    store_free(store);
    assert_int_equal(ask_file(rest), 9); // the first one's commit reserved numbers

    store = open_store();
    struct store_state after = state_of(store, "s");
    assert_memory_equal(&after, &before, sizeof(after));
    struct store_stream stream = { .name = "s" };
    struct store_range range = { .first_seq = 12, .last_seq = 12, .end = LEDGER_ACKED };
    struct store_job job = { .streams = &stream, .n_streams = 1, .ranges = &range, .n_ranges = 1 };
    run_ok(store, &job);
    assert_int_equal(put_sealing(store, "s", 21, 22, 10000, false, NULL), 0);
    store_free(store);
    assert_int_equal(ask_file(rest), 2);

    store = open_store();
    // Among those that are counted.
    assert_int_equal(put_sealing(store, "s", 5, 5, 10000, false, &before), 0);
    store_free(store);
    assert_int_equal(ask_file(rest), 0);

    store = open_store();
    after = state_of(store, "s");
    assert_memory_equal(&after, &before, sizeof(after));
    assert_int_equal(after.n_messages, 12);
    assert_int_equal(drain(store, "s", 5), 12);
    store_free(store);
    assert_int_equal(ask_file("SELECT sampled - acked FROM stream"), 0);
}

static void few_messages_are_counted_when_the_file_is_opened(void **state)
{
    (void)state;
    struct store *store = open_store();
    for (uint64_t seq = 1; seq <= 5300; seq += 50)
        assert_int_equal(put_sealing(store, "s", seq, seq + 49, 10000, false, NULL), 0);
    store_free(store);
    int64_t n_rest = ask_file("SELECT 5300 - n_messages FROM stream");
    assert_true(n_rest > 0 && n_rest <= 500);
    store = open_store();
    assert_int_equal(state_of(store, "s").n_messages, 5300);
    store_free(store);
}

static void files_are_private(void **state)
{
    (void)state;
    mode_t mask = umask(0);
    struct store *store = open_store();
    assert_int_equal(put_messages(store, "s", 1, 1, true, NULL), 0);
    static const char *const names[] = { "queue.db", "queue.db-wal", "reserve" };
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        struct stat status;
        assert_int_equal(stat(in_directory(names[i]), &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
    }
    assert_true(size_of("reserve") == 524288);
    assert_int_equal(size_of("queue.db-shm"), -1);
    store_free(store);
    umask(mask);
}

static void nothing_to_do_writes_nothing(void **state)
{
    (void)state;
    struct store *store = open_store_of(1 << 20, FAULTVFS);
    assert_int_equal(put_messages(store, "s", 1, 5, true, NULL), 0);
    faultvfs_reset();
    struct store_stream stream = { .name = "s", .used_seq = 5 }; // as it is
    struct store_record record = { "space", "none", NULL };
    struct store_range range = { .first_seq = 10, .last_seq = 20 };
    struct store_job job = { .sync = true,
                             .seals = true,
                             .streams = &stream,
                             .n_streams = 1,
                             .records = &record,
                             .n_records = 1,
                             .ranges = &range,
                             .n_ranges = 1 };
    run_ok(store, &job);
    assert_true(job.is_synced);
    assert_int_equal(faultvfs_calls(), 0);
    store_free(store);
}

static void sync_covers_the_jobs_before(void **state)
{
    (void)state;
    struct store *store = open_store_of(1 << 20, FAULTVFS);
    assert_int_equal(put_messages(store, "s", 1, 5, false, NULL), 0);
    faultvfs_reset();
    struct store_job job = { .sync = true };
    run_ok(store, &job);
    assert_int_equal(faultvfs_calls(), 1);
    store_free(store);
}

/* The kernel may have thrown away the jobs before as well. */
static void failed_sync_of_a_commit_is_made_up_for(void **state)
{
    (void)state;
    struct store *store = open_store_of(1 << 20, FAULTVFS);
    assert_int_equal(put_messages(store, "s", 1, 5, false, NULL), 0);
    faultvfs_reset();
    assert_int_equal(put_messages(store, "s", 6, 6, true, NULL), 0);
    unsigned n_calls = faultvfs_calls();
    assert_int_equal(put_messages(store, "s", 7, 7, false, NULL), 0);

    unsigned n_syncs = 0;
    for (unsigned n = 1; n <= n_calls; n++) { // one of them is its sync
        faultvfs_reset();
        faultvfs_fail_at(n, EIO, true);
        int r = put_messages(store, "s", 7 + n, 7 + n, true, NULL);
        assert_true(r == -EIO || (r == 0 && faultvfs_calls() < n));
        faultvfs_reset();
        assert_int_equal(put_messages(store, "s", 7 + n, 7 + n, true, NULL), 0);
        if (n_syncs < faultvfs_syncs())
            n_syncs = faultvfs_syncs();
    }
    assert_int_equal(n_syncs, 2); // the log, and the file once it has all that is in the log
    faultvfs_reset();
    assert_int_equal(put_messages(store, "s", 100, 100, false, NULL), 0);
    assert_int_equal(faultvfs_syncs(), 0);
    assert_int_equal(put_messages(store, "s", 101, 101, true, NULL), 0);
    assert_int_equal(faultvfs_syncs(), 1);
    assert_int_equal(state_of(store, "s").n_messages, 9 + n_calls);
    store_free(store);
}

/* The log's last block of 4 KiB is full, and the next commit begins behind it. */
static void synced_commit_shares_no_block_with_the_next(void **state)
{
    (void)state;
    const off_t frame = 1024 + 24;
    struct store *store = open_store();
    for (uint64_t seq = 1; seq <= 20; seq++) {
        assert_int_equal(put_messages(store, "s", seq, seq, true, NULL), 0);
        assert_true((size_of("queue.db-wal") - 32) % frame == 0);
        assert_true(size_of("queue.db-wal") % 4096 < frame);
    }
    store_free(store);
}

static void sync_without_anything_to_write_covers_the_jobs_before(void **state)
{
    (void)state;
    struct store *store = open_store_of(1 << 20, FAULTVFS);
    struct store_record record = { "space", "key", "value" };
    struct store_job job = { .records = &record, .n_records = 1 };
    run_ok(store, &job);
    faultvfs_reset();
    job.sync = true; // the record is as it was
    run_ok(store, &job);
    assert_true(job.is_synced);
    assert_int_equal(faultvfs_syncs(), 1);
    store_free(store);
}

static void failed_sync_is_told_and_made_up_for(void **state)
{
    (void)state;
    struct store *store = open_store_of(1 << 20, FAULTVFS);
    assert_int_equal(put_messages(store, "s", 1, 5, false, NULL), 0);
    faultvfs_reset();
    faultvfs_fail_at(1, EIO, true);
    struct store_job job = { .sync = true };
    struct why why = { 0 };
    assert_int_equal(store_run(store, &job, &why), 0);
    assert_false(job.is_synced);
    assert_non_null(strstr(why.text, "queue.db"));
    // The kernel may have thrown away what it could not write: one sync more would be no help.
    run_ok(store, &job);
    assert_true(job.is_synced);
    assert_true(faultvfs_calls() > 3);
    store_free(store);
}

static void older_version_is_migrated(void **state)
{
    (void)state;
    char sql[2000];
    snprintf(sql, sizeof(sql),
             "PRAGMA page_size = 1024; PRAGMA auto_vacuum = INCREMENTAL; %s"
             "INSERT INTO stream VALUES (3, 's', 100, 9, 1, 1, 1, 1, 1, 1, 2, 3, 105);"
             "INSERT INTO boot VALUES (1, x'000102030405060708090a0b0c0d0e0f', 77);"
             "INSERT INTO message VALUES ((3 << 42) | 8, 1, 10, 1, NULL, x'616263'),"
             "                           ((3 << 42) | 9, 1, 11, 2, 'sub', x'646566');"
             "PRAGMA application_id = %d; PRAGMA user_version = 1;",
             db_schema_migrations[0], DB_APPLICATION_ID);
    change_file(sql);
    struct store *store = open_store();
    struct store_record record = { "space", "key", "value" };
    struct store_stream stream = { .name = "s" };
    struct store_job job = {
        .streams = &stream,
        .n_streams = 1,
        .records = &record,
        .n_records = 1,
        .query = { .max_messages = 9, .max_bytes = 1000 },
    };
    run_ok(store, &job);
    assert_int_equal(job.query.n_messages, 2);
    assert_int_equal(job.query.messages[1].seq, 9);
    assert_string_equal(job.query.messages[1].subject, "sub");
    assert_int_equal(job.query.messages[1].begin_wall_usec, 77);
    assert_int_equal(job.query.messages[1].moment.boot[15], 15);
    uint8_t job_run[STORE_RUN_SIZE];
    memcpy(job_run, job.query.messages[1].run, sizeof(job_run));
    store_messages_free(job.query.messages, job.query.n_messages);
    assert_int_equal(stream.state.used_seq, 99);
    assert_memory_equal(job_run, "\0\1\2\3", 4); // the one under which it was numbered
    assert_balanced(&stream.state);
    assert_int_equal(stream.state.n_messages, 2);
    store_free(store);
    assert_int_equal(ask_file("SELECT counted_seq FROM stream"), 9);
    assert_int_equal(ask_file("PRAGMA user_version"), db_schema_version);
    assert_int_equal(ask_file("SELECT count(*) FROM record"), 1);
    assert_int_equal(size_of("queue.db.damaged"), -1);
}

/* As the version before had it: without runs. */
static const char last_version[] =
    "INSERT INTO stream VALUES (3, 's', 100, 9, 1, 1, 1, 1, 1, 1, 2, 3, 105, 9);"
    "INSERT INTO boot VALUES (1, x'000102030405060708090a0b0c0d0e0f', 77);"
    "INSERT INTO message VALUES ((3 << 42) | 8, 1, 10, 1, NULL, x'616263'),"
    "                           ((3 << 42) | 9, 1, 11, 2, 'sub', x'646566');"
    "INSERT INTO record VALUES ('space', 'key', 'value');";

static void make_last_version(void)
{
    char sql[4000];
    snprintf(sql, sizeof(sql),
             "PRAGMA page_size = 1024; %s%s%s%s PRAGMA application_id = %d;"
             "PRAGMA user_version = 3;",
             db_schema_migrations[0], db_schema_migrations[1], db_schema_migrations[2],
             last_version, DB_APPLICATION_ID);
    change_file(sql);
}

static void assert_last_version(void)
{
    struct store *store = open_store();
    struct store_stream stream = { .name = "s" };
    struct store_job job = {
        .streams = &stream,
        .n_streams = 1,
        .query = { .max_messages = 9, .max_bytes = 1000 },
    };
    run_ok(store, &job);
    assert_int_equal(job.query.n_messages, 2);
    assert_int_equal(job.query.messages[1].begin_wall_usec, 77);
    assert_int_equal(job.query.messages[1].moment.boot[15], 15);
    assert_int_equal(job.query.messages[1].run[15], 15); // the boot that it has
    store_messages_free(job.query.messages, job.query.n_messages);
    assert_int_equal(stream.state.used_seq, 99);
    assert_balanced(&stream.state);
    store_free(store);
    assert_int_equal(ask_file("PRAGMA user_version"), db_schema_version);
}

static void last_version_is_migrated(void **state)
{
    (void)state;
    make_last_version();
    assert_last_version();
    assert_int_equal(ask_file("SELECT count(*) FROM record"), 1);
    assert_int_equal(size_of("queue.db.damaged"), -1);
}

/* It is read as it is. */
static void damaged_file_of_the_last_version_is_salvaged(void **state)
{
    (void)state;
    make_last_version();
    change_file("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'record'");
    assert_last_version();
    assert_int_not_equal(size_of("queue.db.damaged"), -1);
}

static void get_run(struct store *store, uint8_t run[static STORE_RUN_SIZE])
{
    struct store_job job = { 0 };
    run_ok(store, &job);
    store_get_run(store, run);
}

static struct store *open_in_boot(const uint8_t boot[static STORE_BOOT_SIZE])
{
    struct store_options options = { .directory = test_directory, .max_size = 1 << 20 };
    struct store *store;
    memcpy(options.boot, boot, STORE_BOOT_SIZE);
    assert_int_equal(store_new(&options, &store), 0);
    return store;
}

static void run_goes_on_after_a_clean_end_in_the_same_boot(void **state)
{
    (void)state;
    static const struct {
        const uint8_t *boot;
        bool is_clean, is_same;
    } steps[] = {
        { this_boot, false, false }, // killed
        { this_boot, true, false },  // it was not clean before
        { this_boot, true, true },   // and now it was
        { this_boot, false, true },  // the mark is used up
        { this_boot, true, false },   { other_boot, true, false }, { other_boot, true, true },
        { this_boot, false, false }, // a mark of another boot is gone as well
        { other_boot, false, false },
    };
    uint8_t runs[ELEMENTS(steps)][STORE_RUN_SIZE];
    for (size_t i = 0; i < ELEMENTS(steps); i++) {
        struct store *store = open_in_boot(steps[i].boot);
        get_run(store, runs[i]);
        if (steps[i].is_clean)
            store_end(store);
        store_free(store);
        if (i > 0)
            assert_int_equal(memcmp(runs[i], runs[i - 1], STORE_RUN_SIZE) == 0, steps[i].is_same);
    }
}

/* Else it would be found by the next one too. */
static void run_whose_mark_cannot_be_cleared_is_not_taken(void **state)
{
    (void)state;
    uint8_t runs[3][STORE_RUN_SIZE];
    struct store *store = open_store();
    get_run(store, runs[0]);
    store_end(store);
    store_free(store);
    faultvfs_reset();
    faultvfs_fail_at(1, EIO, false);
    store = open_store_of(1 << 20, FAULTVFS);
    struct store_job job = { 0 };
    (void)run(store, &job);
    store_get_run(store, runs[1]);
    assert_memory_not_equal(runs[0], runs[1], STORE_RUN_SIZE);
    // It stays as it is once the disk works.
    faultvfs_reset();
    get_run(store, runs[2]);
    assert_memory_equal(runs[1], runs[2], STORE_RUN_SIZE);
    store_free(store);
}

/* What is used without a word to the disk is written with the next row, not for itself. */
static void used_numbers_come_to_disk_with_the_row(void **state)
{
    (void)state;
    struct store *store = open_store_of(1 << 20, FAULTVFS);
    assert_int_equal(put_messages(store, "s", 1, 5, true, NULL), 0);
    faultvfs_reset();
    struct store_stream stream = { .name = "s", .used_seq = 40 };
    struct store_job job = { .streams = &stream, .n_streams = 1 };
    run_ok(store, &job);
    assert_int_equal(faultvfs_calls(), 0);
    assert_int_equal(stream.state.used_seq, 40);
    store_free(store);
    store = open_store();
    assert_int_equal(state_of(store, "s").used_seq, 5);
    struct store_range range = { .first_seq = 1, .last_seq = 5, .end = LEDGER_ACKED };
    job.ranges = &range;
    job.n_ranges = 1;
    run_ok(store, &job);
    store_free(store);
    store = open_store();
    assert_int_equal(state_of(store, "s").used_seq, 40);
    stream.used_seq = 41;
    job.n_ranges = 0;
    job.seals = true;
    run_ok(store, &job);
    store_free(store);
    store = open_store();
    assert_int_equal(state_of(store, "s").used_seq, 41);
    store_free(store);
}

static void read_whole(const char *name, char *bytes, size_t size, size_t *ret_length)
{
    FILE *file = fopen(in_directory(name), "re");
    assert_non_null(file);
    *ret_length = fread(bytes, 1, size, file);
    fclose(file);
}

static void newer_and_foreign_files_are_left_alone(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "PRAGMA user_version = 1000",
        "PRAGMA application_id = 5",
        "DROP TABLE record; PRAGMA application_id = 0; PRAGMA user_version = 0",
    };
    static char before[100000];
    static char after[100000];
    for (size_t i = 0; i < ELEMENTS(changes); i++) {
        empty_directory();
        struct store *store = open_store();
        assert_int_equal(put_messages(store, "s", 1, 5, false, NULL), 0);
        store_free(store);
        change_file(changes[i]);
        size_t n_before;
        size_t n_after;
        read_whole("queue.db", before, sizeof(before), &n_before);
        store = open_store();
        for (int n = 0; n < 2; n++)
            assert_int_equal(put_messages(store, "s", 6, 7, true, NULL), -EPROTO);
        store_free(store);
        read_whole("queue.db", after, sizeof(after), &n_after);
        assert_int_equal(n_before, n_after);
        assert_memory_equal(before, after, n_before);
        assert_int_equal(size_of("queue.db.damaged"), -1);
    }
}

static void second_one_is_told_that_it_is_in_use(void **state)
{
    (void)state;
    struct store *first = open_store();
    struct store *second = open_store();
    assert_int_equal(put_messages(first, "s", 1, 1, false, NULL), 0);
    struct store_job job = { 0 };
    struct why why = { 0 };
    assert_int_equal(store_run(second, &job, &why), -EBUSY);
    assert_non_null(strstr(why.text, "another nightlightd"));
    assert_int_equal(put_messages(first, "s", 2, 2, true, NULL), 0);
    store_free(first);
    run_ok(second, &job);
    assert_int_equal(state_of(second, "s").n_messages, 2);
    store_free(second);
}

static void assert_refused(int error, const char *reason)
{
    struct store *store = open_store();
    struct store_job job = { 0 };
    struct why whys[2] = { { "" }, { "" } };
    assert_int_equal(store_run(store, &job, &whys[0]), error);
    assert_non_null(strstr(whys[0].text, reason));
    // Who asks for records is told the same.
    assert_int_equal(store_records(store, "space", NULL, NULL, &whys[1]), error);
    assert_string_equal(whys[0].text, whys[1].text);
    store_free(store);
}

static void link_in_place_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = { "queue.db", "queue.db-wal", "queue.db-journal" };
    static const char *const targets[] = { "/dev/shm/no-such-file", "other", NULL };
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        for (size_t k = 0; k < ELEMENTS(targets); k++) {
            empty_directory();
            struct store *store = open_store();
            assert_int_equal(put_messages(store, "s", 1, 5, false, NULL), 0);
            store_free(store);
            assert_int_equal(rename(in_directory("queue.db"), in_directory("other")), 0);
            const char *target = targets[k] ? targets[k] : names[i]; // itself
            assert_int_equal(symlink(target, in_directory(names[i])), 0);
            assert_refused(-EPROTO, "is a symbolic link, and is neither followed nor touched");
            assert_int_equal(size_of("queue.db.damaged"), -1);
        }
    }
    assert_int_not_equal(access(targets[0], F_OK), 0); // and not made at its other end
}

static void directory_in_place_of_the_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_directory("queue.db"), 0700), 0);
    assert_refused(-EPROTO, "queue.db is no regular file");
    assert_int_equal(rmdir(in_directory("queue.db")), 0);
}

static void other_user_s_file_is_refused_with_what_mends_it(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    char reason[128];
    struct store *store = open_store();
    assert_int_equal(put_messages(store, "s", 1, 5, false, NULL), 0);
    store_free(store);
    // Root left it behind, and the service runs as another user.
    assert_int_equal(chown(test_directory, 1, 1), 0);
    assert_int_equal(seteuid(1), 0);
    snprintf(reason, sizeof(reason), "daemon: chown -R daemon: %s", test_directory);
    assert_refused(-EPERM, reason);
    assert_int_equal(seteuid(0), 0);
    // That user's, and root typed the command.
    assert_int_equal(chown(in_directory("queue.db"), 1, 1), 0);
    assert_refused(-EPERM,
                   "queue.db belongs to daemon, and nightlightd runs as root: run it as daemon");
    assert_int_equal(unlink(in_directory("queue.db")), 0);
    assert_refused(-EPERM, "belongs to daemon, and nightlightd runs as root: run it as daemon");
    assert_int_equal(size_of("queue.db"), -1);
    // A directory that the user cannot write to.
    assert_int_equal(chown(test_directory, 0, 0), 0);
    assert_int_equal(chmod(test_directory, 0755), 0);
    assert_int_equal(seteuid(1), 0);
    assert_refused(-EPERM, reason);
    // One of another user that it can write to is good enough: a volume with a group.
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(test_directory, 0777), 0);
    assert_int_equal(seteuid(1), 0);
    store = open_store();
    assert_int_equal(put_messages(store, "s", 1, 5, false, NULL), 0);
    store_free(store);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(test_directory, 0700), 0);
}

static void missing_directory_is_waited_for(void **state)
{
    (void)state;
    struct store_options options = { .directory = in_directory("sub"), .max_size = 1 << 20 };
    struct store *store;
    assert_int_equal(store_new(&options, &store), 0);
    assert_int_equal(put_messages(store, "s", 1, 1, false, NULL), -ENOENT);
    assert_int_equal(mkdir(in_directory("sub"), 0700), 0);
    assert_int_equal(put_messages(store, "s", 1, 1, false, NULL), 0);
    store_free(store);
    unlink(in_directory("sub/queue.db"));
    unlink(in_directory("sub/reserve"));
    assert_int_equal(rmdir(in_directory("sub")), 0);
}

/* Puts until it says no. Returns how many messages are in then. */
static uint64_t fill(struct store *store, int error)
{
    uint64_t n = 0;
    int r;
    for (size_t step = 100; step > 0; step /= 10)
        while ((r = put_messages(store, "s", n + 1, n + step, false, NULL)) == 0)
            n += step;
    assert_int_equal(r, error);
    return n;
}

static void max_size_is_kept_and_left_again(void **state)
{
    (void)state;
    enum { BYTES = 262144 };
    struct store *store = open_store_of(BYTES, NULL);
    uint64_t n = fill(store, -ENOBUFS);
    assert_true(n > 2000);
    assert_int_equal(state_of(store, "s").n_messages, n);
    assert_true(size_of("queue.db") <= BYTES);
    // The oldest make room, in a job of their own.
    struct store_trim trim = { .n_messages = 200, .end = LEDGER_DROPPED };
    struct store_stream stream = { .name = "s" };
    struct store_job job = { .streams = &stream, .n_streams = 1, .trims = &trim, .n_trims = 1 };
    run_ok(store, &job);
    assert_int_equal(trim.n_gone, 200);
    assert_int_equal(put_messages(store, "s", n + 1, n + 150, true, NULL), 0);
    assert_int_equal(drain(store, "s", 100), n - 50);
    store_free(store);
    assert_true(size_of("queue.db") <= BYTES);
}

/* Debian's SQLite would: each message that has been acknowledged, once more, as zeros. */
static void what_is_deleted_is_not_overwritten(void **state)
{
    (void)state;
    static char file[256 * 1024];
    struct store *store = open_store();
    assert_int_equal(put_messages(store, "s", 1, 1000, false, NULL), 0);
    assert_int_equal(drain(store, "s", 1000), 1000);
    store_free(store);
    _cleanup_(closep) int fd = open(in_directory("queue.db"), O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, file, sizeof(file));
    assert_true(size > 0);
    char payload[32];
    struct store_message message = message_of(500, payload);
    assert_non_null(memmem(file, (size_t)size, message.payload, message.payload_size));
}

static void empty_file_shrinks(void **state)
{
    (void)state;
    struct store *store = open_store();
    for (uint64_t n = 0; n < 100000; n += 1000)
        assert_int_equal(put_messages(store, "s", n + 1, n + 1000, false, NULL), 0);
    assert_int_equal(drain(store, "s", 1000), 100000);
    state_of(store, "s");
    assert_true(size_of("queue.db") < 1500000);
    assert_true(size_of("queue.db-wal") <= 1572864);
    store_free(store);
}

static void file_shrinks_with_a_few_messages_left(void **state)
{
    (void)state;
    struct store *store = open_store();
    for (uint64_t n = 0; n < 100000; n += 1000)
        assert_int_equal(put_messages(store, "s", n + 1, n + 1000, false, NULL), 0);
    struct store_stream stream = { .name = "s" };
    const struct store_range range = { 0, 1, 99900, LEDGER_ACKED };
    struct store_job job = { .streams = &stream, .n_streams = 1, .ranges = &range, .n_ranges = 1 };
    run_ok(store, &job);
    assert_true(size_of("queue.db") < 1500000);
    assert_int_equal(drain(store, "s", 1000), 100);
    store_free(store);
}

static void boots_go_with_the_last_message(void **state)
{
    (void)state;
    struct store *store = open_store();
    char payload[32];
    struct store_message message = message_of(1, payload);
    const struct store_message *puts[] = { &message };
    for (uint8_t i = 1; i < 10; i++) {
        message.moment.boot[0] = i;
        message.seq = i;
        struct store_stream stream = { .name = "s" };
        struct store_job job = { .streams = &stream, .n_streams = 1, .puts = puts, .n_puts = 1 };
        run_ok(store, &job);
    }
    store_free(store);
    assert_int_equal(ask_file("SELECT count(*) FROM boot"), 9);
    store = open_store();
    assert_int_equal(drain(store, "s", 5), 9);
    store_free(store);
    assert_int_equal(ask_file("SELECT count(*) FROM boot"), 0);
}

static void million_messages_open_without_a_scan(void **state)
{
    (void)state;
    struct store *store = open_store_of(256 << 20, NULL);
    assert_int_equal(put_messages(store, "s", 1, 1, false, NULL), 0);
    store_free(store);
    change_file(
        "WITH RECURSIVE n(i) AS (VALUES(2) UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)"
        "INSERT INTO message SELECT (1 << 42) | i, 1, i, 1, NULL, zeroblob(60) FROM n;"
        "UPDATE stream SET counted_seq = 1000000, n_messages = 1000000, n_samples = 1000000, sampled = 1000000,"
        " bytes = 1000000 * 108");
    struct timespec before;
    struct timespec after;
    faultvfs_reset();
    clock_gettime(CLOCK_MONOTONIC, &before);
    store = open_store_of(256 << 20, FAULTVFS);
    struct store_stream stream = { .name = "s" };
    struct store_job job = { .streams = &stream,
                             .n_streams = 1,
                             .query = { .max_messages = 100, .max_bytes = 100000 } };
    run_ok(store, &job);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_int_equal(job.query.n_messages, 100);
    assert_int_equal(stream.state.n_messages, 1000000);
    store_messages_free(job.query.messages, job.query.n_messages);
    double seconds =
        (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    print_message("opened in %.1f ms with %u reads\n", seconds * 1e3, faultvfs_reads());
    assert_true(faultvfs_reads() < 100);
    assert_true(seconds < 1);
    store_free(store);
}

/* A small disk of its own on the test's directory; skips the test where that is not allowed. */
static void mount_disk(const char *options)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", test_directory, "tmpfs", 0, options) < 0)
        skip();
}

static void unmount_disk(void)
{
    assert_int_equal(umount(test_directory), 0);
}

/* Others take all that is left of the disk. */
static void use_up_disk(void)
{
    static const char zeros[65536];
    int fd = open(in_directory("others"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t size = sizeof(zeros); size > 0; size /= 2)
        while (write(fd, zeros, size) > 0)
            ;
    close(fd);
}

static void full_disk_is_drained_to_the_last_message(void **state)
{
    (void)state;
    mount_disk("size=8M");
    struct store *store = open_store();
    uint64_t n = fill(store, -ENOSPC);
    assert_true(n > 20000);
    store_free(store);
    use_up_disk();
    store = open_store();
    assert_int_equal(state_of(store, "s").n_messages, n);
    assert_int_equal(size_of("reserve"), 512 * 1024);
    assert_int_equal(drain(store, "s", 100), n);
    assert_int_equal(size_of("reserve"), -1);
    // Nothing may be put into less than a reserve, or the next ones could not be drained.
    use_up_disk();
    struct store_job job = { .sync = true };
    run_ok(store, &job);
    assert_false(job.has_room);
    assert_int_equal(put_messages(store, "s", n + 1, n + 1, false, NULL), -ENOSPC);
    // Back by itself: for what is to be put at once, for jobs without any after a while.
    unlink(in_directory("others"));
    run_ok(store, &job);
    assert_false(job.has_room);
    assert_int_equal(put_messages(store, "s", n + 1, n + 1, true, NULL), 0);
    run_ok(store, &job);
    assert_true(job.has_room);
    assert_int_equal(size_of("reserve"), 512 * 1024);
    store_free(store);
    unmount_disk();
}

static void read_only_disk_is_told_and_waited_for(void **state)
{
    (void)state;
    mount_disk("size=8M");
    struct store *store = open_store();
    assert_int_equal(put_messages(store, "s", 1, 5, true, NULL), 0);
    store_free(store);
    assert_int_equal(mount(NULL, test_directory, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    store = open_store();
    assert_int_equal(put_messages(store, "s", 6, 7, true, NULL), -EROFS);
    assert_int_equal(mount(NULL, test_directory, NULL, MS_REMOUNT, NULL), 0);
    assert_int_equal(put_messages(store, "s", 6, 7, true, NULL), 0);
    assert_int_equal(state_of(store, "s").n_messages, 7);
    store_free(store);
    unmount_disk();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_is_there_after_reopening, set_up),
        cmocka_unit_test_setup(row_of_a_stream_counts_up_to_some_message, set_up),
        cmocka_unit_test_setup(few_messages_are_counted_when_the_file_is_opened, set_up),
        cmocka_unit_test_setup(files_are_private, set_up),
        cmocka_unit_test_setup(nothing_to_do_writes_nothing, set_up),
        cmocka_unit_test_setup(sync_covers_the_jobs_before, set_up),
        cmocka_unit_test_setup(failed_sync_of_a_commit_is_made_up_for, set_up),
        cmocka_unit_test_setup(synced_commit_shares_no_block_with_the_next, set_up),
        cmocka_unit_test_setup(sync_without_anything_to_write_covers_the_jobs_before, set_up),
        cmocka_unit_test_setup(failed_sync_is_told_and_made_up_for, set_up),
        cmocka_unit_test_setup(older_version_is_migrated, set_up),
        cmocka_unit_test_setup(last_version_is_migrated, set_up),
        cmocka_unit_test_setup(damaged_file_of_the_last_version_is_salvaged, set_up),
        cmocka_unit_test_setup(run_goes_on_after_a_clean_end_in_the_same_boot, set_up),
        cmocka_unit_test_setup(run_whose_mark_cannot_be_cleared_is_not_taken, set_up),
        cmocka_unit_test_setup(used_numbers_come_to_disk_with_the_row, set_up),
        cmocka_unit_test_setup(newer_and_foreign_files_are_left_alone, set_up),
        cmocka_unit_test_setup(second_one_is_told_that_it_is_in_use, set_up),
        cmocka_unit_test_setup(link_in_place_of_a_file_is_refused, set_up),
        cmocka_unit_test_setup(directory_in_place_of_the_file_is_refused, set_up),
        cmocka_unit_test_setup(other_user_s_file_is_refused_with_what_mends_it, set_up),
        cmocka_unit_test_setup(missing_directory_is_waited_for, set_up),
        cmocka_unit_test_setup(max_size_is_kept_and_left_again, set_up),
        cmocka_unit_test_setup(empty_file_shrinks, set_up),
        cmocka_unit_test_setup(what_is_deleted_is_not_overwritten, set_up),
        cmocka_unit_test_setup(file_shrinks_with_a_few_messages_left, set_up),
        cmocka_unit_test_setup(boots_go_with_the_last_message, set_up),
        cmocka_unit_test_setup(million_messages_open_without_a_scan, set_up),
        cmocka_unit_test_setup(full_disk_is_drained_to_the_last_message, set_up),
        cmocka_unit_test_setup(read_only_disk_is_told_and_waited_for, set_up),
    };
    faultvfs_register();
    return cmocka_run_group_tests_name("store-sqlite", tests, make_directory, remove_directory);
}
