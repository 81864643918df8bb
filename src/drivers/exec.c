// SPDX-License-Identifier: LGPL-2.1-or-later
// Runs a program and waits for it; see exec.h.
#include "drivers/exec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "io/spawn.h"
#include "util/clock.h"

struct exec {
    int cancel_fd; // an eventfd
};

/* One run under way. */
struct run {
    pid_t pid; // also its group; 0: none
    int pid_fd;
    int output_fd;
    char *output;
    size_t length;
};

int exec_new(struct exec **ret_exec, struct why *why)
{
    _cleanup_(freep) struct exec *exec = malloc(sizeof(*exec));
    if (!exec)
        return why_set(why, ENOMEM, "out of memory");
    exec->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (exec->cancel_fd < 0)
        return why_set(why, errno, "no eventfd: %s", strerror(errno));
    *ret_exec = TAKE_PTR(exec);
    return 0;
}

void exec_free(struct exec *exec)
{
    if (!exec)
        return;
    close(exec->cancel_fd);
    free(exec);
}

void exec_cancel(struct exec *exec)
{
    eventfd_write(exec->cancel_fd, 1);
}

static int start(struct run *run, char *const *argv, struct why *why)
{
    int ends[2] = { -EBADF, -EBADF };
    if (run->output && pipe2(ends, O_CLOEXEC) < 0)
        return why_set(why, errno, "no pipe: %s", strerror(errno));
    run->output_fd = ends[0];
    _cleanup_(closep) int write_end = ends[1];
    // Ours alone is non-blocking: the two ends are separate open files.
    if (run->output && fcntl(run->output_fd, F_SETFL, O_NONBLOCK) < 0)
        return why_set(why, errno, "cannot set up a pipe: %s", strerror(errno));
    const struct spawn program = {
        .argv = argv, .output_fd = write_end, .error_fd = -EBADF, .passed_fd = -EBADF
    };
    int r = spawn(&program, &run->pid);
    if (r < 0)
        return why_set(why, -r, "cannot run %s: %s", argv[0], strerror(-r));
    run->pid_fd = pidfd_open(run->pid, 0);
    if (run->pid_fd < 0)
        return why_set(why, errno, "cannot watch %s: %s", argv[0], strerror(errno));
    return 0;
}

/* Takes what there is now. 0, or -EFBIG, -errno; at its end output_fd is closed. */
static int take_output(struct run *run, struct why *why)
{
    while (run->output_fd >= 0) {
        char more;
        bool full = run->length == EXEC_OUTPUT_SIZE;
        ssize_t n =
            full ? read(run->output_fd, &more, 1)
                 : read(run->output_fd, run->output + run->length, EXEC_OUTPUT_SIZE - run->length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0)
            return why_set(why, errno, "cannot read its output: %s", strerror(errno));
        if (n > 0 && full)
            return why_set(why, EFBIG, "it wrote more than %d bytes", EXEC_OUTPUT_SIZE);
        run->length += (size_t)n;
        if (n == 0)
            close(TAKE_FD(run->output_fd));
    }
    return 0;
}

/* Until the program has ended; what others of its group would still write is not waited for. */
static int wait_for_end(struct exec *exec, struct run *run, uint64_t timeout_usec, struct why *why)
{
    const uint64_t begin_mono_usec = clock_mono_usec();
    char span[32];
    for (;;) {
        uint64_t passed_usec = clock_mono_usec() - begin_mono_usec;
        if (passed_usec >= timeout_usec)
            return why_set(why, ETIMEDOUT, "not done after %s, killed",
                           clock_format_span(timeout_usec, span, sizeof(span)));
        uint64_t left_usec = timeout_usec - passed_usec;
        struct timespec left = { .tv_sec = (time_t)(left_usec / USEC_PER_SEC),
                                 .tv_nsec = (long)(left_usec % USEC_PER_SEC * 1000) };
        struct pollfd fds[] = {
            { .fd = exec->cancel_fd, .events = POLLIN },
            { .fd = run->pid_fd, .events = POLLIN },
            { .fd = run->output_fd, .events = POLLIN }, // a negative one is passed over
        };
        if (ppoll(fds, ELEMENTS(fds), &left, NULL) < 0 && errno != EINTR)
            return why_set(why, errno, "cannot wait: %s", strerror(errno));
        eventfd_t ignored;
        if (eventfd_read(exec->cancel_fd, &ignored) == 0)
            return why_set(why, ECANCELED, "cancelled");
        int r = take_output(run, why);
        if (r < 0 || fds[1].revents)
            return r;
    }
}

/* Kills what is left of the group, while the zombie still holds its number, and reaps. */
static int finish(const struct run *run, const char *name, struct why *why)
{
    siginfo_t info = { 0 };
    kill(-run->pid, SIGKILL);
    while (waitid(P_PID, (id_t)run->pid, &info, WEXITED) < 0)
        if (errno != EINTR)
            return why_set(why, errno, "cannot wait for %s: %s", name, strerror(errno));
    if (info.si_code != CLD_EXITED)
        return why_set(why, EIO, "%s: killed by signal %d", name, info.si_status);
    if (info.si_status != 0)
        return why_set(why, EIO, "%s: exit status %d", name, info.si_status);
    return 0;
}

int exec_run(struct exec *exec, char *const *argv, uint64_t timeout_usec, char *output,
             size_t *ret_length, struct why *why)
{
    struct run run = { .pid_fd = -EBADF, .output_fd = -EBADF, .output = output };
    int r = start(&run, argv, why);
    if (r == 0) {
        struct why cause = { 0 };
        r = wait_for_end(exec, &run, timeout_usec, &cause);
        if (r < 0)
            why_set(why, -r, "%s: %s", argv[0], cause.text);
    }
    if (run.pid > 0) {
        int ended = finish(&run, argv[0], r == 0 ? why : NULL);
        if (r == 0)
            r = ended;
    }
    closep(&run.pid_fd);
    closep(&run.output_fd);
    if (r == 0 && ret_length)
        *ret_length = run.length;
    return r;
}
