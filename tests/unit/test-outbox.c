// SPDX-License-Identifier: LGPL-2.1-or-later
// The outbox: what is sent, when, in which order, and what becomes of every sample.
#include "outbox-fixture.h"

static struct world world;

static int set_up(void **state)
{
    (void)state;
    world_init(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_done(&world);
    return 0;
}

static void assert_sent(size_t i, const char *topic, const char *payload)
{
    assert_true(i < world.n_sent);
    assert_string_equal(world.sent[i].topic, topic);
    assert_string_equal(world.sent[i].payload, payload);
}

/* --- sending --------------------------------------------------------------------------------- */

static void message_is_sent_at_once_and_acknowledged(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    assert_int_equal(world_send(&world, "telemetry", "{\"light\": 1}"), 0);
    assert_sent(0, "telemetry", "{\"light\": 1}");
    assert_string_equal(world.sent[0].seq, "1");
    assert_string_equal(world.sent[0].boot, "01000000000000000000000000000000");
    assert_string_equal(world.sent[0].time, "2026-09-21T14:13:20.000Z");
    world_ack_all(&world);
    world_pass(&world, 2 * USEC_PER_SEC);
    ASSERT_LEDGER(&world, "telemetry", sampled, 1);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 1);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
}

static void window_is_never_exceeded(void **state)
{
    struct outbox_counters counters;
    (void)state;
    world_configure(&world);
    world_connect(&world, 3);
    world_send_numbers(&world, "telemetry", 1, 10);
    assert_int_equal(world.n_sent, 3);
    outbox_count(world.outbox, &counters);
    assert_int_equal(counters.in_flight, 3);
    assert_int_equal(counters.queued, 7);
    assert_true(world_ack(&world, 0));
    assert_int_equal(world.n_sent, 4);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(world_number(&world.sent[i]), i + 1);
}

static void bytes_in_flight_are_limited_as_well(void **state)
{
    enum { SIZE = OUTBOX_MAX_WINDOW_BYTES * 3 / 5 };
    _cleanup_(freep) char *payload = calloc(1, SIZE + 1);
    (void)state;
    assert_non_null(payload);
    memset(payload, 'x', SIZE);
    world_configure(&world);
    for (int i = 0; i < 4; i++)
        assert_int_equal(world_send(&world, "telemetry", payload), 0);
    world_connect(&world, 10);
    assert_int_equal(world.n_sent, 2); // the limit is reached with the second
    for (size_t n = 3; n <= 4; n++) {
        assert_true(world_ack(&world, 0));
        world_settle(&world);
        assert_int_equal(world.n_sent, n);
    }
    world_disconnect(&world); // what comes back is not in flight any more
    world_connect(&world, 10);
    assert_int_equal(world.n_sent, 6);
    world_ack_all(&world);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 4);
}

static void message_beyond_the_limit_of_bytes_goes_alone(void **state)
{
    enum { SIZE = OUTBOX_MAX_WINDOW_BYTES * 6 / 5 };
    _cleanup_(freep) char *payload = calloc(1, SIZE + 1);
    (void)state;
    assert_non_null(payload);
    memset(payload, 'x', SIZE);
    world_configure(&world);
    for (int i = 0; i < 2; i++)
        assert_int_equal(world_send(&world, "telemetry", payload), 0);
    world_connect(&world, 10);
    assert_int_equal(world.n_sent, 1);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 2);
}

static void connection_that_takes_nothing_keeps_the_message(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    world.publish_result = -ENOTCONN;
    world_send_numbers(&world, "telemetry", 1, 2);
    world.publish_result = 0;
    world_disconnect(&world);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 2);
    assert_int_equal(world_number(&world.sent[0]), 1);
}

static void message_that_cannot_be_sent_is_rejected_and_counted(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    world.publish_result = -EMSGSIZE;
    world_send_numbers(&world, "telemetry", 1, 1);
    world.publish_result = 0;
    world_send_numbers(&world, "telemetry", 2, 2);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 1);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_REJECTED], 1);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 1);
}

/* --- outages --------------------------------------------------------------------------------- */

static void outage_is_made_up_for_in_order_with_true_times(void **state)
{
    (void)state;
    world_configure(&world);
    for (unsigned n = 1; n <= 3; n++) {
        world_send_numbers(&world, "telemetry", n, n);
        world_pass(&world, 60 * USEC_PER_SEC);
    }
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 3);
    assert_sent(0, "telemetry/late", "{\"n\": 1, \"time\": \"2026-09-21T14:13:20.000Z\"}");
    assert_sent(2, "telemetry/late", "{\"n\": 3, \"time\": \"2026-09-21T14:15:20.000Z\"}");
    assert_string_equal(world.sent[2].seq, "3");
}

static void crash_loses_nothing_that_was_written(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 5000);
    world_crash(&world, false);
    world_crash(&world, false);
    assert_int_equal(world_waiting(&world, "telemetry"), 5000);
    world_connect(&world, 100);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 5000);
    for (unsigned i = 0; i < 5000; i++)
        assert_int_equal(world_number(&world.sent[i]), i + 1);
    world_pass(&world, 11 * USEC_PER_SEC); // and off the disk
    world_crash(&world, false);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 5000);
}

static void what_was_in_flight_is_sent_again_and_no_more(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 4);
    world_send_numbers(&world, "telemetry", 1, 6);
    assert_true(world_ack(&world, 0));
    world_disconnect(&world);
    size_t n_before = world.n_sent;
    world_connect(&world, 100);
    world_ack_all(&world);
    assert_int_equal(world.n_sent - n_before, 5);
    assert_int_equal(world_number(&world.sent[n_before]), 2);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 6);
}

/* The store is asked for more while acknowledgements come in: nothing may be sent twice. */
static void slow_store_makes_nothing_be_sent_twice(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 3000);
    outbox_connected(world.outbox, (struct link *)&world, 50);
    bool seen[3501] = { false };
    for (unsigned turn = 0; world.job || world_ack(&world, 0); turn++) {
        assert_true(turn < 100000);
        if (turn % 7 == 0 && turn / 7 < 500) {
            char payload[32];
            snprintf(payload, sizeof(payload), "{\"n\": %u}", 3001 + turn / 7);
            world_send(&world, "telemetry", payload);
        }
        if (world.job && turn % 40 == 39)
            world_work(&world);
        else
            world_ack(&world, 0);
        if (!world_ack(&world, 0) && world.job)
            world_work(&world);
    }
    for (size_t i = 0; i < world.n_sent; i++) {
        uint64_t n = world_number(&world.sent[i]);
        assert_true(n <= 3500);
        assert_false(seen[n]);
        seen[n] = true;
    }
    assert_true(world.n_sent >= 3000);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
}

static void live_messages_are_sent_between_the_late_ones(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 2000);
    world_pass(&world, 60 * USEC_PER_SEC);
    world_connect(&world, 10);
    world_ack(&world, 0);
    world_send_numbers(&world, "telemetry", 9000, 9000);
    assert_true(world_ack(&world, 0));
    assert_int_equal(world_number(&world.sent[world.n_sent - 1]), 9000);
    assert_string_equal(world.sent[world.n_sent - 1].topic, "telemetry");
}

static void in_order_a_fresh_message_waits_for_the_late_ones(void **state)
{
    (void)state;
    world.policies[0].order = STREAM_IN_ORDER;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 3000);
    world_connect(&world, 10);
    for (unsigned n = 3001; n <= 4500; n++) {
        world_send_numbers(&world, "telemetry", n, n);
        world_ack(&world, 0);
        world_ack(&world, 0);
        if (n == 3900) { // and again, in the middle
            world_disconnect(&world);
            world_send_numbers(&world, "telemetry", 9000, 9000);
            world_connect(&world, 10);
        }
    }
    world_ack_all(&world);
    uint64_t last = 0;
    for (size_t i = 0; i < world.n_sent; i++) {
        uint64_t seq = strtoull(world.sent[i].seq, NULL, 10);
        assert_true(seq <= last + 1); // what was in flight comes again, nothing is skipped
        if (seq == last + 1)
            last = seq;
        else
            assert_true(last - seq <= 10);
    }
    assert_int_equal(last, 4501);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
}

static void drain_rate_is_kept_and_live_ones_pass(void **state)
{
    (void)state;
    world.options.drain_rate = 10;
    world.acks_all = true;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1000);
    world_pass(&world, 60 * USEC_PER_SEC);
    world_connect(&world, 100);
    assert_true(world.n_sent <= 1);
    world_pass(&world, 10 * USEC_PER_SEC); // it begins within ten seconds
    size_t n_begin = world.n_sent;
    world_send_numbers(&world, "telemetry", 5000, 5000);
    assert_int_equal(world.n_sent, n_begin + 1);
    world_pass(&world, 20 * USEC_PER_SEC);
    assert_in_range(world.n_sent - n_begin, 185, 217);
    world_pass(&world, 100 * USEC_PER_SEC);
    assert_int_equal(world.n_sent, 1001);
}

static void higher_priority_goes_first(void **state)
{
    (void)state;
    world_stream(&world, "alarms")->priority = 10;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 50);
    world_send_numbers(&world, "alarms", 100, 120);
    world_connect(&world, 1);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 71);
    // The store is asked for both in turn, and alarms are the first that it is asked for.
    for (size_t i = 0; i < 21; i++)
        assert_int_equal(world_number(&world.sent[i]), 100 + i);
}

/* --- durability ------------------------------------------------------------------------------ */

static void strict_is_on_disk_before_it_is_sent(void **state)
{
    (void)state;
    world.options.durability = STREAM_STRICT;
    world_configure(&world);
    world_connect(&world, 10);
    unsigned n_syncs = world.n_syncs;
    world_send(&world, "telemetry", "{\"n\": 1}");
    assert_int_equal(world.n_sent, 0);
    world_work(&world);
    assert_int_equal(world.n_syncs, n_syncs + 1);
    assert_int_equal(world.n_sent, 1);
}

static void batched_is_sent_at_once_and_written_at_once(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    unsigned n_syncs = world.n_syncs;
    world_send(&world, "telemetry", "{\"n\": 1}");
    assert_int_equal(world.n_sent, 1);
    assert_non_null(world.job);
    world_settle(&world);
    assert_int_equal(world.n_puts, 1);
    assert_int_equal(world.n_syncs, n_syncs);
    world_pass(&world, 1100 * USEC_PER_MSEC); // not acknowledged: the plug may be pulled
    assert_int_equal(world.n_syncs, n_syncs + 1);
    world_ack_all(&world);
    world_pass(&world, 10 * USEC_PER_SEC);
    n_syncs = world.n_syncs;
    world_send(&world, "telemetry", "{\"n\": 2}");
    world_ack_all(&world);
    world_pass(&world, 10 * USEC_PER_SEC); // nothing waits: nothing to be safe
    assert_int_equal(world.n_syncs, n_syncs);
    world_send(&world, "telemetry", "{\"n\": 3}");
    world_pass(&world, 900 * USEC_PER_MSEC); // it has its own interval
    assert_int_equal(world.n_syncs, n_syncs);
}

static void acknowledged_message_leaves_the_disk_with_the_next_one(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    world_send(&world, "telemetry", "{\"n\": 1}");
    world_settle(&world);
    unsigned n_jobs = world.n_jobs;
    world_ack_all(&world);
    world_pass(&world, 5 * USEC_PER_SEC);
    assert_int_equal(world.n_jobs, n_jobs);
    world_send(&world, "telemetry", "{\"n\": 2}");
    world_settle(&world);
    assert_int_equal(world.n_jobs, n_jobs + 1);
    world_ack_all(&world);
    world_pass(&world, 11 * USEC_PER_SEC); // or by itself
    assert_int_equal(world.n_jobs, n_jobs + 2);
    world_crash(&world, false);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
}

static void outage_writes_nothing_while_all_is_acknowledged_in_time(void **state)
{
    (void)state;
    world.options.durability = STREAM_OUTAGE;
    world_configure(&world);
    world_connect(&world, 10);
    unsigned n_jobs = world.n_jobs;
    for (unsigned n = 1; n <= 1000; n++) {
        world_send_numbers(&world, "telemetry", n, n);
        world_ack_all(&world);
        world_pass(&world, USEC_PER_SEC);
    }
    assert_int_equal(world.n_jobs, n_jobs);
    world_send_numbers(&world, "telemetry", 1001, 1001); // this one takes too long
    world_pass(&world, 1100 * USEC_PER_MSEC);
    assert_int_equal(world.n_puts, 1);
    world_send_numbers(&world, "telemetry", 1002, 1002);
    world_disconnect(&world); // and this one has lost its connection
    assert_int_equal(world.n_puts, 2);
    world_crash(&world, false);
    assert_int_equal(world_waiting(&world, "telemetry"), 2);
}

static void
clean_end_leaves_no_gap_in_the_numbers_and_a_crash_uses_none_twice_in_a_run(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 3);
    outbox_quiesce(world.outbox);
    world_settle(&world);
    assert_true(outbox_is_committed(world.outbox));
    world_crash(&world, false);
    world_send_numbers(&world, "telemetry", 4, 4);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_string_equal(world.sent[3].seq, "4");
    world_send(&world, "telemetry", "{\"n\": 5}"); // sent, and not written: the job is under way
    assert_string_equal(world.sent[4].seq, "5");
    world_crash(&world, false);
    world_send_numbers(&world, "telemetry", 6, 6);
    world_connect(&world, 10);
    const struct sent *last = &world.sent[world.n_sent - 1]; // others may come once more
    assert_int_equal(world_number(last), 6);
    // The store knows of 4: 5 is used again, under another run.
    assert_string_equal(last->seq, "5");
    assert_string_not_equal(last->boot, world.sent[4].boot);
}

/* So that who counts gaps counts only what was lost. */
static void what_waits_keeps_its_run_and_no_number_is_skipped_after_a_crash(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 3);
    world_settle(&world);
    world_crash(&world, false);
    world_send_numbers(&world, "telemetry", 4, 5);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 5);
    for (size_t i = 0; i < 5; i++) {
        char seq[24];
        snprintf(seq, sizeof(seq), "%zu", i + 1);
        assert_string_equal(world.sent[i].seq, seq);
        assert_string_equal(world.sent[i].boot, i < 3 ? "01000000000000000000000000000000"
                                                      : "01010000000000000000000000000000");
    }
}

static void what_was_delivered_wants_no_sync_and_wakes_nobody(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    world_send(&world, "telemetry", "{\"n\": 1}");
    world_settle(&world); // written, and not acknowledged yet
    assert_int_equal(outbox_wake_mono_usec(world.outbox), world.mono_usec + USEC_PER_SEC);
    world_ack(&world, 0);
    world_settle(&world);
    // Not the sync after a second, but the removal.
    assert_int_equal(outbox_wake_mono_usec(world.outbox), world.mono_usec + 10 * USEC_PER_SEC);
}

static void numbers_are_sealed_by_a_clean_end_alone(void **state)
{
    (void)state;
    world.options.durability = STREAM_OUTAGE;
    world_configure(&world);
    assert_true(outbox_is_sealed(world.outbox)); // none was used
    world_connect(&world, 10);
    world_send_numbers(&world, "telemetry", 1, 3);
    world_ack_all(&world); // before anything is written of them
    assert_false(outbox_is_sealed(world.outbox));
    outbox_quiesce(world.outbox);
    world_settle(&world);
    assert_true(outbox_is_sealed(world.outbox));
    assert_int_equal(world_send(&world, "telemetry", "{\"n\": 4}"), -ESHUTDOWN);
    assert_true(outbox_is_sealed(world.outbox));
}

static void counters_of_what_was_never_written_are_kept_by_a_clean_end(void **state)
{
    (void)state;
    world.options.durability = STREAM_OUTAGE;
    world_configure(&world);
    world_connect(&world, 10);
    world_send_numbers(&world, "telemetry", 1, 7);
    world_ack_all(&world);
    outbox_count_samples(world.outbox, "telemetry",
                         &(struct ledger){ .sampled = 5, .ended[LEDGER_FILTERED] = 5 });
    outbox_quiesce(world.outbox);
    world_settle(&world);
    world_crash(&world, false);
    ASSERT_LEDGER(&world, "telemetry", sampled, 12);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 7);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_FILTERED], 5);
}

/* --- keep ------------------------------------------------------------------------------------ */

static void latest_is_all_that_is_kept(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 100);
    assert_int_equal(world_waiting(&world, "telemetry"), 1);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_MERGED], 99);
    world_crash(&world, false);
    world_send_numbers(&world, "telemetry", 101, 101);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 1);
    assert_int_equal(world_number(&world.sent[0]), 101);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_MERGED], 100);
}

static void latest_keeps_what_the_newer_one_does_not_say(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world_configure(&world);
    world_send(&world, "telemetry", "{\"a\": 1, \"b\": 1}");
    world_send(&world, "telemetry", "{\"a\": 2}");
    world_send(&world, "telemetry", "{\"a\": 3}");
    world_settle(&world);
    assert_int_equal(world_waiting(&world, "telemetry"), 2);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 2);
    assert_string_equal(world.sent[0].payload, "{\"a\": 1, \"b\": 1}");
    assert_string_equal(world.sent[1].payload, "{\"a\": 3}");
}

static void latest_never_goes_back(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world_configure(&world);
    world_connect(&world, 10);
    world_send_numbers(&world, "telemetry", 1, 3); // 1 is in flight, 3 waits for it
    assert_int_equal(world.n_sent, 1);
    world_disconnect(&world); // 1 may have arrived
    world_connect(&world, 10);
    world_ack_all(&world);
    uint64_t last = 0;
    for (size_t i = 0; i < world.n_sent; i++) {
        assert_true(world_number(&world.sent[i]) >= last);
        last = world_number(&world.sent[i]);
    }
    assert_int_equal(last, 3);
    assert_int_equal(world.n_sent, 2);
}

static void assert_latest_never_went_back(void)
{
    for (size_t i = 1; i < world.n_sent; i++)
        assert_true(world_number(&world.sent[i]) >= world_number(&world.sent[i - 1]));
}

static void latest_does_not_go_back_with_a_crash_before_the_newer_one_was_written(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_connect(&world, 10);
    world_ack_all(&world); // it is still to be removed from the store
    world_send(&world, "telemetry", "{\"n\": 2}");
    world_ack(&world, 0);
    world_crash(&world, false);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_latest_never_went_back();
}

static void latest_does_not_go_back_with_a_crash_where_the_newer_one_is_not_written(void **state)
{
    (void)state;
    world.options.durability = STREAM_OUTAGE;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_connect(&world, 10);
    world_ack_all(&world);
    world_send_numbers(&world, "telemetry", 2, 2);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 2);
    assert_int_equal(world.n_puts, 1); // the older one's removal is what is waited for
    world_crash(&world, false);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_latest_never_went_back();
}

/* What was not synced when the plug is pulled comes back: the removal of an older value, too. */
static void latest_does_not_go_back_with_a_power_cut(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_pass(&world, 2 * USEC_PER_SEC); // 1 is safe
    world_send_numbers(&world, "telemetry", 2, 2);
    world_send_numbers(&world, "telemetry", 3, 3);
    unsigned n_syncs = world.n_syncs;
    outbox_connected(world.outbox, (struct link *)&world, 10);
    assert_int_equal(world.n_sent, 0);
    world_settle(&world);
    assert_true(world.n_syncs > n_syncs);
    assert_int_equal(world.n_sent, 1);
    assert_int_equal(world_number(&world.sent[0]), 3);
    n_syncs = world.n_syncs;
    world_ack(&world, 0);
    world_send(&world, "telemetry", "{\"n\": 4}"); // 3 may be on disk for good
    assert_int_equal(world.n_sent, 1);
    world_settle(&world);
    assert_int_equal(world.n_syncs, n_syncs + 1);
    assert_int_equal(world.n_sent, 2);
    n_syncs = world.n_syncs;
    for (unsigned n = 5; n < 100; n++) { // all goes well: the disk is left alone
        world_ack(&world, 0);
        world_send_numbers(&world, "telemetry", n, n);
    }
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 97);
    assert_int_equal(world.n_syncs, n_syncs);
}

static void latest_does_not_wait_for_a_disk_that_hangs(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_connect(&world, 10);
    world_ack_all(&world);
    for (unsigned i = 0; i < 10; i++) {
        world_send(&world, "telemetry", "{\"n\": 2}"); // each replaces the one before
        assert_int_equal(world.n_sent, 1);
        world.mono_usec += USEC_PER_SEC / 10;
    }
    assert_true(outbox_wake_mono_usec(world.outbox) <= world.mono_usec);
    outbox_tick(world.outbox);
    assert_int_equal(world.n_sent, 2);
    world_ack(&world, 0);
    world_send(&world, "telemetry", "{\"n\": 3}"); // and not another second
    assert_int_equal(world.n_sent, 3);
    assert_non_null(world.job);
}

static void latest_goes_by_subject(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_LATEST;
    world.policies[0].topic = "{stream}/{sensor}";
    world_configure(&world);
    for (int i = 0; i < 4; i++) {
        struct outbox_message message = { .stream = "telemetry",
                                          .subject = i % 2 ? "a" : "b",
                                          .payload = "{\"n\": 1}",
                                          .n_samples = 1,
                                          .qos = -1 };
        assert_int_equal(outbox_publish(world.outbox, &message), 0);
        world_settle(&world);
    }
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 2);
    assert_string_equal(world.sent[0].topic, "telemetry/b");
    assert_string_equal(world.sent[1].topic, "telemetry/a");
}

static void none_is_kept_where_none_is_to_be(void **state)
{
    (void)state;
    world.policies[0].keep = STREAM_KEEP_NONE;
    world_configure(&world);
    assert_int_equal(world_send(&world, "telemetry", "{\"n\": 1}"), -ENOTCONN);
    world_connect(&world, 1);
    world_send_numbers(&world, "telemetry", 2, 4);
    world_disconnect(&world);
    world_connect(&world, 1);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 1);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_DROPPED], 4);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
}

static void volatile_stream_is_never_written(void **state)
{
    (void)state;
    struct stream_policy *policy = world_stream(&world, "$state");
    policy->is_volatile = true;
    policy->topic = "state";
    world_configure(&world);
    unsigned n_jobs = world.n_jobs;
    world_send_numbers(&world, "$state", 1, 3);
    world_connect(&world, 10);
    world_ack_all(&world);
    world_pass(&world, 10 * USEC_PER_SEC);
    assert_int_equal(world.n_sent, 3);
    assert_string_equal(world.sent[0].seq, "");
    assert_int_equal(world.n_jobs, n_jobs);
}

/* --- bounds ---------------------------------------------------------------------------------- */

static void full_stream_drops_its_oldest(void **state)
{
    (void)state;
    world.policies[0].max_messages = 100;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 350);
    assert_int_equal(world_waiting(&world, "telemetry"), 100);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_DROPPED], 250);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 100);
    assert_int_equal(world_number(&world.sent[0]), 251);
    assert_int_equal(world_number(&world.sent[99]), 350);
}

static void full_stream_drops_its_newest_if_told_to(void **state)
{
    (void)state;
    world.policies[0].max_messages = 100;
    world.policies[0].when_full = STREAM_DROP_NEWEST;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 100);
    assert_int_equal(world_send(&world, "telemetry", "{\"n\": 101}"), -ENOBUFS);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 100);
    assert_int_equal(world_number(&world.sent[99]), 100);
}

static void full_queue_takes_from_the_least_important(void **state)
{
    (void)state;
    world_stream(&world, "alarms")->priority = 10;
    world.options.max_size = 1 << 20;
    world_configure(&world);
    world_send_numbers(&world, "alarms", 1, 100);
    world_send_numbers(&world, "telemetry", 1, 20000);
    uint64_t n_before = world_waiting(&world, "telemetry");
    assert_in_range(n_before, 5000, 19000);
    world_send_numbers(&world, "alarms", 101, 200);
    assert_int_equal(world_waiting(&world, "alarms"), 200);
    assert_true(world_waiting(&world, "telemetry") < n_before);
    ASSERT_LEDGER(&world, "alarms", ended[LEDGER_DROPPED], 0);
}

static void old_messages_expire_wherever_they_are(void **state)
{
    (void)state;
    world.policies[0].max_age_usec = 3600 * USEC_PER_SEC;
    world_configure(&world);
    for (unsigned n = 1; n <= 24 * 21; n++) { // three weeks, a message an hour
        world_send_numbers(&world, "telemetry", n, n);
        world_pass(&world, 3600 * USEC_PER_SEC);
    }
    assert_in_range(world_waiting(&world, "telemetry"), 0, 2);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_true(world.n_sent <= 1);
    world_pass(&world, 2 * USEC_PER_SEC);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_EXPIRED], 24 * 21 - world.n_sent);
}

static void fast_sender_is_bounded_while_the_broker_is_slow(void **state)
{
    struct outbox_counters counters;
    (void)state;
    world_configure(&world);
    world_connect(&world, 1);
    world_send_numbers(&world, "telemetry", 1, 5000); // to the disk and out of memory
    outbox_count(world.outbox, &counters);
    assert_int_equal(counters.queued + counters.in_flight, 5000);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 5000);
}

/* --- the broker says no ---------------------------------------------------------------------- */

static void refusal_for_want_of_rights_holds_the_stream(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 1);
    world_send_numbers(&world, "telemetry", 1, 2);
    assert_true(world_ack(&world, 0x87));
    assert_int_equal(world.n_sent, 1);
    world_pass(&world, 900 * USEC_PER_MSEC);
    assert_int_equal(world.n_sent, 1);
    world_pass(&world, 200 * USEC_PER_MSEC);
    assert_int_equal(world.n_sent, 2);
    assert_int_equal(world_number(&world.sent[1]), 1);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 3);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_REJECTED], 0);
}

static void passing_fault_is_tried_again_but_not_for_ever(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 1);
    world_send_numbers(&world, "telemetry", 1, 1);
    for (unsigned i = 0; i < 20 && world_ack(&world, 0x80); i++)
        world_pass(&world, 120 * USEC_PER_SEC);
    assert_int_equal(world.n_sent, 6);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_REJECTED], 1);
}

static void message_that_will_never_do_is_given_up(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 1);
    world_send_numbers(&world, "telemetry", 1, 2);
    assert_true(world_ack(&world, 0x99));
    assert_int_equal(world_number(&world.sent[1]), 2);
    world_ack_all(&world);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_REJECTED], 1);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 1);
}

/* --- true time ------------------------------------------------------------------------------- */

static void times_are_put_right_once_the_clock_is(void **state)
{
    (void)state;
    world.clock_is_right = false;
    world.wall_usec = 1000 * USEC_PER_SEC; // 1970: no clock without power
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_pass(&world, 100 * USEC_PER_SEC);
    world_connect(&world, 10);
    assert_int_equal(world.n_sent, 0); // the clock is about to be set
    world_send_numbers(&world, "telemetry", 2, 2);
    world.wall_usec = 1790000100 * USEC_PER_SEC;
    world.clock_is_right = true;
    world_pass(&world, 2 * USEC_PER_SEC);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 2);
    for (size_t i = 0; i < 2; i++) {
        if (world_number(&world.sent[i]) == 1)
            assert_string_equal(world.sent[i].time, "2026-09-21T14:13:20.000Z");
    }
}

static void clock_that_is_never_set_holds_nothing_up_for_long(void **state)
{
    (void)state;
    world.clock_is_right = false;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_pass(&world, 100 * USEC_PER_SEC);
    world_connect(&world, 10);
    assert_int_equal(world.n_sent, 0);
    world_pass(&world, 31 * USEC_PER_SEC);
    assert_int_equal(world.n_sent, 1);
}

static void messages_of_an_earlier_boot_have_its_time(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 1);
    world_reboot(&world, world.wall_usec + 7200 * USEC_PER_SEC);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 1);
    assert_string_equal(world.sent[0].time, "2026-09-21T14:13:20.000Z");
    assert_string_equal(world.sent[0].boot, "01000000000000000000000000000000");
}

static void time_in_the_payload_is_as_the_policy_says(void **state)
{
    (void)state;
    world.policies[0].time = STREAM_TIME_ALWAYS;
    world_stream(&world, "never")->time = STREAM_TIME_NEVER;
    world_configure(&world);
    world_send(&world, "never", "{\"a\": 1}");
    world_settle(&world);
    world_pass(&world, 10 * USEC_PER_SEC);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_sent(0, "never/late", "{\"a\": 1}");
    world_send(&world, "telemetry", "{}");
    assert_sent(1, "telemetry", "{\"time\": \"2026-09-21T14:13:30.000Z\"}");
}

/* --- when the disk fails --------------------------------------------------------------------- */

static void failing_disk_degrades_to_memory_and_recovers(void **state)
{
    (void)state;
    world_configure(&world);
    store_memory_set_error(world.store, EROFS);
    world_send_numbers(&world, "telemetry", 1, 50);
    assert_non_null(outbox_trouble(world.outbox));
    assert_int_equal(world_waiting(&world, "telemetry"), 50);
    world_pass(&world, 300 * USEC_PER_SEC);
    store_memory_set_error(world.store, 0);
    world_pass(&world, 31 * USEC_PER_SEC);
    assert_null(outbox_trouble(world.outbox));
    world_crash(&world, false);
    assert_int_equal(world_waiting(&world, "telemetry"), 50);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 50);
}

static void failing_disk_delays_no_message_even_strict(void **state)
{
    (void)state;
    world.options.durability = STREAM_STRICT;
    world_configure(&world);
    world_connect(&world, 10);
    store_memory_set_error(world.store, EIO);
    world_send_numbers(&world, "telemetry", 1, 3);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 3);
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_ACKED], 3);
}

static void stalled_disk_holds_no_message_up(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    world_send(&world, "telemetry", "{\"n\": 1}");
    assert_non_null(world.job); // and stays there
    for (unsigned n = 2; n <= 2000; n++) {
        char payload[32];
        snprintf(payload, sizeof(payload), "{\"n\": %u}", n);
        world_send(&world, "telemetry", payload);
        world_ack(&world, 0);
    }
    assert_true(world.n_sent >= 1990);
    world_ack_all(&world);
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
}

static void memory_is_bounded_while_the_disk_stalls(void **state)
{
    struct outbox_counters counters;
    (void)state;
    world_stream(&world, "alarms")->priority = 10;
    world_configure(&world);
    world_send(&world, "telemetry", "{\"n\": 0}");
    assert_non_null(world.job);
    for (unsigned n = 1; n <= 3 * OUTBOX_MAX_MESSAGES; n++)
        world_send(&world, "telemetry", "{\"n\": 1}");
    outbox_count(world.outbox, &counters);
    assert_int_equal(counters.queued, OUTBOX_MAX_MESSAGES);
    assert_int_equal(counters.dropped, 2 * OUTBOX_MAX_MESSAGES + 1);
    assert_int_equal(world_send(&world, "alarms", "{\"n\": 1}"), 0);
    world_settle(&world);
    assert_int_equal(world_waiting(&world, "telemetry"), OUTBOX_MAX_MESSAGES - 1);
    assert_int_equal(world_waiting(&world, "alarms"), 1);
}

/* A full disk takes no message, but the removal of what was sent makes room. */
static void full_disk_is_drained(void **state)
{
    (void)state;
    world_configure(&world);
    world_send_numbers(&world, "telemetry", 1, 3000);
    store_memory_set_room(world.store, false);
    world_send_numbers(&world, "telemetry", 3001, 3001);
    assert_non_null(outbox_trouble(world.outbox));
    world_connect(&world, 50);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 3001);
    store_memory_set_room(world.store, true);
    world_pass(&world, 60 * USEC_PER_SEC);
    assert_null(outbox_trouble(world.outbox));
    assert_int_equal(world_waiting(&world, "telemetry"), 0);
}

static void connection_that_ends_before_it_was_there_closes_nothing(void **state)
{
    (void)state;
    world_configure(&world);
    outbox_close(world.outbox);
    outbox_disconnected(world.outbox);
    world_connect(&world, 10);
    world_send_numbers(&world, "telemetry", 1, 1);
    assert_int_equal(world.n_sent, 1);
    outbox_close(world.outbox);
    world_send_numbers(&world, "telemetry", 2, 2);
    assert_int_equal(world.n_sent, 1);
}

/* --- records and leftovers ------------------------------------------------------------------- */

static void note_record(void *userdata, const char *key, const char *value)
{
    snprintf(userdata, 32, "%s=%s", key, value);
}

static void record_goes_with_the_message_of_its_turn(void **state)
{
    char text[32] = "";
    (void)state;
    world_stream(&world, "$replies")->is_strict = true;
    world_configure(&world);
    unsigned n_jobs = world.n_jobs;
    assert_int_equal(outbox_put_record(world.outbox, "command", "c1", "done"), 0);
    world_send(&world, "$replies", "{\"$id\": \"c1\"}");
    world_settle(&world);
    assert_int_equal(world.n_jobs, n_jobs + 1);
    assert_int_equal(store_memory_records(world.store, "command", note_record, text, NULL), 0);
    assert_string_equal(text, "c1=done");
    assert_int_equal(outbox_put_record(world.outbox, "command", "c1", NULL), 0);
    world_pass(&world, USEC_PER_SEC);
    text[0] = '\0';
    assert_int_equal(store_memory_records(world.store, "command", note_record, text, NULL), 0);
    assert_string_equal(text, "");
}

static void synced_record_is_told_once_it_is_through_a_power_cut(void **state)
{
    (void)state;
    world_configure(&world);
    world_pass(&world, 5 * USEC_PER_SEC);
    unsigned n_syncs = world.n_syncs;
    assert_int_equal(outbox_put_record(world.outbox, "command", "c1", "open"), 0);
    uint64_t ticket = outbox_sync_records(world.outbox);
    outbox_tick(world.outbox);
    assert_non_null(world.job);
    assert_int_equal(world.recorded_ticket, 0);
    // What comes while that job is at work is none of it.
    assert_int_equal(outbox_put_record(world.outbox, "command", "c2", "open"), 0);
    uint64_t second = outbox_sync_records(world.outbox);
    assert_true(second > ticket);
    world_work(&world);
    world_tick(&world);
    assert_int_equal(world.recorded_ticket, ticket);
    world_settle(&world);
    world_tick(&world);
    assert_int_equal(world.recorded_ticket, second);
    assert_int_equal(world.n_syncs, n_syncs + 2);
}

static void failing_disk_holds_no_record_up(void **state)
{
    (void)state;
    world_configure(&world);
    store_memory_set_error(world.store, EIO);
    assert_int_equal(outbox_put_record(world.outbox, "command", "c1", "open"), 0);
    uint64_t ticket = outbox_sync_records(world.outbox);
    world_pass(&world, 0);
    assert_int_equal(world.recorded_ticket, ticket); // told by the tick that was asked for
    ticket = outbox_sync_records(world.outbox);      // and none of those that come meanwhile
    world_pass(&world, USEC_PER_MSEC);
    assert_int_equal(world.recorded_ticket, ticket);
}

static void stream_that_is_no_more_is_still_drained(void **state)
{
    (void)state;
    world_stream(&world, "old");
    world_configure(&world);
    world_send_numbers(&world, "old", 1, 3);
    world.n_policies = 1;
    world_crash(&world, false);
    char *const names[] = { (char *)"old", (char *)"telemetry", NULL };
    outbox_adopt(world.outbox, names);
    world_settle(&world);
    world_connect(&world, 10);
    world_ack_all(&world);
    assert_int_equal(world.n_sent, 3);
}

/* --- all of it, at random -------------------------------------------------------------------- */

static uint32_t seed;
static unsigned n_crashes;

static uint32_t random_below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void random_step(unsigned *n_published)
{
    char payload[32];
    switch (random_below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        snprintf(payload, sizeof(payload), "{\"n\": %u}", ++*n_published);
        world_send(&world, "telemetry", payload);
        break;
    case 4:
    case 5:
        world_ack(&world, 0);
        break;
    case 6:
        world_ack(&world, random_below(4) == 0 ? 0x80 : 0);
        break;
    case 7:
    case 8:
        if (world.job)
            world_work(&world);
        break;
    case 9:
        store_memory_set_error(world.store, random_below(3) == 0 ? EIO : 0);
        break;
    case 10:
        world_pass(&world, random_below(3000) * USEC_PER_MSEC);
        break;
    default:
        if (random_below(6) > 0)
            break;
        if (random_below(3) == 0) {
            world_disconnect(&world);
        } else if (random_below(3) == 0) {
            world_disconnect(&world);
            store_memory_set_error(world.store, 0);
            world_settle(&world); // else what is lost is not known
            world_pass(&world, 40 * USEC_PER_SEC);
            world_crash(&world, random_below(2));
            n_crashes++;
        } else {
            outbox_disconnected(world.outbox);
            world_disconnect(&world);
            outbox_connected(world.outbox, (struct link *)&world, 1 + random_below(30));
        }
    }
}

static void check_balance(void)
{
    struct outbox_counters counters;
    uint64_t in_flight;
    struct ledger ledger = world_ledger(&world, "telemetry", &in_flight);
    outbox_count(world.outbox, &counters);
    assert_int_equal(ledger_waiting(&ledger), counters.queued + counters.in_flight);
    assert_int_equal(in_flight, counters.in_flight);
}

static void whatever_happens_the_ledger_balances_and_all_arrives(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 60; round++) {
        unsigned n_published = n_crashes = 0;
        static bool arrived[3000];
        uint32_t first_seed = seed = round * 7919 + 1;
        world_done(&world);
        world_init(&world);
        world.policies[0].order = round % 2 ? STREAM_IN_ORDER : STREAM_LIVE_FIRST;
        world.options.durability = (enum stream_durability)(round % 3);
        world_configure(&world);
        memset(arrived, 0, sizeof(arrived));
        for (unsigned step = 0; step < 1500; step++) {
            random_step(&n_published);
            check_balance();
        }
        store_memory_set_error(world.store, 0);
        outbox_disconnected(world.outbox);
        world_disconnect(&world);
        world_connect(&world, 20);
        for (unsigned i = 0; i < 50 && world_waiting(&world, "telemetry") > 0; i++) {
            world_ack_all(&world);
            world_pass(&world, 31 * USEC_PER_SEC);
        }
        check_balance();
        assert_int_equal(world_waiting(&world, "telemetry"), 0);
        for (size_t i = 0; i < world.n_sent; i++)
            arrived[world_number(&world.sent[i])] = true;
        uint64_t in_flight;
        struct ledger ledger = world_ledger(&world, "telemetry", &in_flight);
        for (unsigned n = 1; n <= n_published; n++) {
            if (!arrived[n] && ledger.ended[LEDGER_REJECTED] == 0)
                fail_msg("seed %u: message %u of %u has not arrived", first_seed, n, n_published);
        }
        assert_int_equal(ledger.ended[LEDGER_DROPPED], 0);
        if (n_crashes == 0) // one forgets the counts of what never came to disk
            assert_int_equal(ledger.sampled, n_published);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(message_is_sent_at_once_and_acknowledged),
        TEST(window_is_never_exceeded),
        TEST(bytes_in_flight_are_limited_as_well),
        TEST(message_beyond_the_limit_of_bytes_goes_alone),
        TEST(connection_that_takes_nothing_keeps_the_message),
        TEST(message_that_cannot_be_sent_is_rejected_and_counted),
        TEST(outage_is_made_up_for_in_order_with_true_times),
        TEST(crash_loses_nothing_that_was_written),
        TEST(what_was_in_flight_is_sent_again_and_no_more),
        TEST(slow_store_makes_nothing_be_sent_twice),
        TEST(live_messages_are_sent_between_the_late_ones),
        TEST(in_order_a_fresh_message_waits_for_the_late_ones),
        TEST(drain_rate_is_kept_and_live_ones_pass),
        TEST(higher_priority_goes_first),
        TEST(strict_is_on_disk_before_it_is_sent),
        TEST(batched_is_sent_at_once_and_written_at_once),
        TEST(acknowledged_message_leaves_the_disk_with_the_next_one),
        TEST(outage_writes_nothing_while_all_is_acknowledged_in_time),
        TEST(clean_end_leaves_no_gap_in_the_numbers_and_a_crash_uses_none_twice_in_a_run),
        TEST(what_waits_keeps_its_run_and_no_number_is_skipped_after_a_crash),
        TEST(what_was_delivered_wants_no_sync_and_wakes_nobody),
        TEST(numbers_are_sealed_by_a_clean_end_alone),
        TEST(counters_of_what_was_never_written_are_kept_by_a_clean_end),
        TEST(latest_is_all_that_is_kept),
        TEST(latest_keeps_what_the_newer_one_does_not_say),
        TEST(latest_never_goes_back),
        TEST(latest_does_not_go_back_with_a_crash_before_the_newer_one_was_written),
        TEST(latest_does_not_go_back_with_a_crash_where_the_newer_one_is_not_written),
        TEST(latest_does_not_go_back_with_a_power_cut),
        TEST(latest_does_not_wait_for_a_disk_that_hangs),
        TEST(latest_goes_by_subject),
        TEST(none_is_kept_where_none_is_to_be),
        TEST(volatile_stream_is_never_written),
        TEST(full_stream_drops_its_oldest),
        TEST(full_stream_drops_its_newest_if_told_to),
        TEST(full_queue_takes_from_the_least_important),
        TEST(old_messages_expire_wherever_they_are),
        TEST(fast_sender_is_bounded_while_the_broker_is_slow),
        TEST(refusal_for_want_of_rights_holds_the_stream),
        TEST(passing_fault_is_tried_again_but_not_for_ever),
        TEST(message_that_will_never_do_is_given_up),
        TEST(times_are_put_right_once_the_clock_is),
        TEST(clock_that_is_never_set_holds_nothing_up_for_long),
        TEST(messages_of_an_earlier_boot_have_its_time),
        TEST(time_in_the_payload_is_as_the_policy_says),
        TEST(failing_disk_degrades_to_memory_and_recovers),
        TEST(failing_disk_delays_no_message_even_strict),
        TEST(stalled_disk_holds_no_message_up),
        TEST(memory_is_bounded_while_the_disk_stalls),
        TEST(full_disk_is_drained),
        TEST(connection_that_ends_before_it_was_there_closes_nothing),
        TEST(record_goes_with_the_message_of_its_turn),
        TEST(synced_record_is_told_once_it_is_through_a_power_cut),
        TEST(failing_disk_holds_no_record_up),
        TEST(stream_that_is_no_more_is_still_drained),
        TEST(whatever_happens_the_ledger_balances_and_all_arrives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
