// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbers in order: the k-th and the sums against a naive computation, balance, no drift.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/ranking.h"
#include "random.h"
#include "util/cleanup.h"

enum { N = 300 };

static int by_number(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static void assert_near(double value, double expected, double scale)
{
    if (fabs(value - expected) > 1e-12 * (scale + 1))
        fail_msg("%.17g is not %.17g", value, expected);
}

static void check(const struct ranking *ranking, const double *values, const bool *in)
{
    double sorted[N] = { 0 }, sum = 0, sum_of_sizes = 0, deviation = 0;
    size_t n = 0;
    for (size_t i = 0; i < N; i++) {
        if (!in[i])
            continue;
        sorted[n++] = values[i];
        sum += values[i];
        sum_of_sizes += fabs(values[i]);
    }
    assert_int_equal(ranking_count(ranking), n);
    assert_near(ranking_sum(ranking), sum, sum_of_sizes);
    if (n == 0)
        return;
    qsort(sorted, n, sizeof(sorted[0]), by_number);
    for (size_t i = 0; i < n; i++) {
        assert_true(ranking_nth(ranking, i) == sorted[i]);
        deviation += pow(sorted[i] - sum / (double)n, 2);
    }
    assert_true(ranking_median(ranking) ==
                (n % 2 ? sorted[n / 2] : sorted[n / 2 - 1] / 2 + sorted[n / 2] / 2));
    assert_near(ranking_stddev(ranking), sqrt(deviation / (double)n), sum_of_sizes);
}

static void order_and_sums_agree_with_a_naive_computation(void **state)
{
    (void)state;
    struct ranking ranking = { 0 };
    struct ranking_node nodes[N];
    double values[N] = { 0 };
    bool in[N] = { false };
    random_begin();
    for (size_t step = 0; step < 5000; step++) {
        size_t i = random_below(N);
        if (in[i]) {
            ranking_remove(&ranking, &nodes[i]);
        } else {
            // Few different ones, so that many are equal; some far away.
            values[i] = (double)random_below(40) - 20;
            if (random_below(20) == 0)
                values[i] *= 1e6;
            ranking_add(&ranking, &nodes[i], values[i]);
        }
        in[i] = !in[i];
        check(&ranking, values, in);
    }
}

static size_t depth_of(const struct ranking_node *node) // NOLINT(misc-no-recursion)
{
    if (!node)
        return 0;
    size_t left = depth_of(node->left), right = depth_of(node->right);
    return 1 + (left > right ? left : right);
}

/* In every order that would make a plain tree a list. */
static void it_stays_shallow(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    _cleanup_(freep) struct ranking_node *nodes = calloc(MANY, sizeof(*nodes));
    struct ranking ranking = { 0 };
    for (size_t i = 0; i < MANY; i++)
        ranking_add(&ranking, &nodes[i], (double)i);
    assert_true(depth_of(ranking.root) <= 41); // 2.41 log2 of n
    for (size_t i = 0; i < MANY - 100; i++)
        ranking_remove(&ranking, &nodes[i]);
    assert_true(depth_of(ranking.root) <= 16);
    for (size_t i = 0; i < 1000; i++)
        ranking_add(&ranking, &nodes[i], 7); // equal ones
    assert_true(depth_of(ranking.root) <= 24);
    ranking = (struct ranking){ 0 };
    for (size_t i = 0; i < MANY; i++) // from both ends to the middle
        ranking_add(&ranking, &nodes[i], i % 2 ? (double)(2 * (size_t)MANY - i) : (double)i);
    assert_true(depth_of(ranking.root) <= 41);
}

/* A running sum would keep the rounding error of the large one for ever. */
static void a_number_that_has_left_leaves_no_trace(void **state)
{
    (void)state;
    struct ranking ranking = { 0 };
    struct ranking_node nodes[4];
    for (size_t i = 0; i < 3; i++)
        ranking_add(&ranking, &nodes[i], 0.1 * (double)(i + 1));
    double sum = ranking_sum(&ranking), stddev = ranking_stddev(&ranking);
    ranking_add(&ranking, &nodes[3], 1e300);
    ranking_remove(&ranking, &nodes[3]);
    assert_true(fabs(ranking_sum(&ranking) - sum) < 1e-15);
    assert_true(fabs(ranking_stddev(&ranking) - stddev) < 1e-15);
}

/* The textbook's sum of squares loses all digits here. */
static void a_small_spread_of_large_numbers_is_exact(void **state)
{
    (void)state;
    struct ranking ranking = { 0 };
    struct ranking_node nodes[1000];
    for (size_t i = 0; i < 1000; i++)
        ranking_add(&ranking, &nodes[i], 1e9 + (double)(i % 2));
    assert_true(fabs(ranking_stddev(&ranking) - 0.5) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_sums_agree_with_a_naive_computation),
        cmocka_unit_test(it_stays_shallow),
        cmocka_unit_test(a_number_that_has_left_leaves_no_trace),
        cmocka_unit_test(a_small_spread_of_large_numbers_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
