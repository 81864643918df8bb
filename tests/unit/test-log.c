// SPDX-License-Identifier: LGPL-2.1-or-later
// Log lines on standard error, which each test sends into a pipe.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/log.h"

static int saved_stderr = -EBADF, reading_end = -EBADF;

static int set_up(void **state)
{
    (void)state;
    int ends[2];
    unsetenv("JOURNAL_STREAM");
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reading_end = ends[0];
    log_set_level(LOG_INFO);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(reading_end);
    return 0;
}

/* What was written since the last call. */
static const char *lines(void)
{
    static char text[8192];
    ssize_t n = read(reading_end, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void a_line_has_its_level_and_no_fields(void **state)
{
    (void)state;
    log_warning(LOG_FIELDS({ "DEVICE", "a" }), "sensor %s is %d", "light", 7);
    assert_string_equal(lines(), "warning sensor light is 7\n");
    log_err(NULL, "x");
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_READY), { "TOPIC", NULL }), "y");
    assert_string_equal(lines(), "error   x\nnotice  y\n");
}

static void what_is_below_the_level_is_dropped(void **state)
{
    (void)state;
    log_debug(NULL, "no");
    assert_string_equal(lines(), "");
    assert_false(log_enabled(LOG_DEBUG));
    log_set_level(LOG_DEBUG);
    log_debug(NULL, "yes");
    assert_string_equal(lines(), "debug   yes\n");
    log_set_level(LOG_ERR);
    log_warning(NULL, "no");
    assert_string_equal(lines(), "");
}

static void a_message_stays_one_line(void **state)
{
    (void)state;
    log_info(NULL, "a\nerror   b\x1b[2J\xff");
    assert_string_equal(lines(), "info    a\\x0aerror   b\\x1b[2J\\xff\n");
}

static void a_long_message_is_cut_and_ends_its_line(void **state)
{
    (void)state;
    char message[5000];
    memset(message, 'a', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    log_info(NULL, "%s", message);
    const char *line = lines();
    size_t length = strlen(line);
    assert_in_range(length, 1024, 2100);
    assert_string_equal(line + length - 4, "...\n");
}

/* As it is in a container whose log is not read: a pipe of its own, that waits. */
static void a_full_pipe_is_not_waited_for(void **state)
{
    (void)state;
    enum { MANY = 10000 };
    unsigned n_lost = 0;
    size_t n_read = 0;
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, 0), 0);
    alarm(20); // here the test hung
    for (int i = 0; i < MANY; i++)
        log_info(NULL, "line %d", i);
    for (const char *text; (text = lines())[0];)
        for (; *text; text++)
            n_read += *text == '\n';
    assert_in_range(n_read, 1, MANY - 1);
    log_info(NULL, "and on");
    alarm(0);
    const char *text = lines();
    assert_int_equal(sscanf(text, "warning %u lines are lost", &n_lost), 1);
    assert_int_equal(n_lost + n_read, MANY);
    assert_non_null(strstr(text, "\ninfo    and on\n"));
}

static void errno_survives(void **state)
{
    (void)state;
    close(STDERR_FILENO); // so that the write fails too
    errno = ENOTTY;
    log_info(NULL, "x");
    assert_int_equal(errno, ENOTTY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_has_its_level_and_no_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_below_the_level_is_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_stays_one_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_message_is_cut_and_ends_its_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_pipe_is_not_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errno_survives, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
