// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Between the three parts of the shim: world.c (the state, and the hand that moves it), uabi.c (the
 * kernel's interface) and preload.c (the C library's functions that stand in for the real ones).
 */
#pragma once

#include <stdbool.h>

#include "gpioshim.h"

enum { SHIM_FDS = 1024 };

enum shim_kind { SHIM_NONE, SHIM_CHIP, SHIM_LINE };

/* A descriptor of this process that the shim answers for. */
struct shim_fd {
    enum shim_kind kind;
    int chip, line;
};

extern struct shim_fd shim_fds[SHIM_FDS];

/* The world in force; NULL without one, and then nothing is changed. */
struct gpioshim_world *shim_world(void);

/* A line that is not held by a living process is free. */
bool shim_is_held(const struct gpioshim_line *line);

/* Closes a line's descriptor, and releases the line if that was the last one. */
int shim_close_line(int fd);

/* Whether fd is a line's that came from another process; then it is one of ours from now on. */
bool shim_recognise(int fd);

/* A new descriptor for a line, on which edges arrive; -1 and errno. */
int shim_new_line_fd(int chip, int line);

/* ioctl(2) on a descriptor of ours. */
int shim_ioctl(int fd, unsigned long request, void *argument);
