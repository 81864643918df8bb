// SPDX-License-Identifier: LGPL-2.1-or-later
// Damaged files: what can be read is saved, what cannot is counted, and nothing crashes.
#include "store-fixture.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "store/db-schema.h"

enum {
    PAGE = DB_PAGE_SIZE,
    N_MESSAGES = 3000, // of each stream
    N_UNCOUNTED = 100, // of them, the last ones
    N_STREAMS = 3,
    N_ROUNDS = 60,
    N_ALL = N_STREAMS * N_MESSAGES,
};

static const char *const names[N_STREAMS] = { "alarms", "replies", "telemetry" };

static uint8_t *sound;
static size_t sound_size;

static void read_file(const char *name, uint8_t **ret_bytes, size_t *ret_size)
{
    struct stat status;
    int fd = open(in_directory(name), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    *ret_size = (size_t)status.st_size;
    *ret_bytes = malloc(*ret_size);
    assert_non_null(*ret_bytes);
    assert_int_equal(read(fd, *ret_bytes, *ret_size), status.st_size);
    close(fd);
}

static void write_file(const char *name, const uint8_t *bytes, size_t size)
{
    int fd = open(in_directory(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static int make_sound_file(void **state)
{
    if (make_directory(state) < 0)
        return -1;
    struct store *store = open_store();
    // In turn, so that their pages lie among each other.
    for (uint64_t n = 0, more; n < N_MESSAGES; n += more) {
        more = n < N_MESSAGES - N_UNCOUNTED ? 580 : N_UNCOUNTED;
        for (int i = 0; i < N_STREAMS; i++)
            assert_int_equal(
                put_sealing(store, names[i], n + 1, n + more, N_MESSAGES + 1, false, NULL), 0);
    }
    for (int i = 0; i < 100; i++) {
        char key[32];
        snprintf(key, sizeof(key), "key %d", i);
        struct store_record record = { "space", key, "value" };
        struct store_job job = { .records = &record, .n_records = 1, .begin_wall_usec = 5 };
        run_ok(store, &job);
    }
    store_free(store);
    read_file("queue.db", &sound, &sound_size);
    assert_true(sound_size / PAGE > 300);
    return 0;
}

static int forget_sound_file(void **state)
{
    free(sound);
    return remove_directory(state);
}

static void count_record(void *userdata, const char *key, const char *value)
{
    (void)key;
    assert_non_null(value);
    if (strcmp(value, "value") == 0) // damage may change a text and leave the page sound
        ++*(unsigned *)userdata;
}

/* What is left of a file that was damaged. */
struct rest {
    uint64_t n_messages, n_lost, n_dropped;
    uint64_t min_used_seq; // of all streams
    unsigned n_records;
    bool is_kept; // the damaged file, aside
};

/* Reads all, sees that it is what was put, and deletes it. */
static void drain(struct store *store, const char *name, struct rest *rest)
{
    struct store_stream stream = { .name = name };
    struct store_range range = { .end = LEDGER_ACKED };
    struct store_job job = { .streams = &stream, .n_streams = 1, .ranges = &range };
    do {
        job.query.max_messages = 1000;
        job.query.max_bytes = SIZE_MAX;
        rest->n_messages += take_messages(store, &job);
        range.last_seq = job.query.after_seq;
        job.n_ranges = 1;
        if (job.query.at_end)
            job.query.after_seq = 0; // and once more: there must be none, and none be counted
    } while (job.query.after_seq > 0 || stream.state.n_messages > 0);
    rest->n_lost = job.n_lost;
    rest->n_dropped += stream.state.ledger.ended[LEDGER_DROPPED];
}

static struct rest open_damaged(const uint8_t *bytes, size_t size)
{
    struct rest rest = { 0 };
    empty_directory();
    write_file("queue.db", bytes, size);
    struct store *store = open_store();
    for (int i = 0; i < N_STREAMS; i++)
        drain(store, names[i], &rest);
    int r = store_records(store, "space", count_record, &rest.n_records, NULL);
    if (r < 0) { // found there: the next job mends it
        assert_int_equal(r, -EIO);
        struct store_job job = { 0 };
        run_ok(store, &job);
        rest.n_records = 0;
        assert_int_equal(store_records(store, "space", count_record, &rest.n_records, NULL), 0);
    }
    rest.min_used_seq = UINT64_MAX;
    for (int i = 0; i < N_STREAMS; i++) {
        struct store_state last = state_of(store, names[i]);
        assert_balanced(&last);
        if (last.used_seq < rest.min_used_seq)
            rest.min_used_seq = last.used_seq;
    }
    // It is as good as new.
    assert_int_equal(put_messages(store, "after", 1, 100, true, NULL), 0);
    assert_int_equal(state_of(store, "after").n_messages, 100);
    store_free(store);
    rest.is_kept = access(in_directory("queue.db.damaged"), F_OK) == 0;
    if (rest.is_kept) {
        uint8_t *kept;
        size_t kept_size;
        read_file("queue.db.damaged", &kept, &kept_size);
        assert_true(kept_size > 0 || size == 0);
        free(kept);
    }
    assert_int_not_equal(access(in_directory("queue.db.new"), F_OK), 0);
    return rest;
}

static uint8_t *copy_of_sound(void)
{
    uint8_t *bytes = malloc(sound_size);
    assert_non_null(bytes);
    memcpy(bytes, sound, sound_size);
    return bytes;
}

/* The number of some page of a table, as SQLite says. */
static size_t page_of(const char *table, const char *type, int offset)
{
    sqlite3 *handle;
    sqlite3_stmt *statement;
    empty_directory();
    write_file("queue.db", sound, sound_size);
    assert_int_equal(sqlite3_open(in_directory("queue.db"), &handle), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(handle,
                           "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2"
                           " ORDER BY path LIMIT 1 OFFSET ?3",
                           -1, &statement, NULL),
        SQLITE_OK);
    sqlite3_bind_text(statement, 1, table, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, type, -1, SQLITE_STATIC);
    sqlite3_bind_int(statement, 3, offset);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    size_t page = (size_t)sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(handle);
    return page;
}

static void destroy(uint8_t *bytes, size_t page)
{
    memset(bytes + (page - 1) * PAGE, 0xa5, PAGE);
}

static void sound_file_is_left_alone(void **state)
{
    (void)state;
    struct rest rest = open_damaged(sound, sound_size);
    assert_int_equal(rest.n_messages, N_ALL);
    assert_int_equal(rest.n_lost, 0);
    assert_int_equal(rest.n_records, 100);
    assert_false(rest.is_kept);
}

static void bad_pages_cost_what_is_on_them(void **state)
{
    (void)state;
    for (int n_pages = 1; n_pages <= 4; n_pages++) {
        uint8_t *bytes = copy_of_sound();
        for (int i = 0; i < n_pages; i++)
            destroy(bytes, page_of("message", "leaf", 30 + 60 * i));
        struct rest rest = open_damaged(bytes, sound_size);
        free(bytes);
        assert_true(rest.is_kept);
        assert_in_range(rest.n_lost, n_pages * 10, n_pages * 60);
        assert_int_equal(rest.n_messages + rest.n_lost, N_ALL);
        assert_int_equal(rest.n_dropped, rest.n_lost);
        assert_int_equal(rest.min_used_seq, N_MESSAGES + 1);
        assert_int_equal(rest.n_records, 100);
    }
}

static void bad_inner_page_costs_what_is_below(void **state)
{
    (void)state;
    uint8_t *bytes = copy_of_sound();
    destroy(bytes, page_of("message", "internal", 1));
    struct rest rest = open_damaged(bytes, sound_size);
    free(bytes);
    assert_true(rest.is_kept);
    assert_true(rest.n_messages > N_MESSAGES / 2);
    assert_int_equal(rest.n_messages + rest.n_lost, N_ALL);
    assert_int_equal(rest.n_dropped, rest.n_lost);
}

static void lost_ledger_leaves_the_messages(void **state)
{
    (void)state;
    uint8_t *bytes = copy_of_sound();
    size_t page = page_of("stream", "leaf", 0);
    destroy(bytes, page);
    struct rest rest = open_damaged(bytes, sound_size);
    free(bytes);
    assert_int_equal(rest.n_messages, N_ALL);
    // Nobody knows which other numbers were used: it goes on under another run.
    empty_directory();
    write_file("queue.db", sound, sound_size);
    uint8_t runs[2][STORE_RUN_SIZE];
    struct store *store = open_store();
    (void)state_of(store, "alarms");
    store_get_run(store, runs[0]);
    store_end(store);
    store_free(store);
    read_file("queue.db", &bytes, &(size_t){ 0 });
    destroy(bytes, page);
    write_file("queue.db", bytes, sound_size);
    store = open_store();
    assert_int_equal(state_of(store, "alarms").used_seq, N_MESSAGES);
    store_get_run(store, runs[1]);
    assert_memory_not_equal(runs[0], runs[1], STORE_RUN_SIZE);
    store_free(store);
    free(bytes);
}

static void bad_record_costs_records_only(void **state)
{
    (void)state;
    uint8_t *bytes = copy_of_sound();
    destroy(bytes, page_of("record", "leaf", 1));
    struct rest rest = open_damaged(bytes, sound_size);
    free(bytes);
    assert_int_equal(rest.n_messages, N_ALL);
    assert_int_equal(rest.n_lost, 0);
    assert_int_equal(rest.min_used_seq, N_MESSAGES + 1);
    assert_in_range(rest.n_records, 30, 99);
}

static void what_is_no_database_is_put_aside(void **state)
{
    (void)state;
    uint8_t *bytes = copy_of_sound();
    memset(bytes, 0, sound_size);
    struct rest rest = open_damaged(bytes, sound_size);
    assert_true(rest.is_kept);
    assert_int_equal(rest.n_messages, 0);
    memset(bytes, 'x', sound_size);
    rest = open_damaged(bytes, 2000);
    assert_true(rest.is_kept);
    rest = open_damaged(bytes, 0);
    assert_false(rest.is_kept);
    free(bytes);
}

static void short_file_keeps_its_beginning(void **state)
{
    (void)state;
    struct rest rest = open_damaged(sound, sound_size / PAGE / 2 * PAGE);
    assert_true(rest.is_kept);
    assert_true(rest.n_messages > N_MESSAGES / 2);
    assert_true(rest.n_lost > N_MESSAGES / 2);
}

static void job_that_meets_damage_is_done_on_the_new_file(void **state)
{
    (void)state;
    uint8_t *bytes = copy_of_sound();
    destroy(bytes, page_of("message", "leaf", 10));
    empty_directory();
    write_file("queue.db", bytes, sound_size);
    free(bytes);
    struct store *store = open_store();
    struct store_stream stream = { .name = "alarms" };
    struct store_job job = { .streams = &stream, .n_streams = 1 };
    run_ok(store, &job);
    uint64_t generation = job.generation;
    assert_int_equal(job.n_lost, 0); // it was not met yet
    struct store_range range = { .first_seq = 1, .last_seq = N_MESSAGES, .end = LEDGER_ACKED };
    job.ranges = &range;
    job.n_ranges = 1;
    stream.delta = (struct ledger){ .sampled = 1, .ended = { [LEDGER_FILTERED] = 1 } };
    run_ok(store, &job);
    assert_true(job.generation > generation);
    assert_true(job.n_lost > 0);
    assert_int_equal(stream.state.n_messages, 0);
    assert_int_equal(stream.state.ledger.ended[LEDGER_FILTERED], 1);
    assert_int_equal(stream.state.ledger.ended[LEDGER_ACKED], N_MESSAGES - job.n_lost);
    assert_int_equal(stream.state.ledger.ended[LEDGER_DROPPED], job.n_lost);
    assert_balanced(&stream.state);
    store_free(store);
}

static void salvage_that_was_cut_off_is_finished(void **state)
{
    (void)state;
    empty_directory();
    write_file("queue.db.new", sound, sound_size);
    write_file("queue.db-wal", sound, 100);
    struct store *store = open_store();
    assert_int_equal(state_of(store, "alarms").n_messages, N_MESSAGES);
    store_free(store);
    assert_int_equal(access(in_directory("queue.db.damaged-wal"), F_OK), 0);
    // One that was not yet complete is begun anew.
    empty_directory();
    uint8_t *bytes = copy_of_sound();
    destroy(bytes, page_of("message", "leaf", 10));
    write_file("queue.db", bytes, sound_size);
    free(bytes);
    write_file("queue.db.new", sound, 5000);
    struct rest rest = { 0 };
    store = open_store();
    for (int i = 0; i < N_STREAMS; i++)
        drain(store, names[i], &rest);
    store_free(store);
    assert_int_equal(rest.n_messages + rest.n_lost, N_ALL);
    assert_in_range(rest.n_lost, 10, 60);
}

static void damage_bytes(uint8_t *bytes, size_t *size)
{
    size_t n_pages = *size / PAGE;
    size_t page = (size_t)lrand48() % n_pages;
    uint8_t *at = bytes + page * PAGE;
    switch (lrand48() % 6) {
    case 0:
        memset(at, 0, PAGE);
        break;
    case 1:
        for (size_t i = 0; i < PAGE; i++)
            at[i] = (uint8_t)lrand48();
        break;
    case 2: // a write that went to the wrong place
        memmove(at, bytes + (size_t)lrand48() % n_pages * PAGE, PAGE);
        break;
    case 3: // some bits, most often in the page's header
        for (int i = 0; i < 8; i++)
            at[(size_t)lrand48() % (lrand48() % 2 ? 16 : PAGE)] ^= (uint8_t)(1 << lrand48() % 8);
        break;
    case 4: // half of it
        memset(at + PAGE / 2, 0xff, PAGE / 2);
        break;
    default:
        if (lrand48() % 4 == 0)
            *size = (page + 1) * PAGE;
        break;
    }
}

static void random_damage_is_survived(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    long seed = given ? strtol(given, NULL, 0) : (long)getpid();
    print_message("SEED=%ld\n", seed);
    srand48(seed);
    uint64_t n_saved = 0;
    for (int round = 0; round < N_ROUNDS; round++) {
        uint8_t *bytes = copy_of_sound();
        size_t size = sound_size;
        for (long n = lrand48() % 8; n >= 0; n--)
            damage_bytes(bytes, &size);
        struct rest rest = open_damaged(bytes, size);
        assert_true(rest.n_messages <= N_ALL);
        n_saved += rest.n_messages;
        free(bytes);
    }
    double share = (double)n_saved / N_ROUNDS / N_STREAMS / N_MESSAGES;
    print_message("%.1f %% of the messages saved\n", share * 100);
    assert_true(share > 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_file_is_left_alone),
        cmocka_unit_test(bad_pages_cost_what_is_on_them),
        cmocka_unit_test(bad_inner_page_costs_what_is_below),
        cmocka_unit_test(lost_ledger_leaves_the_messages),
        cmocka_unit_test(bad_record_costs_records_only),
        cmocka_unit_test(what_is_no_database_is_put_aside),
        cmocka_unit_test(short_file_keeps_its_beginning),
        cmocka_unit_test(job_that_meets_damage_is_done_on_the_new_file),
        cmocka_unit_test(salvage_that_was_cut_off_is_finished),
        cmocka_unit_test(random_damage_is_survived),
    };
    return cmocka_run_group_tests_name("store-salvage", tests, make_sound_file, forget_sound_file);
}
