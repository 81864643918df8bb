// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Runs parsed expressions: one pass over the postfix program, on a stack of its own. NAN stands for
 * unknown throughout, so that arithmetic spreads it for free. It must not allocate or read a clock.
 */
#include "core/expr.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/expr-internal.h"
#include "util/clock.h"

// NOLINTNEXTLINE(misc-no-recursion): an argument has no aggregates of its own
void expr_free(struct expr *expr)
{
    if (!expr)
        return;
    for (size_t i = 0; i < expr->n_names; i++)
        free(expr->names[i].text);
    free(expr->names);
    for (size_t i = 0; i < expr->n_aggregates; i++) {
        free(expr->aggregates[i].text);
        expr_free(expr->aggregates[i].argument);
    }
    free(expr->aggregates);
    for (size_t i = 0; i < expr->n_windows; i++) {
        free(expr->windows[i].text);
        free(expr->windows[i].name);
    }
    free(expr->windows);
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

size_t expr_n_aggregates(const struct expr *expr)
{
    return expr->n_aggregates;
}

struct expr *expr_argument(const struct expr *expr, size_t i)
{
    assert(i < expr->n_aggregates);
    return expr->aggregates[i].argument;
}

void expr_bind_aggregate(struct expr *expr, size_t i, size_t slot)
{
    assert(i < expr->n_aggregates);
    expr->aggregates[i].slot = slot;
}

size_t expr_n_windows(const struct expr *expr)
{
    return expr->n_windows;
}

const char *expr_window_name(const struct expr *expr, size_t i)
{
    assert(i < expr->n_windows);
    return expr->windows[i].name;
}

uint64_t expr_window_span_usec(const struct expr *expr, size_t i)
{
    assert(i < expr->n_windows);
    return expr->windows[i].span_usec;
}

void expr_bind_window(struct expr *expr, size_t i, size_t slot)
{
    assert(i < expr->n_windows);
    expr->windows[i].slot = slot;
}

enum expr_type expr_type(const struct expr *expr)
{
    return expr->type;
}

static bool same_window(const struct expr_window *a, const struct expr_window *b)
{
    return a->function == b->function && a->span_usec == b->span_usec &&
           strcmp(a->name, b->name) == 0;
}

// NOLINTNEXTLINE(misc-no-recursion): as below
static bool same_step(const struct expr *a, const struct expr *b, size_t i)
{
    const struct expr_step *one = &a->steps[i], *other = &b->steps[i];
    if (one->op != other->op)
        return false;
    switch (one->op) {
    case EXPR_LITERAL:
        return one->number == other->number;
    case EXPR_READING:
    case EXPR_AGE:
        return strcmp(a->names[one->name].text, b->names[other->name].text) == 0;
    case EXPR_WINDOW:
        return same_window(&a->windows[one->name], &b->windows[other->name]);
    case EXPR_AGGREGATE:
        return a->aggregates[one->name].function == b->aggregates[other->name].function &&
               expr_equal(a->aggregates[one->name].argument, b->aggregates[other->name].argument);
    default:
        return true;
    }
}

// NOLINTNEXTLINE(misc-no-recursion): an argument has no aggregates of its own
bool expr_equal(const struct expr *a, const struct expr *b)
{
    bool equal = a->n_steps == b->n_steps;
    for (size_t i = 0; equal && i < a->n_steps; i++)
        equal = same_step(a, b, i);
    return equal;
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

static double value_of(const struct expr_context *context, size_t slot)
{
    const struct expr_reading *reading = &context->readings[slot];
    if (context->late && context->late[slot] && context->stale_after_usec == USEC_INFINITY)
        return NAN;
    if (reading->mono_usec == 0 || age_usec(reading, context) > context->stale_after_usec)
        return NAN;
    return isfinite(reading->value) ? reading->value : NAN;
}

static double age_of(const struct expr_context *context, size_t slot)
{
    const struct expr_reading *reading = &context->readings[slot];
    if (reading->mono_usec == 0)
        return NAN;
    return (double)age_usec(reading, context) / (double)USEC_PER_SEC;
}

size_t expr_first_unknown(const struct expr *expr, const struct expr_context *context)
{
    for (size_t i = 0; i < expr->n_names; i++) {
        const struct expr_name *name = &expr->names[i];
        if (isnan(name->read ? value_of(context, name->slot) : age_of(context, name->slot)))
            return i;
    }
    return SIZE_MAX;
}

static double aggregate_of(const struct expr_aggregate *aggregate,
                           const struct expr_context *context)
{
    if (!context->tallies)
        return NAN;
    return tally_value(&context->tallies[aggregate->slot], aggregate->function,
                       context->min_devices);
}

static double window_of(const struct expr_window *window, const struct expr_context *context)
{
    const struct series *series = context->series ? context->series[window->slot] : NULL;
    return series ? series_value(series, window->function, context->now_wall_usec) : NAN;
}

static double run_leaf(const struct expr *expr, const struct expr_step *step,
                       const struct expr_context *context)
{
    switch (step->op) {
    case EXPR_READING:
        return value_of(context, expr->names[step->name].slot);
    case EXPR_AGE:
        return age_of(context, expr->names[step->name].slot);
    case EXPR_TIME:
        return (double)context->now_wall_usec / (double)USEC_PER_SEC;
    case EXPR_HOUR:
        return context->local_hour;
    case EXPR_AGGREGATE:
        return aggregate_of(&expr->aggregates[step->name], context);
    case EXPR_WINDOW:
        return window_of(&expr->windows[step->name], context);
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

double expr_value(const struct expr *expr, const struct expr_context *context)
{
    return run(expr, context);
}
