// SPDX-License-Identifier: LGPL-2.1-or-later
// What a connector gives up: tried from within, by a process that has been confined as one.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "connector/process.h"
#include "util/cleanup.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { IS_CONFINED = 0 }; // a sanitizer could not do its work
#else
enum { IS_CONFINED = 1 };
#endif

static const struct frame_options options = { .max_message = 256 << 10 };

/* The errno of what is tried in a confined process, 0 if it works. */
static int try_confined(int (*attempt)(void))
{
    if (!IS_CONFINED)
        skip();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        process_confine(&options);
        _exit(attempt() < 0 ? errno : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status)); // refused, never killed
    return WEXITSTATUS(status);
}

static int read_a_file(void)
{
    return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
}

static int write_a_file(void)
{
    return open("/dev/null", O_WRONLY | O_CLOEXEC);
}

static int make_a_file(void)
{
    return open("/tmp/test-confine", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
}

static int open_for_both(void)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int make_a_nameless_file(void)
{
    return open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
}

static int remove_a_file(void)
{
    return unlink("/tmp/test-confine-is-not-there");
}

static int run_a_program(void)
{
    return execl("/bin/true", "true", (char *)NULL);
}

static int fork_a_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid;
}

static int signal_the_parent(void)
{
    return kill(getppid(), 0);
}

static int signal_the_parents_thread(void)
{
    return (int)syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static int trace_the_parent(void)
{
    return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static int read_the_parents_memory(void)
{
    char byte;
    struct iovec mine = { &byte, 1 }, its = { (void *)(uintptr_t)&options, 1 };
    return (int)process_vm_readv(getppid(), &mine, 1, &its, 1, 0);
}

static int listen_on_a_socket(void)
{
    return listen(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 1);
}

static int open_a_raw_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
}

static int open_a_tcp_socket(void)
{
    return socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int raise_a_limit(void)
{
    const struct rlimit more = { RLIM_INFINITY, RLIM_INFINITY };
    return setrlimit(RLIMIT_DATA, &more);
}

static int call_what_is_not_known(void)
{
    return (int)syscall(SYS_bpf, 0, NULL, 0);
}

static int take_a_lot_of_memory(void)
{
    void *memory =
        mmap(NULL, 200 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? -1 : 0;
}

static int use_some_memory(void)
{
    char *memory = malloc(8 << 20);
    if (!memory)
        return -1;
    memset(memory, 1, 8 << 20);
    return 0;
}

static void it_reads_files_and_speaks_with_networks(void **state)
{
    (void)state;
    assert_int_equal(try_confined(read_a_file), 0);
    assert_int_equal(try_confined(open_a_tcp_socket), 0);
    assert_int_equal(try_confined(use_some_memory), 0);
}

static void it_writes_and_makes_no_file(void **state)
{
    (void)state;
    assert_int_equal(try_confined(write_a_file), EPERM);
    assert_int_equal(try_confined(open_for_both), EPERM);
    assert_int_equal(try_confined(make_a_file), EPERM);
    assert_int_equal(try_confined(make_a_nameless_file), EPERM);
    assert_int_equal(try_confined(remove_a_file), EPERM);
}

static void it_starts_no_program_and_no_process(void **state)
{
    (void)state;
    assert_int_equal(try_confined(run_a_program), EPERM);
    int error = try_confined(fork_a_process);
    assert_true(error == EPERM || error == ENOSYS); // as the architecture has fork(2) or clone(2)
}

static void it_touches_no_other_process(void **state)
{
    (void)state;
    assert_int_equal(try_confined(signal_the_parent), EPERM);
    assert_int_equal(try_confined(signal_the_parents_thread), ENOSYS);
    assert_int_equal(try_confined(trace_the_parent), EPERM);
    assert_int_equal(try_confined(read_the_parents_memory), EPERM);
}

static void it_offers_nothing_on_the_network(void **state)
{
    (void)state;
    assert_int_equal(try_confined(listen_on_a_socket), EPERM);
    assert_int_equal(try_confined(open_a_raw_socket), ENOSYS);
}

static void its_memory_is_limited_for_good(void **state)
{
    (void)state;
    assert_int_equal(try_confined(take_a_lot_of_memory), ENOMEM);
    assert_int_equal(try_confined(raise_a_limit), ENOSYS);
}

static void an_unknown_call_is_answered_and_never_kills(void **state)
{
    (void)state;
    assert_int_equal(try_confined(call_what_is_not_known), ENOSYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_reads_files_and_speaks_with_networks),
        cmocka_unit_test(it_writes_and_makes_no_file),
        cmocka_unit_test(it_starts_no_program_and_no_process),
        cmocka_unit_test(it_touches_no_other_process),
        cmocka_unit_test(it_offers_nothing_on_the_network),
        cmocka_unit_test(its_memory_is_limited_for_good),
        cmocka_unit_test(an_unknown_call_is_answered_and_never_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
