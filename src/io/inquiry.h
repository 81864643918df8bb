// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Questions of a program on this machine to the running daemon: a datagram on a Unix socket each,
 * and a datagram for an answer. Whoever may write to the socket's file may ask: its owner and its
 * group. Nothing is kept of who has asked, and nobody is waited for.
 *
 *     inquiry_new(event, path, answer, userdata, &inquiry);          // the daemon
 *     inquiry_ask(path, "{...}", 3 * USEC_PER_SEC, &answer);         // the program, blocking
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "util/cleanup.h"

enum {
    INQUIRY_MAX_QUESTION = 1024, // bytes; what is longer is not answered
    INQUIRY_MAX_ANSWER = 32768,
};

struct inquiry;

/* The answer to a question of size bytes from outside: a new string, or NULL for none. */
typedef char *(*inquiry_answer_fn)(void *userdata, const char *question, size_t size);

/* The socket of that name in the runtime directory, a new string; NULL without memory. */
char *inquiry_path(const char *name);

/*
 * Makes the socket; what an earlier run has left at path is replaced. 0; -EADDRINUSE: another
 * process answers there; -ENAMETOOLONG, -ENOENT, -EACCES and what else socket(2), bind(2) and
 * sd-event return.
 */
int inquiry_new(sd_event *event, const char *path, inquiry_answer_fn answer, void *userdata,
                struct inquiry **ret_inquiry);

/* Removes the socket. NULL is fine. */
void inquiry_free(struct inquiry *inquiry);
DEFINE_CLEANUP(struct inquiry *, inquiry_free)

/*
 * Asks, and waits. *ret_answer is a new string. -ENOENT, -ECONNREFUSED: nobody is there to answer;
 * -ETIMEDOUT: nobody has, in wait_usec; -EMSGSIZE; -EACCES and what else connect(2) returns.
 */
int inquiry_ask(const char *path, const char *question, uint64_t wait_usec, char **ret_answer);
