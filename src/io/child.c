// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Starts, watches and reaps a connector; see child.h. What only the new process can do for itself
 * (the signal at its parent's end, limits, signals that it ignores) it does, in
 * connector/process.c; until then it has all signals blocked.
 */
#include "io/child.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "core/frame.h"
#include "io/spawn.h"
#include "util/strings.h"

_Static_assert((int)SPAWN_PASSED_FD == (int)FRAME_FD, "the connector looks for its pair there");

enum {
    LAST_WORDS_SIZE = 1024,
    PIPE_SIZE = 64 << 10, // pipe(7)
};

static const char program_name[] = "connector";
static int program_fd = -EBADF;
static char program_path[PATH_MAX]; // as it was then

struct child {
    pid_t pid;
    int pid_fd;
    int words_fd; // its standard error
    sd_event_source *end_source, *words_source;
    void (*exited)(void *userdata, const char *how); // NULL: nobody waits any more
    void *userdata;
    size_t words_length;
    char words[2 * LAST_WORDS_SIZE]; // the last of them, LAST_WORDS_SIZE at least
};

/* --- the program ----------------------------------------------------------------------------- */

/* Beside the program that runs; false if that is installed, and others' programs are beside it. */
static bool find_beside(char path[static PATH_MAX])
{
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    if (!slash)
        return false;
    *slash = '\0';
    if (strcmp(path, NIGHTLIGHT_SBINDIR) == 0 || strcmp(path, NIGHTLIGHT_BINDIR) == 0 ||
        (size_t)(slash - path) + sizeof(program_name) + 1 > PATH_MAX)
        return false;
    *slash = '/';
    memcpy(slash + 1, program_name, sizeof(program_name));
    return access(path, X_OK) == 0;
}

int child_init(struct why *why)
{
    if (program_fd >= 0)
        return 0;
    if (!find_beside(program_path))
        snprintf(program_path, sizeof(program_path), "%s/%s", NIGHTLIGHT_LIBEXECDIR, program_name);
    _cleanup_(closep) int fd = open(program_path, O_PATH | O_CLOEXEC);
    // Not where the child's end of the pair comes before the program is started.
    int kept = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_PASSED_FD + 1);
    if (kept < 0)
        return why_set(why, errno, "cannot start %s: %s", program_path, strerror(errno));
    program_fd = kept;
    return 0;
}

/* --- starting -------------------------------------------------------------------------------- */

/* What is the daemon's alone: systemd would take the child for it. */
static bool is_daemons_own(const char *variable)
{
    static const char *const prefixes[] = { "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_",
                                            "JOURNAL_STREAM=", "FDSTORE=" };
    for (size_t i = 0; i < ELEMENTS(prefixes); i++) {
        if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    }
    return false;
}

/* Borrows the strings. */
static char **make_environment(void)
{
    size_t n = 0;
    char **environment = calloc(strings_count(environ) + 1, sizeof(*environment));
    for (char *const *at = environ; environment && *at; at++) {
        if (!is_daemons_own(*at))
            environment[n++] = *at;
    }
    return environment;
}

static int start(int pair_fd, int words_fd, pid_t *ret_pid)
{
    char path[32], name[] = "connector";
    char *argv[] = { name, NULL };
    _cleanup_(freep) char **environment = make_environment();
    if (!environment)
        return -ENOMEM;
    struct spawn program = {
        .argv = argv,
        .path = path,
        .environment = environment,
        .output_fd = -EBADF,
        .error_fd = words_fd,
        .passed_fd = pair_fd,
        .blocks_signals = true,
    };
    snprintf(path, sizeof(path), "/proc/self/fd/%d", program_fd);
    int r = spawn(&program, ret_pid);
    if (r != -ENOENT)
        return r;
    program.path = program_path; // no /proc, as in a small chroot
    return spawn(&program, ret_pid);
}

/* --- its last words -------------------------------------------------------------------------- */

static void keep_words(struct child *child, const char *bytes, size_t size)
{
    if (child->words_length + size > sizeof(child->words)) {
        size_t kept = child->words_length < LAST_WORDS_SIZE ? child->words_length : LAST_WORDS_SIZE;
        memmove(child->words, child->words + child->words_length - kept, kept);
        child->words_length = kept;
    }
    memcpy(child->words + child->words_length, bytes, size);
    child->words_length += size;
}

/* What there is now, a pipe's worth at the most. Whether more may come. */
static bool read_words(struct child *child)
{
    char bytes[LAST_WORDS_SIZE];
    for (size_t done = 0; done < PIPE_SIZE;) {
        ssize_t n = read(child->words_fd, bytes, sizeof(bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        keep_words(child, bytes, (size_t)n);
        done += (size_t)n;
    }
    return true;
}

static int on_words(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct child *child = userdata;
    (void)fd, (void)events;
    return read_words(child) ? 0 : sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

/* The last line, printable; "": it said nothing. */
static const char *last_line(const struct child *child, char *out, size_t size)
{
    const char *end = child->words + child->words_length;
    while (end > child->words && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' '))
        end--;
    const char *begin = end;
    while (begin > child->words && begin[-1] != '\n')
        begin--;
    return strings_printable(begin, (size_t)(end - begin), out, size);
}

/* --- the end --------------------------------------------------------------------------------- */

static const char *explain(const struct child *child, const siginfo_t *info, char *out, size_t size)
{
    char words[384];
    last_line(child, words, sizeof(words));
    const char *colon = words[0] ? ": " : "";
    if (info->si_code != CLD_EXITED)
        snprintf(out, size, "was killed by signal %d (%s)%s%s", info->si_status,
                 strsignal(info->si_status), colon, words);
    else if (info->si_status != 0)
        snprintf(out, size, "ended with status %d%s%s", info->si_status, colon, words);
    else
        return NULL;
    return out;
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct child *child = userdata;
    siginfo_t info = { 0 };
    char how[512];
    (void)fd, (void)events;
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        return 0;
    child->pid = 0;
    read_words(child);
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    if (child->exited)
        child->exited(child->userdata, explain(child, &info, how, sizeof(how)));
    else
        sd_event_source_set_floating(source, false); // frees all behind this call
    return 0;
}

static void destroy(void *userdata)
{
    struct child *child = userdata;
    sd_event_source_disable_unref(child->words_source);
    closep(&child->words_fd);
    closep(&child->pid_fd);
    free(child);
}

/* --- life ------------------------------------------------------------------------------------ */

static int watch(sd_event *event, struct child *child)
{
    int r = sd_event_add_io(event, &child->words_source, child->words_fd, EPOLLIN, on_words, child);
    if (r >= 0) // one that never stops talking keeps nobody from anything
        r = sd_event_source_set_priority(child->words_source, SD_EVENT_PRIORITY_IDLE);
    if (r >= 0)
        r = sd_event_add_io(event, &child->end_source, child->pid_fd, EPOLLIN, on_end, child);
    if (r >= 0)
        r = sd_event_source_set_destroy_callback(child->end_source, destroy);
    return r;
}

static void kill_and_reap(pid_t pid)
{
    kill(pid, SIGKILL);
    while (waitid(P_PID, (id_t)pid, NULL, WEXITED) < 0 && errno == EINTR)
        continue;
}

int child_new(sd_event *event, void (*exited)(void *userdata, const char *how), void *userdata,
              int *ret_fd, struct child **ret_child, struct why *why)
{
    int pair[2] = { -EBADF, -EBADF }, words[2] = { -EBADF, -EBADF };
    int r = child_init(why);
    if (r < 0)
        return r;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
        pipe2(words, O_CLOEXEC) < 0)
        r = -errno;
    _cleanup_(closep) int pair_fd = pair[0];
    _cleanup_(closep) int childs_pair_fd = pair[1];
    _cleanup_(closep) int words_fd = words[0];
    _cleanup_(closep) int childs_words_fd = words[1];
    if (r < 0)
        return why_set(why, -r, "no pair of sockets: %s", strerror(-r));
    (void)fcntl(pair_fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(words_fd, F_SETFL, O_NONBLOCK);
    struct child *child = calloc(1, sizeof(*child));
    if (!child)
        return why_set(why, ENOMEM, "out of memory");
    *child = (struct child){ .exited = exited, .userdata = userdata, .pid_fd = -EBADF };
    r = start(childs_pair_fd, childs_words_fd, &child->pid);
    if (r < 0) {
        free(child);
        return why_set(why, -r, "cannot start the connector: %s", strerror(-r));
    }
    child->words_fd = TAKE_FD(words_fd);
    child->pid_fd = pidfd_open(child->pid, 0);
    r = child->pid_fd < 0 ? -errno : watch(event, child);
    if (r < 0) {
        kill_and_reap(child->pid);
        sd_event_source_disable_unref(child->end_source);
        destroy(child);
        return why_set(why, -r, "cannot watch the connector: %s", strerror(-r));
    }
    *ret_fd = TAKE_FD(pair_fd);
    *ret_child = child;
    return 0;
}

void child_kill(struct child *child)
{
    if (child->pid > 0)
        kill(child->pid, SIGKILL);
}

void child_free(struct child *child)
{
    if (!child)
        return;
    child->exited = NULL;
    // It holds on to the loop, and the loop to the child.
    child->words_source = sd_event_source_disable_unref(child->words_source);
    if (child->pid == 0) {
        sd_event_source_disable_unref(child->end_source);
        return;
    }
    child_kill(child);
    // The loop keeps it until it is reaped, or ends itself.
    sd_event_source_set_floating(child->end_source, true);
    sd_event_source_unref(child->end_source);
}
