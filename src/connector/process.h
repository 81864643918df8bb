// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The connector as a process: what it is to the kernel, what it may do, and how it ends.
 */
#pragma once

#include "core/frame.h"

/*
 * At the start: its name, its end with its parent's, no signal but SIGKILL, no descriptor but the
 * standard ones and the pair, no core file, the first to go when memory is short.
 */
void process_set_up(void);

/* Whether the parent that has sent the options is still there; else it ends here. */
void process_check_parent(const struct frame_options *options);

/*
 * From here on: memory is limited, no file can be written, no program be started, no other process
 * be touched. What the kernel lacks is done without.
 */
void process_confine(const struct frame_options *options);

/*
 * Ends at once. With a format, which names an error of ours, one line on standard error: the daemon
 * reads it there, and logs it with the end.
 */
_Noreturn void process_end(const char *format, ...) __attribute__((format(printf, 1, 2)));
