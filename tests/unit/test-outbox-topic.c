// SPDX-License-Identifier: LGPL-2.1-or-later
// Where the outbox sends what: the template of the stream, of late messages, and of what is left.
#include "outbox-fixture.h"

static struct world world;

static int set_up(void **state)
{
    (void)state;
    world_init(&world);
    world.options.id = "lamp1";
    world.options.group = "hall";
    world.options.topic = "{id}/telemetry";
    world.options.late_topic = NULL;
    world.policies[0].topic = "site/{group}/{id}/{stream}";
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_done(&world);
    return 0;
}

static const char *send_of(const char *stream, const char *sensor, uint64_t age_usec)
{
    size_t n_sent = world.n_sent;
    const struct outbox_message message = { .stream = stream,
                                            .subject = sensor,
                                            .payload = "{\"a\": 1}",
                                            .n_samples = 1,
                                            .mono_usec = world.mono_usec - age_usec,
                                            .qos = -1 };
    assert_int_equal(outbox_publish(world.outbox, &message), 0);
    world_settle(&world);
    return world.n_sent > n_sent ? world.sent[n_sent].topic : "";
}

static void topic_is_made_of_id_group_and_stream(void **state)
{
    (void)state;
    world_configure(&world);
    world_connect(&world, 10);
    assert_string_equal(send_of("telemetry", NULL, 0), "site/hall/lamp1/telemetry");
}

static void sensor_stands_in_the_topic_of_its_message(void **state)
{
    (void)state;
    world.policies[0].topic = "{id}/{sensor}";
    world_configure(&world);
    world_connect(&world, 10);
    assert_string_equal(send_of("telemetry", "light", 0), "lamp1/light");
    assert_string_equal(send_of("telemetry", NULL, 0), ""); // there is none that it could go to
    ASSERT_LEDGER(&world, "telemetry", ended[LEDGER_REJECTED], 1);
}

static void late_message_goes_to_the_backlog(void **state)
{
    (void)state;
    world.options.late_topic = "{id}/backlog/{sensor}";
    world_configure(&world);
    world_connect(&world, 10);
    assert_string_equal(send_of("telemetry", "light", 3 * USEC_PER_SEC), "lamp1/backlog/light");
    assert_string_equal(send_of("telemetry", "light", 0), "site/hall/lamp1/telemetry");
    // Of several sensors, which one is to stand there?
    assert_string_equal(send_of("telemetry", NULL, 3 * USEC_PER_SEC), "site/hall/lamp1/telemetry");
}

static void stream_that_is_no_more_goes_where_telemetry_does(void **state)
{
    (void)state;
    world_stream(&world, "old")->topic = "{id}/old";
    world_configure(&world);
    assert_string_equal(send_of("old", NULL, 0), "");
    world.n_policies = 1;
    world_configure(&world);
    world_connect(&world, 10);
    assert_int_equal(world.n_sent, 1);
    assert_string_equal(world.sent[0].topic, "lamp1/telemetry");
}

static void reload_changes_the_topic_of_what_waits(void **state)
{
    (void)state;
    world_configure(&world);
    assert_string_equal(send_of("telemetry", NULL, 0), "");
    world.policies[0].topic = "{id}/new";
    world_configure(&world);
    world_connect(&world, 10);
    assert_string_equal(world.sent[0].topic, "lamp1/new");
}

static void template_that_is_none_changes_nothing(void **state)
{
    (void)state;
    world_configure(&world);
    struct stream_policy policies[] = { world.policies[0], world.policies[0] };
    policies[1].name = "more";
    policies[1].topic = "{nonsense}";
    assert_int_equal(outbox_configure(world.outbox, &world.options, policies, 2), -EINVAL);
    world_connect(&world, 10);
    assert_string_equal(send_of("telemetry", NULL, 0), "site/hall/lamp1/telemetry");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(topic_is_made_of_id_group_and_stream),
        TEST(sensor_stands_in_the_topic_of_its_message),
        TEST(late_message_goes_to_the_backlog),
        TEST(stream_that_is_no_more_goes_where_telemetry_does),
        TEST(reload_changes_the_topic_of_what_waits),
        TEST(template_that_is_none_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
