// SPDX-License-Identifier: LGPL-2.1-or-later
// The MQTT client in conversation with a real mosquitto.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mqtt-fixture.h"

enum { BURST = 20000 };

static void converses_over_mqtt_5(void **state)
{
    struct client client;
    char expected[64];
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    converse(&client);
    snprintf(expected, sizeof(expected), "connected to 127.0.0.1:%d, MQTT 5", plain.port);
    assert_string_equal(mqtt_describe(client.mqtt), expected);
    assert_int_equal(mqtt_protocol(client.mqtt), 5);
    client_done(&client);
}

static void converses_over_mqtt_3_1_1(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.options.protocol = 4;
    client_start(&client);
    converse(&client);
    assert_int_equal(mqtt_protocol(client.mqtt), 4);
    client_done(&client);
}

static void converses_over_a_unix_socket(void **state)
{
    struct broker broker;
    struct client client;
    char path[128], lines[256];
    (void)state;
    broker_init(&broker);
    broker_path(&broker, "sock", path);
    snprintf(lines, sizeof(lines), "allow_anonymous true\nlistener 0 %s\n", path);
    broker_start(&broker, lines);
    client_init(&client, 0);
    client.options.unix_socket = true;
    client.hosts[0] = path;
    client_start(&client);
    converse(&client);
    client_done(&client);
    broker_done(&broker);
}

static void offline_publish_is_refused_and_never_sent(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    assert_int_equal(publish_to(&client, "t/x", "1", 1, 1, NULL), -ENOTCONN);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(mqtt_subscribe(client.mqtt, "t/#", 1, NULL), 0);
    publish(&client, "t/x", "2", 1);
    RUN_UNTIL(&client, client.n_messages == 1 && client.n_published == 1);
    assert_string_equal(client.last_payload, "2");
    client_done(&client);
}

static void properties_arrive_with_mqtt_5_alone(void **state)
{
    static const struct mqtt_user_property properties[] = { { "boot", "b" }, { "seq", "17" } };
    static const struct mqtt_publication publication = {
        .topic = "t/x",
        .payload = "1",
        .payload_size = 1,
        .qos = 1,
        .properties = properties,
        .n_properties = ELEMENTS(properties),
        .response_topic = "t/answer",
        .correlation = "c7",
        .correlation_size = 2,
    };
    (void)state;
    for (int protocol = 4; protocol <= 5; protocol++) {
        struct client client;
        client_init(&client, plain.port);
        client.options.protocol = protocol;
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        // mosquitto 2.0 announces its max_inflight_messages.
        assert_int_equal(mqtt_receive_maximum(client.mqtt), protocol == 5 ? 20 : UINT16_MAX);
        assert_int_equal(mqtt_subscribe(client.mqtt, "t/#", 1, NULL), 0);
        assert_int_equal(mqtt_publish(client.mqtt, &publication, NULL), 0);
        RUN_UNTIL(&client, client.n_messages == 1 && client.n_published == 1);
        assert_string_equal(client.last_response_topic, protocol == 5 ? "t/answer" : "-");
        assert_string_equal(client.last_correlation, protocol == 5 ? "c7" : "-");
        assert_string_equal(client.last_seq, protocol == 5 ? "17" : "-");
        client_done(&client);
    }
}

static void bad_calls_are_refused(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(publish_to(&client, "t/+", "1", 1, 1, NULL), -EINVAL);
    assert_int_equal(publish_to(&client, "t/x", "1", SIZE_MAX, 1, NULL), -EMSGSIZE);
    assert_int_equal(publish_to(&client, "t/x", "1", 300 << 20, 1, NULL), -EMSGSIZE);
    assert_int_equal(mqtt_subscribe(client.mqtt, "t/#/x", 1, NULL), -EINVAL);
    assert_true(mqtt_is_connected(client.mqtt));
    client_done(&client);
}

static void publish_from_connected(struct client *client)
{
    assert_int_equal(mqtt_subscribe(client->mqtt, "c/#", 2, NULL), 0);
    publish(client, "c/x", "1", 1);
    publish(client, "c/x", "2", 2);
    publish(client, "c/x", "3", 0);
}

static void what_connected_publishes_arrives_once(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.in_connected = publish_from_connected;
    client_start(&client);
    RUN_UNTIL(&client, client.n_published == 3 && client.n_messages >= 3);
    publish(&client, "c/x", "end", 1);
    RUN_UNTIL(&client, strcmp(client.last_payload, "end") == 0);
    assert_int_equal(client.n_messages, 4);
    client_done(&client);
}

static void answer(struct client *client)
{
    if (strcmp(client->last_topic, "q") == 0)
        publish(client, "a", "answer", 1);
}

static void message_may_be_answered_from_its_handler(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.in_message = answer;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(mqtt_subscribe(client.mqtt, "q", 1, NULL), 0);
    assert_int_equal(mqtt_subscribe(client.mqtt, "a", 1, NULL), 0);
    publish(&client, "q", "question", 1);
    RUN_UNTIL(&client, strcmp(client.last_payload, "answer") == 0);
    client_done(&client);
}

static void stop_it(struct client *client)
{
    mqtt_stop(client->mqtt);
}

static void free_it(struct client *client)
{
    mqtt_free(TAKE_PTR(client->mqtt));
}

static void restart_it(struct client *client)
{
    client->in_message = client->in_published = NULL;
    mqtt_stop(client->mqtt);
    assert_int_equal(mqtt_start(client->mqtt), 0);
}

/* Drives a client whose handlers do `in`, from each of the handlers that can. */
static void from_each_handler(void (*in)(struct client *), bool comes_back)
{
    for (int i = 0; i < 3; i++) {
        struct client client;
        client_init(&client, plain.port);
        *(i == 0 ? &client.in_message : i == 1 ? &client.in_published : &client.in_connected) = in;
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        if (client.mqtt && i < 2) {
            mqtt_subscribe(client.mqtt, "h", 0, NULL);
            publish_to(&client, "h", "x", 1, i == 0 ? 1 : 0, NULL);
            RUN_UNTIL(&client, i == 0 ? client.n_messages == 1 : client.n_published == 1);
        }
        if (comes_back && i < 2)
            RUN_UNTIL(&client, client.n_connected == 2);
        else if (client.mqtt)
            assert_false(mqtt_is_connected(client.mqtt));
        assert_int_equal(client.n_disconnected, 0);
        client_done(&client);
    }
}

static void may_be_stopped_from_any_handler(void **state)
{
    (void)state;
    from_each_handler(stop_it, false);
}

static void may_be_freed_from_any_handler(void **state)
{
    (void)state;
    from_each_handler(free_it, false);
}

static void may_be_restarted_from_handlers(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct client client;
        client_init(&client, plain.port);
        *(i == 0 ? &client.in_message : &client.in_published) = restart_it;
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        mqtt_subscribe(client.mqtt, "h", 0, NULL);
        publish_to(&client, "h", "x", 1, 0, NULL);
        RUN_UNTIL(&client, client.n_connected == 2);
        client_done(&client);
    }
}

static void may_be_freed_when_it_could_not_connect(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    close(listen_somewhere(&client.options.port));
    client.in_disconnected = free_it;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    client_done(&client);
}

static void last_will_is_sent_on_free_and_not_on_stop(void **state)
{
    (void)state;
    for (int stops = 0; stops <= 1; stops++) {
        struct client watcher, client;
        client_init(&watcher, plain.port);
        watcher.options.client_id = "watcher";
        client_start(&watcher);
        RUN_UNTIL(&watcher, watcher.n_connected == 1);
        assert_int_equal(mqtt_subscribe(watcher.mqtt, stops ? "stop/#" : "free/#", 1, NULL), 0);
        RUN_UNTIL(&watcher, watcher.n_granted == 1);
        client_init(&client, plain.port);
        client.options.will_topic = stops ? "stop/will" : "free/will";
        client.options.will_payload = "gone";
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        watcher.n_messages = 0;
        if (stops)
            mqtt_stop(client.mqtt);
        client_done(&client);
        publish(&watcher, stops ? "stop/end" : "free/end", "end", 1);
        RUN_UNTIL(&watcher, strcmp(watcher.last_payload, "end") == 0);
        if (!stops)
            RUN_UNTIL(&watcher, watcher.n_messages == 2);
        assert_int_equal(watcher.n_messages, stops ? 1 : 2);
        client_done(&watcher);
    }
}

static void session_survives_with_an_expiry(void **state)
{
    (void)state;
    for (int protocol = 4; protocol <= 5; protocol++) {
        struct client client;
        client_init(&client, plain.port);
        client.options.client_id = protocol == 4 ? "session4" : "session5";
        client.options.protocol = protocol;
        client.options.session_expiry_usec = 60 * USEC_PER_SEC;
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        assert_false(client.session_present);
        mqtt_stop(client.mqtt);
        assert_int_equal(mqtt_start(client.mqtt), 0);
        RUN_UNTIL(&client, client.n_connected == 2);
        assert_true(client.session_present);
        client_done(&client);
    }
}

static void refused_publish_is_told_apart(void **state)
{
    struct broker broker;
    struct client client;
    char path[128], lines[512];
    (void)state;
    broker_init(&broker);
    broker_write(&broker, "acl", "topic readwrite allowed\n");
    broker_path(&broker, "acl", path);
    snprintf(lines, sizeof(lines), "allow_anonymous true\nacl_file %s\n", path);
    broker_start(&broker, lines);
    client_init(&client, broker.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    publish(&client, "allowed", "x", 1);
    RUN_UNTIL(&client, client.n_published == 1);
    assert_int_equal(client.last_code, 16); // no matching subscribers (MQTT 5.0, section 3.4.2.1)
    publish(&client, "forbidden", "x", 1);
    RUN_UNTIL(&client, client.n_published == 2);
    assert_int_equal(client.last_code, 0x87); // not authorized
    assert_int_equal(mqtt_subscribe(client.mqtt, "forbidden", 1, NULL), 0);
    RUN_UNTIL(&client, client.n_granted == 1);
    client_done(&client);
    broker_done(&broker);
}

static void loses_nothing_of_a_burst(void **state)
{
    struct client sender, receiver;
    unsigned n_sent = 0;
    (void)state;
    client_init(&receiver, plain.port);
    receiver.options.client_id = "receiver";
    client_start(&receiver);
    RUN_UNTIL(&receiver, receiver.n_connected == 1);
    assert_int_equal(mqtt_subscribe(receiver.mqtt, "burst", 1, NULL), 0);
    RUN_UNTIL(&receiver, receiver.n_granted == 1);
    client_init(&sender, plain.port);
    client_start(&sender);
    RUN_UNTIL(&sender, sender.n_connected == 1);
    while (sender.n_published < BURST) {
        for (; n_sent < BURST && n_sent - sender.n_published < 100; n_sent++)
            publish(&sender, "burst", "0123456789", 1);
        assert_true(sd_event_run(sender.event, 1000) >= 0);
        while (sd_event_run(receiver.event, 0) > 0)
            ;
    }
    RUN_UNTIL(&receiver, receiver.n_messages == BURST);
    client_done(&sender);
    client_done(&receiver);
}

static void connected_and_idle_it_sleeps(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    unsigned n_turns = 0;
    uint64_t end_mono_usec = clock_mono_usec() + 2 * USEC_PER_SEC;
    for (uint64_t now; (now = clock_mono_usec()) < end_mono_usec; n_turns++)
        assert_true(sd_event_run(client.event, end_mono_usec - now) >= 0);
    assert_true(n_turns <= 4);
    client_done(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converses_over_mqtt_5),
        cmocka_unit_test(converses_over_mqtt_3_1_1),
        cmocka_unit_test(converses_over_a_unix_socket),
        cmocka_unit_test(offline_publish_is_refused_and_never_sent),
        cmocka_unit_test(properties_arrive_with_mqtt_5_alone),
        cmocka_unit_test(bad_calls_are_refused),
        cmocka_unit_test(what_connected_publishes_arrives_once),
        cmocka_unit_test(message_may_be_answered_from_its_handler),
        cmocka_unit_test(may_be_stopped_from_any_handler),
        cmocka_unit_test(may_be_freed_from_any_handler),
        cmocka_unit_test(may_be_restarted_from_handlers),
        cmocka_unit_test(may_be_freed_when_it_could_not_connect),
        cmocka_unit_test(last_will_is_sent_on_free_and_not_on_stop),
        cmocka_unit_test(session_survives_with_an_expiry),
        cmocka_unit_test(refused_publish_is_told_apart),
        cmocka_unit_test(loses_nothing_of_a_burst),
        cmocka_unit_test(connected_and_idle_it_sleeps),
    };
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
