// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An expression in the making: a program in postfix order, for a stack of doubles on which a
 * condition is 1 or 0 and everything unknown is NAN. The parser's alone; what is made is used
 * through expr.h.
 *
 *     expr_program_new(strlen(text), &expr);
 *     expr_program_add_reading(expr, EXPR_READING, "light", 5);
 *     expr_program_add_literal(expr, 300);
 *     expr_program_add(expr, EXPR_LESS);             // light < 300
 *     expr_program_end(expr, EXPR_CONDITION);
 *
 * All that add a step return 0, -EOVERFLOW if a run would need a stack of more than EXPR_MAX_DEPTH,
 * and -ENOMEM. The program is of no use then.
 */
#pragma once

#include "core/expr.h"

enum expr_op {
    EXPR_LITERAL,
    EXPR_READING,
    EXPR_AGE,
    EXPR_TIME,
    EXPR_HOUR,
    EXPR_AGGREGATE,
    EXPR_WINDOW,
    EXPR_NEGATE, // from here on they take one value from the stack
    EXPR_NOT,
    EXPR_ADD, // from here on two
    EXPR_SUBTRACT,
    EXPR_MULTIPLY,
    EXPR_DIVIDE,
    EXPR_LESS,
    EXPR_LESS_EQUAL,
    EXPR_GREATER,
    EXPR_GREATER_EQUAL,
    EXPR_EQUAL,
    EXPR_NOT_EQUAL,
    EXPR_AND,
    EXPR_OR,
};

/* An empty one, for a text of length bytes: a step takes at least one. 0 or -ENOMEM. */
int expr_program_new(size_t length, struct expr **ret_expr);

/* A step that says all by itself: EXPR_TIME, EXPR_HOUR, and what takes values from the stack. */
int expr_program_add(struct expr *expr, enum expr_op op);

int expr_program_add_literal(struct expr *expr, double number);

/*
 * EXPR_READING or EXPR_AGE of a name. Further: -ENAMETOOLONG; -E2BIG: there are EXPR_MAX_NAMES
 * others.
 */
int expr_program_add_reading(struct expr *expr, enum expr_op op, const char *name, size_t length);

/*
 * The last span of a name's readings; the call's text is kept for expr_explain(). Further: -E2BIG:
 * there are EXPR_MAX_WINDOWS.
 */
int expr_program_add_window(struct expr *expr, enum aggregate function, const char *name,
                            uint64_t span_usec, const char *call, size_t length);

/*
 * Over the devices of a group; likewise. Takes *argument over, which whoever keeps the tally runs
 * for each device, and leaves NULL there. Further: -E2BIG: there are EXPR_MAX_AGGREGATES.
 */
int expr_program_add_aggregate(struct expr *expr, enum aggregate function, struct expr **argument,
                               const char *call, size_t length);

/* The last step was added: one value is on the stack, of that type. */
void expr_program_end(struct expr *expr, enum expr_type type);

/* Whether it is the reading of a name, and nothing else. */
bool expr_program_is_reading(const struct expr *expr);

/* Whether it has age(), time() or hour(). */
bool expr_program_reads_clock(const struct expr *expr);

/* The text of what the i-th finding is of: a name or a call. */
const char *expr_program_finding(const struct expr *expr, size_t i);
