// SPDX-License-Identifier: LGPL-2.1-or-later
// Small files, in a directory of the test's own: read whole, replaced whole.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/files.h"

static char directory[] = "/tmp/test-files-XXXXXX";

/* The path of name in the directory; two calls may be in use at once. */
static const char *in_directory(const char *name)
{
    static char paths[2][PATH_MAX];
    static unsigned i;
    snprintf(paths[++i % 2], sizeof(paths[0]), "%s/%s", directory, name);
    return paths[i % 2];
}

static void put(const char *path, const char *bytes, size_t size)
{
    _cleanup_(fclosep) FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
}

static void assert_holds(const char *path, const char *expected)
{
    _cleanup_(freep) char *text = NULL;
    assert_int_equal(files_read(path, 100000, &text, NULL), 0);
    assert_string_equal(text, expected);
}

static void a_file_is_read_whole_up_to_its_limit(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 50000 };
    const char *path = in_directory("sized");
    char *bytes = calloc(1, 50000);
    for (size_t i = 0; i < ELEMENTS(sizes); i++) {
        put(path, bytes, sizes[i]);
        _cleanup_(freep) char *text = NULL;
        size_t size = 7;
        assert_int_equal(files_read(path, sizes[i], &text, &size), 0);
        assert_int_equal(size, sizes[i]);
        assert_int_equal(text[size], '\0');
        char *none = NULL;
        if (sizes[i] > 0)
            assert_int_equal(files_read(path, sizes[i] - 1, &none, NULL), -EFBIG);
        assert_null(none);
    }
    free(bytes);
}

static void a_file_without_a_size_is_read_whole(void **state)
{
    (void)state;
    _cleanup_(freep) char *text = NULL;
    size_t size = 0;
    assert_int_equal(files_read("/proc/self/status", 65536, &text, &size), 0);
    assert_memory_equal(text, "Name:", 5);
    char *none = NULL;
    assert_int_equal(files_read("/proc/self/status", 10, &none, NULL), -EFBIG);
    assert_int_equal(files_read("/dev/zero", 100000, &none, NULL), -EFBIG);
}

static void a_pipe_is_read_from_its_first_byte(void **state)
{
    (void)state;
    int ends[2];
    char bytes[10000], path[64];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)('a' + i % 26);
    assert_int_equal(write(ends[1], bytes, sizeof(bytes)), sizeof(bytes));
    close(ends[1]);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
    _cleanup_(freep) char *text = NULL;
    size_t size = 0;
    int r = files_read(path, 20000, &text, &size);
    close(ends[0]);
    assert_int_equal(r, 0);
    assert_int_equal(size, sizeof(bytes));
    assert_memory_equal(text, bytes, sizeof(bytes));
}

static void what_cannot_be_read_says_why(void **state)
{
    (void)state;
    char *text = NULL;
    assert_int_equal(files_read(in_directory("none"), 10, &text, NULL), -ENOENT);
    assert_int_equal(files_read(directory, 10, &text, NULL), -EISDIR);
    assert_null(text);
}

static void a_line_has_no_white_space_at_its_end_and_no_nul(void **state)
{
    (void)state;
    const char *path = in_directory("line");
    _cleanup_(freep) char *secret = NULL;
    _cleanup_(freep) char *empty = NULL;
    char *none = NULL;
    put(path, " a b \r\n\n", 8);
    assert_int_equal(files_read_line(path, 100, &secret), 0);
    assert_string_equal(secret, " a b");
    put(path, "\n \n", 3);
    assert_int_equal(files_read_line(path, 100, &empty), 0);
    assert_string_equal(empty, "");
    put(path, "a\0b", 3);
    assert_int_equal(files_read_line(path, 100, &none), -EINVAL);
    put(path, "a\n\0", 3);
    assert_int_equal(files_read_line(path, 100, &none), -EINVAL);
    assert_null(none);
}

static void a_new_file_is_made_and_an_old_one_replaced_with_its_mode(void **state)
{
    (void)state;
    struct stat before, after;
    const char *path = in_directory("written");
    assert_int_equal(files_write(path, "1\n"), 0);
    assert_holds(path, "1\n");
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(stat(path, &before), 0);
    _cleanup_(closep) int reader = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(files_write(path, "0\n"), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_holds(path, "0\n");
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_not_equal(after.st_ino, before.st_ino);
    char byte = '\0';
    assert_int_equal(read(reader, &byte, 1), 1); // a reader keeps what it opened
    assert_int_equal(byte, '1');
}

static void a_link_is_followed_also_to_what_is_not_there_yet(void **state)
{
    (void)state;
    struct stat status;
    const char *link = in_directory("link"), *target = in_directory("target");
    assert_int_equal(symlink("target", link), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(files_write(link, i ? "on" : "a longer text"), 0);
        assert_int_equal(lstat(link, &status), 0);
        assert_true(S_ISLNK(status.st_mode));
        assert_holds(target, i ? "on" : "a longer text");
    }
}

static void a_fifo_is_written_in_place_and_not_waited_for(void **state)
{
    (void)state;
    char byte = '\0';
    struct stat status;
    const char *path = in_directory("fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(files_write(path, "1"), -ENXIO);
    _cleanup_(closep) int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(files_write(path, "1"), 0);
    assert_int_equal(read(reader, &byte, 1), 1);
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISFIFO(status.st_mode));
}

static void a_failed_write_leaves_nothing_behind(void **state)
{
    (void)state;
    char path[PATH_MAX];
    assert_int_equal(files_write(in_directory("none/file"), "1"), -ENOENT);
    assert_int_equal(files_write(directory, "1"), -EISDIR);
    snprintf(path, sizeof(path), "%s/%0300d", directory, 1);
    assert_int_equal(files_write(path, "1"), -ENAMETOOLONG);
}

static void a_full_disk_leaves_the_old_file_as_it_was(void **state)
{
    (void)state;
    struct rlimit old, tiny;
    const char *path = in_directory("written");
    assert_int_equal(files_write(path, "old"), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tiny = old;
    tiny.rlim_cur = 4;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    int r = files_write(path, "longer");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(r, -EFBIG);
    assert_holds(path, "old");
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static void no_temporary_file_is_left_over(void **state)
{
    (void)state;
    static const char *const names[] = { "sized", "line", "written", "link", "target", "fifo" };
    for (size_t i = 0; i < ELEMENTS(names); i++)
        unlink(in_directory(names[i]));
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole_up_to_its_limit),
        cmocka_unit_test(a_file_without_a_size_is_read_whole),
        cmocka_unit_test(a_pipe_is_read_from_its_first_byte),
        cmocka_unit_test(what_cannot_be_read_says_why),
        cmocka_unit_test(a_line_has_no_white_space_at_its_end_and_no_nul),
        cmocka_unit_test(a_new_file_is_made_and_an_old_one_replaced_with_its_mode),
        cmocka_unit_test(a_link_is_followed_also_to_what_is_not_there_yet),
        cmocka_unit_test(a_fifo_is_written_in_place_and_not_waited_for),
        cmocka_unit_test(a_failed_write_leaves_nothing_behind),
        cmocka_unit_test(a_full_disk_leaves_the_old_file_as_it_was),
        cmocka_unit_test(no_temporary_file_is_left_over),
    };
    return cmocka_run_group_tests(tests, make_directory, NULL);
}
