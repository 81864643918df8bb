// SPDX-License-Identifier: LGPL-2.1-or-later
// Replies, as the server and nightlightctl take them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "core/answer.h"

static int parse(const char *text, struct answer *answer)
{
    struct why why = { "" };
    int r = answer_parse(text, strlen(text), answer, &why);
    assert_true(r == 0 || why.text[0]);
    return r;
}

static void what_the_device_formats_is_taken(void **state)
{
    (void)state;
    for (int status = REPLY_DONE; status <= REPLY_SUPERSEDED; status++) {
        const struct reply reply = {
            .id = "a\"7",
            .status = (enum reply_status)status,
            .reason = "there is no actuator 'x'",
            .state = "{\"led_on\": true}",
            .wall_usec = 1795523696000000,
        };
        struct answer answer;
        _cleanup_(freep) char *text = reply_format(&reply);
        assert_int_equal(parse(text, &answer), 0);
        assert_string_equal(answer.id, reply.id);
        assert_int_equal(answer.status, reply.status);
        assert_string_equal(answer.reason, reply.reason);
    }
}

static void what_is_not_known_is_passed_over(void **state)
{
    (void)state;
    struct answer answer;
    assert_int_equal(parse("{\"status\": \"done\", \"more\": [1], \"reason\": 7}", &answer), 0);
    assert_string_equal(answer.id, "");
    assert_string_equal(answer.reason, "");
}

static void a_long_reason_is_one_line_and_cut(void **state)
{
    (void)state;
    char text[2048] = "{\"status\": \"failed\", \"reason\": \"a\\nb";
    struct answer answer;
    size_t length = strlen(text);
    memset(text + length, 'x', 1000);
    strcpy(text + length + 1000, "\"}");
    assert_int_equal(parse(text, &answer), 0);
    assert_int_equal(strncmp(answer.reason, "a\\x0abxxx", 9), 0);
    assert_true(strlen(answer.reason) <= ANSWER_MAX_REASON);
}

static void what_is_no_reply_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"$id\": \"a\"}",
        "{\"status\": 1}",
        "{\"status\": \"Done\"}",
        "{\"status\": \"done\", \"status\": \"failed\"}",
        "{\"status\": \"done\", \"$id\": 7}",
        "{\"status\": \"done\", \"$id\": \"a\\u0000b\"}",
        "{\"status\": \"done\", \"$id\": "
        "\"01234567890123456789012345678901234567890123456789012345678901234\"}",
    };
    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        struct answer answer = { .id = "untouched" };
        assert_int_equal(parse(texts[i], &answer), -EBADMSG);
        assert_string_equal(answer.id, "untouched");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_device_formats_is_taken),
        cmocka_unit_test(what_is_not_known_is_passed_over),
        cmocka_unit_test(a_long_reason_is_one_line_and_cut),
        cmocka_unit_test(what_is_no_reply_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
