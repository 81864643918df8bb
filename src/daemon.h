// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The running daemon: the roles that the configuration asks for on one event loop, signals, and
 * what systemd is told (READY, STATUS, RELOADING, STOPPING, WATCHDOG; sd_notify(3)).
 */
#pragma once

#include "config/config.h"

/*
 * Runs until SIGTERM or SIGINT; SIGHUP loads the configuration of sources again. 0 after a clean
 * stop, -errno (logged) if it cannot run.
 */
int daemon_run(const struct config_sources *sources, struct config *config);

/* Logs each of the errors; where tells what was not loaded because of them. */
void daemon_log_errors(const struct config_errors *errors, const char *consequence);
