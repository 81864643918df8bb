// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Runs parsed expressions: one pass over the postfix program, on a stack of its own. NAN stands for
 * unknown throughout, so that arithmetic spreads it for free. It must not allocate or read a clock.
 */
#include "core/expr.h"

#include <assert.h>
#include <math.h>

#include "core/expr-internal.h"
#include "util/clock.h"

void expr_free(struct expr *expr)
{
    if (!expr)
        return;
    for (size_t i = 0; i < expr->n_names; i++)
        free(expr->names[i].text);
    free(expr->names);
    free(expr->steps);
    free(expr);
}

size_t expr_n_names(const struct expr *expr)
{
    return expr->n_names;
}

const char *expr_name(const struct expr *expr, size_t i)
{
    assert(i < expr->n_names);
    return expr->names[i].text;
}

void expr_bind(struct expr *expr, size_t i, size_t slot)
{
    assert(i < expr->n_names);
    expr->names[i].slot = slot;
}

bool expr_uses_time(const struct expr *expr)
{
    return expr->uses_time;
}

static uint64_t age_usec(const struct expr_reading *reading, const struct expr_context *context)
{
    if (reading->mono_usec > context->now_mono_usec)
        return 0;
    return context->now_mono_usec - reading->mono_usec;
}

static double value_of(const struct expr_reading *reading, const struct expr_context *context)
{
    if (reading->mono_usec == 0 || age_usec(reading, context) > context->stale_after_usec)
        return NAN;
    return isfinite(reading->value) ? reading->value : NAN;
}

static double age_of(const struct expr_reading *reading, const struct expr_context *context)
{
    if (reading->mono_usec == 0)
        return NAN;
    return (double)age_usec(reading, context) / (double)USEC_PER_SEC;
}

size_t expr_first_unknown(const struct expr *expr, const struct expr_context *context)
{
    for (size_t i = 0; i < expr->n_names; i++) {
        const struct expr_name *name = &expr->names[i];
        const struct expr_reading *reading = &context->readings[name->slot];
        if (isnan(name->read ? value_of(reading, context) : age_of(reading, context)))
            return i;
    }
    return SIZE_MAX;
}

static double run_leaf(const struct expr *expr, const struct expr_step *step,
                       const struct expr_context *context)
{
    switch (step->op) {
    case EXPR_READING:
        return value_of(&context->readings[expr->names[step->name].slot], context);
    case EXPR_AGE:
        return age_of(&context->readings[expr->names[step->name].slot], context);
    case EXPR_TIME:
        return (double)context->now_wall_usec / (double)USEC_PER_SEC;
    case EXPR_HOUR:
        return context->local_hour;
    default:
        return step->number;
    }
}

/* Of two known numbers. */
static bool compare(enum expr_op op, double a, double b)
{
    switch (op) {
    case EXPR_LESS:
        return a < b;
    case EXPR_LESS_EQUAL:
        return a <= b;
    case EXPR_GREATER:
        return a > b;
    case EXPR_GREATER_EQUAL:
        return a >= b;
    case EXPR_EQUAL:
        return a == b;
    default:
        return a != b;
    }
}

static double known_if_finite(double value)
{
    return isfinite(value) ? value : NAN;
}

static double run_binary(enum expr_op op, double a, double b)
{
    /* Kleene: one side alone may decide, whatever the other will turn out to be. */
    if (op == EXPR_AND && (a == 0 || b == 0))
        return 0;
    if (op == EXPR_OR && (a == 1 || b == 1))
        return 1;
    if (isnan(a) || isnan(b))
        return NAN;

    switch (op) {
    case EXPR_ADD:
        return known_if_finite(a + b);
    case EXPR_SUBTRACT:
        return known_if_finite(a - b);
    case EXPR_MULTIPLY:
        return known_if_finite(a * b);
    case EXPR_DIVIDE:
        return b == 0 ? NAN : known_if_finite(a / b);
    case EXPR_AND:
        return 1;
    case EXPR_OR:
        return 0;
    default:
        return compare(op, a, b);
    }
}

static double run(const struct expr *expr, const struct expr_context *context)
{
    double stack[EXPR_MAX_DEPTH];
    size_t n = 0;

    for (const struct expr_step *step = expr->steps; step < expr->steps + expr->n_steps; step++) {
        if (step->op < EXPR_NEGATE) {
            assert(n < EXPR_MAX_DEPTH);
            stack[n++] = run_leaf(expr, step, context);
            continue;
        }
        assert(n >= (step->op < EXPR_ADD ? 1U : 2U));
        if (step->op == EXPR_NEGATE) {
            stack[n - 1] = -stack[n - 1];
        } else if (step->op == EXPR_NOT) {
            stack[n - 1] = 1 - stack[n - 1];
        } else {
            n--;
            stack[n - 1] = run_binary(step->op, stack[n - 1], stack[n]);
        }
    }
    assert(n == 1);
    return stack[0];
}

bool expr_number(const struct expr *expr, const struct expr_context *context, double *ret_value)
{
    assert(expr->type == EXPR_NUMBER);
    double value = run(expr, context);
    if (isnan(value))
        return false;
    *ret_value = value;
    return true;
}

int expr_condition(const struct expr *expr, const struct expr_context *context)
{
    assert(expr->type == EXPR_CONDITION);
    double value = run(expr, context);
    return isnan(value) ? -1 : (int)value;
}
