// SPDX-License-Identifier: LGPL-2.1-or-later
// What the tests of the stores share: a directory of their own, and jobs in a few words.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store-memory.h"
#include "store/store.h"
#include "util/clock.h"

static const uint8_t this_boot[STORE_BOOT_SIZE] = "this boot, 16 by";
static const uint8_t other_boot[STORE_BOOT_SIZE] = "another boot, 16";
static const uint8_t other_run[STORE_RUN_SIZE] = "another run, 16 ";

/* The clock of these tests. */
static uint64_t now_usec;

uint64_t clock_mono_usec(void)
{
    return now_usec;
}

static char test_directory[] = "/dev/shm/test-store-XXXXXX"; // in memory: none of it is for long

static inline const char *in_directory(const char *name)
{
    static char path[4][sizeof(test_directory) + 256];
    static size_t next;
    char *text = path[next++ % 4];
    snprintf(text, sizeof(path[0]), "%s/%s", test_directory, name);
    return text;
}

static inline void empty_directory(void)
{
    DIR *directory = opendir(test_directory);
    assert_non_null(directory);
    for (const struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            unlink(in_directory(entry->d_name));
    closedir(directory);
}

static inline int make_directory(void **state)
{
    (void)state;
    return mkdtemp(test_directory) ? 0 : -1;
}

static inline int remove_directory(void **state)
{
    (void)state;
    empty_directory();
    return rmdir(test_directory);
}

static inline struct store *open_store_of(uint64_t max_size, const char *vfs)
{
    struct store_options options = {
        .directory = test_directory,
        .max_size = max_size,
        .vfs = vfs,
    };
    memcpy(options.boot, this_boot, STORE_BOOT_SIZE);
    struct store *store = NULL;
    assert_int_equal(store_new(&options, &store), 0);
    return store;
}

static inline struct store *open_store(void)
{
    return open_store_of(64 << 20, NULL);
}

/* --- the one on disk, or the one in memory that says what the other has to do ----------------- */

static struct store_memory *memory; // what the functions below take for a store too; NULL: none

static inline struct store *open_memory(void)
{
    assert_null(memory);
    assert_int_equal(store_memory_new(&memory), 0);
    store_memory_set_boot(memory, this_boot);
    return (struct store *)memory;
}

static inline bool is_memory(const struct store *store)
{
    return memory && store == (const struct store *)memory;
}

static inline void close_either(struct store *store)
{
    if (is_memory(store))
        store_memory_free(TAKE_PTR(memory));
    else
        store_free(store);
}

static inline int run_either(struct store *store, struct store_job *job, struct why *why)
{
    return is_memory(store) ? store_memory_run(memory, job, why) : store_run(store, job, why);
}

static inline int names_of_either(struct store *store, char ***ret_names)
{
    return is_memory(store) ? store_memory_names(memory, ret_names) : store_names(store, ret_names);
}

static inline int
records_of_either(struct store *store, const char *space,
                  void (*visit)(void *userdata, const char *key, const char *value), void *userdata)
{
    return is_memory(store) ? store_memory_records(memory, space, visit, userdata, NULL)
                            : store_records(store, space, visit, userdata, NULL);
}

/* --- jobs ------------------------------------------------------------------------------------ */

static inline int run(struct store *store, struct store_job *job)
{
    struct why why = { 0 };
    int r = run_either(store, job, &why);
    if (r < 0)
        assert_string_not_equal(why.text, "");
    return r;
}

static inline void run_ok(struct store *store, struct store_job *job)
{
    struct why why = { 0 };
    int r = run_either(store, job, &why);
    if (r < 0)
        fail_msg("%s: %s", strerror(-r), why.text);
}

/* A message of the first stream whose payload tells its number, of one sample at mono_usec seq. */
static inline struct store_message message_of(uint64_t seq, char payload[static 32])
{
    struct store_message message = {
        .seq = seq,
        .moment.mono_usec = seq,
        .n_samples = 1,
        .payload = payload,
    };
    memcpy(message.moment.boot, this_boot, STORE_BOOT_SIZE);
    message.payload_size = (size_t)snprintf(payload, 32, "message %llu", (unsigned long long)seq);
    return message;
}

enum { PUT_MAX = 1000 };

/* Puts the messages first..last into one stream, as one job that seals used_seq. */
static inline int put_sealing(struct store *store, const char *name, uint64_t first, uint64_t last,
                              uint64_t used_seq, bool sync, struct store_state *ret_state)
{
    static struct store_message messages[PUT_MAX];
    static const struct store_message *puts[PUT_MAX];
    static char payloads[PUT_MAX][32];
    size_t n = 0;
    assert_true(last - first < PUT_MAX);
    for (uint64_t seq = first; seq <= last; seq++, n++) {
        messages[n] = message_of(seq, payloads[n]);
        puts[n] = &messages[n];
    }
    struct store_stream stream = { .name = name, .used_seq = used_seq };
    struct store_job job = {
        .sync = sync,
        .seals = true,
        .streams = &stream,
        .n_streams = 1,
        .puts = puts,
        .n_puts = n,
    };
    int r = run(store, &job);
    if (r == 0 && sync && !job.is_synced)
        r = 1;
    if (r >= 0 && ret_state)
        *ret_state = stream.state;
    return r;
}

static inline int put_messages(struct store *store, const char *name, uint64_t first, uint64_t last,
                               bool sync, struct store_state *ret_state)
{
    return put_sealing(store, name, first, last, last, sync, ret_state);
}

/* Runs a job and moves its query on behind the messages it gives. Returns how many those were. */
static inline size_t take_messages(struct store *store, struct store_job *job)
{
    run_ok(store, job);
    assert_int_equal(ledger_waiting(&job->streams[0].state.ledger),
                     job->streams[0].state.n_samples);
    for (size_t i = 0; i < job->query.n_messages; i++) {
        assert_true(job->query.messages[i].seq > job->query.after_seq);
        job->query.after_seq = job->query.messages[i].seq;
    }
    store_messages_free(job->query.messages, job->query.n_messages);
    return job->query.n_messages;
}

static inline struct store_state state_of(struct store *store, const char *name)
{
    struct store_stream stream = { .name = name };
    struct store_job job = { .streams = &stream, .n_streams = 1 };
    run_ok(store, &job);
    return stream.state;
}

static inline void assert_balanced(const struct store_state *state)
{
    assert_int_equal(ledger_waiting(&state->ledger), state->n_samples);
}
