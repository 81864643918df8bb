// SPDX-License-Identifier: LGPL-2.1-or-later
// Commands in their envelope: what is taken, what is refused as a whole, and what a reply says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "core/envelope.h"
#include "core/json.h"
#include "util/clock.h"
#include "util/strings.h"

static int parse(const char *text, struct envelope *envelope, struct why *why)
{
    return envelope_parse(text, strlen(text), envelope, why);
}

static struct envelope take(const char *text)
{
    struct envelope envelope;
    struct why why = { 0 };
    if (parse(text, &envelope, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    return envelope;
}

static void a_plain_command_has_no_envelope(void **state)
{
    (void)state;
    _cleanup_(envelope_done) struct envelope envelope = take("{\"led_on\": true}");
    assert_string_equal(envelope.id, "");
    assert_int_equal(envelope.seq, 0);
    assert_int_equal(envelope.expires_wall_usec, USEC_INFINITY);
    assert_int_equal(envelope.lease_usec, 0);
    assert_string_equal(envelope.action, "");
    assert_int_equal(envelope.command->n_items, 1);
    assert_string_equal(envelope.command->items[0].key, "led_on");
}

static void the_envelope_goes_around_a_command(void **state)
{
    (void)state;
    _cleanup_(envelope_done) struct envelope envelope =
        take("{\"$id\": \"a7\", \"heat\": true, \"$seq\": 9007199254740992, \"$for\": \"10min\","
             " \"$expires\": \"2026-11-24T12:34:56Z\", \"level\": 3}");
    assert_string_equal(envelope.id, "a7");
    assert_int_equal(envelope.seq, 9007199254740992);
    assert_int_equal(envelope.lease_usec, 600 * USEC_PER_SEC);
    assert_int_equal(envelope.expires_wall_usec, 1795523696 * USEC_PER_SEC);
    assert_int_equal(envelope.command->n_items, 2);
    assert_string_equal(envelope.command->items[0].key, "heat");
    assert_string_equal(envelope.command->items[1].key, "level");
}

static void a_lease_is_a_duration_or_seconds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t usec;
    } cases[] = {
        { "{\"$for\": 10, \"a\": 1}", 10 * USEC_PER_SEC },
        { "{\"$for\": 0.5, \"a\": 1}", USEC_PER_SEC / 2 },
        { "{\"$for\": \"10\", \"a\": 1}", 10 * USEC_PER_SEC },
        { "{\"$for\": \"1h 30min\", \"a\": 1}", 5400 * USEC_PER_SEC },
        { "{\"$for\": \"365d\", \"a\": 1}", 365 * 86400 * USEC_PER_SEC },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_(envelope_done) struct envelope envelope = take(cases[i].text);
        assert_int_equal(envelope.lease_usec, cases[i].usec);
    }
}

static void an_action_stands_in_the_place_of_a_command(void **state)
{
    (void)state;
    _cleanup_(envelope_done) struct envelope plain = take("{\"$action\": \"identify\"}");
    assert_string_equal(plain.action, "identify");
    assert_null(plain.command);
    assert_null(plain.sensors);
    _cleanup_(envelope_done) struct envelope sample =
        take("{\"$action\": \"sample\", \"sensors\": [\"light\", \"door\"]}");
    assert_int_equal(strings_count(sample.sensors), 2);
    assert_string_equal(sample.sensors[1], "door");
}

#define LONG "12345678901234567890123456789012345678901234567890123456789012345" // 65

static void what_is_wrong_is_refused_as_a_whole(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int error;
        const char *part, *id;
    } cases[] = {
        { "{\"$id\": \"\", \"a\": 1}", EBADMSG, "'$id' is empty", "" },
        { "{\"$id\": 7, \"a\": 1}", EBADMSG, "'$id' is not a string", "" },
        { "{\"$id\": \"a\\u0000b\", \"a\": 1}", EBADMSG, "NUL", "" },
        { "{\"$id\": \"" LONG "\", \"a\": 1}", EMSGSIZE, "longer than 64", "" },
        { "{\"$id\": \"x\"}", EBADMSG, "no key", "x" },
        { "{\"$id\": \"x\", \"a\": null}", EBADMSG, "'a'", "x" },
        { "{\"a\": [], \"$id\": \"x\"}", EBADMSG, "'a'", "x" },
        { "{\"$id\": \"x\", \"$seq\": 0, \"a\": 1}", EBADMSG, "$seq", "x" },
        { "{\"$id\": \"x\", \"$seq\": 1.5, \"a\": 1}", EBADMSG, "$seq", "x" },
        { "{\"$id\": \"x\", \"$seq\": \"1\", \"a\": 1}", EBADMSG, "$seq", "x" },
        { "{\"$id\": \"x\", \"$seq\": 9007199254740993, \"a\": 1}", EBADMSG, "$seq", "x" },
        { "{\"$id\": \"x\", \"$seq\": 99999999999999999999, \"a\": 1}", EBADMSG, "$seq", "x" },
        { "{\"$expires\": \"tomorrow\", \"a\": 1}", EBADMSG, "$expires", "" },
        { "{\"$expires\": 1795523696, \"a\": 1}", EBADMSG, "$expires", "" },
        { "{\"$for\": 0, \"a\": 1}", EBADMSG, "$for", "" },
        { "{\"$for\": -5, \"a\": 1}", EBADMSG, "$for", "" },
        { "{\"$for\": 1e300, \"a\": 1}", EBADMSG, "$for", "" },
        { "{\"$for\": \"infinity\", \"a\": 1}", EBADMSG, "$for", "" },
        { "{\"$for\": \"366d\", \"a\": 1}", EBADMSG, "$for", "" },
        { "{\"$for\": \"soon\", \"a\": 1}", EBADMSG, "$for", "" },
        { "{\"$for\": true, \"a\": 1}", EBADMSG, "$for", "" },
        { "{\"$id\": \"x\", \"$expire\": \"now\", \"a\": 1}", EOPNOTSUPP,
          "'$expire' is no key of the envelope (did you mean '$expires'?)", "x" },
        { "{\"$id\": \"x\", \"$\": 1, \"a\": 1}", EOPNOTSUPP, "'$' is no key", "x" },
        { "{\"$action\": \"\"}", EBADMSG, "$action", "" },
        { "{\"$action\": \"sample\", \"led_on\": true}", EBADMSG, "'led_on' does not go with", "" },
        { "{\"$action\": \"sample\", \"$for\": 5}", EBADMSG, "'$for' does not go with", "" },
        { "{\"$action\": \"sample\", \"sensors\": []}", EBADMSG, "sensors", "" },
        { "{\"$action\": \"sample\", \"sensors\": \"light\"}", EBADMSG, "sensors", "" },
        { "{\"$action\": \"sample\", \"sensors\": [\"light\", 7]}", EBADMSG, "sensors", "" },
        { "{\"$id\": \"x\", \"$id\": \"y\", \"a\": 1}", EBADMSG, "twice", "" },
        { "[\"$id\"]", EBADMSG, "", "" },
        { "{\"$id\": \"x\", ", EBADMSG, "", "" },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct envelope envelope;
        struct why why = { 0 };
        int r = parse(cases[i].text, &envelope, &why);
        if (r != -cases[i].error || !strstr(why.text, cases[i].part))
            fail_msg("%s: %d %s", cases[i].text, r, why.text);
        assert_string_equal(envelope.id, cases[i].id);
        envelope_done(&envelope);
    }
}

static void the_number_of_sensors_is_bounded(void **state)
{
    (void)state;
    for (int n = ENVELOPE_MAX_SENSORS; n <= ENVELOPE_MAX_SENSORS + 1; n++) {
        char text[1024] = "{\"$action\": \"sample\", \"sensors\": [\"s\"";
        for (int i = 1; i < n; i++)
            strcat(text, ", \"s\"");
        strcat(text, "]}");
        struct envelope envelope;
        assert_int_equal(parse(text, &envelope, NULL), n > ENVELOPE_MAX_SENSORS ? -EBADMSG : 0);
        envelope_done(&envelope);
    }
}

static void a_reply_says_what_there_is_to_say(void **state)
{
    (void)state;
    struct reply reply = { .id = "a\"7",
                           .status = REPLY_DONE,
                           .reason = "",
                           .state = "{\"led_on\": true}",
                           .wall_usec = 1795523696789000 };
    _cleanup_(freep) char *done = reply_format(&reply);
    assert_string_equal(done, "{\"$id\": \"a\\\"7\", \"status\": \"done\", \"state\": {\"led_on\": "
                              "true}, \"time\": \"2026-11-24T12:34:56.789Z\"}");
    reply = (struct reply){ .id = "",
                            .status = REPLY_REJECTED,
                            .reason = "there is no actuator 'x\ny'",
                            .state = "{}",
                            .readings = "{\"light\": 250}" };
    _cleanup_(freep) char *rejected = reply_format(&reply);
    assert_string_equal(rejected, "{\"status\": \"rejected\", \"reason\": \"there is no actuator "
                                  "'x\\u000ay'\", \"state\": {}, \"readings\": {\"light\": 250}, "
                                  "\"time\": \"1970-01-01T00:00:00.000Z\"}");
    assert_int_equal(json_check(rejected, strlen(rejected), JSON_MAX_SIZE, JSON_MAX_DEPTH, NULL),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_command_has_no_envelope),
        cmocka_unit_test(the_envelope_goes_around_a_command),
        cmocka_unit_test(a_lease_is_a_duration_or_seconds),
        cmocka_unit_test(an_action_stands_in_the_place_of_a_command),
        cmocka_unit_test(what_is_wrong_is_refused_as_a_whole),
        cmocka_unit_test(the_number_of_sensors_is_bounded),
        cmocka_unit_test(a_reply_says_what_there_is_to_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
