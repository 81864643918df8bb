// SPDX-License-Identifier: LGPL-2.1-or-later
// A stop while the disk fails, is full, or works again: what could be written is, what could not is
// counted and told. And what is told of an outage.
#include "outbox-fixture.h"

#include <sys/stat.h>

static struct world world;
static FILE *lines; // what is logged
static int standard_error;

static int set_up(void **state)
{
    (void)state;
    world_init(&world);
    lines = tmpfile();
    assert_non_null(lines);
    fflush(stderr);
    standard_error = dup(STDERR_FILENO);
    assert_true(dup2(fileno(lines), STDERR_FILENO) >= 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_done(&world);
    assert_true(dup2(standard_error, STDERR_FILENO) >= 0);
    close(standard_error);
    fclose(lines);
    return 0;
}

/* How many of the lines so far have that text. */
static unsigned n_told(const char *text)
{
    char line[1024];
    unsigned n = 0;
    fflush(stderr);
    rewind(lines);
    while (fgets(line, sizeof(line), lines))
        n += strstr(line, text) != NULL;
    fseek(lines, 0, SEEK_END);
    return n;
}

/* As the uplink ends a role. Returns how long the disk took. */
static uint64_t stop(void)
{
    uint64_t begin_mono_usec = world.mono_usec;
    world_disconnect(&world);
    outbox_quiesce(world.outbox);
    world_settle(&world);
    while (!outbox_is_committed(world.outbox)) {
        assert_true(world.mono_usec < begin_mono_usec + USEC_PER_SEC);
        world_pass(&world, 5 * USEC_PER_MSEC);
        world_settle(&world);
    }
    outbox_end(world.outbox);
    return world.mono_usec - begin_mono_usec;
}

static void cut_off_with_600_messages_and_a_full_disk(void)
{
    world_configure(&world);
    world_connect(&world, 10);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_ack_all(&world);
    world_disconnect(&world);
    store_memory_set_room(world.store, false);
    for (unsigned n = 2; n <= 601; n++) {
        world_send_numbers(&world, "telemetry", n, n);
        world_pass(&world, 100 * USEC_PER_MSEC);
    }
    assert_non_null(outbox_trouble(world.outbox));
}

static void stop_writes_what_was_in_memory_when_there_is_room_again(void **state)
{
    (void)state;
    cut_off_with_600_messages_and_a_full_disk();
    store_memory_set_room(world.store, true);
    assert_int_equal(stop(), 0);
    assert_int_equal(n_told("works again; what was kept in memory is written"), 1);
    assert_int_equal(n_told("are lost"), 0);
    world_crash(&world, false);
    assert_int_equal(world_waiting(&world, "telemetry"), 600);
    ASSERT_LEDGER(&world, "telemetry", sampled, 601);
}

static void stop_with_a_full_disk_counts_and_tells_what_is_lost(void **state)
{
    (void)state;
    world_stream(&world, "alarms");
    cut_off_with_600_messages_and_a_full_disk();
    world_send_numbers(&world, "alarms", 1, 2);
    assert_true(stop() < 200 * USEC_PER_MSEC);
    assert_int_equal(n_told("works again"), 0);
    assert_int_equal(
        n_told("602 messages (alarms 2, telemetry 600) and 0 records are lost with this "
               "stop"),
        1);
    world_crash(&world, false);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
    ASSERT_LEDGER(&world, "telemetry", sampled, 601);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_DROPPED], 600);
    ASSERT_LEDGER(&world, "alarms", ended[LEDGER_DROPPED], 2);
}

static void stop_with_a_broken_disk_is_short_and_tells_what_is_lost(void **state)
{
    struct outbox_counters counters;
    (void)state;
    world_configure(&world);
    store_memory_set_error(world.store, EIO);
    world_send_numbers(&world, "telemetry", 1, 5);
    assert_int_equal(outbox_put_record(world.outbox, "actuator", "lamp", "on"), 0);
    assert_true(stop() < 200 * USEC_PER_MSEC);
    outbox_count(world.outbox, &counters);
    assert_int_equal(counters.dropped, 5);
    assert_int_equal(n_told("5 messages (telemetry 5) and 1 records are lost with this stop: the "
                            "queue on disk cannot be written: Input/output error"),
                     1);
}

static void stop_with_a_disk_that_does_not_answer_tells_what_is_lost(void **state)
{
    (void)state;
    world_configure(&world);
    world_send(&world, "telemetry", "{\"n\": 1}");
    assert_non_null(world.job);
    world_send(&world, "telemetry", "{\"n\": 2}");
    outbox_quiesce(world.outbox);
    assert_false(outbox_is_committed(world.outbox));
    outbox_end(world.outbox);
    assert_int_equal(n_told("2 messages (telemetry 2) and 0 records are lost with this stop: the "
                            "queue on disk cannot be written: it does not answer"),
                     1);
}

static void nothing_more_is_taken_while_the_end_is_written(void **state)
{
    const struct ledger filtered = { .sampled = 1, .ended[LEDGER_FILTERED] = 1 };
    (void)state;
    world_configure(&world);
    world_send(&world, "telemetry", "{\"n\": 1}");
    outbox_quiesce(world.outbox);
    assert_int_equal(world_send(&world, "telemetry", "{\"n\": 2}"), -ESHUTDOWN);
    outbox_count_samples(world.outbox, "telemetry", &filtered);
    stop();
    ASSERT_LEDGER(&world, "telemetry", sampled, 1);
    assert_int_equal(world_waiting(&world, "telemetry"), 1);
}

/* Whatever fails for a moment during a stop costs nothing. */
static void stop_stands_a_store_that_fails_at_any_call(void **state)
{
    static const int errors[] = { EIO, ENOSPC };
    (void)state;
    for (unsigned i = 0; i < 4 * 2 * 2; i++) {
        unsigned first = i % 4, n_fails = 1 + i / 4 % 2, n_jobs = 0;
        world_done(&world);
        world_init(&world);
        world_configure(&world);
        world_connect(&world, 10);
        world_send_numbers(&world, "telemetry", 1, 50);
        world_ack(&world, 0);
        world_send(&world, "telemetry", "{\"n\": 51}");
        outbox_put_record(world.outbox, "command", "a", "1");
        outbox_disconnected(world.outbox);
        outbox_quiesce(world.outbox);
        while (!outbox_is_committed(world.outbox)) {
            bool fails = n_jobs >= first && n_jobs < first + n_fails;
            store_memory_set_error(world.store, fails ? errors[i / 8] : 0);
            n_jobs += world.job != NULL;
            if (world.job) {
                world_work(&world);
                continue;
            }
            world.mono_usec += 5 * USEC_PER_MSEC;
            if (outbox_wake_mono_usec(world.outbox) <= world.mono_usec)
                world_tick(&world);
        }
        outbox_end(world.outbox);
        store_memory_set_error(world.store, 0);
        world_crash(&world, false);
        assert_int_equal(world_waiting(&world, "telemetry"), 50);
        ASSERT_LEDGER(&world, "telemetry", sampled, 51);
        ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 1);
    }
    assert_int_equal(n_told("are lost"), 0);
}

/* --- what an outage came to ------------------------------------------------------------------ */

static void first_connection_is_no_end_of_an_outage(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_pass(&world, 100 * USEC_PER_MSEC);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(n_told("back after"), 0);
    world_disconnect(&world);
    world_send_numbers(&world, "telemetry", 2, 3);
    world_pass(&world, USEC_PER_SEC);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(n_told("back after"), 1);
    assert_int_equal(n_told(": 2 sent, 0 lost"), 1);
}

static void what_an_earlier_run_has_left_is_told(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 3);
    world_crash(&world, false);
    world_pass(&world, USEC_PER_SEC);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(n_told(": 3 sent, 0 lost"), 1);
}

static void lost_are_those_of_the_outage_alone(void **state)
{
    (void)state;
    world.policies[0].max_messages = 3;
    world_configure(&world);
    world_connect(&world, 1);
    world_send_numbers(&world, "telemetry", 1, 3);
    world_disconnect(&world);
    world_send_numbers(&world, "telemetry", 4, 5); // and two go
    world_pass(&world, USEC_PER_SEC);
    outbox_connected(world.outbox, (struct link *)&world, 1);
    world_send_numbers(&world, "telemetry", 6,
                       9); // connected, more are dropped, of those that waited
    world_ack_all(&world);
    assert_int_equal(n_told("back after"), 1);
    world_send_numbers(&world, "telemetry", 10, 20); // these have been lost since
    world_disconnect(&world);
    world_pass(&world, USEC_PER_SEC);
    world_connect(&world, 1);
    world_ack_all(&world);
    assert_int_equal(n_told("3 sent, 0 lost"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stop_writes_what_was_in_memory_when_there_is_room_again),
        TEST(stop_with_a_full_disk_counts_and_tells_what_is_lost),
        TEST(stop_with_a_broken_disk_is_short_and_tells_what_is_lost),
        TEST(stop_with_a_disk_that_does_not_answer_tells_what_is_lost),
        TEST(nothing_more_is_taken_while_the_end_is_written),
        TEST(stop_stands_a_store_that_fails_at_any_call),
        TEST(first_connection_is_no_end_of_an_outage),
        TEST(what_an_earlier_run_has_left_is_told),
        TEST(lost_are_those_of_the_outage_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
