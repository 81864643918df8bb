// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Places at which a test has the process killed, so that what is found after a crash right there is
 * known to be sound (tests/integration/test_killpoints.py). Each stands where something that must
 * outlive a crash is about to change or has changed, and each name stands once.
 *
 *     KILL_POINT("acknowledged");
 *
 * A build with -DKILL_POINTS=ON ends by SIGKILL at the n-th time that it comes by the one that the
 * environment names: NIGHTLIGHT_KILL_POINT=acknowledged:3; without a number, at the first. In any
 * other build there is nothing left of it.
 */
#pragma once

#ifdef NIGHTLIGHT_KILL_POINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static inline void killpoint_pass(const char *name, atomic_uint *n_passed)
{
    const char *wanted = getenv("NIGHTLIGHT_KILL_POINT");
    size_t length = strlen(name);
    if (!wanted || strncmp(wanted, name, length) != 0)
        return;
    unsigned long nth = wanted[length] == ':' ? strtoul(wanted + length + 1, NULL, 10) : 1;
    if ((wanted[length] == '\0' || wanted[length] == ':') &&
        atomic_fetch_add(n_passed, 1) + 1 == nth)
        raise(SIGKILL);
}

#define KILL_POINT(name)                                                                           \
    do {                                                                                           \
        static atomic_uint n_passed_; /* the store's are passed in its thread */                   \
        killpoint_pass(name, &n_passed_);                                                          \
    } while (0)

#else
#define KILL_POINT(name) ((void)0)
#endif
