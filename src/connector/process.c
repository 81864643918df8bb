// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Makes the process what it has to be; see process.h. The filter is a second wall: a connector that
 * somebody has taken over through libmosquitto or OpenSSL can speak with networks and read what the
 * service's user can read, and no more. docs/security.md says what that leaves.
 */
#include "connector/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1 // it maps terabytes, and writes its reports to files
#else
#define HAS_SANITIZER 0
#endif

/*
 * What the program, its libraries, a TLS connection and a file of all certificates take: 1.3 MiB
 * without TLS. A broker that sends QoS 2 and never releases it can fill all that is left.
 */
#define BASE_MEMORY (5ULL << 20)

/* Of what the daemon has in flight: libmosquitto's message, and its packet. */
#define WINDOW_MEMORY (2ULL << 20)

/* A message is held by the library, in a frame's parts, and in the queues on both sides. */
enum { COPIES = 6 };

_Noreturn void process_end(const char *format, ...)
{
    if (format) {
        char line[512];
        va_list arguments;
        va_start(arguments, format);
        int n = vsnprintf(line, sizeof(line) - 1, format, arguments);
        va_end(arguments);
        size_t size = n < 0 ? 0 : (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
        line[size++] = '\n';
        (void)!write(STDERR_FILENO, line, size);
    }
    _exit(format ? EXIT_FAILURE : EXIT_SUCCESS);
}

static void prefer_for_the_oom_killer(void)
{
    _cleanup_(closep) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "1000\n", 5);
}

void process_set_up(void)
{
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
    const struct rlimit no_core = { 0, 0 };
    sigset_t none;
    int kind;
    socklen_t size = sizeof(kind);
    if (getsockopt(FRAME_FD, SOL_SOCKET, SO_TYPE, &kind, &size) < 0 || kind != SOCK_SEQPACKET)
        process_end("This is the part of nightlightd that speaks with the broker. nightlightd and "
                    "nightlightctl start it; there is nothing to start by hand.");
    (void)fcntl(FRAME_FD, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "nl-connector"); // started by its descriptor, it would be called a number
    for (size_t i = 0; i < ELEMENTS(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!HAS_SANITIZER)
        close_range(FRAME_FD + 1, ~0U, 0);
    setrlimit(RLIMIT_CORE, &no_core);
    prefer_for_the_oom_killer();
    if (!HAS_SANITIZER) // after that: /proc/self is root's then
        prctl(PR_SET_DUMPABLE, 0);
}

void process_check_parent(const struct frame_options *options)
{
    // It may have gone before PR_SET_PDEATHSIG, which then has nobody to watch.
    if ((uint64_t)getppid() != options->parent)
        process_end(NULL);
}

static void limit_memory(const struct frame_options *options)
{
    rlim_t bytes = (rlim_t)(BASE_MEMORY + WINDOW_MEMORY + COPIES * options->max_message);
    setrlimit(RLIMIT_DATA, &(const struct rlimit){ bytes, bytes });
}

/* Nothing below / can be written, made or executed. Linux 5.13; nothing happens before. */
static void forbid_files(void)
{
    const struct landlock_ruleset_attr attributes = {
        .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                             LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                             LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                             LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                             LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                             LANDLOCK_ACCESS_FS_MAKE_SYM,
    };
    _cleanup_(closep) int fd =
        (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
    if (fd >= 0)
        (void)syscall(SYS_landlock_restrict_self, fd, 0);
}

/* What libmosquitto, OpenSSL and the resolver use; all else is unknown to this process. */
static const char allowed[] =
    "access bind brk clock_getres clock_getres_time64 clock_gettime clock_gettime64 "
    "clock_nanosleep clock_nanosleep_time64 close connect dup dup3 epoll_create1 "
    "epoll_ctl epoll_pwait epoll_wait exit exit_group faccessat faccessat2 fstat fstat64 "
    "fstatat64 fstatfs fstatfs64 futex futex_time64 getcwd getdents64 getegid geteuid "
    "getgid getpeername getpid getppid getrandom getsockname getsockopt gettid "
    "gettimeofday getuid _llseek lseek lstat madvise mmap mmap2 mprotect mremap munmap "
    "nanosleep newfstatat pipe2 poll ppoll ppoll_time64 pread64 pselect6 pselect6_time64 "
    "read readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg "
    "restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity "
    "sched_yield send sendmmsg sendmsg sendto set_robust_list setsockopt shutdown "
    "sigaltstack sigreturn socketpair stat stat64 statx sysinfo time uname write writev";

/* What a program may ask for, and is refused: it gets an answer that it knows. */
static const char refused[] =
    "accept accept4 chmod creat execve execveat fchmod fchmodat fork kill listen "
    "pidfd_getfd pidfd_send_signal process_vm_readv process_vm_writev ptrace rename "
    "renameat renameat2 tkill truncate unlink unlinkat vfork";

/* One that this architecture lacks is no matter. */
static void add_calls(scmp_filter_ctx filter, const char *names, uint32_t action)
{
    char name[32];
    for (const char *at = names; *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        snprintf(name, sizeof(name), "%.*s", (int)length, at);
        at += length;
        int call = seccomp_syscall_resolve_name(name);
        if (call != __NR_SCMP_ERROR)
            (void)seccomp_rule_add(filter, action, call, 0);
    }
}

/* Reading alone, whatever else the flags say. */
static int add_open_rules(scmp_filter_ctx filter)
{
    const scmp_datum_t writes =
        O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);
    int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, writes, O_RDONLY));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(open), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, writes, O_RDONLY));
    static const int ways[] = { O_WRONLY, O_RDWR, O_ACCMODE };
    for (size_t i = 0; i < ELEMENTS(ways) && r == 0; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE, (scmp_datum_t)ways[i]));
    static const int makes[] = { O_CREAT, O_TRUNC, O_APPEND };
    for (size_t i = 0; i < ELEMENTS(makes) && r == 0; i++)
        r = seccomp_rule_add(
            filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 1,
            SCMP_A2(SCMP_CMP_MASKED_EQ, (scmp_datum_t)makes[i], (scmp_datum_t)makes[i]));
    return r;
}

/*
 * A thread may be begun (a name look-up is one), another process not. clone3() has its flags in
 * memory, where a filter cannot look: the C library goes on with clone() when it is not known.
 */
static int add_thread_rules(scmp_filter_ctx filter)
{
    const scmp_datum_t thread = 0x00010000; // CLONE_THREAD of <linux/sched.h>
    int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid())); // abort(3)
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
                             SCMP_A2(SCMP_CMP_EQ, 0)); // to read a limit
    return r;
}

static int allow_values(scmp_filter_ctx filter, int call, unsigned argument, const unsigned *values,
                        size_t n_values)
{
    int r = 0;
    for (size_t i = 0; i < n_values && r == 0; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1,
                             SCMP_CMP32(argument, SCMP_CMP_EQ, values[i]));
    return r;
}

/* No other families than those of networks, Unix sockets, and what the resolver asks the kernel. */
static int add_value_rules(scmp_filter_ctx filter)
{
    static const unsigned families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
    static const unsigned descriptor[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC };
    static const unsigned device[] = { FIONREAD, FIONBIO };
    int r = allow_values(filter, SCMP_SYS(socket), 0, families, ELEMENTS(families));
    if (r == 0)
        r = allow_values(filter, SCMP_SYS(fcntl), 1, descriptor, ELEMENTS(descriptor));
    if (r == 0 && SCMP_SYS(fcntl64) > 0)
        r = allow_values(filter, SCMP_SYS(fcntl64), 1, descriptor, ELEMENTS(descriptor));
    if (r == 0)
        r = allow_values(filter, SCMP_SYS(ioctl), 1, device, ELEMENTS(device));
    return r;
}

static void filter_calls(void)
{
    // Never a kill: the next C library's new call is answered "unknown", and it does without.
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter)
        return;
    int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1);
    add_calls(filter, allowed, SCMP_ACT_ALLOW);
    add_calls(filter, refused, SCMP_ACT_ERRNO(EPERM));
    if (r == 0)
        r = add_open_rules(filter);
    if (r == 0)
        r = add_thread_rules(filter);
    if (r == 0)
        r = add_value_rules(filter);
    if (r == 0)
        (void)seccomp_load(filter);
    seccomp_release(filter);
}

void process_confine(const struct frame_options *options)
{
    if (HAS_SANITIZER)
        return;
    limit_memory(options);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    forbid_files();
    filter_calls();
}
