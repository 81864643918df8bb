// SPDX-License-Identifier: LGPL-2.1-or-later
// Questions over a Unix socket: a daemon in this process, and a thread that asks.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "io/inquiry.h"
#include "util/clock.h"

static char path[64];

struct asker {
    const char *question;
    uint64_t wait_usec;
    int result;
    char *answer;
};

static char *on_question(void *userdata, const char *question, size_t size)
{
    char *answer;
    ++*(unsigned *)userdata;
    if (size > 0 && question[0] == '-')
        return NULL;
    assert_true(asprintf(&answer, "<%.*s>", (int)size, question) >= 0);
    return answer;
}

static void *ask(void *userdata)
{
    struct asker *asker = userdata;
    asker->result = inquiry_ask(path, asker->question, asker->wait_usec, &asker->answer);
    return NULL;
}

/* Runs the loop until the thread has ended. */
static void serve(sd_event *event, struct asker *asker)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ask, asker), 0);
    while (pthread_tryjoin_np(thread, NULL) != 0)
        assert_true(sd_event_run(event, 10 * USEC_PER_MSEC) >= 0);
}

static void setup(sd_event **event, struct inquiry **inquiry, unsigned *n)
{
    snprintf(path, sizeof(path), "/tmp/test-inquiry-%d.sock", (int)getpid());
    assert_true(sd_event_new(event) >= 0);
    assert_int_equal(inquiry_new(*event, path, on_question, n, inquiry), 0);
}

static void a_question_is_answered(void **state)
{
    (void)state;
    sd_event *event;
    struct inquiry *inquiry;
    struct stat status;
    unsigned n = 0;
    setup(&event, &inquiry, &n);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0660); // its group may ask
    for (int i = 0; i < 3; i++) {
        struct asker asker = { .question = "why?", .wait_usec = 10 * USEC_PER_SEC };
        serve(event, &asker);
        assert_int_equal(asker.result, 0);
        assert_string_equal(asker.answer, "<why?>");
        free(asker.answer);
    }
    assert_int_equal(n, 3);
    inquiry_free(inquiry);
    assert_int_equal(stat(path, &status), -1);
    sd_event_unref(event);
}

static void nobody_waits_for_ever(void **state)
{
    (void)state;
    sd_event *event;
    struct inquiry *inquiry;
    unsigned n = 0;
    struct asker asker = { .question = "-", .wait_usec = 50 * USEC_PER_MSEC };
    setup(&event, &inquiry, &n);
    serve(event, &asker);
    assert_int_equal(asker.result, -ETIMEDOUT);
    inquiry_free(inquiry);
    assert_int_equal(inquiry_ask(path, "?", USEC_PER_SEC, &asker.answer), -ENOENT);
    sd_event_unref(event);
}

static void what_is_too_long_or_from_nobody_is_not_answered(void **state)
{
    (void)state;
    sd_event *event;
    struct inquiry *inquiry;
    unsigned n = 0;
    char text[INQUIRY_MAX_QUESTION + 2] = { 0 }, *answer;
    setup(&event, &inquiry, &n);
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(inquiry_ask(path, text, USEC_PER_SEC, &answer), -EMSGSIZE);

    struct sockaddr_un address = { .sun_family = AF_UNIX };
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(send(fd, "?", 1, 0) == 1); // without an address of its own
    assert_true(sd_event_run(event, USEC_PER_SEC) > 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)), 0);
    assert_true(send(fd, text, sizeof(text), 0) == sizeof(text));
    assert_true(sd_event_run(event, USEC_PER_SEC) > 0);
    assert_int_equal(n, 0);
    close(fd);
    inquiry_free(inquiry);
    sd_event_unref(event);
}

static void a_socket_that_is_answered_is_not_taken_a_dead_one_is(void **state)
{
    (void)state;
    sd_event *event;
    struct inquiry *inquiry, *other;
    unsigned n = 0;
    setup(&event, &inquiry, &n);
    assert_int_equal(inquiry_new(event, path, on_question, &n, &other), -EADDRINUSE);
    char aside[80];
    snprintf(aside, sizeof(aside), "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    inquiry_free(inquiry);
    assert_int_equal(rename(aside, path), 0); // as after a crash
    assert_int_equal(inquiry_new(event, path, on_question, &n, &inquiry), 0);
    struct asker asker = { .question = "why?", .wait_usec = 10 * USEC_PER_SEC };
    serve(event, &asker);
    assert_int_equal(asker.result, 0);
    free(asker.answer);
    inquiry_free(inquiry);
    assert_int_equal(inquiry_new(event, "/nowhere/at/all", on_question, &n, &inquiry), -ENOENT);
    char longer[200];
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(inquiry_new(event, longer, on_question, &n, &inquiry), -ENAMETOOLONG);
    sd_event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_question_is_answered),
        cmocka_unit_test(nobody_waits_for_ever),
        cmocka_unit_test(what_is_too_long_or_from_nobody_is_not_answered),
        cmocka_unit_test(a_socket_that_is_answered_is_not_taken_a_dead_one_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
