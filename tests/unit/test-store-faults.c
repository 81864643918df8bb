// SPDX-License-Identifier: LGPL-2.1-or-later
// The store on a disk that fails at every call in turn, and on one that loses its power there. What
// must have become of it is what the store in memory says after the same jobs.
#include "store-fixture.h"

#include <sqlite3.h>

#include "faultvfs.h"

enum {
    N_JOBS = 12,
    REOPEN_BEFORE = 7, // the store is closed, which empties its log, and opened again
    MAX_SIZE = 32 * 1024 * 1024,
    LARGEST = 60000,
    N_SAMPLES = 40, // of the thousands of calls with large messages
};

/* Of one message in each job: small, or so large that the log is moved into the file after each. */
static size_t payload_size;

/* The i-th job of the scenario; each changes something. */
static int run_scenario_job(struct store *store, int i, bool sync, bool *ret_is_synced)
{
    static char payloads[20][32];
    static char large[LARGEST];
    struct store_message messages[20];
    const struct store_message *puts[20];
    for (size_t n = 0; n < 20; n++) {
        messages[n] = message_of((uint64_t)i * 10 + n + 1, payloads[n]);
        messages[n].stream = n % 2;
        puts[n] = &messages[n];
    }
    memset(large, 'a' + i, sizeof(large));
    for (size_t n = 1; n < (payload_size == LARGEST ? 20 : 2); n++) {
        messages[n].payload = large; // goes over several pages
        messages[n].payload_size = payload_size;
    }
    struct store_stream streams[] = {
        { .name = "even", .used_seq = (uint64_t)i * 10 + 20 },
        { .name = "odd", .delta = { .sampled = 1, .ended = { [LEDGER_FILTERED] = 1 } } },
    };
    struct store_range range = { .first_seq = 1, .last_seq = (uint64_t)i * 7, .end = LEDGER_ACKED };
    struct store_trim trim = { .stream = 1, .n_messages = 3, .end = LEDGER_DROPPED };
    struct store_record record = { "space", i % 2 ? "key" : "other", i == 5 ? NULL : payloads[0] };
    struct store_job job = {
        .sync = sync,
        .seals = true,
        .begin_wall_usec = i > 4 ? 1000000 : 0,
        .streams = streams,
        .n_streams = 2,
        .puts = puts,
        .n_puts = i % 4 == 3 ? 0 : 20,
        .ranges = &range,
        .n_ranges = i % 3 == 1,
        .trims = &trim,
        .n_trims = i % 3 == 2,
        .records = &record,
        .n_records = 1,
        .query = { .max_messages = 5, .max_bytes = 10000 },
    };
    int r = run(store, &job);
    *ret_is_synced = r == 0 && job.is_synced;
    if (r == 0) {
        assert_int_equal(job.n_lost, 0);
        assert_balanced(&streams[0].state);
        store_messages_free(job.query.messages, job.query.n_messages);
    }
    return r;
}

static bool wants_sync(int i)
{
    return i % 3 != 1;
}

static struct store *model_after(int n_jobs)
{
    struct store *model = open_memory();
    for (int i = 0; i < n_jobs; i++) {
        bool is_synced;
        assert_int_equal(run_scenario_job(model, i, false, &is_synced), 0);
    }
    return model;
}

static void collect_record(void *userdata, const char *key, const char *value)
{
    char *text = userdata;
    snprintf(text + strlen(text), 200 - strlen(text), "%s=%s;", key, value);
}

static bool has_same_records(struct store *store, struct store *model)
{
    char texts[2][200] = { "", "" };
    assert_int_equal(records_of_either(store, "space", collect_record, texts[0]), 0);
    assert_int_equal(records_of_either(model, "space", collect_record, texts[1]), 0);
    return strcmp(texts[0], texts[1]) == 0;
}

/* Whether all that a stream is, is the same in both. */
static bool has_same_stream(struct store *store, struct store *model, const char *name)
{
    struct store_stream streams[2];
    struct store_query queries[2];
    for (size_t i = 0; i < 2; i++) {
        streams[i] = (struct store_stream){ .name = name };
        struct store_job job = { .streams = &streams[i],
                                 .n_streams = 1,
                                 .query = { .max_messages = 1000, .max_bytes = SIZE_MAX } };
        run_ok(i == 0 ? store : model, &job);
        queries[i] = job.query;
    }
    bool is_same = memcmp(&streams[0].state, &streams[1].state, sizeof(streams[0].state)) == 0 &&
                   queries[0].n_messages == queries[1].n_messages;
    for (size_t i = 0; is_same && i < queries[0].n_messages; i++) {
        const struct store_message *a = &queries[0].messages[i];
        const struct store_message *b = &queries[1].messages[i];
        is_same = a->seq == b->seq && a->begin_wall_usec == b->begin_wall_usec &&
                  a->payload_size == b->payload_size &&
                  memcmp(a->payload, b->payload, a->payload_size) == 0;
    }
    for (size_t i = 0; i < 2; i++)
        store_messages_free(queries[i].messages, queries[i].n_messages);
    return is_same;
}

static bool is_as_after(struct store *store, int n_jobs)
{
    struct store *model = model_after(n_jobs);
    bool is_same = has_same_stream(store, model, "even") && has_same_stream(store, model, "odd") &&
                   has_same_records(store, model);
    close_either(model);
    return is_same;
}

/* Opens the file as it is, sees that it is whole, and which of first..last jobs were the last. */
static int find_state(int first, int last)
{
    assert_int_not_equal(access(in_directory("queue.db.damaged"), F_OK), 0);
    faultvfs_reset();
    struct store *store = open_store_of(MAX_SIZE, FAULTVFS);
    int found = last;
    while (found >= first && !is_as_after(store, found))
        found--;
    store_free(store);
    if (found < first)
        return -1;
    sqlite3 *check;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(in_directory("queue.db"), &check), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(check, "PRAGMA integrity_check", -1, &statement, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(statement, 0), "ok");
    sqlite3_finalize(statement);
    sqlite3_close(check);
    return found;
}

/* How far the scenario came. */
struct progress {
    int n_done, n_synced;
};

static struct progress run_scenario(int n_attempts)
{
    struct progress progress = { 0, 0 };
    empty_directory();
    struct store *store = open_store_of(MAX_SIZE, FAULTVFS);
    for (int i = 0; i < N_JOBS; i++) {
        if (i == REOPEN_BEFORE) {
            store_free(store);
            store = open_store_of(MAX_SIZE, FAULTVFS);
        }
        bool is_synced = false;
        int r = -EIO;
        for (int n = 0; r < 0 && n < n_attempts; n++, now_usec += 11 * USEC_PER_SEC)
            r = run_scenario_job(store, i, wants_sync(i), &is_synced);
        if (r < 0)
            break;
        progress.n_done = i + 1;
        if (is_synced)
            progress.n_synced = i + 1;
    }
    store_free(store);
    return progress;
}

static unsigned count_calls(void)
{
    faultvfs_reset();
    struct progress progress = run_scenario(1);
    assert_int_equal(progress.n_done, N_JOBS);
    assert_int_equal(progress.n_synced, N_JOBS);
    unsigned n_calls = faultvfs_calls();
    assert_int_equal(find_state(N_JOBS, N_JOBS), N_JOBS);
    return n_calls;
}

/* One call fails, once and then for good. */
static void fail_at(unsigned n, int error)
{
    faultvfs_reset();
    faultvfs_fail_at(n, error, true);
    struct progress progress = run_scenario(3);
    if (progress.n_done < N_JOBS || find_state(N_JOBS, N_JOBS) < 0)
        fail_msg("call %u failed once: %d jobs done", n, progress.n_done);
    faultvfs_reset();
    faultvfs_fail_at(n, error, false);
    progress = run_scenario(2);
    // What failed may be found in the log when it is opened again, whole.
    if (find_state(progress.n_done, progress.n_done + 1) < 0)
        fail_msg("all calls from %u on failed: not as after %d jobs", n, progress.n_done);
}

static void cut_at(unsigned n, enum faultvfs_loss loss)
{
    faultvfs_reset();
    faultvfs_cut_at(n);
    struct progress progress = run_scenario(1);
    assert_true(faultvfs_was_cut());
    faultvfs_restore(loss, n);
    if (find_state(progress.n_synced, progress.n_done + 1) < 0)
        fail_msg("cut at call %u, loss %d: not what was synced after %d jobs", n, (int)loss,
                 progress.n_synced);
}

static void fail_at_each_call(int error)
{
    payload_size = 6000;
    unsigned n_calls = count_calls();
    assert_true(n_calls > 100);
    for (unsigned n = 1; n <= n_calls; n++)
        fail_at(n, error);
}

static void full_disk_at_each_call(void **state)
{
    (void)state;
    fail_at_each_call(ENOSPC);
}

static void broken_disk_at_each_call(void **state)
{
    (void)state;
    fail_at_each_call(EIO);
}

static void power_cut_at_each_call(void **state)
{
    (void)state;
    payload_size = 6000;
    unsigned n_calls = count_calls();
    for (unsigned n = 1; n <= n_calls; n++)
        for (unsigned loss = n % 2; loss < FAULTVFS_LOSSES; loss += 2)
            cut_at(n, (enum faultvfs_loss)loss);
}

/* As above, where the log is moved into the file after each job: too many calls for each of them.
 */
static void faults_with_large_messages(void **state)
{
    (void)state;
    payload_size = LARGEST;
    unsigned n_calls = count_calls();
    assert_true(n_calls > 10000);
    uint64_t seed = (uint64_t)getpid();
    print_message("seed %llu\n", (unsigned long long)seed);
    srand48((long)seed);
    for (int i = 0; i < N_SAMPLES; i++) {
        unsigned n = (unsigned)(lrand48() % n_calls) + 1;
        static const int errors[] = { EIO, ENOSPC, EDQUOT };
        if (i % 2)
            cut_at(n, (enum faultvfs_loss)(i / 2 % FAULTVFS_LOSSES));
        else
            fail_at(n, errors[i / 2 % 3]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_disk_at_each_call),
        cmocka_unit_test(broken_disk_at_each_call),
        cmocka_unit_test(power_cut_at_each_call),
        cmocka_unit_test(faults_with_large_messages),
    };
    faultvfs_register();
    return cmocka_run_group_tests_name("store-faults", tests, make_directory, remove_directory);
}
