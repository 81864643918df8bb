// SPDX-License-Identifier: LGPL-2.1-or-later
// What every store does: each test runs on the one in memory and on the one on disk.
#include "store-fixture.h"

#include "util/strings.h"

static int set_up_memory(void **state)
{
    *state = open_memory();
    return 0;
}

static int set_up_sqlite(void **state)
{
    empty_directory();
    *state = open_store();
    return 0;
}

static int tear_down(void **state)
{
    close_either(*state);
    store_free(NULL);
    return 0;
}

static void assert_state(struct store *store, const char *name, uint64_t n_messages,
                         uint64_t n_samples)
{
    struct store_state state = state_of(store, name);
    assert_int_equal(state.n_messages, n_messages);
    assert_int_equal(state.n_samples, n_samples);
    assert_balanced(&state);
}

static void messages_come_back_whole_and_in_order(void **state)
{
    struct store *store = *state;
    struct store_message second = {
        .seq = 7,
        .moment.mono_usec = 70,
        .n_samples = 3,
        .subject = "s",
        .payload = "a\0b",
        .payload_size = 3,
    };
    struct store_message first = { .seq = STORE_SEQ_END - 1, .n_samples = 1, .stream = 1 };
    struct store_message empty = { .seq = 5, .n_samples = 1 };
    memcpy(second.moment.boot, other_boot, STORE_BOOT_SIZE);
    memcpy(empty.moment.boot, this_boot, STORE_BOOT_SIZE);
    const struct store_message *puts[] = { &second, &first, &empty };
    struct store_stream streams[] = { { .name = "b" }, { .name = "a", .used_seq = 9 } };
    struct store_job job = {
        .begin_wall_usec = 1000,
        .streams = streams,
        .n_streams = 2,
        .puts = puts,
        .n_puts = 3,
        .query = { .max_messages = 10, .max_bytes = 1000 },
    };
    run_ok(store, &job);
    assert_int_equal(job.query.n_messages, 2);
    assert_true(job.query.at_end);
    const struct store_message *got = job.query.messages;
    assert_int_equal(got[0].seq, 5);
    assert_null(got[0].subject);
    assert_int_equal(got[0].payload_size, 0);
    assert_int_equal(got[0].begin_wall_usec, 1000);
    assert_memory_equal(got[0].moment.boot, this_boot, STORE_BOOT_SIZE);
    assert_int_equal(got[1].seq, 7);
    assert_int_equal(got[1].stream, 0);
    assert_int_equal(got[1].n_samples, 3);
    assert_string_equal(got[1].subject, "s");
    assert_int_equal(got[1].payload_size, 3);
    assert_memory_equal(got[1].payload, "a\0b", 3);
    assert_int_equal(got[1].begin_wall_usec, 0);
    assert_int_equal(got[1].moment.mono_usec, 70);
    assert_memory_equal(got[1].moment.boot, other_boot, STORE_BOOT_SIZE);
    store_messages_free(job.query.messages, job.query.n_messages);
    store_messages_free(NULL, 0);
    assert_int_equal(streams[0].state.bytes, 2 * STORE_MESSAGE_OVERHEAD + 3 + 1);
    assert_int_equal(streams[0].state.ledger.sampled, 4);
    assert_int_equal(streams[0].state.used_seq, 7);
    assert_int_equal(streams[1].state.used_seq, STORE_SEQ_END - 1);
    assert_int_equal(streams[1].state.n_messages, 1);
    assert_true(job.generation > 0);
    assert_true(job.has_room);
    assert_int_equal(job.n_lost, 0);
}

static void query_stops_where_it_is_told(void **state)
{
    struct store *store = *state;
    assert_int_equal(put_messages(store, "s", 1, 100, false, NULL), 0);
    static const struct {
        uint64_t after_seq;
        size_t max_messages, max_bytes, n_messages;
        bool at_end;
    } cases[] = {
        { 0, 100, 1000000, 100, true },
        { 0, 99, 1000000, 99, false },
        { 50, 100, 1000000, 50, true },
        { 50, 100, 0, 1, false },
        { 99, 100, 0, 1, true },
        { 100, 100, 100, 0, true },
        { 0, 100, 57, 1, false },
        { 0, 100, 58, 2, false },
        { STORE_SEQ_END - 1, 1, 1, 0, true },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct store_stream stream = { .name = "s" };
        struct store_job job = { .streams = &stream, .n_streams = 1 };
        job.query.after_seq = cases[i].after_seq;
        job.query.max_messages = cases[i].max_messages;
        job.query.max_bytes = cases[i].max_bytes;
        run_ok(store, &job);
        assert_int_equal(job.query.n_messages, cases[i].n_messages);
        assert_int_equal(job.query.at_end, cases[i].at_end);
        for (size_t n = 0; n < job.query.n_messages; n++)
            assert_int_equal(job.query.messages[n].seq, cases[i].after_seq + n + 1);
        store_messages_free(job.query.messages, job.query.n_messages);
    }
}

static void putting_twice_counts_once(void **state)
{
    struct store *store = *state;
    struct store_state counted;
    assert_int_equal(put_messages(store, "s", 1, 10, false, NULL), 0);
    assert_int_equal(put_messages(store, "s", 5, 12, false, &counted), 0);
    assert_int_equal(counted.n_messages, 12);
    assert_int_equal(counted.ledger.sampled, 12);
    assert_balanced(&counted);
}

static void range_counts_what_was_there(void **state)
{
    struct store *store = *state;
    assert_int_equal(put_messages(store, "s", 1, 10, false, NULL), 0);
    assert_int_equal(put_messages(store, "t", 1, 10, false, NULL), 0);
    struct store_range ranges[] = {
        { .stream = 0, .first_seq = 3, .last_seq = 5, .end = LEDGER_ACKED },
        { .stream = 0, .first_seq = 5, .last_seq = 6, .end = LEDGER_REJECTED },
        { .stream = 0, .first_seq = 10, .last_seq = STORE_SEQ_END, .end = LEDGER_MERGED },
    };
    struct store_stream stream = { .name = "s" };
    struct store_job job = {
        .streams = &stream, .n_streams = 1, .ranges = ranges, .n_ranges = ELEMENTS(ranges)
    };
    run_ok(store, &job);
    assert_int_equal(stream.state.n_messages, 5);
    assert_int_equal(stream.state.ledger.ended[LEDGER_ACKED], 3);
    assert_int_equal(stream.state.ledger.ended[LEDGER_REJECTED], 1);
    assert_int_equal(stream.state.ledger.ended[LEDGER_MERGED], 1);
    assert_balanced(&stream.state);
    run_ok(store, &job);
    assert_state(store, "s", 5, 5);
    assert_state(store, "t", 10, 10);
}

static struct store_trim trim_once(struct store *store, struct store_trim trim)
{
    struct store_stream stream = { .name = "s" };
    struct store_job job = { .streams = &stream, .n_streams = 1, .trims = &trim, .n_trims = 1 };
    run_ok(store, &job);
    assert_balanced(&stream.state);
    assert_true(stream.state.ledger.ended[trim.end] >= trim.n_samples);
    return trim;
}

static void trim_gives_up_the_oldest(void **state)
{
    struct store *store = *state;
    assert_int_equal(put_messages(store, "s", 1, 9, false, NULL), 0); // 57 bytes each
    struct store_trim gone =
        trim_once(store, (struct store_trim){ .n_messages = 2, .end = LEDGER_DROPPED });
    assert_int_equal(gone.n_gone, 2);
    assert_int_equal(gone.n_samples, 2);
    assert_int_equal(gone.n_bytes, 2 * 57);
    gone = trim_once(store, (struct store_trim){ .bytes = 58, .after_seq = 4 });
    assert_int_equal(gone.n_gone, 2); // 5 and 6
    gone = trim_once(store, (struct store_trim){ .n_messages = 100, .before_seq = 7 });
    assert_int_equal(gone.n_gone, 2); // 3 and 4
    gone = trim_once(store, (struct store_trim){ .before_wall_usec = UINT64_MAX });
    assert_int_equal(gone.n_gone, 0); // nobody knows how old they are
    gone = trim_once(store, (struct store_trim){ .n_messages = 100, .before_seq = 1 });
    assert_int_equal(gone.n_gone, 0);
    assert_state(store, "s", 3, 3);
}

static void trim_knows_the_true_age(void **state)
{
    struct store *store = *state;
    assert_int_equal(put_messages(store, "s", 1, 9, false, NULL), 0);
    struct store_job job = { .begin_wall_usec = 1000 };
    run_ok(store, &job);
    struct store_trim gone =
        trim_once(store, (struct store_trim){ .before_wall_usec = 1003, .end = LEDGER_EXPIRED });
    assert_int_equal(gone.n_gone, 2);
    job.begin_wall_usec = 2000;
    run_ok(store, &job);
    gone = trim_once(store, (struct store_trim){ .before_wall_usec = 1003 });
    assert_int_equal(gone.n_gone, 0);
    gone = trim_once(store, (struct store_trim){ .before_wall_usec = 3000 });
    assert_int_equal(gone.n_gone, 7);
}

static void delta_is_added(void **state)
{
    struct store *store = *state;
    struct store_stream stream = {
        .name = "s",
        .delta = { .sampled = 3, .ended = { [LEDGER_FILTERED] = 2, [LEDGER_ACKED] = 1 } }
    };
    struct store_job job = { .sync = true, .streams = &stream, .n_streams = 1 };
    run_ok(store, &job);
    run_ok(store, &job);
    assert_true(job.is_synced);
    assert_int_equal(stream.state.ledger.sampled, 6);
    assert_int_equal(stream.state.ledger.ended[LEDGER_FILTERED], 4);
    assert_balanced(&stream.state);
}

static void used_numbers_only_grow_but_when_they_are_sealed(void **state)
{
    struct store *store = *state;
    struct store_stream stream = { .name = "s", .used_seq = 100 };
    struct store_job job = { .streams = &stream, .n_streams = 1 };
    run_ok(store, &job);
    stream.used_seq = 50;
    run_ok(store, &job);
    assert_int_equal(stream.state.used_seq, 100);
    job.seals = true; // a clean end gives back what was announced and not used
    run_ok(store, &job);
    stream.used_seq = 0;
    run_ok(store, &job);
    assert_int_equal(stream.state.used_seq, 50);
    assert_int_equal(put_sealing(store, "s", 60, 60, 0, false, &stream.state), 0);
    assert_int_equal(stream.state.used_seq, 60);
}

static void messages_keep_the_run_of_their_number(void **state)
{
    struct store *store = *state;
    char payloads[2][32];
    struct store_message messages[] = { message_of(1, payloads[0]), message_of(2, payloads[1]) };
    const struct store_message *puts[] = { &messages[0], &messages[1] };
    memcpy(messages[1].run, other_run, STORE_RUN_SIZE);
    struct store_stream stream = { .name = "s" };
    struct store_job job = {
        .begin_wall_usec = 1000,
        .streams = &stream,
        .n_streams = 1,
        .puts = puts,
        .n_puts = 2,
        .query = { .max_messages = 10, .max_bytes = 1000 },
    };
    run_ok(store, &job);
    const struct store_message *got = job.query.messages;
    assert_memory_equal(got[0].run, this_boot, STORE_RUN_SIZE); // it has none of its own
    assert_memory_equal(got[1].run, other_run, STORE_RUN_SIZE);
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(got[i].moment.boot, this_boot, STORE_BOOT_SIZE);
        assert_int_equal(got[i].begin_wall_usec, 1000);
    }
    store_messages_free(job.query.messages, job.query.n_messages);
    // The clock is set: that is right for all runs of the boot.
    job.n_puts = 0;
    job.begin_wall_usec = 2000;
    run_ok(store, &job);
    assert_int_equal(job.query.n_messages, 2);
    assert_int_equal(job.query.messages[0].begin_wall_usec, 2000);
    assert_int_equal(job.query.messages[1].begin_wall_usec, 2000);
    store_messages_free(job.query.messages, job.query.n_messages);
}

static void streams_are_listed(void **state)
{
    struct store *store = *state;
    struct store_stream streams[] = { { .name = "z" }, { .name = "a" }, { .name = "z" } };
    struct store_job job = { .streams = streams, .n_streams = 3 };
    run_ok(store, &job);
    char **names;
    assert_int_equal(names_of_either(store, &names), 0);
    assert_int_equal(strings_count(names), 2);
    bool is_first = strcmp(names[0], "a") == 0;
    assert_string_equal(names[is_first ? 0 : 1], "a");
    assert_string_equal(names[is_first ? 1 : 0], "z");
    strings_free(names);
}

static void append_record(void *userdata, const char *key, const char *value)
{
    char *text = userdata;
    snprintf(text + strlen(text), 100 - strlen(text), "%s=%s;", key, value);
}

static void assert_records(struct store *store, const char *space, const char *expected)
{
    char text[100] = "";
    assert_int_equal(records_of_either(store, space, append_record, text), 0);
    assert_string_equal(text, expected);
}

static void records_are_kept_by_space_and_key(void **state)
{
    struct store *store = *state;
    const struct store_record first[] = {
        { "rules", "b", "1" }, { "rules", "a", "2" }, { "rule", "a", "3" }, { "rules", "c", "4" }
    };
    struct store_job job = { .records = first, .n_records = 4 };
    run_ok(store, &job);
    const struct store_record second[] = { { "rules", "b", "5" },
                                           { "rules", "c", NULL },
                                           { "rules", "d", NULL } };
    job = (struct store_job){ .records = second, .n_records = 3 };
    run_ok(store, &job);
    assert_records(store, "rules", "a=2;b=5;");
    assert_records(store, "rule", "a=3;");
    assert_records(store, "none", "");
}

static void streams_of_a_job_are_done_in_order(void **state)
{
    // A message may be put and given up in one job: at a bound, say.
    struct store *store = *state;
    char payload[32];
    struct store_message message = message_of(1, payload);
    const struct store_message *puts[] = { &message };
    struct store_range range = { .first_seq = 1, .last_seq = 1, .end = LEDGER_DROPPED };
    struct store_stream stream = { .name = "s" };
    struct store_job job = { .streams = &stream,
                             .n_streams = 1,
                             .puts = puts,
                             .n_puts = 1,
                             .ranges = &range,
                             .n_ranges = 1,
                             .query = { .max_messages = 1 } };
    run_ok(store, &job);
    assert_int_equal(job.query.n_messages, 0);
    store_messages_free(job.query.messages, 0);
    assert_int_equal(stream.state.ledger.sampled, 1);
    assert_int_equal(stream.state.ledger.ended[LEDGER_DROPPED], 1);
    assert_int_equal(stream.state.n_messages, 0);
}

static void memory_fails_as_it_is_told(void **state)
{
    struct store *store = *state;
    store_memory_set_error(memory, EROFS);
    assert_int_equal(put_messages(store, "s", 1, 1, false, NULL), -EROFS);
    store_memory_set_error(memory, 0);
    store_memory_set_room(memory, false);
    assert_int_equal(put_messages(store, "s", 1, 1, false, NULL), -ENOSPC);
    assert_state(store, "s", 0, 0);
    store_memory_set_room(memory, true);
    store_memory_set_sync_fails(memory, true);
    assert_int_equal(put_messages(store, "s", 1, 1, true, NULL), 1);
    assert_state(store, "s", 1, 1);
}

#define ON_BOTH(test)                                                                              \
    { #test " (memory)", test, set_up_memory, tear_down, NULL },                                   \
    {                                                                                              \
#test " (sqlite)", test, set_up_sqlite, tear_down, NULL                                    \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(messages_come_back_whole_and_in_order),
        ON_BOTH(query_stops_where_it_is_told),
        ON_BOTH(putting_twice_counts_once),
        ON_BOTH(range_counts_what_was_there),
        ON_BOTH(trim_gives_up_the_oldest),
        ON_BOTH(trim_knows_the_true_age),
        ON_BOTH(delta_is_added),
        ON_BOTH(used_numbers_only_grow_but_when_they_are_sealed),
        ON_BOTH(messages_keep_the_run_of_their_number),
        ON_BOTH(streams_are_listed),
        ON_BOTH(records_are_kept_by_space_and_key),
        ON_BOTH(streams_of_a_job_are_done_in_order),
        cmocka_unit_test_setup_teardown(memory_fails_as_it_is_told, set_up_memory, tear_down),
    };
    return cmocka_run_group_tests_name("store", tests, make_directory, remove_directory);
}
