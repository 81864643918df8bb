// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The hash of what peers choose: ids, names, keys. Keyed with a random number of this run, so that
 * nobody outside can make many of them fall into one bucket (SipHash-2-4, Aumasson and Bernstein,
 * 2012). It means nothing to another run. For a table see util/table.h.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *bytes, size_t n_bytes);
uint64_t hash_text(const char *text);

/* With a key of the caller's, on a little-endian machine as the paper has it: for tests. */
uint64_t hash_siphash(const uint64_t key[2], const void *bytes, size_t n_bytes);
