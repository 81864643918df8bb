// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Where log lines go. Owns the level and the choice between journal and standard error.
 *
 * The journal is spoken to in its native protocol: a datagram of lines NAME=value. Not by
 * sd_journal_sendv(3), which waits when the journal takes no more, for example because its disk
 * stalls; the main loop would wait with it.
 */
#include "util/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/strings.h"

enum {
    LINE_SIZE = 2048,
    ENTRY_SIZE = 4 * LINE_SIZE,
};

/* One entry of the journal. */
struct entry {
    size_t length;
    char bytes[ENTRY_SIZE];
};

static atomic_int current_level = LOG_INFO;
static pthread_once_t has_target = PTHREAD_ONCE_INIT;
static int journal_fd = -EBADF; // else the lines go to standard error
static atomic_uint n_lost;      // lines that were not taken, and not told of

void log_set_level(int level)
{
    atomic_store(&current_level, level);
}

bool log_enabled(int level)
{
    return level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

/* sd-journal(3), "JOURNAL_STREAM": device and inode of the stream that standard error must be. */
static void find_target(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat standard_error;
    if (stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && // NOLINT(cert-err34-c)
        fstat(STDERR_FILENO, &standard_error) == 0 && standard_error.st_dev == (dev_t)device &&
        standard_error.st_ino == (ino_t)inode)
        journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/* What does not fit any more is left out. */
static void add_field(struct entry *entry, const char *name, const char *value)
{
    char printable[LINE_SIZE]; // a newline would begin another field
    size_t room = sizeof(entry->bytes) - entry->length;
    strings_printable(value, strlen(value), printable, sizeof(printable));
    int length = snprintf(entry->bytes + entry->length, room, "%s=%s\n", name, printable);
    if (length > 0 && (size_t)length < room)
        entry->length += (size_t)length;
}

static int send_entry(int level, const struct log_field *fields, const char *message)
{
    static const struct sockaddr_un journal = { AF_UNIX, "/run/systemd/journal/socket" };
    const char priority[] = { (char)('0' + (level & LOG_PRIMASK)), '\0' };
    struct entry entry;
    entry.length = 0;
    add_field(&entry, "MESSAGE", message);
    add_field(&entry, "PRIORITY", priority);
    add_field(&entry, "SYSLOG_IDENTIFIER", program_invocation_short_name);
    for (int i = 0; fields && fields[i].name; i++) {
        if (fields[i].value)
            add_field(&entry, fields[i].name, fields[i].value);
    }
    ssize_t n = sendto(journal_fd, entry.bytes, entry.length, MSG_DONTWAIT | MSG_NOSIGNAL,
                       (const struct sockaddr *)&journal, sizeof(journal));
    return n < 0 ? -errno : 0;
}

static int write_line(int level, const char *message)
{
    static const char *const names[] = { "emerg",   "alert",  "crit", "error",
                                         "warning", "notice", "info", "debug" };
    char line[LINE_SIZE + 32]; // below PIPE_BUF: a pipe that has room for any takes all of it
    struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };
    int length = snprintf(line, sizeof(line), "%-7s %s\n", names[level & LOG_PRIMASK], message);
    if (poll(&room, 1, 0) == 0)
        return -EAGAIN;
    return length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0 ? -errno : 0;
}

/* Where nobody reads the other end of a pipe, or a terminal is stopped, it is not waited for. */
static int write_stderr(int level, const struct log_field *fields, const char *message)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // nobody takes the room in between
    (void)fields;
    pthread_mutex_lock(&lock);
    int r = write_line(level, message);
    pthread_mutex_unlock(&lock);
    return r == -EAGAIN ? r : 0; // else there is nowhere left to say it
}

static int write_journal(int level, const struct log_field *fields, const char *message)
{
    int r = send_entry(level, fields, message);
    return r == 0 || r == -EAGAIN ? r : write_stderr(level, fields, message); // there is none now
}

/* What is not taken is counted, and told of before the next line that is. */
static void write_or_count(int (*write_out)(int level, const struct log_field *fields,
                                            const char *message),
                           int level, const struct log_field *fields, const char *message)
{
    char text[64];
    unsigned n = atomic_exchange(&n_lost, 0);
    snprintf(text, sizeof(text), "%u lines are lost, the log took no more", n);
    if (n > 0 && write_out(LOG_WARNING, NULL, text) == -EAGAIN) {
        atomic_fetch_add(&n_lost, n + 1);
        return;
    }
    if (write_out(level, fields, message) == -EAGAIN)
        atomic_fetch_add(&n_lost, 1);
}

void log_write(int level, const struct log_field *fields, const char *format, ...)
{
    int saved_errno = errno;
    char raw[LINE_SIZE], message[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof(raw), format, arguments);
    va_end(arguments);
    strings_printable(raw, strlen(raw), message, sizeof(message));

    pthread_once(&has_target, find_target);
    write_or_count(journal_fd >= 0 ? write_journal : write_stderr, level, fields, message);
    errno = saved_errno;
}
