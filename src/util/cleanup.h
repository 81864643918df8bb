// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Scope-bound ownership, by the GNU cleanup attribute.
 *
 *     _cleanup_(freep) char *text = NULL;
 *     _cleanup_(closep) int fd = -EBADF;
 *     ...
 *     *ret_text = TAKE_PTR(text);     // ownership moves visibly
 *
 * A type with x_free() gets its own x_freep() by DEFINE_CLEANUP(struct x *, x_free).
 */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))

#define TAKE_PTR(pointer)                                                                          \
    ({                                                                                             \
        __typeof__(pointer) *take_p_ = &(pointer);                                                 \
        __typeof__(pointer) taken_ = *take_p_;                                                     \
        *take_p_ = NULL;                                                                           \
        taken_;                                                                                    \
    })

#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int *take_fd_ = &(fd);                                                                     \
        int taken_ = *take_fd_;                                                                    \
        *take_fd_ = -EBADF;                                                                        \
        taken_;                                                                                    \
    })

#define DEFINE_CLEANUP(type, function)                                                             \
    static inline void function##p(type *pointer) /* NOLINT(bugprone-macro-parentheses) */         \
    {                                                                                              \
        if (*pointer)                                                                              \
            function(*pointer);                                                                    \
    }

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static inline void freep(void *pointer)
{
    free(*(void **)pointer);
}

static inline void closep(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void fclosep(FILE **file)
{
    if (*file)
        fclose(*file);
}
