// SPDX-License-Identifier: LGPL-2.1-or-later
// Running programs, real ones: their output, their end, their time limit; and the drivers `exec`.
#include "driver-fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "drivers/exec.h"

extern const struct sensor_driver sensor_driver_exec;
extern const struct actuator_driver actuator_driver_exec;

static const uint64_t long_usec = 60 * USEC_PER_SEC;

/* Runs a script of the shell; the output is terminated. */
static int run_script(const char *script, uint64_t timeout_usec,
                      char output[static EXEC_OUTPUT_SIZE + 1], struct why *why)
{
    char shell[] = "/bin/sh", option[] = "-c";
    _cleanup_(freep) char *copy = strdup(script);
    char *argv[] = { shell, option, copy, NULL };
    _cleanup_(exec_freep) struct exec *exec = NULL;
    assert_int_equal(exec_new(&exec, NULL), 0);
    size_t length = 0;
    int r = exec_run(exec, argv, timeout_usec, output, &length, why);
    output[length] = '\0';
    return r;
}

static void the_output_is_taken(void **state)
{
    (void)state;
    char output[EXEC_OUTPUT_SIZE + 1];
    assert_int_equal(run_script("echo 21.5; echo lost >&2", long_usec, output, NULL), 0);
    assert_string_equal(output, "21.5\n");
    assert_int_equal(run_script("exec >&-; sleep 0.05", long_usec, output, NULL), 0);
    assert_string_equal(output, "");
}

static void more_output_than_fits_is_refused(void **state)
{
    (void)state;
    char output[EXEC_OUTPUT_SIZE + 1];
    struct why why = { 0 };
    assert_int_equal(run_script("printf %4096s 7", long_usec, output, NULL), 0);
    assert_int_equal(strlen(output), EXEC_OUTPUT_SIZE);
    assert_int_equal(run_script("printf %4097s 7; sleep 60", long_usec, output, &why), -EFBIG);
    assert_string_equal(why.text, "/bin/sh: it wrote more than 4096 bytes");
}

static void a_failure_tells_its_status(void **state)
{
    (void)state;
    char output[EXEC_OUTPUT_SIZE + 1];
    struct why why = { 0 };
    assert_int_equal(run_script("echo 1; exit 3", long_usec, output, &why), -EIO);
    assert_string_equal(why.text, "/bin/sh: exit status 3");
    assert_int_equal(run_script("kill -SEGV $$", long_usec, output, &why), -EIO);
    assert_string_equal(why.text, "/bin/sh: killed by signal 11");
}

static void a_program_that_is_not_there_is_named(void **state)
{
    (void)state;
    char name[] = "/no/such/program";
    char *argv[] = { name, NULL };
    _cleanup_(exec_freep) struct exec *exec = NULL;
    assert_int_equal(exec_new(&exec, NULL), 0);
    struct why why = { 0 };
    assert_int_equal(exec_run(exec, argv, long_usec, NULL, NULL, &why), -ENOENT);
    assert_non_null(strstr(why.text, "cannot run /no/such/program"));
}

/* Whether a process whose number is in that file lives, other than as a zombie. */
static bool lives(const char *pid_file)
{
    _cleanup_(freep) char *pid = NULL, *status = NULL;
    char path[64];
    assert_int_equal(files_read_line(file_path(pid_file), 32, &pid), 0);
    snprintf(path, sizeof(path), "/proc/%.32s/stat", pid);
    if (files_read(path, 4096, &status, NULL) < 0)
        return false;
    const char *end = strrchr(status, ')');
    return end && end[1] && end[2] != 'Z' && end[2] != 'X';
}

/* SIGKILL is sent, and takes effect soon after. */
static void assert_dies(const char *pid_file)
{
    for (unsigned i = 0; lives(pid_file); i++) {
        assert_true(i < 500);
        usleep(10000);
    }
}

static void the_time_limit_ends_the_whole_group(void **state)
{
    (void)state;
    char output[EXEC_OUTPUT_SIZE + 1], script[PATH_MAX + 64];
    struct why why = { 0 };
    snprintf(script, sizeof(script), "sleep 60 & echo $! >%s; wait", file_path("child"));
    uint64_t begin_usec = clock_mono_usec();
    assert_int_equal(run_script(script, 300 * USEC_PER_MSEC, output, &why), -ETIMEDOUT);
    assert_true(clock_mono_usec() - begin_usec < 30 * USEC_PER_SEC);
    assert_string_equal(why.text, "/bin/sh: not done after 300 ms, killed");
    assert_dies("child");
}

static void what_is_left_in_the_background_neither_delays_nor_stays(void **state)
{
    (void)state;
    char output[EXEC_OUTPUT_SIZE + 1], script[PATH_MAX + 64];
    snprintf(script, sizeof(script), "sleep 60 & echo $! >%s; echo 5", file_path("left"));
    uint64_t begin_usec = clock_mono_usec();
    assert_int_equal(run_script(script, long_usec, output, NULL), 0); // it holds the pipe open
    assert_true(clock_mono_usec() - begin_usec < 30 * USEC_PER_SEC);
    assert_string_equal(output, "5\n");
    assert_dies("left");
}

static void a_program_gets_no_descriptor_of_ours_and_no_blocked_signal(void **state)
{
    (void)state;
    char output[EXEC_OUTPUT_SIZE + 1];
    int leaky = open("/dev/null", O_RDONLY); // NOLINT(android-cloexec-open): that is the point
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int r =
        run_script("cat; grep SigBlk /proc/self/status; ls /proc/$$/fd", long_usec, output, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(leaky);
    assert_int_equal(r, 0);
    assert_non_null(strstr(output, "SigBlk:\t0000000000000000"));
    char number[16];
    snprintf(number, sizeof(number), "\n%d\n", leaky);
    assert_true(leaky > 2);
    assert_null(strstr(output, number));
}

struct cancel_test {
    struct exec *exec;
    int r;
};

static void *run_long(void *userdata)
{
    struct cancel_test *test = userdata;
    char program[] = "sleep", seconds[] = "60";
    char *argv[] = { program, seconds, NULL };
    test->r = exec_run(test->exec, argv, long_usec, NULL, NULL, NULL);
    return NULL;
}

static void a_cancel_ends_the_run_and_not_the_one_after(void **state)
{
    (void)state;
    struct cancel_test test = { .r = 1 };
    assert_int_equal(exec_new(&test.exec, NULL), 0);
    uint64_t begin_usec = clock_mono_usec();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_long, &test), 0);
    exec_cancel(test.exec); // before or while it runs: either way
    pthread_join(thread, NULL);
    assert_int_equal(test.r, -ECANCELED);
    assert_true(clock_mono_usec() - begin_usec < 30 * USEC_PER_SEC);
    char program[] = "true";
    char *argv[] = { program, NULL };
    assert_int_equal(exec_run(test.exec, argv, long_usec, NULL, NULL, NULL), 0);
    exec_free(test.exec);
}

static unsigned count_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void no_run_leaves_a_descriptor_open(void **state)
{
    (void)state;
    char output[EXEC_OUTPUT_SIZE + 1];
    unsigned before = count_descriptors();
    run_script("echo 1", long_usec, output, NULL);
    run_script("exit 1", long_usec, output, NULL);
    run_script("printf %9999s", long_usec, output, NULL);
    run_script("sleep 60", 10 * USEC_PER_MSEC, output, NULL);
    assert_int_equal(count_descriptors(), before);
}

static void the_sensor_reads_the_number_that_is_printed(void **state)
{
    (void)state;
    const struct sensor_driver *driver = &sensor_driver_exec;
    assert_reads(driver, make_config(driver, "command", "echo ' 21.5 '", NULL), 21.5);
    assert_read_fails(driver, make_config(driver, "command", "echo $HOME", NULL), EBADMSG,
                      "echo: its output: '$HOME' is not a number"); // no shell
    assert_read_fails(driver, make_config(driver, "command", "true", NULL), ENODATA, "empty");
    assert_read_fails(driver, make_config(driver, "command", "sleep 60", "timeout", "50ms", NULL),
                      ETIMEDOUT, "not done after 50 ms");
}

static void the_actuator_hands_over_the_value_as_the_last_argument(void **state)
{
    (void)state;
    const struct actuator_driver *driver = &actuator_driver_exec;
    static const struct {
        struct value value;
        const char *written;
    } cases[] = {
        { { .type = VALUE_BOOL, .boolean = true }, "<x><1>" },
        { { .type = VALUE_NUMBER, .number = 21.4 }, "<x><21.4>" },
        { { .type = VALUE_STRING, .string = "; rm -rf $HOME 'a" }, "<x><; rm -rf $HOME 'a>" },
    };
    char command[PATH_MAX + 128];
    snprintf(command, sizeof(command), "/bin/sh -c 'printf \"<%%s>\" \"$@\" >%s' sh x",
             file_path("handed"));
    void *config = make_config(driver, "command", command, NULL);
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        void *actuator = NULL;
        struct value now = { .type = VALUE_BOOL };
        struct why why = { 0 };
        assert_int_equal(open_actuator(driver, config, cases[i].value.type, &actuator, &now, &why),
                         0);
        assert_int_equal(now.type, VALUE_NONE);
        if (driver->set(actuator, &cases[i].value, &why) < 0)
            fail_msg("%s", why.text);
        assert_file("handed", cases[i].written);
        driver->base.close(actuator);
    }
    free_config(driver, config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_output_is_taken),
        cmocka_unit_test(more_output_than_fits_is_refused),
        cmocka_unit_test(a_failure_tells_its_status),
        cmocka_unit_test(a_program_that_is_not_there_is_named),
        cmocka_unit_test(the_time_limit_ends_the_whole_group),
        cmocka_unit_test(what_is_left_in_the_background_neither_delays_nor_stays),
        cmocka_unit_test(a_program_gets_no_descriptor_of_ours_and_no_blocked_signal),
        cmocka_unit_test(a_cancel_ends_the_run_and_not_the_one_after),
        cmocka_unit_test(no_run_leaves_a_descriptor_open),
        cmocka_unit_test(the_sensor_reads_the_number_that_is_printed),
        cmocka_unit_test(the_actuator_hands_over_the_value_as_the_last_argument),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
