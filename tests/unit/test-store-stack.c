// SPDX-License-Identifier: LGPL-2.1-or-later
// How much stack the store takes: it works in a thread whose stack is small. Each case runs on a
// stack that was painted before; what has lost its paint was used.
#include "store-fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "io/worker.h"
#include "store/db-schema.h"

enum { STACK_SIZE = 8 << 20, PAINT = 0xa5 };

static void overwrite(off_t first, size_t size)
{
    static char bytes[DB_PAGE_SIZE];
    memset(bytes, 0xee, sizeof(bytes));
    int fd = open(in_directory("queue.db"), O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(pwrite(fd, bytes, size, first) > 0);
    close(fd);
}

/* --- the cases ------------------------------------------------------------------------------- */

static void put_much(void)
{
    struct store *store = open_store();
    for (uint64_t n = 0; n < 20000; n += 1000)
        (void)put_messages(store, "s", n + 1, n + 1000, n % 3000 == 0, NULL);
    static char large[1 << 20];
    struct store_message message = { .seq = 30000,
                                     .payload = large,
                                     .payload_size = sizeof(large) };
    const struct store_message *puts[] = { &message };
    struct store_record record = { "space", "key", "value" };
    struct store_stream stream = { .name = "other" };
    struct store_trim trim = { .n_messages = 1, .end = LEDGER_DROPPED };
    struct store_job job = { .streams = &stream,
                             .n_streams = 1,
                             .puts = puts,
                             .n_puts = 1,
                             .records = &record,
                             .n_records = 1 };
    (void)run(store, &job);
    job.n_puts = 0;
    job.query.max_messages = 10;
    (void)run(store, &job);
    store_messages_free(job.query.messages, job.query.n_messages);
    job.query.max_messages = 0;
    job.trims = &trim;
    job.n_trims = 1;
    (void)run(store, &job);
    store_free(store);
}

/* And so gives pages back, by VACUUM. */
static void remove_all(void)
{
    struct store *store = open_store();
    struct store_stream stream = { .name = "s" };
    struct store_range range = { 0, 1, 19990, LEDGER_ACKED };
    struct store_job job = { .streams = &stream, .n_streams = 1, .ranges = &range, .n_ranges = 1 };
    (void)run(store, &job);
    store_free(store);
}

static void look(void)
{
    struct store *store = open_store();
    struct store_stream stream = { .name = "s" };
    struct store_job job = {
        .streams = &stream,
        .n_streams = 1,
        .query = { .max_messages = 100000, .max_bytes = SIZE_MAX },
    };
    struct why why;
    for (int i = 0; i < 2; i++) {
        job.query.messages = NULL;
        job.query.n_messages = 0;
        (void)store_run(store, &job, &why);
        store_messages_free(job.query.messages, job.query.n_messages);
    }
    store_free(store);
}

/* --- how it is measured ---------------------------------------------------------------------- */

static void *thread(void *userdata)
{
    void (*const *run_case)(void) = userdata;
    (*run_case)();
    return NULL;
}

static size_t measure(const char *name, void (*run_case)(void))
{
    pthread_attr_t attributes;
    pthread_t id;
    uint8_t *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    assert_true(stack != MAP_FAILED);
    memset(stack, PAINT, STACK_SIZE);
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstack(&attributes, stack, STACK_SIZE), 0);
    assert_int_equal(pthread_create(&id, &attributes, thread, &run_case), 0);
    assert_int_equal(pthread_join(id, NULL), 0);
    pthread_attr_destroy(&attributes);
    size_t n_unused = 0;
    while (n_unused < STACK_SIZE && stack[n_unused] == PAINT)
        n_unused++;
    munmap(stack, STACK_SIZE);
    size_t n_used = STACK_SIZE - n_unused;
    print_message("%s: %zu KiB\n", name, n_used / 1024);
    return n_used;
}

static void assert_fits(const char *name, void (*run_case)(void))
{
    if (measure(name, run_case) > WORKER_STACK_SIZE / 4)
        fail_msg("%s takes more than a quarter of the stack", name);
}

static void work_takes_a_quarter_of_the_stack(void **state)
{
    (void)state;
    assert_fits("new file", look);
    assert_fits("puts", put_much);
    assert_fits("removal", remove_all);
}

static void damage_takes_a_quarter_of_the_stack(void **state)
{
    (void)state;
    empty_directory();
    put_much();
    overwrite((off_t)8 * DB_PAGE_SIZE, DB_PAGE_SIZE);
    assert_fits("a page", look);
    overwrite(0, DB_PAGE_SIZE);
    assert_fits("first page", look);
    empty_directory();
    put_much();
    assert_int_equal(truncate(in_directory("queue.db"), 10 * DB_PAGE_SIZE), 0);
    assert_fits("short file", look);
}

static void what_is_not_ours_takes_a_quarter_of_the_stack(void **state)
{
    (void)state;
    empty_directory();
    assert_int_equal(symlink("queue.db", in_directory("queue.db")), 0);
    assert_fits("a link to itself", look);
    if (geteuid() != 0)
        return;
    empty_directory();
    assert_int_equal(chown(test_directory, 1, 1), 0);
    assert_fits("another user's", look);
    assert_int_equal(chown(test_directory, 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_takes_a_quarter_of_the_stack),
        cmocka_unit_test(damage_takes_a_quarter_of_the_stack),
        cmocka_unit_test(what_is_not_ours_takes_a_quarter_of_the_stack),
    };
    return cmocka_run_group_tests_name("store-stack", tests, make_directory, remove_directory);
}
