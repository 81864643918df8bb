// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Starts a program: in a process group of its own, with /dev/null as input, with no signal ignored,
 * and with no descriptor of ours but those that it is given. One that is passed a descriptor is a
 * program of ours, which closes by itself what a library has left open: its own file, by which it
 * is started, may be one.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

enum { SPAWN_PASSED_FD = 3 }; // what passed_fd is in the program

struct spawn {
    char *const *argv;
    const char *path;         // NULL: argv[0] is looked up in PATH unless it has a slash
    char *const *environment; // NULL: ours
    int output_fd;            // its standard output; -EBADF: /dev/null
    int error_fd;             // its standard error; -EBADF: ours
    int passed_fd;            // above SPAWN_PASSED_FD, or -EBADF
    bool blocks_signals;      // all of them, until it unblocks them; else none is
};

/* 0 and *ret_pid, or -errno as posix_spawn(3). */
int spawn(const struct spawn *program, pid_t *ret_pid);
