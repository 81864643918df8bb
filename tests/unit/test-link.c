// SPDX-License-Identifier: LGPL-2.1-or-later
// A link and its connector in conversation with a real mosquitto.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/un.h>

#include "link-fixture.h"

enum { BURST = 20000 };

static void converses_over_mqtt_5(void **state)
{
    struct client client;
    char expected[64];
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    snprintf(expected, sizeof(expected), "connecting to 127.0.0.1:%d", plain.port);
    assert_string_equal(link_describe(client.link), expected);
    converse(&client);
    snprintf(expected, sizeof(expected), "connected to 127.0.0.1:%d, MQTT 5", plain.port);
    assert_string_equal(link_describe(client.link), expected);
    client_done(&client);
}

static void converses_over_mqtt_3_1_1(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.options.protocol = MQTT_PROTOCOL_311;
    client_start(&client);
    converse(&client);
    assert_non_null(strstr(link_describe(client.link), "MQTT 3.1.1"));
    client_done(&client);
}

static bool answers_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
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
    for (int i = 0; i < 500 && !answers_at(path); i++)
        usleep(10000); // it listens there a little later
    client_init(&client, 0);
    client.options.connector.unix_socket = true;
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
    assert_int_equal(subscribe_to(&client, "t/#", 1, NULL), -ENOTCONN);
    assert_int_equal(link_window(client.link), 0);
    RUN_UNTIL(&client, client.n_connected == 1);
    subscribe(&client, "t/#");
    publish(&client, "t/x", "2", 1);
    RUN_UNTIL(&client, client.n_messages == 1 && client.n_published == 1);
    assert_string_equal(client.last_payload, "2");
    client_done(&client);
}

static void properties_arrive_with_mqtt_5_alone(void **state)
{
    static const struct mqtt_user_property properties[] = { { "boot", "b" }, { "seq", "17" } };
    static const struct mqtt_message message = {
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
    for (int protocol = MQTT_PROTOCOL_311; protocol <= MQTT_PROTOCOL_5; protocol++) {
        struct client client;
        client_init(&client, plain.port);
        client.options.protocol = protocol;
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        // mosquitto 2.0 announces its max_inflight_messages.
        assert_int_equal(link_window(client.link), protocol == 5 ? 40 : UINT16_MAX);
        subscribe(&client, "t/#");
        assert_int_equal(publish_message(&client, &message, NULL), 0);
        RUN_UNTIL(&client, client.n_messages == 1 && client.n_published == 1);
        assert_string_equal(client.last_response_topic, protocol == 5 ? "t/answer" : "-");
        assert_string_equal(client.last_correlation, protocol == 5 ? "c7" : "-");
        assert_string_equal(client.last_seq, protocol == 5 ? "17" : "-");
        client_done(&client);
    }
}

static void what_cannot_be_said_is_refused_at_once(void **state)
{
    struct client client;
    int mid = 77;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(publish_to(&client, "t/x", "1", SIZE_MAX, 1, &mid), -EMSGSIZE);
    assert_int_equal(publish_to(&client, "t/x", "1", (1 << 20) + 1, 1, &mid), -EMSGSIZE);
    assert_int_equal(publish_to(&client, "t/\xff", "1", 1, 1, &mid), -EINVAL);
    assert_int_equal(subscribe_to(&client, "t/\xff", 1, &mid), -EINVAL);
    assert_int_equal(mid, 77);
    run_for(&client, 50 * USEC_PER_MSEC);
    assert_true(link_is_connected(client.link));
    assert_int_equal(client.n_published + client.n_granted, 0);
    client_done(&client);
}

static void what_the_library_refuses_is_told_later(void **state)
{
    struct client client;
    int mid = 0;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(publish_to(&client, "t/+", "1", 1, 1, &mid), 0);
    RUN_UNTIL(&client, client.n_published == 1);
    assert_int_equal(client.last_mid, mid);
    assert_string_equal(mqtt_reason(client.last_code), "topic name invalid");
    assert_int_equal(subscribe_to(&client, "t/#/x", 1, &mid), 0);
    RUN_UNTIL(&client, client.n_granted == 1);
    assert_int_equal(client.last_mid, mid);
    assert_true(client.last_granted >= MQTT_FIRST_REFUSAL);
    assert_true(link_is_connected(client.link));
    client_done(&client);
}

static void more_hosts_than_a_connector_takes_are_refused(void **state)
{
    char *hosts[FRAME_MAX_HOSTS + 2];
    struct client client;
    (void)state;
    for (size_t i = 0; i <= FRAME_MAX_HOSTS; i++)
        hosts[i] = (char *)"127.0.0.1";
    hosts[FRAME_MAX_HOSTS + 1] = NULL;
    client_init(&client, plain.port);
    client.options.hosts = hosts;
    assert_int_equal(link_new(client.event, &client.options, on_event, &client, &client.link),
                     -E2BIG);
    assert_null(client.link);
    hosts[FRAME_MAX_HOSTS] = NULL;
    assert_int_equal(link_new(client.event, &client.options, on_event, &client, &client.link), 0);
    link_start(client.link);
    RUN_UNTIL(&client, client.n_connected == 1);
    client_done(&client);
}

static void publish_from_connected(struct client *client)
{
    assert_int_equal(subscribe_to(client, "c/#", 2, NULL), 0);
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
    subscribe(&client, "q");
    subscribe(&client, "a");
    publish(&client, "q", "question", 1);
    RUN_UNTIL(&client, strcmp(client.last_payload, "answer") == 0);
    client_done(&client);
}

static void qos_2_is_1_in_a_session_that_goes_on(void **state)
{
    (void)state;
    for (int goes_on = 0; goes_on <= 1; goes_on++) {
        struct client client;
        client_init(&client, plain.port);
        client.options.connector.session_expiry_sec = goes_on ? 2 : 0;
        client.options.connector.client_id = "session";
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        assert_int_equal(subscribe_to(&client, "t/x", 2, NULL), 0);
        publish(&client, "t/x", "x", 2);
        RUN_UNTIL(&client, client.n_messages == 1 && client.n_published == 1);
        assert_int_equal(client.last_qos, goes_on ? 1 : 2);
        client_done(&client);
    }
}

/* --- sizes and floods ------------------------------------------------------------------------ */

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8));
}

static void check_filled(struct client *client, const struct mqtt_message *message)
{
    _cleanup_(freep) uint8_t *expected = malloc(message->payload_size + 1);
    (void)client;
    fill(expected, message->payload_size);
    assert_memory_equal(message->payload, expected, message->payload_size);
}

static void payloads_of_all_sizes_arrive_as_they_were(void **state)
{
    static const size_t sizes[] = { 0, 1, 65000, 65536, 200000, 1 << 20 };
    _cleanup_(freep) uint8_t *payload = malloc(1 << 20);
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.take = check_filled;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    subscribe(&client, "t/x");
    fill(payload, 1 << 20);
    for (unsigned i = 0; i < ELEMENTS(sizes); i++) {
        assert_int_equal(publish_to(&client, "t/x", payload, sizes[i], 1, NULL), 0);
        RUN_UNTIL(&client, client.n_messages == i + 1 && client.n_published == i + 1);
        assert_int_equal(client.last_code, 0);
        assert_int_equal(client.last_size, sizes[i]);
    }
    client_done(&client);
}

static void message_beyond_the_limit_is_dropped_and_told(void **state)
{
    struct client client;
    char payload[1001];
    (void)state;
    memset(payload, 'x', sizeof(payload));
    client_init(&client, plain.port);
    client.options.connector.max_message = sizeof(payload) - 1;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    subscribe(&client, "t/#");
    assert_int_equal(publish_to(&client, "t/large", payload, sizeof(payload), 1, NULL), 0);
    RUN_UNTIL(&client, client.n_dropped[FRAME_DROP_TOO_LARGE] == 1);
    assert_string_equal(client.last_dropped, "t/large");
    assert_int_equal(publish_to(&client, "t/x", payload, sizeof(payload) - 1, 1, NULL), 0);
    RUN_UNTIL(&client, client.n_messages == 1);
    assert_string_equal(client.last_topic, "t/x");
    assert_int_equal(client.n_dropped[FRAME_DROP_FLOOD], 0);
    client_done(&client);
}

static void messages_beyond_the_rate_are_dropped_and_told(void **state)
{
    enum { RATE = 10, N = 200 };
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.options.connector.max_rate = RATE;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    subscribe(&client, "t/x");
    for (unsigned i = 0; i < N; i++)
        publish(&client, "t/x", "x", 1);
    RUN_UNTIL(&client, client.n_messages + client.n_dropped[FRAME_DROP_FLOOD] == N);
    assert_in_range(client.n_messages, RATE, N / 2);
    assert_int_equal(client.n_published, N);
    assert_string_equal(client.last_dropped, "t/x");
    assert_int_equal(client.n_dropped[FRAME_DROP_TOO_LARGE], 0);
    client_done(&client);
}

static void loses_nothing_of_a_burst(void **state)
{
    struct client sender, receiver;
    unsigned n_sent = 0;
    (void)state;
    client_init(&receiver, plain.port);
    receiver.options.connector.client_id = "receiver";
    client_start(&receiver);
    RUN_UNTIL(&receiver, receiver.n_connected == 1);
    subscribe(&receiver, "burst");
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

/* The connector stops to read when nobody takes what it has, and goes on when somebody does. */
static void loop_that_was_behind_gets_all_the_rest_at_once(void **state)
{
    enum { SIZE = 2000, N = 900 }; // more than the pair and the connector hold
    static const char payload[SIZE];
    struct client sender, receiver;
    (void)state;
    client_init(&receiver, plain.port);
    receiver.options.connector.client_id = "receiver";
    client_start(&receiver);
    RUN_UNTIL(&receiver, receiver.n_connected == 1);
    subscribe(&receiver, "behind");
    RUN_UNTIL(&receiver, receiver.n_granted == 1);
    client_init(&sender, plain.port);
    client_start(&sender);
    RUN_UNTIL(&sender, sender.n_connected == 1);
    for (int i = 0; i < N; i++)
        assert_int_equal(publish_to(&sender, "behind", payload, SIZE, 1, NULL), 0);
    RUN_UNTIL(&sender, sender.n_published == N);
    run_for(&sender, 100 * USEC_PER_MSEC);
    uint64_t begin_mono_usec = clock_mono_usec();
    RUN_UNTIL(&receiver, receiver.n_messages == N);
    assert_true(clock_mono_usec() - begin_mono_usec < 5 * USEC_PER_SEC);
    client_done(&sender);
    client_done(&receiver);
}

/* MQTT has 65535 numbers, which are used again. */
static void acknowledgements_are_told_apart_when_numbers_come_again(void **state)
{
    enum { N = 70000 };
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    for (unsigned n_sent = 0; n_sent < N;) {
        for (; n_sent < N && n_sent - client.n_published < 1000; n_sent++)
            publish(&client, "t/numbers", "x", n_sent % 100 ? 0 : 1);
        assert_true(sd_event_run(client.event, 100 * USEC_PER_MSEC) >= 0);
    }
    RUN_UNTIL(&client, client.n_published == N); // and each once, as on_published() checks
    client_done(&client);
}

static void flood_does_not_keep_a_timer_from_its_time(void **state)
{
    struct client client;
    struct ticker ticker;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    subscribe(&client, "flood");
    RUN_UNTIL(&client, client.n_granted == 1);
    for (unsigned i = 0; i < 5000; i++)
        publish(&client, "flood", "0123456789", 0);
    ticker_start(&ticker, client.event, USEC_PER_MSEC);
    RUN_UNTIL(&client, client.n_published == 5000 && client.n_messages > 100);
    run_for(&client, 10 * USEC_PER_MSEC);
    assert_true(ticker.n_ticks > 5);
    ticker_stop(&ticker, 250 * USEC_PER_MSEC);
    client_done(&client);
}

static unsigned count_switches(pid_t pid)
{
    char path[64], line[128];
    unsigned n_switches = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    _cleanup_(fclosep) FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        (void)sscanf(line, "voluntary_ctxt_switches: %u", &n_switches); // NOLINT(cert-err34-c)
    assert_true(n_switches > 0);
    return n_switches;
}

static void connected_and_idle_both_sleep(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    run_for(&client, 50 * USEC_PER_MSEC); // what comes behind CONNACK
    unsigned n_turns = 0, n_switches = count_switches(connector_pid());
    uint64_t end_mono_usec = clock_mono_usec() + USEC_PER_SEC;
    for (uint64_t now; (now = clock_mono_usec()) < end_mono_usec; n_turns++)
        assert_true(sd_event_run(client.event, end_mono_usec - now) >= 0);
    assert_true(n_turns <= 3);
    assert_true(count_switches(connector_pid()) - n_switches <= 3);
    client_done(&client);
}

/* --- stopping -------------------------------------------------------------------------------- */

static void from_each_handler(void (*in)(struct client *))
{
    for (int i = 0; i < 3; i++) {
        struct client client;
        client_init(&client, plain.port);
        *(i == 0 ? &client.in_message : i == 1 ? &client.in_published : &client.in_connected) = in;
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        if (i < 2) {
            subscribe(&client, "h");
            publish(&client, "h", "x", i == 0 ? 1 : 0);
        }
        RUN_UNTIL(&client, client.n_stopped == 1);
        assert_string_equal(link_describe(client.link), "stopped");
        run_for(&client, 50 * USEC_PER_MSEC);
        assert_int_equal(client.n_connected, 1);
        assert_int_equal(client.n_disconnected, 0);
        assert_int_equal(client.n_stopped, 1);
        client_done(&client);
    }
}

static void may_be_stopped_from_any_handler(void **state)
{
    struct client client;
    (void)state;
    from_each_handler(client_stop);
    client_init(&client, 0);
    close(listen_for(&client));
    client.in_disconnected = client_stop;
    client_start(&client);
    RUN_UNTIL(&client, client.n_stopped == 1);
    run_for(&client, 300 * USEC_PER_MSEC); // longer than it would have waited
    assert_int_equal(client.n_disconnected, 1);
    client_done(&client);
}

static void start_again(struct client *client)
{
    client->in_stopped = NULL;
    client->in_call = true;
    link_start(client->link);
    client->in_call = false;
}

static void may_be_started_again_when_it_has_stopped(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.in_stopped = start_again;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    link_start(client.link); // is for one that is stopped
    client_stop(&client);
    link_start(client.link);
    assert_int_equal(publish_to(&client, "t/x", "1", 1, 1, NULL), -ENOTCONN);
    RUN_UNTIL(&client, client.n_connected == 2);
    assert_int_equal(client.n_stopped, 1);
    client_stop(&client);
    RUN_UNTIL(&client, client.n_stopped == 2);
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);
}

static void stops_while_it_connects(void **state)
{
    struct client client;
    (void)state;
    _cleanup_(closep) int fd = -EBADF;
    client_init(&client, 0);
    fd = listen_for(&client); // says nothing
    client_start(&client);
    client_stop(&client); // no connector is started yet
    assert_int_equal(client.n_stopped, 0);
    RUN_UNTIL(&client, client.n_stopped == 1);
    link_start(client.link);
    run_for(&client, USEC_PER_MSEC); // a connector is just being started
    client_stop(&client);
    RUN_UNTIL(&client, client.n_stopped == 2);
    link_start(client.link);
    run_for(&client, 100 * USEC_PER_MSEC); // it waits for CONNACK
    uint64_t begin_mono_usec = clock_mono_usec();
    client_stop(&client);
    client_stop(&client); // likewise
    RUN_UNTIL(&client, client.n_stopped == 3);
    assert_true(clock_mono_usec() - begin_mono_usec < USEC_PER_SEC);
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);
}

static void stops_while_it_waits_for_the_next_attempt(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, 0);
    close(listen_for(&client));
    client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    client_stop(&client);
    assert_int_equal(client.n_stopped, 0);
    RUN_UNTIL(&client, client.n_stopped == 1);
    client_stop(&client); // it has
    run_for(&client, 10 * USEC_PER_MSEC);
    assert_int_equal(client.n_stopped, 1);
    client_done(&client);
}

/* Sees messages and wills on filter. */
static void watch(struct client *watcher, const char *filter)
{
    client_init(watcher, plain.port);
    watcher->options.connector.client_id = "watcher";
    client_start(watcher);
    RUN_UNTIL(watcher, watcher->n_connected == 1);
    subscribe(watcher, filter);
    RUN_UNTIL(watcher, watcher->n_granted == 1);
    watcher->n_messages = 0; // what was retained
}

static void last_will_is_sent_on_free_and_not_on_stop(void **state)
{
    (void)state;
    for (int stops = 0; stops <= 1; stops++) {
        struct client watcher, client;
        watch(&watcher, stops ? "stop/#" : "free/#");
        client_init(&client, plain.port);
        client.options.connector.will_topic = stops ? "stop/will" : "free/will";
        client.options.connector.will_payload = "gone";
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        if (stops) {
            client_stop(&client);
            RUN_UNTIL(&client, client.n_stopped == 1);
        }
        client_done(&client);
        if (!stops) {
            RUN_UNTIL(&watcher, watcher.n_messages == 1);
            assert_string_equal(watcher.last_payload, "gone");
        }
        publish(&watcher, stops ? "stop/end" : "free/end", "end", 1);
        RUN_UNTIL(&watcher, strcmp(watcher.last_payload, "end") == 0);
        assert_int_equal(watcher.n_messages, stops ? 1 : 2);
        client_done(&watcher);
    }
}

static void all_that_was_published_leaves_before_the_goodbye(void **state)
{
    enum { N = 1000 };
    struct client watcher, client;
    (void)state;
    watch(&watcher, "bye/#");
    client_init(&client, plain.port);
    client.options.connector.will_topic = "bye/will";
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    for (unsigned i = 0; i < N; i++)
        publish(&client, "bye/x", "0123456789", 0);
    client_stop(&client);
    assert_int_equal(publish_to(&client, "bye/x", "1", 1, 0, NULL), -ENOTCONN);
    RUN_UNTIL(&client, client.n_stopped == 1);
    RUN_UNTIL(&watcher, watcher.n_messages == N);
    run_for(&watcher, 20 * USEC_PER_MSEC);
    assert_int_equal(watcher.n_messages, N);
    client_done(&client);
    client_done(&watcher);
}

static void connector_that_hangs_is_killed_at_the_limit_of_a_stop(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    pid_t pid = connector_pid();
    kill(pid, SIGSTOP);
    uint64_t begin_mono_usec = clock_mono_usec();
    link_stop(client.link, 200 * USEC_PER_MSEC);
    RUN_UNTIL(&client, client.n_stopped == 1);
    assert_in_range(clock_mono_usec() - begin_mono_usec, 200 * USEC_PER_MSEC, 2 * USEC_PER_SEC);
    assert_int_equal(kill(pid, 0), -1); // reaped
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);
}

static void session_survives_with_an_expiry(void **state)
{
    (void)state;
    for (int protocol = MQTT_PROTOCOL_311; protocol <= MQTT_PROTOCOL_5; protocol++) {
        struct client client;
        client_init(&client, plain.port);
        client.options.connector.client_id =
            protocol == MQTT_PROTOCOL_311 ? "session4" : "session5";
        client.options.protocol = protocol;
        client.options.connector.session_expiry_sec = 60;
        client.in_stopped = start_again;
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected == 1);
        assert_false(client.session_present);
        client_stop(&client);
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
    assert_int_equal(client.last_code, MQTT_NO_MATCHING_SUBSCRIBERS);
    publish(&client, "forbidden", "x", 1);
    RUN_UNTIL(&client, client.n_published == 2);
    assert_string_equal(mqtt_reason(client.last_code), "not authorised");
    subscribe(&client, "forbidden");
    RUN_UNTIL(&client, client.n_granted == 1);
    client_done(&client);
    broker_done(&broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converses_over_mqtt_5),
        cmocka_unit_test(converses_over_mqtt_3_1_1),
        cmocka_unit_test(converses_over_a_unix_socket),
        cmocka_unit_test(offline_publish_is_refused_and_never_sent),
        cmocka_unit_test(properties_arrive_with_mqtt_5_alone),
        cmocka_unit_test(what_cannot_be_said_is_refused_at_once),
        cmocka_unit_test(what_the_library_refuses_is_told_later),
        cmocka_unit_test(more_hosts_than_a_connector_takes_are_refused),
        cmocka_unit_test(what_connected_publishes_arrives_once),
        cmocka_unit_test(message_may_be_answered_from_its_handler),
        cmocka_unit_test(qos_2_is_1_in_a_session_that_goes_on),
        cmocka_unit_test(payloads_of_all_sizes_arrive_as_they_were),
        cmocka_unit_test(message_beyond_the_limit_is_dropped_and_told),
        cmocka_unit_test(messages_beyond_the_rate_are_dropped_and_told),
        cmocka_unit_test(loses_nothing_of_a_burst),
        cmocka_unit_test(loop_that_was_behind_gets_all_the_rest_at_once),
        cmocka_unit_test(acknowledgements_are_told_apart_when_numbers_come_again),
        cmocka_unit_test(flood_does_not_keep_a_timer_from_its_time),
        cmocka_unit_test(connected_and_idle_both_sleep),
        cmocka_unit_test(may_be_stopped_from_any_handler),
        cmocka_unit_test(may_be_started_again_when_it_has_stopped),
        cmocka_unit_test(stops_while_it_connects),
        cmocka_unit_test(stops_while_it_waits_for_the_next_attempt),
        cmocka_unit_test(last_will_is_sent_on_free_and_not_on_stop),
        cmocka_unit_test(all_that_was_published_leaves_before_the_goodbye),
        cmocka_unit_test(connector_that_hangs_is_killed_at_the_limit_of_a_stop),
        cmocka_unit_test(session_survives_with_an_expiry),
        cmocka_unit_test(refused_publish_is_told_apart),
    };
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
