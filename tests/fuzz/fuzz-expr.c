// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as an expression: parsed as either type, run with readings known, stale and missing.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/expr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const char *text, enum expr_type type)
{
    static const double values[] = { 250, 0, -1e308, NAN };
    struct expr_reading readings[EXPR_MAX_NAMES];
    for (size_t i = 0; i < EXPR_MAX_NAMES; i++)
        readings[i] = (struct expr_reading){ values[i % 4], i % 5 * 1000 };
    struct expr_context context = { .readings = readings,
                                    .now_mono_usec = 4000,
                                    .now_wall_usec = 1700000000000000,
                                    .local_hour = 18,
                                    .stale_after_usec = 2500 };

    _cleanup_(expr_freep) struct expr *expr = NULL;
    struct why why = { "" };
    if (expr_parse(text, type, &expr, &why) < 0) {
        assert(strncmp(why.text, "column ", 7) == 0);
        return;
    }
    size_t n_names = expr_n_names(expr);
    assert(n_names <= EXPR_MAX_NAMES);
    for (size_t i = 0; i < n_names; i++) {
        assert(strlen(expr_name(expr, i)) - 1 < EXPR_MAX_NAME);
        expr_bind(expr, i, EXPR_MAX_NAMES - 1 - i);
    }
    for (size_t i = 0; i < expr_n_aggregates(expr); i++)
        assert(expr_equal(expr_argument(expr, i), expr_argument(expr, i)));
    assert(expr_equal(expr, expr) && expr_n_windows(expr) <= EXPR_MAX_WINDOWS);
    size_t unknown = expr_first_unknown(expr, &context);
    assert(unknown == SIZE_MAX || unknown < n_names);
    double value = 0;
    if (type == EXPR_NUMBER)
        assert(!expr_number(expr, &context, &value) || isfinite(value));
    else
        assert(expr_condition(expr, &context) >= -1 && expr_condition(expr, &context) <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    run(text, EXPR_NUMBER);
    run(text, EXPR_CONDITION);
    return 0;
}
