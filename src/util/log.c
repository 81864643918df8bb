// SPDX-License-Identifier: LGPL-2.1-or-later
// Where log lines go. Owns the level and the choice between journal and standard error.
#define SD_JOURNAL_SUPPRESS_LOCATION
#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "util/strings.h"

enum {
    LINE_SIZE = 2048,
    MAX_FIELDS = 8,
};

enum target { TARGET_UNKNOWN, TARGET_JOURNAL, TARGET_STDERR };

static atomic_int current_level = LOG_INFO;
static atomic_int current_target = TARGET_UNKNOWN;

void log_set_level(int level)
{
    atomic_store(&current_level, level);
}

bool log_enabled(int level)
{
    return level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

/* sd-journal(3), "JOURNAL_STREAM": device and inode of the stream that standard error must be. */
static enum target find_target(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat standard_error;
    if (stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && // NOLINT(cert-err34-c)
        fstat(STDERR_FILENO, &standard_error) == 0 && standard_error.st_dev == (dev_t)device &&
        standard_error.st_ino == (ino_t)inode)
        return TARGET_JOURNAL;
    return TARGET_STDERR;
}

static int write_journal(int level, const struct log_field *fields, const char *message)
{
    char storage[MAX_FIELDS][LINE_SIZE / 4];
    char message_field[LINE_SIZE + sizeof("MESSAGE=")];
    char priority[sizeof("PRIORITY=7")];
    struct iovec vector[MAX_FIELDS + 2];
    int n = 0;

    snprintf(message_field, sizeof(message_field), "MESSAGE=%s", message);
    snprintf(priority, sizeof(priority), "PRIORITY=%d", level & LOG_PRIMASK);
    vector[n++] = (struct iovec){ message_field, strlen(message_field) };
    vector[n++] = (struct iovec){ priority, strlen(priority) };
    for (int i = 0; fields && fields[i].name && i < MAX_FIELDS; i++) {
        if (!fields[i].value)
            continue;
        snprintf(storage[i], sizeof(storage[i]), "%s=%s", fields[i].name, fields[i].value);
        vector[n++] = (struct iovec){ storage[i], strlen(storage[i]) };
    }
    return sd_journal_sendv(vector, n);
}

static void write_stderr(int level, const char *message)
{
    static const char *const names[] = { "emerg",   "alert",  "crit", "error",
                                         "warning", "notice", "info", "debug" };
    char line[LINE_SIZE + 32];
    int length = snprintf(line, sizeof(line), "%-7s %s\n", names[level & LOG_PRIMASK], message);
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0)
        return; // nowhere left to say it
}

void log_write(int level, const struct log_field *fields, const char *format, ...)
{
    int saved_errno = errno;
    char raw[LINE_SIZE], message[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is the line above
    vsnprintf(raw, sizeof(raw), format, arguments);
    va_end(arguments);
    strings_printable(raw, strlen(raw), message, sizeof(message));

    int target = atomic_load(&current_target);
    if (target == TARGET_UNKNOWN) {
        target = (int)find_target();
        atomic_store(&current_target, target);
    }
    if (target != TARGET_JOURNAL || write_journal(level, fields, message) < 0)
        write_stderr(level, message);
    errno = saved_errno;
}
