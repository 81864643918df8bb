// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Makes a connection: looks up all hosts, and races all their addresses (RFC 8305). An address of a
 * host that is named earlier begins earlier; the next begins 250 ms later, or as soon as one has
 * failed. Blocks until one has answered or none is left; each has 10 s.
 */
#pragma once

#include <stddef.h>

#include "core/frame.h"

/*
 * The index of the host that has answered; *ret_fd is the connection, not blocking, and reset when
 * it is closed: dial_keep() ends that. -EIO with why, a line that has a reason for each host.
 */
int dial(const struct frame_options *options, int *ret_fd, char *why, size_t size);

/*
 * Until CONNACK what has been sent must not arrive after its sender is gone: the kernel throws it
 * away with the connection. From here on it is delivered.
 */
void dial_keep(int fd);

/* "host:port" in a connection's reason and description; a path of a Unix socket as it is. */
void dial_format(const struct frame_options *options, const char *host, char *out, size_t size);

/* Whether a look-up still hangs in its thread: leave by _exit(2) then. */
bool dial_has_threads(void);
