// SPDX-License-Identifier: LGPL-2.1-or-later
// The wrapped calls; see failing.h.
#include "failing.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

static _Thread_local size_t n_left; // until a call fails; 0: none does
static _Thread_local bool fails_on, has_failed;

void failing_begin(size_t n, bool all_after)
{
    n_left = n;
    fails_on = all_after;
    has_failed = false;
}

bool failing_end(void)
{
    n_left = 0;
    return has_failed;
}

static bool fails(int error)
{
    if (n_left == 0 || (n_left > 1 && n_left--))
        return false;
    has_failed = true;
    if (!fails_on)
        n_left = 0;
    errno = error;
    return true;
}

/* Defines __wrap_NAME, which fails with failure, or does what NAME does. */
#define WRAP(type, name, parameters, arguments, error, failure)                                    \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails(error) ? (failure) : __real_##name arguments;                                 \
    }

WRAP(void *, malloc, (size_t size), (size), ENOMEM, NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), ENOMEM, NULL)
WRAP(void *, realloc, (void *old, size_t size), (old, size), ENOMEM, NULL)
WRAP(void *, reallocarray, (void *old, size_t n, size_t size), (old, n, size), ENOMEM, NULL)
WRAP(char *, strdup, (const char *text), (text), ENOMEM, NULL)
WRAP(char *, strndup, (const char *text, size_t size), (text, size), ENOMEM, NULL)
WRAP(FILE *, open_memstream, (char **text, size_t *size), (text, size), ENOMEM, NULL)
WRAP(int, eventfd, (unsigned value, int flags), (value, flags), EMFILE, -1)
WRAP(int, socket, (int family, int type, int protocol), (family, type, protocol), EMFILE, -1)
WRAP(int, socketpair, (int family, int type, int protocol, int pair[2]),
     (family, type, protocol, pair), EMFILE, -1)
WRAP(int, pipe2, (int ends[2], int flags), (ends, flags), EMFILE, -1)
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *userdata),
     (thread, attributes, run, userdata), EAGAIN, EAGAIN)
WRAP(int, sd_event_add_io,
     (sd_event * event, sd_event_source **source, int fd, uint32_t events,
      sd_event_io_handler_t call, void *userdata),
     (event, source, fd, events, call, userdata), ENOSPC, -ENOSPC)
WRAP(int, sd_event_add_time,
     (sd_event * event, sd_event_source **source, clockid_t clock, uint64_t usec, uint64_t accuracy,
      sd_event_time_handler_t call, void *userdata),
     (event, source, clock, usec, accuracy, call, userdata), ENOMEM, -ENOMEM)
WRAP(int, sd_event_add_time_relative,
     (sd_event * event, sd_event_source **source, clockid_t clock, uint64_t usec, uint64_t accuracy,
      sd_event_time_handler_t call, void *userdata),
     (event, source, clock, usec, accuracy, call, userdata), ENOMEM, -ENOMEM)
WRAP(int, sd_event_add_defer,
     (sd_event * event, sd_event_source **source, sd_event_handler_t call, void *userdata),
     (event, source, call, userdata), ENOMEM, -ENOMEM)

/* With and without _FORTIFY_SOURCE. */
int __wrap_asprintf(char **text, const char *format, ...);
int __wrap___asprintf_chk(char **text, int flag, const char *format, ...);

__attribute__((format(printf, 2, 0))) static int print(char **text, const char *format,
                                                       va_list list)
{
    return fails(ENOMEM) ? -1 : vasprintf(text, format, list);
}

__attribute__((format(printf, 2, 3))) int __wrap_asprintf(char **text, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = print(text, format, list);
    va_end(list);
    return n;
}

__attribute__((format(printf, 3, 4))) int __wrap___asprintf_chk(char **text, int flag,
                                                                const char *format, ...)
{
    va_list list;
    (void)flag;
    va_start(list, format);
    int n = print(text, format, list);
    va_end(list);
    return n;
}
