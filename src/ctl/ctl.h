// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * nightlightctl: a table of commands, a file each. A new one is a file that defines its
 * struct ctl_command, a line here, and one in ctl.c's table.
 */
#pragma once

#include "config/config.h"

enum {
    CTL_OK = 0,
    CTL_FAILED = 1, // here: the command line, the broker
    // What became of a command at its device.
    CTL_REJECTED = 2,
    CTL_NOT_DONE = 3,
    CTL_EXPIRED = 4,
    CTL_SUPERSEDED = 5,
    CTL_NO_ANSWER = 6,
    CTL_BAD_CONFIG = 78, // EX_CONFIG of sysexits.h, as nightlightd's
};

struct ctl_command {
    const char *name;
    const char *help; // one or more lines for --help, each ending with a line feed
    // argv[0] is the command's name; returns the exit code. Errors go to standard error.
    int (*run)(int argc, char **argv);
};

extern const struct ctl_command ctl_command_command, ctl_command_status, ctl_command_rules;

/*
 * As config_load(), of the daemon's configuration, or of the file at path; role NULL: its own. What
 * is wrong is printed.
 */
int ctl_load(const char *path, const char *role, struct config **ret_config);

/* The whole program. */
int ctl_run(int argc, char **argv);
