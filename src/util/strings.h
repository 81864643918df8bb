// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Strings and NULL-terminated vectors of strings ("strv": char **, NULL counts as empty).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/cleanup.h"

/* Frees a vector and its strings; NULL is fine. */
void strings_free(char **vector);
DEFINE_CLEANUP(char **, strings_free)

size_t strings_count(char *const *vector);

/* Whether text fits one of the patterns, with * and ? as fnmatch(3) has them. */
bool strings_match_any(char *const *patterns, const char *text);

/*
 * Splits text at white space into a new vector (empty text: an empty vector, not NULL).
 * Returns 0 or -ENOMEM.
 */
int strings_split(const char *text, char ***ret_vector);

/* Like strcmp() == 0, but two NULLs are equal and NULL differs from everything else. */
bool strings_equal(const char *a, const char *b);

/*
 * Writes "a, b, c", or "none" if n_words is 0; a NULL behind the first word ends the list too. What
 * does not fit in size (>= 8) is cut and marked "...". Returns out.
 */
const char *strings_join(const char *const *words, size_t n_words, char *out, size_t size);

/*
 * The candidate that a person most likely meant by word: the smallest edit distance
 * (Damerau-Levenshtein, optimal string alignment), at most a third of the word's length and at
 * least 1. Returns NULL if none is that near. Words over 63 bytes have no near one.
 */
const char *strings_nearest(const char *word, const char *const *candidates, size_t n_candidates);

/*
 * Copies bytes as one printable line into out (size >= 8): control characters (C0, DEL and C1) and
 * bytes that are not UTF-8 become \xNN, and what does not fit is cut and marked "...". Returns out.
 */
const char *strings_printable(const char *bytes, size_t length, char *out, size_t size);

/* Writes two hexadecimal digits for each byte, in lower case, and a NUL. Returns out. */
char *strings_to_hex(const void *bytes, size_t n_bytes, char *out);

/* Reads them back. false if text does not begin with 2 * n_bytes of such digits. */
bool strings_from_hex(const char *text, size_t n_bytes, void *out);

/*
 * The length of the UTF-8 sequence that begins at text (1..4), or 0 if it is not valid (overlong
 * forms, surrogates, beyond U+10FFFF, cut off at length; RFC 3629, section 4).
 */
size_t strings_utf8_length(const char *text, size_t length);

/* Whether all of the bytes are valid UTF-8. */
bool strings_is_utf8(const char *bytes, size_t length);
