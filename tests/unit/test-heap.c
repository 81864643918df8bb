// SPDX-License-Identifier: LGPL-2.1-or-later
// The heap: the first is the first, whatever was put in, moved and taken out.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random.h"
#include "util/heap.h"

static void the_first_is_always_the_least(void **state)
{
    (void)state;
    enum { N = 200 };
    struct heap_entry entries[N] = { 0 };
    struct heap heap = { 0 };
    random_begin();
    assert_null(heap_first(&heap));
    for (size_t step = 0; step < 20000; step++) {
        size_t i = random_below(N);
        if (random_below(3) == 0)
            heap_remove(&heap, &entries[i]); // fine too if it is not in
        else
            assert_int_equal(heap_put(&heap, &entries[i], random_below(50)), 0);
        size_t n = 0;
        uint64_t least = UINT64_MAX;
        for (size_t k = 0; k < N; k++) {
            n += entries[k].place > 0;
            if (entries[k].place > 0 && entries[k].key < least)
                least = entries[k].key;
            if (entries[k].place > 1)
                assert_true(heap.entries[entries[k].place / 2 - 1]->key <= entries[k].key);
        }
        assert_int_equal(heap.n_entries, n);
        if (n > 0)
            assert_int_equal(heap_first(&heap)->key, least);
        else
            assert_null(heap_first(&heap));
    }
    heap_done(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_is_always_the_least),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
