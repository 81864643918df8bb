// SPDX-License-Identifier: LGPL-2.1-or-later
// What the journal of commands remembers, for how long, and what of it outlives a run.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <string.h>

#include "device/journal.h"
#include "util/clock.h"

#define DAY (86400 * USEC_PER_SEC)

static const uint64_t morning = 1795523696 * USEC_PER_SEC;

/* Records as a store would hold them. */
struct disk {
    size_t n;
    struct {
        char key[16], *value;
    } records[64];
    size_t n_saved, n_removed;
};

static struct disk *disk_at_work;

/* In the place of the outbox. */
int outbox_put_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    struct disk *disk = disk_at_work;
    (void)outbox;
    assert_string_equal(space, journal_space);
    disk->n_saved += value != NULL;
    disk->n_removed += value == NULL;
    size_t i = 0;
    while (i < disk->n && strcmp(disk->records[i].key, key) != 0)
        i++;
    if (i == ELEMENTS(disk->records))
        return 0;
    free(i < disk->n ? disk->records[i].value : NULL);
    if (!value) {
        if (i < disk->n)
            disk->records[i] = disk->records[--disk->n];
        return 0;
    }
    snprintf(disk->records[i].key, sizeof(disk->records[i].key), "%s", key);
    disk->records[i].value = strdup(value);
    disk->n += i == disk->n;
    return 0;
}

int outbox_add_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    return outbox_put_record(outbox, space, key, value);
}

/* On a machine that has run for some time, whose clock nobody sets. */
static void add(struct journal *journal, const char *id, const char *reply, uint64_t wall_usec)
{
    journal_add(journal, id, reply, wall_usec - morning + 10 * DAY, wall_usec);
}

static void disk_done(struct disk *disk)
{
    for (size_t i = 0; i < disk->n; i++)
        free(disk->records[i].value);
}

static struct journal *open_journal(struct disk *disk)
{
    struct journal *journal;
    disk_at_work = disk;
    assert_int_equal(journal_new(NULL, &journal), 0);
    for (size_t i = disk->n; i > 0; i--) { // in an order of the disk's own
        char key[16];
        _cleanup_(freep) char *value = strdup(disk->records[i - 1].value);
        memcpy(key, disk->records[i - 1].key, sizeof(key));
        journal_recall(journal, key, value);
    }
    journal_recalled(journal);
    return journal;
}

static void an_id_is_known_with_its_reply(void **state)
{
    (void)state;
    _cleanup_(disk_done) struct disk disk = { 0 };
    _cleanup_(journal_freep) struct journal *journal = open_journal(&disk);
    assert_null(journal_find(journal, "a"));
    add(journal, "a", "{\"status\": \"done\"}", morning);
    add(journal, "b", "{\"status\": \"failed\"}", morning);
    assert_string_equal(journal_find(journal, "a"), "{\"status\": \"done\"}");
    assert_string_equal(journal_find(journal, "b"), "{\"status\": \"failed\"}");
    assert_null(journal_find(journal, "c"));
    assert_null(journal_find(journal, ""));
    assert_int_equal(disk.n_saved, 2);
}

static void it_is_known_in_the_next_run(void **state)
{
    (void)state;
    _cleanup_(disk_done) struct disk disk = { 0 };
    for (int run = 0; run < 3; run++) {
        char id[16];
        struct journal *journal = open_journal(&disk);
        for (int i = 0; i < run; i++) {
            snprintf(id, sizeof(id), "id %d", i);
            assert_string_equal(journal_find(journal, id), "{\"a\": 1}");
        }
        snprintf(id, sizeof(id), "id %d", run);
        assert_null(journal_find(journal, id));
        add(journal, id, "{\"a\": 1}", morning);
        journal_free(journal);
    }
    assert_int_equal(disk.n, 3);
}

static void another_reply_takes_the_place_of_the_first(void **state)
{
    (void)state;
    _cleanup_(disk_done) struct disk disk = { 0 };
    struct journal *journal = open_journal(&disk);
    add(journal, "begun", "{\"status\": \"failed\"}", morning);
    add(journal, "other", "{}", morning + 1);
    add(journal, "begun", "{}", morning + DAY);
    assert_string_equal(journal_find(journal, "begun"), "{}");
    journal_free(journal);
    assert_int_equal(disk.n, 2);
    journal = open_journal(&disk);
    assert_string_equal(journal_find(journal, "begun"), "{}");
    add(journal, "late", "{}", morning + 7 * DAY + 1); // its age counts from the first
    assert_null(journal_find(journal, "begun"));
    assert_non_null(journal_find(journal, "other"));
    journal_free(journal);
}

static void what_is_old_is_forgotten_on_disk_too(void **state)
{
    (void)state;
    _cleanup_(disk_done) struct disk disk = { 0 };
    struct journal *journal = open_journal(&disk);
    add(journal, "z", "{}", morning);
    add(journal, "a", "{}", morning + DAY);
    journal_free(journal);
    journal = open_journal(&disk);
    add(journal, "b", "{}", morning + 7 * DAY);
    assert_non_null(journal_find(journal, "z"));
    add(journal, "c", "{}", morning + 7 * DAY + 1);
    assert_null(journal_find(journal, "z"));
    assert_non_null(journal_find(journal, "a"));
    assert_int_equal(disk.n, 3);
    journal_free(journal);
}

static void a_clock_that_is_set_makes_nothing_old(void **state)
{
    (void)state;
    _cleanup_(disk_done) struct disk disk = { 0 };
    _cleanup_(journal_freep) struct journal *journal = open_journal(&disk);
    journal_add(journal, "1970", "{}", DAY, 5 * USEC_PER_SEC);
    journal_add(journal, "a", "{}", DAY + 1, morning);
    journal_add(journal, "b", "{}", DAY + 2, morning + 400 * DAY); // by mistake
    journal_add(journal, "c", "{}", DAY + 3, morning - DAY);
    assert_non_null(journal_find(journal, "1970"));
    assert_non_null(journal_find(journal, "a"));
    assert_non_null(journal_find(journal, "b"));
    journal_add(journal, "d", "{}", 8 * DAY + 2, morning);
    assert_null(journal_find(journal, "a"));
    assert_non_null(journal_find(journal, "b"));
}

/* Of an earlier run the time of day is all that is known. */
static void what_a_run_left_before_the_clock_was_set_is_not_old(void **state)
{
    (void)state;
    _cleanup_(disk_done) struct disk disk = { 0 };
    struct journal *journal = open_journal(&disk);
    journal_add(journal, "1970", "{}", DAY, 5 * USEC_PER_SEC);
    journal_free(journal);
    journal = open_journal(&disk);
    add(journal, "a", "{}", morning);
    add(journal, "b", "{}", morning + 7 * DAY);
    assert_non_null(journal_find(journal, "1970"));
    add(journal, "c", "{}", morning + 7 * DAY + 1);
    assert_null(journal_find(journal, "1970"));
    journal_free(journal);
}

static void the_oldest_go_when_there_are_too_many(void **state)
{
    (void)state;
    char id[16];
    _cleanup_(disk_done) struct disk disk = { 0 };
    _cleanup_(journal_freep) struct journal *journal = open_journal(&disk);
    for (int i = 0; i < JOURNAL_MAX_ENTRIES + 100; i++) {
        snprintf(id, sizeof(id), "%d", i);
        add(journal, id, "{}", morning);
    }
    assert_null(journal_find(journal, "99"));
    assert_non_null(journal_find(journal, "100"));
    assert_non_null(journal_find(journal, "10099"));
    assert_int_equal(disk.n_removed, 100);
}

static void the_oldest_go_when_they_are_too_large(void **state)
{
    (void)state;
    char id[16];
    _cleanup_(freep) char *reply = calloc(1, 64 * 1024);
    memset(reply, 'x', 64 * 1024 - 1);
    _cleanup_(disk_done) struct disk disk = { 0 };
    _cleanup_(journal_freep) struct journal *journal = open_journal(&disk);
    for (int i = 0; i < 80; i++) {
        snprintf(id, sizeof(id), "%d", i);
        add(journal, id, reply, morning);
    }
    assert_null(journal_find(journal, "0"));
    assert_non_null(journal_find(journal, "79"));
    assert_in_range(disk.n_removed, 16, 17);
}

static void a_damaged_record_is_removed(void **state)
{
    (void)state;
    static const char *const values[] = {
        "",
        "7",
        "7 ",
        "7 8",
        "7 8 ",
        "x 8 {}",
        "7 x {}",
        " 7 8 {}",
        "99999999999999999999 8 {}",
        "18446744073709551615 8 {}",
    };
    _cleanup_(disk_done) struct disk disk = { 0 };
    _cleanup_(journal_freep) struct journal *journal = open_journal(&disk);
    for (size_t i = 0; i < ELEMENTS(values); i++)
        journal_recall(journal, "a", values[i]);
    journal_recalled(journal);
    assert_null(journal_find(journal, "a"));
    assert_int_equal(disk.n_removed, ELEMENTS(values));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_known_with_its_reply),
        cmocka_unit_test(it_is_known_in_the_next_run),
        cmocka_unit_test(another_reply_takes_the_place_of_the_first),
        cmocka_unit_test(what_is_old_is_forgotten_on_disk_too),
        cmocka_unit_test(a_clock_that_is_set_makes_nothing_old),
        cmocka_unit_test(what_a_run_left_before_the_clock_was_set_is_not_old),
        cmocka_unit_test(the_oldest_go_when_there_are_too_many),
        cmocka_unit_test(the_oldest_go_when_they_are_too_large),
        cmocka_unit_test(a_damaged_record_is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
