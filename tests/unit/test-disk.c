// SPDX-License-Identifier: LGPL-2.1-or-later
// What the disk is given and when, how a failing one is tried again, what a stop tries, what is
// said.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "outbox/disk.h"
#include "util/clock.h"

#define MSEC USEC_PER_MSEC
#define SEC  USEC_PER_SEC

/* A disk, what there is for it, and the time. */
struct bench {
    struct disk disk;
    struct disk_work work;
    uint64_t now_mono_usec;
};

static struct bench bench;

static int set_up(void **state)
{
    (void)state;
    bench = (struct bench){
        .disk = { .commit_interval_usec = SEC },
        .work = { .put_mono_usec = USEC_INFINITY, .other_mono_usec = USEC_INFINITY },
        .now_mono_usec = 1000 * SEC,
    };
    return 0;
}

static struct disk_step next(void)
{
    return disk_next(&bench.disk, &bench.work, bench.now_mono_usec);
}

static struct disk_job job(size_t n_puts, bool sync)
{
    return (
        struct disk_job){ .n_puts = n_puts, .sync = sync, .ticket = disk_last_ticket(&bench.disk) };
}

static enum disk_news done(size_t n_puts, bool sync, bool has_room)
{
    const struct disk_job facts = job(n_puts, sync);
    return disk_done(&bench.disk, &facts, sync, has_room, bench.work.put_mono_usec == 0,
                     bench.now_mono_usec);
}

static enum disk_news fail_with(int error, size_t n_puts)
{
    const struct disk_job facts = job(n_puts, false);
    return disk_failed(&bench.disk, &facts, -error, error == EIO ? "I/O error" : "no space",
                       bench.now_mono_usec);
}

/* How long until there is a job. */
static uint64_t wait_for_job(void)
{
    uint64_t begin_mono_usec = bench.now_mono_usec;
    for (unsigned i = 0; i < 100; i++) {
        struct disk_step step = next();
        if (step.runs)
            return bench.now_mono_usec - begin_mono_usec;
        assert_true(step.wake_mono_usec != USEC_INFINITY);
        assert_true(step.wake_mono_usec > bench.now_mono_usec);
        bench.now_mono_usec = step.wake_mono_usec;
    }
    fail_msg("there is never a job");
    return 0;
}

/* --- while all goes well --------------------------------------------------------------------- */

static void nothing_to_do_is_no_job_and_nothing_to_wake_up_for(void **state)
{
    (void)state;
    struct disk_step step = next();
    assert_false(step.runs);
    assert_true(step.wake_mono_usec == USEC_INFINITY);
    bench.work.has_counts = true; // counters alone are no reason
    assert_false(next().runs);
}

static void message_is_written_when_it_is_due(void **state)
{
    (void)state;
    bench.work.put_mono_usec = bench.now_mono_usec + 300 * MSEC;
    assert_int_equal(wait_for_job(), 300 * MSEC);
    assert_true(next().puts);
}

static void what_is_done_with_is_removed_together_or_after_ten_seconds(void **state)
{
    (void)state;
    bench.work.n_done = 1;
    assert_int_equal(wait_for_job(), 10 * SEC);
    done(0, false, true);
    assert_false(next().runs);
    bench.work.n_done = 255;
    assert_false(next().runs);
    bench.work.n_done = 256;
    assert_true(next().runs);
    bench.work.n_done = 1;
    bench.work.is_waited_for = true;
    assert_true(next().runs);
}

static void what_waits_on_disk_is_synced_after_the_interval(void **state)
{
    (void)state;
    bench.work.is_connected = true;
    bench.work.put_mono_usec = 0;
    assert_false(next().syncs);
    bench.work.put_mono_usec = USEC_INFINITY;
    done(1, false, true);
    bench.work.n_waiting = 1;
    assert_int_equal(wait_for_job(), SEC);
    assert_true(next().syncs);
    done(0, true, true);
    assert_false(next().runs);
}

static void what_has_been_delivered_is_not_synced(void **state)
{
    (void)state;
    bench.work.is_connected = true;
    done(1, false, true);
    bench.now_mono_usec += 5 * SEC;
    assert_false(next().runs);
}

static void cut_off_the_sync_comes_along_with_what_is_written(void **state)
{
    (void)state;
    bench.work.put_mono_usec = 0;
    assert_true(next().syncs);
    done(1, true, true);
    assert_false(next().syncs); // not within the interval
    bench.now_mono_usec += SEC;
    assert_true(next().syncs);
}

static void removal_that_must_not_come_undone_is_synced_at_once(void **state)
{
    (void)state;
    const struct disk_job facts = { .removes_latest = true };
    disk_done(&bench.disk, &facts, false, true, false, bench.now_mono_usec);
    bench.work.is_connected = bench.work.has_unsynced = true;
    struct disk_step step = next();
    assert_true(step.runs && step.syncs);
}

static void record_is_told_once_it_is_synced(void **state)
{
    (void)state;
    uint64_t ticket = disk_ticket(&bench.disk);
    struct disk_step step = next();
    assert_true(step.runs && step.syncs);
    const struct disk_job facts = job(0, true);
    uint64_t second = disk_ticket(&bench.disk); // of none of what the job has
    assert_int_equal(disk_recorded(&bench.disk), 0);
    disk_done(&bench.disk, &facts, true, true, false, bench.now_mono_usec);
    assert_int_equal(disk_recorded(&bench.disk), ticket);
    assert_true(next().runs);
    done(0, true, true);
    assert_int_equal(disk_recorded(&bench.disk), second);
}

/* --- while it fails -------------------------------------------------------------------------- */

static void failing_disk_is_tried_again_after_ever_longer_pauses(void **state)
{
    static const uint64_t pauses_sec[] = { 1, 2, 4, 8, 16, 30, 30 };
    (void)state;
    bench.work.put_mono_usec = 0;
    for (size_t i = 0; i < sizeof(pauses_sec) / sizeof(*pauses_sec); i++) {
        assert_int_equal(fail_with(EIO, 1), i == 0 ? DISK_FAILS : DISK_NO_NEWS);
        assert_int_equal(wait_for_job(), pauses_sec[i] * SEC);
    }
    assert_int_equal(fail_with(ENOSPC, 0), DISK_FAILS); // another cause is news
    assert_string_equal(disk_cause(&bench.disk), "no space");
}

static void nobody_waits_for_a_record_while_the_disk_fails(void **state)
{
    (void)state;
    uint64_t ticket = disk_ticket(&bench.disk);
    fail_with(EIO, 0);
    assert_int_equal(disk_recorded(&bench.disk), ticket);
    ticket = disk_ticket(&bench.disk);
    assert_false(next().runs);
    assert_int_equal(disk_recorded(&bench.disk), ticket);
}

static void full_disk_holds_back_messages_alone(void **state)
{
    (void)state;
    bench.work.put_mono_usec = 0;
    bench.work.other_mono_usec = 0;
    fail_with(ENOSPC, 1);
    struct disk_step step = next();
    assert_true(step.runs);
    assert_false(step.puts);
    bench.work.other_mono_usec = USEC_INFINITY;
    assert_int_equal(wait_for_job(), SEC);
    assert_true(next().puts);
}

static void bound_of_the_user_is_no_failure_to_tell(void **state)
{
    (void)state;
    assert_int_equal(fail_with(ENOBUFS, 1), DISK_NO_NEWS);
    assert_non_null(disk_cause(&bench.disk));
}

static void that_it_works_again_is_told_when_all_is_written_and_not_before(void **state)
{
    (void)state;
    bench.work.put_mono_usec = 0;
    fail_with(ENOSPC, 1);
    assert_int_equal(done(0, true, true), DISK_NO_NEWS); // room, but nothing was written yet
    assert_non_null(disk_cause(&bench.disk));
    assert_int_equal(done(2000, true, true), DISK_NO_NEWS); // and more waits
    bench.work.put_mono_usec = USEC_INFINITY;
    assert_int_equal(done(500, true, true), DISK_HAS_WRITTEN);
    assert_null(disk_cause(&bench.disk));
    assert_int_equal(done(1, true, true), DISK_NO_NEWS);
}

static void nothing_is_told_to_be_written_where_nothing_had_to_be_kept(void **state)
{
    (void)state;
    fail_with(ENOSPC, 0);
    assert_int_equal(done(0, true, false), DISK_NO_NEWS); // still no room
    assert_int_equal(done(0, true, true), DISK_WORKS);
}

/* --- a stop ---------------------------------------------------------------------------------- */

static void stop_does_not_wait_for_the_next_retry(void **state)
{
    (void)state;
    bench.work.put_mono_usec = 0;
    for (unsigned i = 0; i < 6; i++)
        fail_with(EIO, 1);
    assert_false(next().runs);
    disk_stop(&bench.disk);
    assert_false(disk_is_over(&bench.disk));
    struct disk_step step = next();
    assert_true(step.runs && step.puts && step.syncs);
    bench.work.put_mono_usec = USEC_INFINITY;
    assert_int_equal(done(600, true, true), DISK_HAS_WRITTEN);
    assert_false(next().runs);
    assert_true(disk_is_over(&bench.disk));
}

static void stop_writes_what_is_not_due_yet(void **state)
{
    (void)state;
    bench.work.put_mono_usec = bench.now_mono_usec + SEC;
    bench.work.has_counts = true;
    disk_stop(&bench.disk);
    assert_true(next().puts);
    bench.work.put_mono_usec = USEC_INFINITY;
    done(1, true, true);
    assert_true(next().runs); // for the counts
}

static void stop_gives_up_after_three_tries_and_counts_what_is_lost(void **state)
{
    static const int errors[] = { EIO, ENOSPC };
    for (size_t i = 0; i < 2; i++) {
        set_up(state);
        bench.work.put_mono_usec = 0;
        disk_stop(&bench.disk);
        assert_true(next().runs);
        fail_with(errors[i], 1);
        assert_int_equal(wait_for_job(), 50 * MSEC);
        assert_false(disk_is_over(&bench.disk));
        fail_with(errors[i], 1);
        assert_int_equal(wait_for_job(), 100 * MSEC);
        fail_with(errors[i], 1);
        assert_true(next().gives_up);
        bench.work.has_counts = true; // of what was given up
        struct disk_step step = next();
        assert_true(step.runs);
        assert_false(step.puts);
        bench.work.has_counts = false;
        assert_int_equal(done(0, true, true), DISK_NO_NEWS); // nothing works again
        assert_false(next().runs);
        assert_true(disk_is_over(&bench.disk));
    }
}

static void stop_ends_when_not_even_counts_can_be_written(void **state)
{
    (void)state;
    bench.work.put_mono_usec = 0;
    disk_stop(&bench.disk);
    for (unsigned i = 0; i < 3; i++) {
        wait_for_job();
        fail_with(EIO, 1);
    }
    assert_true(next().gives_up);
    bench.work.has_counts = true;
    assert_true(next().runs);
    fail_with(EIO, 0);
    assert_false(next().runs);
    assert_true(disk_is_over(&bench.disk));
}

static void stop_does_not_sync_for_ever(void **state)
{
    (void)state;
    const struct disk_job facts = { .n_puts = 1, .sync = true };
    disk_stop(&bench.disk);
    bench.work.n_waiting = 1;
    for (unsigned i = 0; i < 3; i++) {
        disk_done(&bench.disk, &facts, false, true, false, bench.now_mono_usec);
        if (i < 2)
            wait_for_job();
    }
    assert_false(next().runs);
    assert_true(disk_is_over(&bench.disk));
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_to_do_is_no_job_and_nothing_to_wake_up_for),
        TEST(message_is_written_when_it_is_due),
        TEST(what_is_done_with_is_removed_together_or_after_ten_seconds),
        TEST(what_waits_on_disk_is_synced_after_the_interval),
        TEST(what_has_been_delivered_is_not_synced),
        TEST(cut_off_the_sync_comes_along_with_what_is_written),
        TEST(removal_that_must_not_come_undone_is_synced_at_once),
        TEST(record_is_told_once_it_is_synced),
        TEST(failing_disk_is_tried_again_after_ever_longer_pauses),
        TEST(nobody_waits_for_a_record_while_the_disk_fails),
        TEST(full_disk_holds_back_messages_alone),
        TEST(bound_of_the_user_is_no_failure_to_tell),
        TEST(that_it_works_again_is_told_when_all_is_written_and_not_before),
        TEST(nothing_is_told_to_be_written_where_nothing_had_to_be_kept),
        TEST(stop_does_not_wait_for_the_next_retry),
        TEST(stop_writes_what_is_not_due_yet),
        TEST(stop_gives_up_after_three_tries_and_counts_what_is_lost),
        TEST(stop_ends_when_not_even_counts_can_be_written),
        TEST(stop_does_not_sync_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
