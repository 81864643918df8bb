// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Text to typed values, whole and strict: leading or trailing bytes, overflow and anything that the
 * locale would change are errors. Each returns 0, -EINVAL (not of that form) or -ERANGE (of that
 * form, too large), and leaves ret_ untouched on failure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* yes, no, true, false, on, off, 1, 0; as systemd takes them (systemd.syntax(7)). */
int parse_bool(const char *text, bool *ret_value);

/* A decimal integer with an optional sign. */
int parse_int(const char *text, int64_t *ret_value);

/*
 * A finite decimal number: JSON's form, and "+3", "007", ".5" and "5." besides; no hex, no "inf",
 * no "nan".
 */
int parse_number(const char *text, double *ret_value);

/*
 * A span of time as systemd.time(7) writes it: a number without a unit is seconds; units us, ms, s,
 * m, min, h, d, w and their long forms; several add up ("1h 30min"), fractions count ("1.5s").
 * "infinity" gives USEC_INFINITY.
 */
int parse_duration(const char *text, uint64_t *ret_usec);

/*
 * A time as RFC 3339, section 5.6, writes it: "2026-11-24T12:34:56.789Z", "...T13:34:56+01:00", any
 * number of digits behind the point (what is below a microsecond is cut), a leap second where there
 * can be one (it counts as the second after it). -ERANGE for a time before 1970.
 */
int parse_rfc3339(const char *text, uint64_t *ret_wall_usec);

/* Bytes, with an optional K, M, G or T to the base 1024: "64K", "32M". */
int parse_size(const char *text, uint64_t *ret_bytes);

/*
 * Splits a command line into arguments: white space separates, '...' and "..." quote, a backslash
 * escapes the next character outside '...'. No shell, no variables, no globs.
 * *ret_argv is a new vector with at least one string; -EINVAL for an open quote or an empty line.
 */
int parse_argv(const char *text, char ***ret_argv);
