// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Expressions over the last readings: "light < 300 and hour() >= 18".
 *
 *     or  and  not  < <= > >= == !=  + - * /  unary -  ( )  numbers  NAMES
 *     age(NAME)  seconds since NAME's last reading came in, known however old it is
 *     time()     seconds since the epoch, UTC        hour()  0..23, local time
 *     mean(NUMBER)       over the devices of a group: also min, max, median, sum, stddev, count
 *     count(CONDITION)   of how many of them it holds
 *     mean(NAME, 10min)  over NAME's readings of that time: all of the above, and rate, which is
 *                        the slope a second of the line that fits them best
 *
 * From the weakest to the strongest binding: or; and; not; comparisons, which do not chain; binary
 * + and -; * and /; unary -. A comparison, `and`, `or`, `not` give a condition, the rest numbers;
 * mixing them is an error when parsing. Names are [A-Za-z_][A-Za-z0-9_]*, or any other name between
 * backquotes (`room-2`). A name without a reading, a stale one, and a result that is not finite (a
 * division by zero) are unknown. Unknown spreads as in Kleene's three-valued logic: `false and
 * unknown` is false, `true or unknown` true, all else with an unknown part unknown.
 *
 * Parsed and type-checked once, evaluated without allocation. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/series.h"
#include "core/tally.h"
#include "util/cleanup.h"
#include "util/why.h"

enum {
    EXPR_MAX_LENGTH = 4096, // bytes of text
    EXPR_MAX_DEPTH = 64,    // nesting, and the stack of an evaluation
    EXPR_MAX_NAMES = 64,    // different names in one expression
    EXPR_MAX_NAME = 64,     // bytes of a name
    EXPR_MAX_AGGREGATES = 16,
    EXPR_MAX_WINDOWS = 16,
    EXPR_MAX_FINDINGS = EXPR_MAX_NAMES + EXPR_MAX_AGGREGATES + EXPR_MAX_WINDOWS,
};

enum expr_type { EXPR_NUMBER, EXPR_CONDITION };

struct expr;

/* The last reading of a name. */
struct expr_reading {
    double value;
    uint64_t mono_usec; // when it came in; 0: there is none
};

struct expr_context {
    const struct expr_reading *readings; // indexed by what expr_bind() stored
    uint64_t now_mono_usec;
    uint64_t now_wall_usec;
    int local_hour;            // 0..23
    uint64_t stale_after_usec; // an older reading is unknown; USEC_INFINITY: never stale
    const bool *late; // by slot: such a reading is unknown unless there is a stale_after_usec to
                      // judge it by; NULL: none is
    const struct tally *tallies;        // by slot, as readings; NULL: without aggregates
    const struct series *const *series; // by slot, each NULL while nothing came; NULL: likewise
    size_t min_devices;                 // an aggregate of fewer is unknown
};

/*
 * Parses text into a new expression of the wanted type. -EINVAL with why, which begins with the
 * column ("column 9: ..."); -ENOMEM.
 */
int expr_parse(const char *text, enum expr_type type, struct expr **ret_expr, struct why *why);
void expr_free(struct expr *expr);
DEFINE_CLEANUP(struct expr *, expr_free)

/* The different names that it reads, in the order of their first use. */
size_t expr_n_names(const struct expr *expr);
const char *expr_name(const struct expr *expr, size_t i);

/* Says that the i-th name is found at readings[slot]. At first, slot is i. */
void expr_bind(struct expr *expr, size_t i, size_t slot);

/*
 * The aggregates over devices. Each has an argument, an expression that says something for each
 * device (of the expression's memory, to be bound like it), and is found at tallies[slot].
 */
size_t expr_n_aggregates(const struct expr *expr);
struct expr *expr_argument(const struct expr *expr, size_t i);
void expr_bind_aggregate(struct expr *expr, size_t i, size_t slot);

/* The windows over time, those of arguments not counted; found at series[slot]. */
size_t expr_n_windows(const struct expr *expr);
const char *expr_window_name(const struct expr *expr, size_t i);
uint64_t expr_window_span_usec(const struct expr *expr, size_t i);
void expr_bind_window(struct expr *expr, size_t i, size_t slot);

enum expr_type expr_type(const struct expr *expr);

/* Whether both are the same program: the text may differ in white space and parentheses. */
bool expr_equal(const struct expr *a, const struct expr *b);

/* Whether its value can change without a new reading: age(), time(), hour(), a window. */
bool expr_uses_time(const struct expr *expr);

/*
 * The index of the first name that is unknown now, for a log line: its reading is missing, or is
 * stale and not only its age() is asked for. SIZE_MAX if there is none.
 */
size_t expr_first_unknown(const struct expr *expr, const struct expr_context *context);

/* A number: true and *ret_value, or false if it is unknown. */
bool expr_number(const struct expr *expr, const struct expr_context *context, double *ret_value);

/* A condition: 1, 0, or -1 if it is unknown. */
int expr_condition(const struct expr *expr, const struct expr_context *context);

/* Either, as a tally takes it: a condition as 1 or 0; NAN if it is unknown. */
double expr_value(const struct expr *expr, const struct expr_context *context);

/* What an evaluation found of one of the things that an expression looks at. */
struct expr_finding {
    double value;    // NAN: unknown
    uint64_t detail; // of a reading its age in microseconds, of an aggregate how many devices count
};

/* How many those are: its names, aggregates and windows, in this order. */
size_t expr_n_findings(const struct expr *expr);

/* Writes down what context has of each, to expr_n_findings() elements. */
void expr_find(const struct expr *expr, const struct expr_context *context,
               struct expr_finding *ret_findings);

/*
 * What it has found, for a person: "light = 250 (3 s old), median(light) = 275 (5 devices)". What
 * does not fit in size (>= 8) is cut and marked "...". Returns out.
 */
const char *expr_explain(const struct expr *expr, const struct expr_finding *findings, char *out,
                         size_t size);
