// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the outbox with its store on disk costs, without a network: messages (or acknowledgements) a
 * second, and the bytes that reach a block device.
 *
 *     outbox-writes DIRECTORY STAT CASE GROUP COUNT
 *
 * DIRECTORY is on the device and has no queue.db; STAT is the device's /sys/block/X/stat, or "-".
 * Prints the seconds on the clock and the bytes written (-1: not known). CASE is one of
 *
 *     strict           COUNT messages, GROUP of them a durable commit
 *     batched, outage  cut off: GROUP messages a commit interval, each of which comes alone
 *     connected        outage: each one is acknowledged before the next comes
 *     idle             likewise, batched, and the next comes after 5 s
 *     acks             COUNT messages of a backlog are acknowledged, GROUP of them a commit
 *
 * The clock of the outbox is turned by hand; the store is run on this thread, whenever it would
 * have come to its turn.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "outbox/outbox.h"
#include "util/clock.h"

enum { WARM_UP = 10000, WARM_UP_GROUP = 100, PAYLOAD_SIZE = 100, MAX_IN_FLIGHT = 10000 };

struct bench {
    struct store *store;
    struct outbox *outbox;
    struct store_job *job; // waits for its turn
    uint64_t mono_usec;
    int last_mid;
    int in_flight[MAX_IN_FLIGHT];
    size_t n_in_flight;
};

static struct bench *the_bench; // whose time it is

/* In the place of util/clock.c and io/link.c. */
uint64_t clock_mono_usec(void)
{
    return the_bench->mono_usec;
}

uint64_t clock_wall_usec(void)
{
    return 1700000000 * USEC_PER_SEC + the_bench->mono_usec;
}

bool clock_is_right(void)
{
    return true;
}

int link_publish(struct link *link, const struct mqtt_message *message, int *ret_mid)
{
    struct bench *bench = (struct bench *)link;
    (void)message;
    bench->last_mid = bench->last_mid % UINT16_MAX + 1;
    *ret_mid = bench->last_mid;
    bench->in_flight[bench->n_in_flight++] = bench->last_mid;
    return 0;
}

static int begin_job(void *userdata, struct store_job *job)
{
    ((struct bench *)userdata)->job = job;
    return 0;
}

static void fail(const char *what, int r, const struct why *why)
{
    fprintf(stderr, "%s: %s\n", what, why && why->text[0] ? why->text : strerror(-r));
    exit(1);
}

/* The store does the one job that waits. */
static void run_job(struct bench *bench)
{
    struct why why = { "" };
    struct store_job *job = TAKE_PTR(bench->job);
    if (!job)
        return;
    int r = store_run(bench->store, job, &why);
    if (r < 0)
        fail("the store", r, &why);
    outbox_stored(bench->outbox, r, &why);
}

static void settle(struct bench *bench)
{
    while (bench->job)
        run_job(bench);
}

static void turn_clock(struct bench *bench, uint64_t usec)
{
    bench->mono_usec += usec;
    outbox_tick(bench->outbox);
}

static void publish(struct bench *bench)
{
    char payload[PAYLOAD_SIZE + 1];
    int n = snprintf(payload, sizeof(payload), "{\"light\": %" PRIu64 ", \"pad\": \"",
                     bench->mono_usec % 1024);
    memset(payload + n, 'x', sizeof(payload) - (size_t)n);
    memcpy(payload + PAYLOAD_SIZE - 2, "\"}", 3);
    const struct outbox_message message = {
        .stream = "telemetry", .payload = payload, .n_samples = 1, .qos = -1
    };
    int r = outbox_publish(bench->outbox, &message);
    if (r < 0)
        fail("outbox_publish", r, NULL);
}

static void acknowledge(struct bench *bench)
{
    size_t n = bench->n_in_flight;
    int mids[MAX_IN_FLIGHT];
    memcpy(mids, bench->in_flight, n * sizeof(*mids));
    bench->n_in_flight = 0;
    for (size_t i = 0; i < n; i++)
        outbox_published(bench->outbox, mids[i], 0, NULL);
}

/* Each group gathers while the store is at the one before: so a job has them all. */
static void put_in_groups(struct bench *bench, size_t n, size_t group)
{
    for (size_t i = 0; i < n; i += group) {
        for (size_t j = 0; j < group; j++)
            publish(bench);
        run_job(bench);
    }
    settle(bench);
}

static void put_in_intervals(struct bench *bench, size_t n, size_t group)
{
    for (size_t i = 0; i < n; i++) {
        publish(bench);
        settle(bench);
        if ((i + 1) % group == 0)
            turn_clock(bench, USEC_PER_SEC);
        settle(bench);
    }
}

static void put_while_connected(struct bench *bench, size_t n, uint64_t interval_usec)
{
    for (size_t i = 0; i < n; i++) {
        publish(bench);
        acknowledge(bench);
        settle(bench);
        turn_clock(bench, interval_usec / 4); // timers come at about their time
        settle(bench);
        turn_clock(bench, interval_usec - interval_usec / 4);
        settle(bench);
    }
}

/* A job removes what was acknowledged since the one before; the window is as large as a group. */
static void acknowledge_in_groups(struct bench *bench, size_t n)
{
    struct outbox_counters counters;
    do {
        acknowledge(bench);
        turn_clock(bench, 10 * USEC_PER_SEC);
        settle(bench);
        outbox_count(bench->outbox, &counters);
    } while (counters.sent < n);
}

/* Of the device, once nothing waits to be written; -1: not known. */
static int64_t bytes_written(int directory, const char *stat)
{
    enum { WRITTEN_SECTORS = 6, SECTOR_SIZE = 512 }; // Documentation/block/stat.rst
    char line[512];
    if (syncfs(directory) < 0)
        fail("syncfs", -errno, NULL);
    _cleanup_(fclosep) FILE *file = strcmp(stat, "-") == 0 ? NULL : fopen(stat, "re");
    if (!file || !fgets(line, sizeof(line), file))
        return -1;
    char *at = line;
    for (int i = 0; i < WRITTEN_SECTORS; i++)
        (void)strtoull(at, &at, 10);
    return (int64_t)strtoull(at, NULL, 10) * SECTOR_SIZE;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void bench_init(struct bench *bench, const char *directory, const char *name)
{
    struct store_options store = { .directory = directory, .max_size = UINT64_C(1) << 30 };
    const struct outbox_options options = {
        .durability = strcmp(name, "strict") == 0      ? STREAM_STRICT
                      : strcmp(name, "outage") == 0    ? STREAM_OUTAGE
                      : strcmp(name, "connected") == 0 ? STREAM_OUTAGE
                                                       : STREAM_BATCHED,
        .commit_interval_usec = USEC_PER_SEC,
        .max_size = UINT64_C(1) << 30,
        .name = "bench",
    };
    const struct stream_policy policy = { .name = "telemetry",
                                          .topic = "bench/telemetry",
                                          .qos = 1,
                                          .max_age_usec = USEC_INFINITY,
                                          .max_messages = UINT64_MAX };
    const uint8_t run[STORE_RUN_SIZE] = { 1 };
    struct outbox_plan *plan;
    *bench = (struct bench){ .mono_usec = 1000 * USEC_PER_SEC };
    the_bench = bench;
    int r = store_new(&store, &bench->store);
    if (r == 0)
        r = outbox_new(store.boot, run, begin_job, bench, &bench->outbox);
    if (r == 0)
        r = outbox_prepare(bench->outbox, &options, &policy, 1, &plan);
    if (r < 0)
        fail("outbox", r, NULL);
    outbox_commit(bench->outbox, plan);
    settle(bench);
    // The log comes to its size, and the first numbers are reserved.
    put_in_groups(bench, WARM_UP, WARM_UP_GROUP);
}

int main(int argc, char **argv)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    if (argc != 6 || !bench) {
        fprintf(stderr, "Usage: outbox-writes DIRECTORY STAT CASE GROUP COUNT\n");
        return 2;
    }
    const char *name = argv[3];
    size_t group = strtoul(argv[4], NULL, 10), n = strtoul(argv[5], NULL, 10);
    int directory = open(argv[1], O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (directory < 0 || group == 0 || group > MAX_IN_FLIGHT)
        fail(argv[1], -errno, NULL);
    bench_init(bench, argv[1], name);
    if (strcmp(name, "acks") == 0) {
        put_in_groups(bench, n, 1000);
    } else if (strcmp(name, "connected") == 0 || strcmp(name, "idle") == 0) {
        outbox_connected(bench->outbox, (struct link *)bench, 1000);
        acknowledge_in_groups(bench, WARM_UP);
    }
    int64_t before = bytes_written(directory, argv[2]);
    double begin = now();
    if (strcmp(name, "strict") == 0)
        put_in_groups(bench, n, group);
    else if (strcmp(name, "connected") == 0)
        put_while_connected(bench, n, USEC_PER_MSEC);
    else if (strcmp(name, "idle") == 0)
        put_while_connected(bench, n, 5 * USEC_PER_SEC);
    else if (strcmp(name, "acks") == 0) {
        outbox_connected(bench->outbox, (struct link *)bench, (unsigned)group);
        acknowledge_in_groups(bench, n);
    } else
        put_in_intervals(bench, n, group);
    double end = now();
    int64_t after = bytes_written(directory, argv[2]);
    printf("%.6f %" PRId64 "\n", end - begin, before < 0 || after < 0 ? -1 : after - before);
    outbox_quiesce(bench->outbox);
    settle(bench);
    outbox_free(bench->outbox);
    store_free(bench->store);
    free(bench);
    close(directory);
    return 0;
}
