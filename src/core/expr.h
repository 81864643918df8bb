// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Expressions over the last readings: "light < 300 and hour() >= 18".
 *
 *     or  and  not  < <= > >= == !=  + - * /  unary -  ( )  numbers  NAMES
 *     age(NAME)  seconds since NAME's last reading came in, known however old it is
 *     time()     seconds since the epoch, UTC        hour()  0..23, local time
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

#include "util/cleanup.h"
#include "util/why.h"

enum {
    EXPR_MAX_LENGTH = 4096, // bytes of text
    EXPR_MAX_DEPTH = 64,    // nesting, and the stack of an evaluation
    EXPR_MAX_NAMES = 64,    // different names in one expression
    EXPR_MAX_NAME = 64,     // bytes of a name
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

/* Whether its value can change without a new reading: it calls age(), time() or hour(). */
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
