// SPDX-License-Identifier: LGPL-2.1-or-later
// Every kind of damage to the files, found at the start or while they are open: nothing crashes,
// what can be read is there, what cannot is counted, and a file that is put aside is told of.
#include "store-fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "store/db-schema.h"
#include "util/cleanup.h"

enum {
    PAGE = DB_PAGE_SIZE,
    N_STREAMS = 3,
    N_MESSAGES = 200, // of each stream
    N_IN_LOG = 60,    // the last of them, where there is a log
    N_ALL = N_STREAMS * N_MESSAGES,
    MAX_PER_PAGE = 40,
    FRAME = PAGE + 24, // of the log, behind 32 bytes
};

static const char *const names[N_STREAMS] = { "alarms", "replies", "telemetry" };

struct bytes {
    uint8_t *data;
    size_t size;
};

static struct bytes sound;             // a file without a log
static struct bytes with_log, its_log; // the same messages, the last ones in the log

static struct bytes read_file(const char *name)
{
    struct stat status;
    int fd = open(in_directory(name), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    struct bytes bytes = { malloc((size_t)status.st_size), (size_t)status.st_size };
    assert_non_null(bytes.data);
    assert_int_equal(read(fd, bytes.data, bytes.size), bytes.size);
    close(fd);
    return bytes;
}

static void write_file(const char *name, const struct bytes *bytes)
{
    int fd = open(in_directory(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes->data, bytes->size), bytes->size);
    close(fd);
}

static struct bytes copy_of(const struct bytes *bytes)
{
    struct bytes copy = { malloc(bytes->size + PAGE), bytes->size };
    assert_non_null(copy.data);
    memcpy(copy.data, bytes->data, bytes->size);
    return copy;
}

static void put_all(struct store *store, uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq += 10)
        for (int i = 0; i < N_STREAMS; i++)
            assert_int_equal(put_messages(store, names[i], seq, seq + 9, false, NULL), 0);
}

static int make_files(void **state)
{
    if (make_directory(state) < 0)
        return -1;
    struct store *store = open_store();
    put_all(store, 1, N_MESSAGES);
    store_free(store);
    sound = read_file("queue.db");
    empty_directory();
    store = open_store();
    put_all(store, 1, N_MESSAGES - N_IN_LOG);
    store_free(store);
    store = open_store();
    put_all(store, N_MESSAGES - N_IN_LOG + 1, N_MESSAGES);
    with_log = read_file("queue.db");
    its_log = read_file("queue.db-wal");
    store_free(store);
    assert_true(its_log.size > 10 * FRAME);
    return 0;
}

static int forget_files(void **state)
{
    free(sound.data);
    free(with_log.data);
    free(its_log.data);
    return remove_directory(state);
}

/* --- what became of it ----------------------------------------------------------------------- */

struct outcome {
    uint64_t n_read, n_dropped;
    bool is_told, is_kept, is_refused;
    bool is_unsure; // "at least so many"
};

static int run_and_note(struct store *store, struct store_job *job, struct outcome *outcome)
{
    int r = run(store, job);
    if (job->mishap.text[0]) {
        outcome->is_told = true;
        outcome->is_unsure |= strstr(job->mishap.text, "at least") != NULL;
        if (access(in_directory("queue.db.damaged"), F_OK) == 0)
            assert_non_null(strstr(job->mishap.text, "/queue.db.damaged"));
    }
    return r;
}

/* Reads and deletes all there is of a stream. */
static void drain(struct store *store, const char *name, struct outcome *outcome)
{
    struct store_stream stream = { .name = name };
    struct store_range range = { .end = LEDGER_ACKED };
    struct store_job job = { .streams = &stream, .n_streams = 1, .ranges = &range };
    do {
        job.query.max_messages = 1000;
        job.query.max_bytes = SIZE_MAX;
        assert_int_equal(run_and_note(store, &job, outcome), 0);
        assert_balanced(&stream.state);
        outcome->n_read += job.query.n_messages;
        job.query.after_seq =
            job.query.n_messages > 0 ? job.query.messages[job.query.n_messages - 1].seq : 0;
        store_messages_free(job.query.messages, job.query.n_messages);
        range.last_seq = job.query.after_seq;
        job.n_ranges = 1;
    } while (job.query.after_seq > 0 || stream.state.n_messages > 0);
    outcome->n_dropped += stream.state.ledger.ended[LEDGER_DROPPED];
    assert_int_equal(stream.state.ledger.sampled, stream.state.ledger.ended[LEDGER_ACKED] +
                                                      stream.state.ledger.ended[LEDGER_DROPPED]);
}

/* It is as good as new. */
static void put_after(struct store *store, struct outcome *outcome)
{
    char payload[32];
    const struct store_message message = message_of(1, payload);
    const struct store_message *puts[] = { &message };
    struct store_stream stream = { .name = "after" };
    struct store_job job = { .streams = &stream, .n_streams = 1, .puts = puts, .n_puts = 1 };
    assert_int_equal(run_and_note(store, &job, outcome), 0);
    assert_int_equal(stream.state.n_messages, 1);
}

static struct outcome look_at(struct store *store)
{
    struct outcome outcome = { 0 };
    struct store_job job = { 0 };
    int r = run_and_note(store, &job, &outcome);
    outcome.is_refused = r == -EPROTO;
    if (!outcome.is_refused) {
        assert_int_equal(r, 0);
        for (int i = 0; i < N_STREAMS; i++)
            drain(store, names[i], &outcome);
        put_after(store, &outcome);
    }
    store_free(store);
    outcome.is_kept = access(in_directory("queue.db.damaged"), F_OK) == 0;
    assert_int_equal(outcome.is_told, outcome.is_kept);
    assert_int_not_equal(access(in_directory("queue.db.new"), F_OK), 0);
    return outcome;
}

/* A start with these files. */
static struct outcome start_with(const struct bytes *file, const struct bytes *log)
{
    empty_directory();
    write_file("queue.db", file);
    if (log)
        write_file("queue.db-wal", log);
    struct outcome outcome = look_at(open_store());
    if (outcome.is_refused) { // and it is as it was
        struct bytes after = read_file("queue.db");
        assert_int_equal(after.size, file->size);
        assert_memory_equal(after.data, file->data, file->size);
        free(after.data);
    } else if (file->size > 1 && outcome.n_read < N_ALL && !log && !outcome.is_told) {
        fail_msg("of %zu bytes: %d read, and nothing told", file->size, (int)outcome.n_read);
    }
    return outcome;
}

static void damage(uint8_t *at, size_t size, int kind)
{
    for (size_t i = 0; i < size; i++)
        at[i] = kind == 0 ? 0 : kind == 1 ? 0xee : (uint8_t)lrand48();
}

/* --- found at the start ---------------------------------------------------------------------- */

static void sound_files_are_whole(void **state)
{
    (void)state;
    struct outcome outcome = start_with(&sound, NULL);
    assert_int_equal(outcome.n_read, N_ALL);
    assert_false(outcome.is_told);
    outcome = start_with(&with_log, &its_log);
    assert_int_equal(outcome.n_read, N_ALL);
    assert_false(outcome.is_told);
}

/* The root of the messages' tree has no copy anywhere: without it none of them is found. */
static size_t root_of_messages(void)
{
    size_t root = 0;
    for (size_t page = 1; page < sound.size / PAGE; page++)
        if (sound.data[page * PAGE] == 5) // an inner page of a table
            root = root ? root : page;
    assert_true(root > 0);
    return root;
}

static void each_page_in_turn(void **state)
{
    (void)state;
    size_t root = root_of_messages();
    for (size_t page = 0; page < sound.size / PAGE; page++) {
        for (int kind = 0; kind < 3; kind++) {
            struct bytes bytes = copy_of(&sound);
            damage(bytes.data + page * PAGE, PAGE, kind);
            struct outcome outcome = start_with(&bytes, NULL);
            free(bytes.data);
            uint64_t n_least = page == root ? 0 : N_ALL - MAX_PER_PAGE;
            bool is_counted = outcome.n_read + outcome.n_dropped == N_ALL;
            if (outcome.is_refused || outcome.n_read < n_least ||
                (!is_counted && !outcome.is_unsure))
                fail_msg("page %zu, damage %d: %d read, %d dropped", page + 1, kind,
                         (int)outcome.n_read, (int)outcome.n_dropped);
        }
    }
}

static void each_byte_of_the_header(void **state)
{
    (void)state;
    static const uint8_t values[] = { 0x80, 0x01 };
    for (size_t i = 0; i < 108; i++) {
        for (size_t k = 0; k < ELEMENTS(values); k++) {
            struct bytes bytes = copy_of(&sound);
            bytes.data[i] ^= values[k];
            struct outcome outcome = start_with(&bytes, NULL);
            free(bytes.data);
            // Of another version or program, it seems; else all can be read.
            bool is_identity = (i >= 60 && i < 64) || (i >= 68 && i < 72);
            if (outcome.is_refused ? !is_identity : outcome.n_read < N_ALL)
                fail_msg("byte %zu: %d read", i, (int)outcome.n_read);
        }
    }
}

static void short_of_every_size(void **state)
{
    (void)state;
    static const size_t more[] = { 0, 1, PAGE / 2, PAGE - 1 };
    uint64_t n_before = 0;
    for (size_t i = 0; i <= sound.size / PAGE * ELEMENTS(more); i++) {
        struct bytes bytes = { sound.data, i / ELEMENTS(more) * PAGE + more[i % ELEMENTS(more)] };
        struct outcome outcome = start_with(&bytes, NULL);
        assert_false(outcome.is_refused);
        if (bytes.size >= (size_t)8 * PAGE) // the streams' rows are there
            assert_int_equal(outcome.n_read + outcome.n_dropped, N_ALL);
        if (i % ELEMENTS(more) == 0) { // the longer, the more
            assert_true(outcome.n_read + MAX_PER_PAGE >= n_before);
            n_before = outcome.n_read;
        }
    }
    assert_int_equal(n_before, N_ALL);
}

static void no_database_at_all(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        for (size_t size = 2; size <= sound.size; size *= 7) {
            struct bytes bytes = copy_of(&sound);
            bytes.size = size;
            damage(bytes.data, size, kind);
            struct outcome outcome = start_with(&bytes, NULL);
            free(bytes.data);
            assert_false(outcome.is_refused);
            assert_true(outcome.is_told);
            assert_int_equal(outcome.n_read, 0);
        }
    }
}

/* What was not moved into the file yet; the end of a log may always be torn. */
static void log_with_every_frame_damaged(void **state)
{
    (void)state;
    for (size_t at = 0; at < its_log.size; at += at == 0 ? 32 : FRAME / 2) {
        for (int kind = 0; kind < 3; kind++) {
            struct bytes log = copy_of(&its_log);
            size_t size = log.size - at < 32 ? log.size - at : 32;
            damage(log.data + at, size, kind);
            struct outcome outcome = start_with(&with_log, &log);
            free(log.data);
            assert_false(outcome.is_refused);
            assert_true(outcome.n_read >= N_ALL - N_STREAMS * N_IN_LOG);
        }
        struct bytes log = { its_log.data, at };
        struct outcome outcome = start_with(&with_log, &log);
        assert_true(outcome.n_read >= N_ALL - N_STREAMS * N_IN_LOG);
    }
}

/* What the log has is read beside an emptied or damaged file. */
static void file_damaged_beside_its_log(void **state)
{
    (void)state;
    struct bytes empty = { with_log.data, 0 };
    struct outcome outcome = start_with(&empty, &its_log);
    assert_true(outcome.is_told);
    assert_true(outcome.n_read >= N_IN_LOG);
    for (size_t page = 0; page < with_log.size / PAGE; page++) {
        struct bytes bytes = copy_of(&with_log);
        damage(bytes.data + page * PAGE, PAGE, 1);
        outcome = start_with(&bytes, &its_log);
        free(bytes.data);
        assert_false(outcome.is_refused);
        if (outcome.n_read + outcome.n_dropped < N_ALL)
            assert_true(outcome.is_told);
    }
}

/* --- while it is open ------------------------------------------------------------------------ */

static struct store *open_whole(void)
{
    empty_directory();
    write_file("queue.db", &sound);
    struct store *store = open_store();
    // Something in the log, and little of the file in memory.
    for (int i = 0; i < N_STREAMS; i++) {
        struct store_record record = { "space", names[i], "value" };
        struct store_job job = { .records = &record, .n_records = 1 };
        run_ok(store, &job);
    }
    return store;
}

static void count_record(void *userdata, const char *key, const char *value)
{
    (void)key, (void)value;
    ++*(unsigned *)userdata;
}

static void removed_file_is_written_anew(void **state)
{
    (void)state;
    struct store *store = open_whole();
    struct store_job job = { 0 };
    run_ok(store, &job);
    uint64_t generation = job.generation;
    unlink(in_directory("queue.db"));
    run_ok(store, &job);
    assert_int_equal(job.generation, generation + 1);
    assert_non_null(strstr(job.mishap.text, "was removed and is written anew: 0 messages"));
    run_ok(store, &job);
    assert_string_equal(job.mishap.text, ""); // told once
    unsigned n_records = 0;
    assert_int_equal(store_records(store, "space", count_record, &n_records, NULL), 0);
    assert_int_equal(n_records, N_STREAMS);
    store_free(store);
    struct outcome outcome = look_at(open_store());
    assert_int_equal(outcome.n_read, N_ALL);
}

static void removed_with_its_log_is_written_anew(void **state)
{
    (void)state;
    struct store *store = open_whole();
    empty_directory();
    struct outcome outcome = { 0 };
    struct store_job job = { 0 };
    assert_int_equal(run_and_note(store, &job, &outcome), 0);
    assert_true(outcome.is_told);
    store_free(store);
    outcome = look_at(open_store());
    assert_int_equal(outcome.n_read, N_ALL);
}

static void replaced_file_is_kept_aside(void **state)
{
    (void)state;
    static uint8_t notes[] = "all my notes";
    const struct bytes others[] = { { notes, sizeof(notes) }, { notes, 0 }, sound };
    for (size_t i = 0; i < ELEMENTS(others); i++) {
        struct store *store = open_whole();
        assert_int_equal(put_messages(store, "alarms", 201, 210, true, NULL), 0);
        write_file("other", &others[i]);
        assert_int_equal(rename(in_directory("other"), in_directory("queue.db")), 0);
        struct outcome outcome = look_at(store);
        assert_true(outcome.is_told);
        assert_int_equal(outcome.n_read, N_ALL + 10);
        struct bytes kept = read_file("queue.db.damaged");
        assert_int_equal(kept.size, others[i].size);
        assert_memory_equal(kept.data, others[i].data, kept.size);
        free(kept.data);
    }
}

static void link_in_its_place_is_kept_aside(void **state)
{
    (void)state;
    struct store *store = open_whole();
    unlink(in_directory("queue.db"));
    assert_int_equal(symlink("queue.db", in_directory("queue.db")), 0);
    struct store_job job = { 0 };
    run_ok(store, &job);
    assert_non_null(strstr(job.mishap.text, "queue.db.damaged"));
    store_free(store);
    struct store *next = open_store();
    assert_int_equal(state_of(next, "alarms").n_messages, N_MESSAGES);
    store_free(next);
}

static void shortened_file_is_mended(void **state)
{
    (void)state;
    for (size_t size = 0; size < sound.size; size += 3 * PAGE + 100) {
        struct store *store = open_whole();
        assert_int_equal(truncate(in_directory("queue.db"), (off_t)size), 0);
        struct outcome outcome = look_at(store);
        assert_true(outcome.is_told);
        // It was known how many there were.
        assert_int_equal(outcome.n_read + outcome.n_dropped, N_ALL);
    }
}

static void damage_that_is_met_later_is_mended(void **state)
{
    (void)state;
    for (size_t page = 0; page < sound.size / PAGE; page++) {
        struct store *store = open_whole();
        uint8_t bytes[PAGE];
        damage(bytes, PAGE, 1);
        int fd = open(in_directory("queue.db"), O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, bytes, PAGE, (off_t)(page * PAGE)), PAGE);
        close(fd);
        struct outcome outcome = look_at(store);
        assert_int_equal(outcome.n_read + outcome.n_dropped, N_ALL);
    }
}

/* A look at records must not forget what the one before has met. */
static void damage_that_a_read_has_met_is_remembered(void **state)
{
    (void)state;
    empty_directory();
    struct store *store = open_store();
    char key[16];
    struct store_record record = { "space", key, "value" };
    struct store_job job = { .records = &record, .n_records = 1 };
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof(key), "key %04d", i);
        run_ok(store, &job);
    }
    store_free(store);
    struct bytes bytes = read_file("queue.db");
    const uint8_t *at = memmem(bytes.data, bytes.size, "key 1000", 8);
    assert_non_null(at);
    damage(bytes.data + (size_t)(at - bytes.data) / PAGE * PAGE, PAGE, 1);
    write_file("queue.db", &bytes);
    free(bytes.data);
    store = open_store();
    job.n_records = 0;
    run_ok(store, &job);
    unsigned n_records = 0;
    assert_int_equal(store_records(store, "space", count_record, &n_records, NULL), -EIO);
    assert_int_equal(store_records(store, "other", count_record, &n_records, NULL), 0);
    run_ok(store, &job);
    assert_non_null(strstr(job.mishap.text, "was damaged"));
    store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_files_are_whole),
        cmocka_unit_test(each_page_in_turn),
        cmocka_unit_test(each_byte_of_the_header),
        cmocka_unit_test(short_of_every_size),
        cmocka_unit_test(no_database_at_all),
        cmocka_unit_test(log_with_every_frame_damaged),
        cmocka_unit_test(file_damaged_beside_its_log),
        cmocka_unit_test(removed_file_is_written_anew),
        cmocka_unit_test(removed_with_its_log_is_written_anew),
        cmocka_unit_test(replaced_file_is_kept_aside),
        cmocka_unit_test(link_in_its_place_is_kept_aside),
        cmocka_unit_test(shortened_file_is_mended),
        cmocka_unit_test(damage_that_is_met_later_is_mended),
        cmocka_unit_test(damage_that_a_read_has_met_is_remembered),
    };
    return cmocka_run_group_tests_name("store-damage", tests, make_files, forget_files);
}
