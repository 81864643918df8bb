// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * nightlightctl: a table of commands, a file each. A new one is a file that defines its
 * struct ctl_command, a line here, and one in ctl.c's table.
 */
#pragma once

enum {
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_BAD_CONFIG = 78, // EX_CONFIG of sysexits.h, as nightlightd's
};

struct ctl_command {
    const char *name;
    const char *help; // one or more lines for --help, each ending with a line feed
    // argv[0] is the command's name; returns the exit code. Errors go to standard error.
    int (*run)(int argc, char **argv);
};

extern const struct ctl_command ctl_command_rules;

/* The whole program. */
int ctl_run(int argc, char **argv);
