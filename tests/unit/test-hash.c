// SPDX-License-Identifier: LGPL-2.1-or-later
// The keyed hash against the values of its paper, and what a table of uthash makes of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "util/hash.h"
#include "util/random.h"
#include "util/table.h"

/* The reference implementation's vectors: key 00 01 .. 0f, input 00 01 02 .. of so many bytes. */
static void it_is_siphash(void **state)
{
    (void)state;
    static const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
    static const struct {
        size_t n_bytes;
        uint64_t hash;
    } vectors[] = { { 0, 0x726fdb47dd0e0e31 },
                    { 1, 0x74f839c593dc67fd },
                    { 8, 0x93f5f5799a932462 },
                    { 15, 0xa129ca6149be45e5 } };
    unsigned char bytes[16];
    for (unsigned char i = 0; i < sizeof(bytes); i++)
        bytes[i] = i;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        assert_int_equal(hash_siphash(key, bytes, vectors[i].n_bytes), vectors[i].hash);
}

static void the_key_is_not_a_known_one(void **state)
{
    (void)state;
    static const uint64_t none[2] = { 0, 0 };
    assert_int_equal(hash_text("lamp1"), hash_bytes("lamp1", 5));
    assert_int_not_equal(hash_text("lamp1"), hash_text("lamp2"));
    assert_int_not_equal(hash_text("lamp1"), hash_siphash(none, "lamp1", 5));
}

struct item {
    UT_hash_handle hh;
    char name[8];
};

static void a_table_finds_what_is_in_it(void **state)
{
    (void)state;
    struct item items[] = { { .name = "a" }, { .name = "b" } }, *table = NULL, *found;
    HASH_ADD_STR(table, name, &items[0]);
    HASH_FIND_STR(table, "a", found);
    assert_ptr_equal(found, &items[0]);
    HASH_FIND_STR(table, "b", found);
    assert_null(found);
    HASH_CLEAR(hh, table);
}

static void jitter_stays_within_a_quarter(void **state)
{
    (void)state;
    uint64_t seed = 7, least = 1000, most = 1000;
    for (int i = 0; i < 10000; i++) {
        uint64_t usec = random_jitter(&seed, 1000);
        assert_in_range(usec, 750, 1250);
        least = usec < least ? usec : least;
        most = usec > most ? usec : most;
    }
    assert_true(least < 770 && most > 1230);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_siphash),
        cmocka_unit_test(the_key_is_not_a_known_one),
        cmocka_unit_test(a_table_finds_what_is_in_it),
        cmocka_unit_test(jitter_stays_within_a_quarter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
