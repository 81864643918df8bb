// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Calls that fail when a test says so: memory, descriptors, threads and sources of the event loop,
 * as the library asks for them. A test that links failing.c has these calls wrapped by the linker
 * (CMakeLists.txt), in its own files too.
 *
 *     for (size_t n = 1;; n++) {
 *         failing_begin(n, false);
 *         r = what_is_tested();
 *         if (!failing_end())
 *             break; // it makes fewer than n such calls
 *     }
 *
 * Only calls of the thread that began it are counted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The n-th call from now on fails, n > 0; with all_after every later one too. */
void failing_begin(size_t n, bool all_after);

/* Nothing fails any more. Whether a call has. */
bool failing_end(void);
