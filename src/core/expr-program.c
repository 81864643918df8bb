// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An expression as a program: made by expr-program.h, used by expr.h. A run is one pass over it, on
 * a stack of its own, in which NAN stands for unknown, so that arithmetic spreads it for free. It
 * must not allocate or read a clock.
 */
#include "core/expr-program.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "util/clock.h"

struct expr_step {
    enum expr_op op;
    union {
        double number; // EXPR_LITERAL
        size_t name;   // EXPR_READING, EXPR_AGE, EXPR_AGGREGATE, EXPR_WINDOW: an index into names,
                       // aggregates or windows
    };
};

struct expr_name {
    char *text;
    size_t slot;
    bool read; // by its value; false: only its age is asked for
};

/* Over the devices of a group: argument is run for each, by whoever keeps the tally. */
struct expr_aggregate {
    enum aggregate function;
    char *text; // "median(light)", as it was written
    struct expr *argument;
    size_t slot;
};

/* Over the last span of a name's readings. */
struct expr_window {
    enum aggregate function;
    char *text; // "mean(light, 10min)", as it was written
    char *name;
    uint64_t span_usec;
    size_t slot;
};

struct expr {
    enum expr_type type;
    bool reads_clock; // age(), time() or hour()
    size_t stack;     // what a run has on its stack after the last step: at most EXPR_MAX_DEPTH
    size_t n_steps, n_room;
    struct expr_step *steps;
    size_t n_names;
    struct expr_name *names;
    size_t n_aggregates;
    struct expr_aggregate *aggregates;
    size_t n_windows;
    struct expr_window *windows;
};

/* --- making ---------------------------------------------------------------------------------- */

int expr_program_new(size_t length, struct expr **ret_expr)
{
    _cleanup_(expr_freep) struct expr *expr = calloc(1, sizeof(*expr));
    if (!expr)
        return -ENOMEM;
    expr->n_room = length + 1;
    expr->steps = calloc(expr->n_room, sizeof(*expr->steps));
    if (!expr->steps)
        return -ENOMEM;
    *ret_expr = TAKE_PTR(expr);
    return 0;
}

static int add_step(struct expr *expr, struct expr_step step)
{
    if (step.op < EXPR_NEGATE && ++expr->stack > EXPR_MAX_DEPTH)
        return -EOVERFLOW;
    if (step.op >= EXPR_ADD)
        expr->stack--;
    if (step.op == EXPR_AGE || step.op == EXPR_TIME || step.op == EXPR_HOUR)
        expr->reads_clock = true;
    assert(expr->n_steps < expr->n_room);
    expr->steps[expr->n_steps++] = step;
    return 0;
}

int expr_program_add(struct expr *expr, enum expr_op op)
{
    return add_step(expr, (struct expr_step){ .op = op });
}

int expr_program_add_literal(struct expr *expr, double number)
{
    return add_step(expr, (struct expr_step){ .op = EXPR_LITERAL, .number = number });
}

static int add_name(struct expr *expr, const char *name, size_t length, size_t *ret_name)
{
    for (size_t i = 0; i < expr->n_names; i++) {
        const char *text = expr->names[i].text;
        if (strlen(text) == length && memcmp(text, name, length) == 0) {
            *ret_name = i;
            return 0;
        }
    }
    if (length > EXPR_MAX_NAME)
        return -ENAMETOOLONG;
    if (expr->n_names == EXPR_MAX_NAMES)
        return -E2BIG;
    struct expr_name *names = reallocarray(expr->names, expr->n_names + 1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    expr->names = names;
    char *text = strndup(name, length);
    if (!text)
        return -ENOMEM;
    names[expr->n_names] = (struct expr_name){ .text = text, .slot = expr->n_names };
    *ret_name = expr->n_names++;
    return 0;
}

int expr_program_add_reading(struct expr *expr, enum expr_op op, const char *name, size_t length)
{
    size_t i = 0;
    int r = add_name(expr, name, length, &i);
    if (r < 0)
        return r;
    if (op == EXPR_READING)
        expr->names[i].read = true;
    return add_step(expr, (struct expr_step){ .op = op, .name = i });
}

int expr_program_add_window(struct expr *expr, enum aggregate function, const char *name,
                            uint64_t span_usec, const char *call, size_t length)
{
    size_t i = expr->n_windows;
    if (i == EXPR_MAX_WINDOWS)
        return -E2BIG;
    struct expr_window *windows = reallocarray(expr->windows, i + 1, sizeof(*windows));
    if (!windows)
        return -ENOMEM;
    expr->windows = windows;
    windows[i] =
        (struct expr_window){ function, strndup(call, length), strdup(name), span_usec, .slot = i };
    expr->n_windows++;
    if (!windows[i].text || !windows[i].name)
        return -ENOMEM;
    return add_step(expr, (struct expr_step){ .op = EXPR_WINDOW, .name = i });
}

int expr_program_add_aggregate(struct expr *expr, enum aggregate function, struct expr **argument,
                               const char *call, size_t length)
{
    size_t i = expr->n_aggregates;
    if (i == EXPR_MAX_AGGREGATES)
        return -E2BIG;
    struct expr_aggregate *aggregates = reallocarray(expr->aggregates, i + 1, sizeof(*aggregates));
    if (!aggregates)
        return -ENOMEM;
    expr->aggregates = aggregates;
    aggregates[i] =
        (struct expr_aggregate){ function, strndup(call, length), TAKE_PTR(*argument), .slot = i };
    expr->n_aggregates++;
    if (!aggregates[i].text)
        return -ENOMEM;
    return add_step(expr, (struct expr_step){ .op = EXPR_AGGREGATE, .name = i });
}

void expr_program_end(struct expr *expr, enum expr_type type)
{
    assert(expr->stack == 1);
    expr->type = type;
    struct expr_step *steps = reallocarray(expr->steps, expr->n_steps, sizeof(*steps));
    if (steps)
        expr->steps = steps;
    expr->n_room = expr->n_steps;
}

bool expr_program_is_reading(const struct expr *expr)
{
    return expr->n_steps == 1 && expr->steps[0].op == EXPR_READING;
}

bool expr_program_reads_clock(const struct expr *expr)
{
    return expr->reads_clock;
}

const char *expr_program_finding(const struct expr *expr, size_t i)
{
    if (i < expr->n_names)
        return expr->names[i].text;
    i -= expr->n_names;
    if (i < expr->n_aggregates)
        return expr->aggregates[i].text;
    return expr->windows[i - expr->n_aggregates].text;
}

/* --- what it is ------------------------------------------------------------------------------ */

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
    return expr->reads_clock || expr->n_windows > 0; // samples leave a window
}

/* --- a run ----------------------------------------------------------------------------------- */

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

/* --- what it has found ----------------------------------------------------------------------- */

size_t expr_n_findings(const struct expr *expr)
{
    return expr->n_names + expr->n_aggregates + expr->n_windows;
}

void expr_find(const struct expr *expr, const struct expr_context *context,
               struct expr_finding *ret_findings)
{
    for (size_t i = 0; i < expr->n_names; i++) {
        const struct expr_reading *reading = &context->readings[expr->names[i].slot];
        *ret_findings++ = reading->mono_usec == 0
                              ? (struct expr_finding){ NAN, 0 }
                              : (struct expr_finding){ reading->value, age_usec(reading, context) };
    }
    for (size_t i = 0; i < expr->n_aggregates; i++) {
        const struct expr_aggregate *aggregate = &expr->aggregates[i];
        const struct tally *tally = &context->tallies[aggregate->slot];
        *ret_findings++ =
            (struct expr_finding){ tally_value(tally, aggregate->function, 1), tally_count(tally) };
    }
    for (size_t i = 0; i < expr->n_windows; i++)
        *ret_findings++ = (struct expr_finding){ window_of(&expr->windows[i], context), 0 };
}
