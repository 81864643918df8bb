// SPDX-License-Identifier: LGPL-2.1-or-later
// Lines of a recording: what is written is read again, ours and mosquitto_sub's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "server/recording.h"

static void parse(const char *line, struct recording *ret_recording)
{
    struct why why = { "" };
    int r = recording_parse(line, strlen(line), ret_recording, &why);
    if (r < 0)
        fail_msg("%s: %s", line, why.text);
}

static int64_t light(const struct recording *recording)
{
    struct json_object *member;
    assert_true(json_object_object_get_ex(recording->payload, "light", &member));
    return json_object_get_int64(member);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    struct recording recording;
    const char payload[] = "{\"light\":\r\n250}trailing";
    _cleanup_(freep) char *line =
        recording_format(1790000000123000, 1780000000456000, "lamp\"1/telemetry", payload, 15);
    assert_string_equal(line, "{\"tst\": \"2026-09-21T14:13:20.123Z\", \"time\": "
                              "\"2026-05-28T20:26:40.456Z\", \"topic\": \"lamp\\\"1/telemetry\", "
                              "\"payload\": {\"light\":  250}}\n");
    parse(line, &recording);
    assert_int_equal(recording.wall_usec, 1790000000123000);
    assert_int_equal(recording.taken_wall_usec, 1780000000456000);
    assert_string_equal(recording.topic, "lamp\"1/telemetry");
    assert_int_equal(light(&recording), 250);
    recording_done(&recording);
}

static void a_line_of_mosquitto_sub_is_read(void **state)
{
    (void)state;
    struct recording recording;
    parse("{\"tst\":\"2026-09-21T16:13:20.123456+0200\",\"topic\":\"a/telemetry\",\"qos\":0,"
          "\"retain\":0,\"payloadlen\":13,\"payload\":\"{\\\"light\\\": 250}\"}",
          &recording);
    assert_int_equal(recording.wall_usec, 1790000000123456);
    assert_int_equal(recording.taken_wall_usec, 0);
    assert_int_equal(light(&recording), 250);
    recording_done(&recording);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
#define TST "\"tst\": \"2026-09-21T14:13:20Z\""
    static const char *const lines[] = {
        "",
        "light = 250",
        "[]",
        "{}",
        "{\"topic\": \"a\", \"payload\": {}}",
        "{\"tst\": 7, \"topic\": \"a\", \"payload\": {}}",
        "{\"tst\": \"yesterday\", \"topic\": \"a\", \"payload\": {}}",
        "{" TST ", \"payload\": {}}",
        "{" TST ", \"topic\": 7, \"payload\": {}}",
        "{" TST ", \"topic\": \"a\"}",
        "{" TST ", \"topic\": \"a\", \"payload\": 7}",
        "{" TST ", \"topic\": \"a\", \"payload\": \"7\"}",
        "{" TST ", \"topic\": \"a\", \"payload\": null}",
        "{" TST ", \"time\": 7, \"topic\": \"a\", \"payload\": {}}",
    };
    for (size_t i = 0; i < ELEMENTS(lines); i++) {
        struct recording recording;
        struct why why = { "" };
        assert_int_equal(recording_parse(lines[i], strlen(lines[i]), &recording, &why), -EBADMSG);
        assert_string_not_equal(why.text, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(a_line_of_mosquitto_sub_is_read),
        cmocka_unit_test(what_is_no_message_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
