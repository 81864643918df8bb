// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The connection's descriptor between the kernel and libmosquitto: reading and writing are
 * buffered, and the library is handed a connection that stands already.
 *
 *     wire_hand_over(fd);            // the winner of the race (dial.h); then
 * mosquitto_connect...() wire_flush();                  // at the end of each turn
 *
 * One connection a process.
 */
#pragma once

#include <netdb.h>
#include <stdbool.h>
#include <sys/socket.h>

/* The connection that libmosquitto gets when it connects next. The wire owns fd from here on. */
void wire_hand_over(int fd);

/* Whether the library has taken it: that its connect() is ours. */
bool wire_is_taken(void);

/* Bytes that have been read from the kernel, and not yet by the library. */
bool wire_has_input(void);

/* Bytes that the library has written, and the kernel has not yet taken. */
bool wire_has_output(void);

/* Writes what there is. 0, -EAGAIN while the kernel takes no more, or another -errno. */
int wire_flush(void);

/* How often bytes came from the kernel, and how often the library has written. */
unsigned wire_count_reads(void);
unsigned wire_count_writes(void);

/* The C library's own, which the definitions in wire.c hide. */
int wire_real_connect(int fd, const struct sockaddr *address, socklen_t size);
int wire_real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                          struct addrinfo **ret_result);
