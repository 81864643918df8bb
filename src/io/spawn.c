// SPDX-License-Identifier: LGPL-2.1-or-later
#include "io/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

static int set_descriptors(posix_spawn_file_actions_t *actions, const struct spawn *program)
{
    int r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (r == 0 && program->output_fd >= 0)
        r = posix_spawn_file_actions_adddup2(actions, program->output_fd, STDOUT_FILENO);
    else if (r == 0)
        r = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (r == 0 && program->error_fd >= 0)
        r = posix_spawn_file_actions_adddup2(actions, program->error_fd, STDERR_FILENO);
    if (r == 0 && program->passed_fd >= 0)
        return posix_spawn_file_actions_adddup2(actions, program->passed_fd, SPAWN_PASSED_FD);
    if (r == 0) // not every library opens its descriptors close-on-exec
        r = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
    return r;
}

static int set_attributes(posix_spawnattr_t *attributes, bool blocks_signals)
{
    sigset_t none, all;
    sigemptyset(&none); // a worker's thread blocks all
    sigfillset(&all);
    int r = posix_spawnattr_setsigmask(attributes, blocks_signals ? &all : &none);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(attributes, &all);
    if (r == 0)
        r = posix_spawnattr_setpgroup(attributes, 0);
    if (r == 0)
        r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                     POSIX_SPAWN_SETPGROUP);
    return r;
}

int spawn(const struct spawn *program, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char *const *environment = program->environment ? program->environment : environ;
    int r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return -r;
    r = posix_spawnattr_init(&attributes);
    if (r == 0) {
        r = set_descriptors(&actions, program);
        if (r == 0)
            r = set_attributes(&attributes, program->blocks_signals);
        if (r == 0)
            r = program->path ? posix_spawn(ret_pid, program->path, &actions, &attributes,
                                            program->argv, environment)
                              : posix_spawnp(ret_pid, program->argv[0], &actions, &attributes,
                                             program->argv, environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}
