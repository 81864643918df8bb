// SPDX-License-Identifier: LGPL-2.1-or-later
// The store's thread between real outboxes and a real file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/worker.h"
#include "outbox-configure.h"
#include "outbox/spool.h"
#include "util/clock.h"

struct role {
    struct spool_client *client;
    struct outbox *outbox;
};

static char directory[] = "/tmp/test-spool-XXXXXX";
static sd_event *event;
static struct spool *spool;

static int run(void *userdata, struct store_job *job)
{
    return spool_run(((struct role *)userdata)->client, job);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(directory + strlen(directory) - 6, "XXXXXX");
    assert_non_null(mkdtemp(directory));
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(spool_new(event, directory, 64 << 20, &spool), 0);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = { "queue.db", "queue.db-wal", "reserve" };
    char path[128];
    (void)state;
    spool_free(spool);
    spool = NULL;
    event = sd_event_unref(event);
    assert_int_equal(worker_wait_for_orphans(10 * USEC_PER_SEC), 0);
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(directory), 0);
    return 0;
}

static void role_init(struct role *role, const char *stream, bool adopts)
{
    const struct outbox_options options = { .commit_interval_usec = USEC_PER_SEC,
                                            .max_size = 64 << 20,
                                            .name = "test" };
    const struct stream_policy policy = {
        .name = stream, .qos = 1, .max_age_usec = USEC_INFINITY, .max_messages = UINT64_MAX
    };
    assert_int_equal(outbox_new(spool_boot(spool), spool_run_id(spool), run, role, &role->outbox),
                     0);
    assert_int_equal(spool_add(spool, role->outbox, adopts, &role->client), 0);
    assert_int_equal(outbox_configure(role->outbox, &options, &policy, 1), 0);
}

static void publish(struct role *role, const char *stream)
{
    const struct outbox_message message = {
        .stream = stream, .payload = "{\"a\": 1}", .n_samples = 1, .qos = -1
    };
    assert_int_equal(outbox_publish(role->outbox, &message), 0);
}

static uint64_t waiting(const struct role *role, const char *stream)
{
    const char *name;
    struct ledger ledger;
    uint64_t in_flight;
    for (size_t i = 0; outbox_ledger(role->outbox, i, &name, &ledger, &in_flight); i++) {
        if (strcmp(name, stream) == 0)
            return ledger_waiting(&ledger);
    }
    return UINT64_MAX;
}

static void finish(struct role *role)
{
    outbox_quiesce(role->outbox);
    for (unsigned i = 0; !outbox_is_committed(role->outbox); i++) {
        assert_true(i < 1000);
        assert_true(sd_event_run(event, USEC_PER_SEC) >= 0);
    }
}

static void reopen(void)
{
    spool_free(spool);
    assert_int_equal(spool_new(event, directory, 64 << 20, &spool), 0);
}

static void start_knows_what_is_there(void **state)
{
    struct role role = { 0 };
    (void)state;
    role_init(&role, "s", true);
    publish(&role, "s"); // before the thread: at once
    finish(&role);
    spool_remove(role.client);
    reopen();
    role_init(&role, "s", true);
    assert_int_equal(waiting(&role, "s"), 1);
    spool_remove(role.client);
}

static void outboxes_share_the_thread_by_turns(void **state)
{
    struct role one = { 0 }, other = { 0 };
    (void)state;
    role_init(&one, "one", true);
    role_init(&other, "other", false);
    spool_start(spool);
    for (unsigned i = 0; i < 500; i++) {
        publish(&one, "one");
        publish(&other, "other");
        if (i % 50 == 0)
            assert_true(sd_event_run(event, 0) >= 0);
    }
    finish(&one);
    finish(&other);
    assert_false(spool_is_stalled(spool));
    spool_remove(one.client);
    spool_remove(other.client);
    reopen();
    role_init(&one, "one", true);
    role_init(&other, "other", false);
    assert_int_equal(waiting(&one, "one"), 500);
    assert_int_equal(waiting(&other, "other"), 500);
    spool_remove(one.client);
    spool_remove(other.client);
}

static void what_nobody_configures_is_adopted_by_one(void **state)
{
    struct role one = { 0 }, other = { 0 };
    (void)state;
    role_init(&one, "left", true);
    publish(&one, "left");
    finish(&one);
    spool_remove(one.client);
    reopen();
    role_init(&other, "other", false);
    role_init(&one, "one", true);
    assert_int_equal(waiting(&one, "left"), 1);
    assert_int_equal(waiting(&other, "left"), UINT64_MAX);
    spool_remove(one.client);
    spool_remove(other.client);
}

/* A role that goes while its job is at work, or waits for its turn behind another's. */
static void outbox_may_go_before_its_job_is_back(void **state)
{
    struct role one = { 0 }, other = { 0 };
    (void)state;
    role_init(&one, "one", true);
    role_init(&other, "other", false);
    spool_start(spool);
    publish(&one, "one");
    publish(&other, "other");
    spool_remove(other.client);
    spool_remove(one.client);
    for (unsigned i = 0; i < 20; i++)
        assert_true(sd_event_run(event, 10 * USEC_PER_MSEC) >= 0);
}

/* The process ends while the disk is at work: the thread cleans up behind itself. */
static void spool_may_go_while_a_job_is_at_work(void **state)
{
    struct role one = { 0 };
    (void)state;
    role_init(&one, "one", true);
    spool_start(spool);
    for (unsigned i = 0; i < 100; i++)
        publish(&one, "one");
    spool_remove(one.client);
    spool_free(spool);
    spool = NULL;
}

static void on_record(void *userdata, const char *key, const char *value)
{
    size_t *n = userdata;
    assert_string_equal(key, "key");
    assert_string_equal(value, "value");
    ++*n;
}

struct newcomer {
    struct role role;
    unsigned n_calls;
    size_t n_records;
};

static void on_spool(void *userdata, enum spool_event spool_event)
{
    struct newcomer *newcomer = userdata;
    if (spool_event != SPOOL_PAUSES)
        return;
    newcomer->n_calls++;
    role_init(&newcomer->role, "other", false);
    outbox_tick(newcomer->role.outbox); // its first job, which waits
    assert_int_equal(spool_records(spool, "space", on_record, &newcomer->n_records, NULL), 0);
}

/* A role that a reload has switched on. */
static void role_that_comes_later_reads_what_is_there_before_its_first_job(void **state)
{
    struct role one = { 0 };
    struct newcomer newcomer = { 0 };
    (void)state;
    role_init(&one, "one", true);
    spool_start(spool);
    assert_int_equal(outbox_put_record(one.outbox, "space", "key", "value"), 0);
    outbox_tick(one.outbox);
    assert_int_equal(spool_records(spool, "space", on_record, &newcomer.n_records, NULL), -EBUSY);
    spool_listen(spool, on_spool, &newcomer);
    spool_pause(spool);
    publish(&one, "one"); // waits as well
    assert_int_equal(newcomer.n_calls, 0);
    finish(&one);
    assert_int_equal(newcomer.n_calls, 1);
    assert_int_equal(newcomer.n_records, 1);
    finish(&newcomer.role);
    spool_remove(newcomer.role.client);
    spool_remove(one.client);
}

static void pause_that_is_not_wanted_any_more_is_not_called(void **state)
{
    struct role one = { 0 };
    struct newcomer newcomer = { 0 };
    (void)state;
    role_init(&one, "one", true);
    spool_start(spool);
    publish(&one, "one");
    outbox_tick(one.outbox);
    spool_listen(spool, on_spool, &newcomer);
    spool_pause(spool);
    spool_forget_pause(spool);
    finish(&one);
    assert_int_equal(newcomer.n_calls, 0);
    spool_remove(one.client);
}

static void ignore_record(void *userdata, const char *key, const char *value)
{
    (void)userdata, (void)key, (void)value;
}

/* What cannot be used is told to who asks for records, and to the outbox; all goes on in memory. */
static void assert_in_memory(const char *reason)
{
    struct role role = { 0 };
    struct why why = { "" };
    assert_int_equal(spool_new(event, directory, 64 << 20, &spool), 0);
    assert_true(spool_records(spool, "space", ignore_record, NULL, &why) < 0);
    assert_non_null(strstr(why.text, reason));
    spool_start(spool);
    role_init(&role, "s", true);
    publish(&role, "s");
    while (!outbox_trouble(role.outbox) || !strstr(outbox_trouble(role.outbox), reason))
        assert_true(sd_event_run(event, USEC_INFINITY) >= 0);
    assert_int_equal(waiting(&role, "s"), 1);
    spool_remove(role.client);
}

static void newer_file_is_no_reason_to_stop(void **state)
{
    char path[256];
    (void)state;
    spool_free(spool);
    spool = NULL;
    // As a later version would leave it: user_version is at offset 60 of the file.
    snprintf(path, sizeof(path), "%s/queue.db", directory);
    FILE *file = fopen(path, "r+be");
    assert_non_null(file);
    assert_int_equal(fseek(file, 60, SEEK_SET), 0);
    assert_int_equal(fwrite("\0\0\0\x63", 1, 4, file), 4);
    fclose(file);
    assert_in_memory("queue.db is of version 99, by a newer nightlightd");
}

/* SQLite would follow it 200 times, each time deeper in the thread's stack. */
static void link_to_itself_is_no_reason_to_stop(void **state)
{
    char path[256];
    (void)state;
    spool_free(spool);
    spool = NULL;
    snprintf(path, sizeof(path), "%s/queue.db", directory);
    unlink(path);
    assert_int_equal(symlink("queue.db", path), 0);
    assert_in_memory("queue.db is a symbolic link");
}

static void directory_that_cannot_be_used_is_no_reason_to_stop(void **state)
{
    struct role role = { 0 };
    (void)state;
    spool_free(spool);
    assert_int_equal(spool_new(event, "/proc/nowhere", 64 << 20, &spool), 0);
    role_init(&role, "s", true);
    publish(&role, "s");
    assert_non_null(outbox_trouble(role.outbox));
    assert_int_equal(waiting(&role, "s"), 1);
    spool_remove(role.client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(start_knows_what_is_there),
        TEST(outboxes_share_the_thread_by_turns),
        TEST(what_nobody_configures_is_adopted_by_one),
        TEST(outbox_may_go_before_its_job_is_back),
        TEST(spool_may_go_while_a_job_is_at_work),
        TEST(role_that_comes_later_reads_what_is_there_before_its_first_job),
        TEST(pause_that_is_not_wanted_any_more_is_not_called),
        TEST(newer_file_is_no_reason_to_stop),
        TEST(link_to_itself_is_no_reason_to_stop),
        TEST(directory_that_cannot_be_used_is_no_reason_to_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
