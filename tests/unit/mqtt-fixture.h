// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An MQTT client with handlers that count, and a mosquitto of the whole group.
 *
 *     client_init(), change its options, client_start(); RUN_UNTIL() a condition holds;
 * client_done(). start_plain() and stop_plain() are the group's.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "io/mqtt.h"
#include "util/clock.h"

#include "broker.h"

/*
 * libmosquitto's own: it takes its locks in more than one order and gives one back that it has not
 * taken. Only the main loop's thread does either.
 */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "deadlock:libmosquitto.so\nmutex:libmosquitto.so\n";
}

struct client {
    sd_event *event;
    struct mqtt *mqtt;
    struct mqtt_options options;
    char *hosts[3];

    unsigned n_connected, n_disconnected, n_lost, n_messages, n_published, n_granted;
    int last_mid, last_code, last_granted;
    uint64_t last_retry_usec;
    char reason[256];
    char last_topic[64], last_payload[64];
    char last_response_topic[64], last_correlation[64], last_seq[64]; // "-": had none
    bool last_retain, session_present;

    void (*in_connected)(struct client *);
    void (*in_message)(struct client *);
    void (*in_published)(struct client *);
    void (*in_disconnected)(struct client *);
};

static inline void on_connected(void *userdata, bool session_present)
{
    struct client *client = userdata;
    client->n_connected++;
    client->session_present = session_present;
    assert_true(mqtt_is_connected(client->mqtt));
    if (client->in_connected)
        client->in_connected(client);
}

static inline void on_disconnected(void *userdata, bool was_connected, const char *reason,
                                   uint64_t retry_usec)
{
    struct client *client = userdata;
    client->n_disconnected++;
    client->n_lost += was_connected;
    client->last_retry_usec = retry_usec;
    snprintf(client->reason, sizeof(client->reason), "%s", reason);
    assert_false(mqtt_is_connected(client->mqtt));
    assert_null(strchr(reason, '\n'));
    if (client->in_disconnected)
        client->in_disconnected(client);
}

static inline void note_properties(struct client *client, const struct mqtt_message *message)
{
    _cleanup_(freep) char *topic = NULL, *seq = NULL;
    _cleanup_(freep) void *correlation = NULL;
    size_t size = 0;
    int r = mqtt_message_response_topic(message, &topic);
    assert_int_equal(r, topic ? 0 : -ENOENT);
    r = mqtt_message_correlation(message, &correlation, &size);
    assert_int_equal(r, correlation ? 0 : -ENOENT);
    r = mqtt_message_user_property(message, "seq", &seq);
    assert_int_equal(r, seq ? 0 : -ENOENT);
    snprintf(client->last_response_topic, sizeof(client->last_response_topic), "%s",
             topic ? topic : "-");
    snprintf(client->last_correlation, sizeof(client->last_correlation), "%.*s",
             correlation ? (int)size : 1, correlation ? (const char *)correlation : "-");
    snprintf(client->last_seq, sizeof(client->last_seq), "%s", seq ? seq : "-");
}

static inline void on_message(void *userdata, const struct mqtt_message *message)
{
    struct client *client = userdata;
    client->n_messages++;
    note_properties(client, message);
    client->last_retain = message->retain;
    snprintf(client->last_topic, sizeof(client->last_topic), "%s", message->topic);
    snprintf(client->last_payload, sizeof(client->last_payload), "%.*s", (int)message->payload_size,
             message->payload ? message->payload : "");
    if (client->in_message)
        client->in_message(client);
}

static inline void on_published(void *userdata, int mid, int reason_code)
{
    struct client *client = userdata;
    client->n_published++;
    client->last_mid = mid;
    client->last_code = reason_code;
    if (client->in_published)
        client->in_published(client);
}

static inline void on_subscribed(void *userdata, int mid, int granted)
{
    struct client *client = userdata;
    (void)mid;
    client->n_granted++;
    client->last_granted = granted;
}

static const struct mqtt_handlers handlers = { on_connected, on_disconnected, on_message,
                                               on_published, on_subscribed };

static inline void client_init(struct client *client, int port)
{
    *client = (struct client){
        .hosts = { (char *)"127.0.0.1" },
        .options = {
            .client_id = "test",
            .port = port,
            .keepalive_usec = 60 * USEC_PER_SEC,
            .reconnect_min_usec = 20 * USEC_PER_MSEC,
            .reconnect_max_usec = 200 * USEC_PER_MSEC,
            .attempt_limit_usec = 5 * USEC_PER_SEC,
            .receive_maximum = UINT16_MAX,
        },
    };
    assert_int_equal(sd_event_new(&client->event), 0);
}

static inline void client_start(struct client *client)
{
    client->options.hosts = client->hosts;
    assert_int_equal(mqtt_new(client->event, &client->options, &handlers, client, &client->mqtt),
                     0);
    assert_int_equal(mqtt_start(client->mqtt), 0);
}

static inline void client_done(struct client *client)
{
    mqtt_free(client->mqtt);
    sd_event_unref(client->event);
}

#define assert_reason(client, part)                                                                \
    do {                                                                                           \
        if (!strstr((client)->reason, part))                                                       \
            fail_msg("'%s' does not say '%s'", (client)->reason, part);                            \
    } while (0)

/* Runs the loop until condition holds; 20 s at most. */
#define RUN_UNTIL(client, condition)                                                               \
    do {                                                                                           \
        uint64_t end_mono_usec_ = clock_mono_usec() + 20 * USEC_PER_SEC;                           \
        while (!(condition)) {                                                                     \
            if (clock_mono_usec() > end_mono_usec_)                                                \
                fail_msg("waited in vain for %s; %s; %s", #condition, (client)->reason,            \
                         (client)->mqtt ? mqtt_describe((client)->mqtt) : "");                     \
            assert_true(sd_event_run((client)->event, 100 * USEC_PER_MSEC) >= 0);                  \
        }                                                                                          \
    } while (0)

static inline int publish_to(struct client *client, const char *topic, const void *payload,
                             size_t payload_size, int qos, int *ret_mid)
{
    const struct mqtt_publication publication = {
        .topic = topic, .payload = payload, .payload_size = payload_size, .qos = qos
    };
    return mqtt_publish(client->mqtt, &publication, ret_mid);
}

static inline void publish(struct client *client, const char *topic, const char *payload, int qos)
{
    int mid = 0;
    assert_int_equal(publish_to(client, topic, payload, strlen(payload), qos, &mid), 0);
    assert_true(mid > 0);
}

/* Publishes and receives what it has published, at each QoS. */
static inline void converse(struct client *client)
{
    RUN_UNTIL(client, client->n_connected == 1);
    assert_int_equal(mqtt_subscribe(client->mqtt, "t/#", 1, NULL), 0);
    RUN_UNTIL(client, client->n_granted == 1);
    assert_int_equal(client->last_granted, 1);
    for (int qos = 0; qos <= 2; qos++)
        publish(client, "t/x", "hello", qos);
    RUN_UNTIL(client, client->n_published == 3 && client->n_messages == 3);
    assert_string_equal(client->last_topic, "t/x");
    assert_string_equal(client->last_payload, "hello");
    assert_int_equal(client->last_code, 0);
    assert_int_equal(client->n_disconnected, 0);
}

static struct broker plain; // of the whole group

static inline int start_plain(void **state)
{
    (void)state;
    broker_init(&plain);
    broker_start(&plain, "allow_anonymous true\n");
    return 0;
}

static inline int stop_plain(void **state)
{
    (void)state;
    broker_done(&plain);
    return 0;
}
