// SPDX-License-Identifier: LGPL-2.1-or-later
// What a server says when it is asked why a rule decided, on a simulated clock.
#include <inttypes.h>

#include "server/explainer.h"
#include "server/reasons.h"
#include "test-config.h"

#define LAMP                                                                                       \
    "[rule lamp]\nwhen = light < 300\nuntil = light > 320\nthen = {\"led\": true}\n"               \
    "else = {\"led\": false}\n"

static struct ruleset_now now;

static int on_send(void *userdata, const struct ruleset_target *target,
                   const struct server_rule *rule, const struct command *command)
{
    (void)userdata, (void)target, (void)rule, (void)command;
    return 0;
}

static const struct decider_handlers handlers = { .send = on_send };
static struct decisions *decisions; // of an earlier run; NULL: there are none

int outbox_put_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    (void)outbox, (void)space, (void)key, (void)value;
    return 0;
}

static struct engine *make_engine(const char *text)
{
    struct engine *engine;
    struct config *config = load_main(text);
    now = (struct ruleset_now){ 1000 * USEC_PER_SEC, 1790000000 * USEC_PER_SEC };
    assert_int_equal(engine_new(config, &handlers, NULL, &engine), 0);
    engine_remember(engine, decisions);
    engine_reconnected(engine);
    config_unref(config);
    return engine;
}

static void pass(uint64_t usec)
{
    now.mono_usec += usec;
    now.wall_usec += usec;
}

static struct topic_slice slice(const char *text)
{
    return (struct topic_slice){ text, strlen(text) };
}

static void say(struct engine *engine, const char *id, const char *json)
{
    struct json_object *object = json_tokener_parse(json);
    assert_int_equal(engine_take(engine, slice(id), slice("north"), object, 0, &now), 0);
    json_object_put(object);
}

static void expect(struct engine *engine, const char *question, const char *answer)
{
    char *text = explainer_answer(engine, question, strlen(question), &now);
    assert_string_equal(text, answer);
    free(text);
}

static void the_readings_are_those_of_the_decision(void **state)
{
    (void)state;
    struct engine *engine = make_engine(LAMP);
    say(engine, "lamp1", "{\"light\": 250}");
    pass(10 * USEC_PER_SEC);
    say(engine, "lamp1", "{\"light\": 310}"); // changes nothing
    say(engine, "lamp2", "{\"light\": 500}");
    pass(2 * USEC_PER_SEC);
    expect(engine, "{\"explain\": \"lamp\", \"for\": \"lamp1\"}",
           "{\"text\":\"2026-09-21T14:13:20.000Z  lamp1  rule lamp: {\\\"led\\\": true}  because "
           "light = 250\\nat present light = 310 (2 s old)\"}");
    expect(engine, "{\"explain\": \"lamp\"}",
           "{\"text\":\"2026-09-21T14:13:30.000Z  lamp2  rule lamp: {\\\"led\\\": false}  because "
           "light = 500\\nat present light = 500 (2 s old)\"}");
    engine_free(engine);
}

static void a_group_is_explained_by_its_aggregates(void **state)
{
    (void)state;
    struct engine *engine =
        make_engine("[server]\ngroups = n*\n[rule flood]\nscope = group\nmin_devices = 2\n"
                    "when = median(light) < 300\nthen = {\"led\": true}\n");
    say(engine, "a", "{\"light\": 100}");
    expect(engine, "{\"explain\": \"flood\", \"for\": \"north\"}",
           "{\"error\":\"rule flood has decided nothing for north so far; at present "
           "median(light) = 100 (1 devices)\"}");
    say(engine, "b", "{\"light\": 200}");
    say(engine, "b", "{\"light\": 220}");
    expect(engine, "{\"explain\": \"flood\", \"for\": \"north\"}",
           "{\"text\":\"2026-09-21T14:13:20.000Z  group north  rule flood: {\\\"led\\\": true}  "
           "because median(light) = 150 (2 devices)\\nat present median(light) = 160 (2 "
           "devices)\"}");
    say(engine, "b", "{\"light\": 1000}");
    expect(engine, "{\"explain\": \"flood\"}",
           "{\"text\":\"2026-09-21T14:13:20.000Z  group north  rule flood: nothing to be sent  "
           "because median(light) = 550 (2 devices)\\nat present median(light) = 550 (2 "
           "devices)\"}");
    engine_free(engine);
}

static void what_others_have_decided_is_told_as_such(void **state)
{
    (void)state;
    assert_int_equal(decisions_new(&decisions), 0);
    decisions_recall(decisions, "arm/arm", "then {\"up\": true}");
    struct engine *engine = make_engine(LAMP "[rule arm]\nwhen = light < 5\ndelivery = ordered\n"
                                             "then = {\"up\": true}\n");
    struct json_object *command = json_tokener_parse("{\"$id\": \"x\", \"led\": true}");
    engine_observe(engine, slice("lamp1"), command, true, &now);
    json_object_put(command);
    expect(engine, "{\"explain\": \"lamp\"}",
           "{\"text\":\"2026-09-21T14:13:20.000Z  lamp1  rule lamp: {\\\"led\\\": true}  because "
           "another sender has said so on the device's topic\\nat present light = unknown\"}");
    say(engine, "arm", "{\"light\": 400}"); // decided in an earlier run
    expect(engine, "{\"explain\": \"arm\", \"for\": \"lamp1\"}",
           "{\"error\":\"rule arm has decided nothing for lamp1 so far; at present light = "
           "unknown\"}");
    engine_free(engine);
    decisions_recall(decisions, "arm/arm", "then {\"up\": true}"); // that one has decided by now
    engine = make_engine("[rule arm]\nwhen = light < 5\nuntil = light > 500\ndelivery = ordered\n"
                         "then = {\"up\": true}\n");
    say(engine, "arm", "{\"light\": 400}");
    expect(engine, "{\"explain\": \"arm\", \"for\": \"arm\"}",
           "{\"text\":\"arm  rule arm: {\\\"up\\\": true}  decided so long ago that its readings "
           "are not kept\\nat present light = 400\"}");
    engine_free(engine);
    decisions_free(TAKE_PTR(decisions));
}

static void what_there_is_not_is_told(void **state)
{
    (void)state;
    struct engine *engine =
        make_engine(LAMP "devices = lamp*\n[server]\ngroups = n*\n[rule flood]\n"
                         "scope = group\nwhen = max(light) < 300\n"
                         "then = {\"led\": true}\n");
    say(engine, "other", "{\"light\": 250}");
    expect(engine, "{\"explain\": \"lam\"}",
           "{\"error\":\"there is no rule 'lam' of the server (did you mean 'lamp'?)\"}");
    expect(engine, "{\"explain\": \"lamp\"}",
           "{\"error\":\"rule lamp has decided nothing since the server was started, or its rules "
           "were changed\"}");
    expect(engine, "{\"explain\": \"lamp\", \"for\": \"other\"}",
           "{\"error\":\"rule lamp is not for other\"}");
    expect(engine, "{\"explain\": \"lamp\", \"for\": \"lamp9\"}",
           "{\"error\":\"nothing has been heard of a device 'lamp9'\"}");
    expect(engine, "{\"explain\": \"flood\", \"for\": \"other\"}",
           "{\"error\":\"nothing has been heard of a group 'other'\"}");
    expect(engine, "{\"explain\": 1}", "{\"error\":\"this is no question that the server knows\"}");
    expect(engine, "{}", "{\"error\":\"this is no question that the server knows\"}");
    expect(engine, "{", "{\"error\":\"byte 1: a key in double quotes is expected\"}");
    engine_free(engine);
}

/* --- the bound ------------------------------------------------------------------------------- */

static void the_oldest_makes_room_but_the_last_of_a_rule(void **state)
{
    (void)state;
    char id[32], question[80];
    struct engine *engine =
        make_engine(LAMP "[rule rare]\nwhen = heat > 1\nthen = {\"fan\": true}\n");
    say(engine, "first", "{\"light\": 250, \"heat\": 2}");
    for (unsigned i = 0; i < REASONS_MAX + 10; i++) {
        snprintf(id, sizeof(id), "lamp%u", i);
        say(engine, id, "{\"light\": 250}");
    }
    expect(engine, "{\"explain\": \"rare\"}",
           "{\"text\":\"2026-09-21T14:13:20.000Z  first  rule rare: {\\\"fan\\\": true}  because "
           "heat = 2\\nat present heat = 2\"}");
    expect(engine, "{\"explain\": \"lamp\", \"for\": \"first\"}",
           "{\"text\":\"first  rule lamp: {\\\"led\\\": true}  decided so long ago that its "
           "readings are not kept\\nat present light = 250\"}");
    for (unsigned i = 0; i < REASONS_MAX + 10; i++) {
        snprintf(question, sizeof(question), "{\"explain\": \"lamp\", \"for\": \"lamp%u\"}", i);
        char *text = explainer_answer(engine, question, strlen(question), &now);
        assert_int_equal(strstr(text, "because") != NULL, i >= 11); // one place is the rare one's
        free(text);
    }
    engine_free(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(the_readings_are_those_of_the_decision),
        in_directory(a_group_is_explained_by_its_aggregates),
        in_directory(what_others_have_decided_is_told_as_such),
        in_directory(what_there_is_not_is_told),
        in_directory(the_oldest_makes_room_but_the_last_of_a_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
