// SPDX-License-Identifier: LGPL-2.1-or-later
// What the server subscribes to, and what it makes of the topics that come in.
#include "server/intake.h"
#include "test-config.h"
#include "util/strings.h"

static struct intake *make_intake(const char *text)
{
    struct config *config = load_main(text);
    struct intake *intake;
    assert_int_equal(intake_new(config, &intake), 0);
    config_unref(config); // the intake has its own reference
    return intake;
}

static void assert_filters(const char *text, const char *filters)
{
    char list[512] = "";
    _cleanup_(intake_freep) struct intake *intake = make_intake(text);
    _cleanup_(strings_freep) char **all = NULL;
    assert_int_equal(intake_filters(intake, &all), 0);
    for (size_t i = 0; all[i]; i++)
        strcat(strcat(list, all[i]), " ");
    assert_string_equal(list, filters);
}

/* "telemetry ID GROUP", "status ID GROUP" or "other". */
static void assert_is(const struct intake *intake, const char *topic, const char *expected)
{
    static const char *const kinds[] = { "other", "telemetry", "status", "reply", "command" };
    struct topic_slice id, group;
    char is[256];
    enum intake_kind kind = intake_classify(intake, topic, &id, &group);
    if (kind == INTAKE_OTHER)
        strcpy(is, kinds[kind]);
    else
        snprintf(is, sizeof(is), "%s %.*s %.*s", kinds[kind], (int)id.length, id.bytes,
                 group.bytes ? (int)group.length : 1, group.bytes ? group.bytes : "-");
    assert_string_equal(is, expected);
}

static void a_pattern_subscribes_to_everyone(void **state)
{
    (void)state;
    assert_filters("", "+/status +/replies +/telemetry ");
    assert_filters("[server]\ndevices = porch lamp*\n", "+/status +/replies +/telemetry ");
}

static void names_subscribe_to_their_topics_alone(void **state)
{
    (void)state;
    assert_filters(
        "[server]\ndevices = porch hall\n",
        "porch/status porch/replies porch/telemetry hall/status hall/replies hall/telemetry ");
}

static void a_stream_with_a_topic_of_its_own_is_subscribed_to(void **state)
{
    (void)state;
    assert_filters("[stream fast]\ntopic = {id}/fast\n[stream same]\ntopic = {id}/telemetry\n",
                   "+/status +/replies +/telemetry +/fast ");
}

static void a_share_is_subscribed_to_as_one(void **state)
{
    (void)state;
    assert_filters("[server]\nshare = plant\n[stream fast]\ntopic = {id}/fast\n",
                   "+/status +/replies +/commands $share/plant/+/telemetry $share/plant/+/fast ");
    _cleanup_(intake_freep) struct intake *intake = make_intake("[server]\nshare = plant\n");
    assert_is(intake, "lamp1/commands", "command lamp1 -");
    assert_is(intake, "lamp1/telemetry", "telemetry lamp1 -");
}

static void topics_are_told_apart(void **state)
{
    (void)state;
    _cleanup_(intake_freep) struct intake *intake =
        make_intake("[stream x]\ntopic = {id}/x/{sensor}\n");
    assert_is(intake, "lamp1/telemetry", "telemetry lamp1 -");
    assert_is(intake, "lamp1/x/light", "telemetry lamp1 -");
    assert_is(intake, "lamp1/status", "status lamp1 -");
    assert_is(intake, "lamp1/state", "other");
    assert_is(intake, "a/lamp1/telemetry", "other");
}

static void a_status_is_no_sensor(void **state)
{
    (void)state;
    _cleanup_(intake_freep) struct intake *intake =
        make_intake("[topics]\ntelemetry = {id}/{sensor}\n");
    assert_is(intake, "lamp1/status", "status lamp1 -");
    assert_is(intake, "lamp1/light", "telemetry lamp1 -");
}

static void commands_and_states_are_no_sensors(void **state)
{
    (void)state;
    _cleanup_(intake_freep) struct intake *intake =
        make_intake("[topics]\ntelemetry = {id}/{sensor}\n");
    assert_is(intake, "porch/light", "telemetry porch -");
    assert_is(intake, "porch/commands", "other");
    assert_is(intake, "porch/state", "other");
}

static void strangers_and_what_is_no_id_are_others(void **state)
{
    (void)state;
    _cleanup_(intake_freep) struct intake *intake =
        make_intake("[server]\ndevices = lamp? porch\n");
    assert_is(intake, "lamp1/telemetry", "telemetry lamp1 -");
    assert_is(intake, "porch/status", "status porch -");
    assert_is(intake, "lamp12/telemetry", "other");
    assert_is(intake, "hall/status", "other");
    assert_is(intake, "lamp*/telemetry", "other");
    assert_is(intake, "lamp\x80/telemetry", "other");
}

static void a_command_goes_to_the_group_that_the_topic_named(void **state)
{
    (void)state;
    _cleanup_(intake_freep) struct intake *intake =
        make_intake("[topics]\ntelemetry = {group}/{id}/up\ncommands = {group}/{id}/down\n");
    _cleanup_(freep) char *topic = NULL, *without = NULL;
    assert_is(intake, "cellar/lamp1/up", "telemetry lamp1 cellar");
    assert_int_equal(intake_command_topic(intake, "lamp1", "cellar", &topic), 0);
    assert_string_equal(topic, "cellar/lamp1/down");
    assert_int_equal(intake_command_topic(intake, "lamp1", NULL, &without), 0);
    assert_string_equal(without, "default/lamp1/down");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(a_pattern_subscribes_to_everyone),
        in_directory(names_subscribe_to_their_topics_alone),
        in_directory(a_stream_with_a_topic_of_its_own_is_subscribed_to),
        in_directory(a_share_is_subscribed_to_as_one),
        in_directory(topics_are_told_apart),
        in_directory(a_status_is_no_sensor),
        in_directory(commands_and_states_are_no_sensors),
        in_directory(strangers_and_what_is_no_id_are_others),
        in_directory(a_command_goes_to_the_group_that_the_topic_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
