// SPDX-License-Identifier: LGPL-2.1-or-later
// A recording on disk: nothing of it is lost at a stop, and no line is torn.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>

#include "io/worker.h"
#include "server/recorder.h"
#include "util/clock.h"

struct world {
    sd_event *event;
    char directory[32], path[48];
};

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_int_equal(sd_event_new(&world->event), 0);
    strcpy(world->directory, "/tmp/recorder-XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    snprintf(world->path, sizeof(world->path), "%s/log", world->directory);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    unlink(world->path);
    rmdir(world->directory);
    sd_event_unref(world->event);
    free(world);
    return 0;
}

static struct recorder *open_recorder(const struct world *world)
{
    struct recorder *recorder;
    assert_int_equal(
        recorder_new(world->event, world->path, 1 << 20, 3600 * USEC_PER_SEC, &recorder), 0);
    return recorder;
}

static void write_file(const struct world *world, const char *text)
{
    FILE *file = fopen(world->path, "we");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

static void assert_file(const struct world *world, const char *expected)
{
    char text[4096];
    FILE *file = fopen(world->path, "re");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    text[n] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
}

static void finish(const struct world *world, struct recorder *recorder)
{
    while (!recorder_finish(recorder))
        assert_true(sd_event_run(world->event, 10 * USEC_PER_MSEC) >= 0);
    recorder_free(recorder);
}

static void a_stop_writes_what_waits(void **state)
{
    struct world *world = *state;
    struct recorder *recorder = open_recorder(world);
    recorder_add(recorder, strdup("{\"a\": 1}\n"));
    recorder_add(recorder, strdup("{\"a\": 2}\n"));
    assert_false(recorder_finish(recorder));        // it is at work
    recorder_add(recorder, strdup("{\"a\": 3}\n")); // and this comes meanwhile
    finish(world, recorder);
    assert_file(world, "{\"a\": 1}\n{\"a\": 2}\n{\"a\": 3}\n");
    assert_true(recorder_finish(NULL));
}

/* As when another configuration records elsewhere. */
static void what_waits_is_written_by_one_that_is_freed(void **state)
{
    struct world *world = *state;
    struct recorder *recorder = open_recorder(world);
    recorder_add(recorder, strdup("{\"a\": 1}\n"));
    recorder_free(recorder);
    assert_int_equal(worker_wait_for_orphans(10 * USEC_PER_SEC), 0);
    assert_file(world, "{\"a\": 1}\n");
}

static void a_torn_line_is_cut_off(void **state)
{
    struct world *world = *state;
    write_file(world, "{\"a\": 1}\n{\"a\": 2, \"b");
    struct recorder *recorder = open_recorder(world);
    recorder_add(recorder, strdup("{\"a\": 3}\n"));
    finish(world, recorder);
    assert_file(world, "{\"a\": 1}\n{\"a\": 3}\n");
}

static void what_is_no_recording_is_only_ended(void **state)
{
    struct world *world = *state;
    write_file(world, "a file without a line");
    struct recorder *recorder = open_recorder(world);
    recorder_add(recorder, strdup("{\"a\": 3}\n"));
    finish(world, recorder);
    assert_file(world, "a file without a line\n{\"a\": 3}\n");
}

static void a_disk_that_fails_does_not_hold_a_stop(void **state)
{
    struct world *world = *state;
    assert_int_equal(mkdir(world->path, 0700), 0); // where the file should be
    struct recorder *recorder = open_recorder(world);
    recorder_add(recorder, strdup("{\"a\": 1}\n"));
    finish(world, recorder);
    assert_int_equal(rmdir(world->path), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stop_writes_what_waits),
        TEST(what_waits_is_written_by_one_that_is_freed),
        TEST(a_torn_line_is_cut_off),
        TEST(what_is_no_recording_is_only_ended),
        TEST(a_disk_that_fails_does_not_hold_a_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
