// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Runs a program for a driver, to its end or to its time limit. No shell. For a worker, since it
 * waits; exec_cancel() alone is for another thread, while the object lives.
 *
 *     r = exec_run(exec, argv, 10 * USEC_PER_SEC, output, &length, why);
 *
 * The program gets /dev/null as input, our standard error, no other descriptor of ours, no blocked
 * or ignored signal, and a process group of its own. When it ends, or has to, whatever is left in
 * that group is killed: a run leaves nothing behind.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/why.h"

struct exec;

enum { EXEC_OUTPUT_SIZE = 4096 };

/* 0, -ENOMEM, -EMFILE. */
int exec_new(struct exec **ret_exec, struct why *why);
void exec_free(struct exec *exec);
DEFINE_CLEANUP(struct exec *, exec_free)

/*
 * Runs argv, whose first string is looked up in PATH unless it has a slash. output (NULL: not
 * wanted, it goes to /dev/null) has room for EXEC_OUTPUT_SIZE bytes and is not terminated;
 * *ret_length is set on success. 0, or -errno with why: what the start gave (-ENOENT, -EACCES),
 * -ETIMEDOUT, -ECANCELED, -EFBIG for more output than fits, -EIO for an exit status other than 0 or
 * a signal.
 */
int exec_run(struct exec *exec, char *const *argv, uint64_t timeout_usec, char *output,
             size_t *ret_length, struct why *why);

/* Ends the run under way, else the next one, at once. */
void exec_cancel(struct exec *exec);
