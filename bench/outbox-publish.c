// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The baseline of a drain: the smallest C program on libmosquitto and sd-event that publishes from
 * memory with QoS 1 and keeps its window full.
 *
 *     outbox-publish PORT COUNT TOPIC [plain]
 *
 * The messages are those that the daemon sends of a queue by outbox-fill: with their time in the
 * JSON and with three user properties; or, with `plain`, 60 bytes and nothing else. The window is
 * the broker's receive maximum, 100 at most, as the daemon's. Prints the seconds from CONNACK to
 * the last PUBACK.
 */
#include <inttypes.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <time.h>

enum { WINDOW = 100, MAX_TURNS = 256 };

struct bench {
    sd_event *event;
    struct mosquitto *mosq;
    const char *topic;
    bool is_plain;
    unsigned long n, n_sent, n_acked;
    unsigned window, n_packets;
    struct timespec begin;
};

static void fail(const char *what, int rc)
{
    fprintf(stderr, "outbox-publish: %s: %s\n", what, mosquitto_strerror(rc));
    exit(1);
}

static void publish(struct bench *bench)
{
    static const char time[] = "2026-01-02T03:04:05.678Z",
                      boot[] = "0123456789abcdef0123456789abcdef";
    char payload[128], seq[24];
    mosquitto_property *properties = NULL;
    int size =
        snprintf(payload, sizeof(payload),
                 "{\"light\":  128, \"note\": \"the queued message no. %09lu\"", bench->n_sent);
    if (bench->is_plain) {
        size += snprintf(payload + size, sizeof(payload) - (size_t)size, "}");
    } else {
        size +=
            snprintf(payload + size, sizeof(payload) - (size_t)size, ", \"time\": \"%s\"}", time);
        snprintf(seq, sizeof(seq), "%lu", bench->n_sent);
        mosquitto_property_add_string_pair(&properties, MQTT_PROP_USER_PROPERTY, "time", time);
        mosquitto_property_add_string_pair(&properties, MQTT_PROP_USER_PROPERTY, "seq", seq);
        mosquitto_property_add_string_pair(&properties, MQTT_PROP_USER_PROPERTY, "boot", boot);
    }
    int rc =
        mosquitto_publish_v5(bench->mosq, NULL, bench->topic, size, payload, 1, false, properties);
    mosquitto_property_free_all(&properties);
    if (rc)
        fail("publish", rc);
    bench->n_sent++;
}

static void fill_window(struct bench *bench)
{
    while (bench->n_sent < bench->n && bench->n_sent - bench->n_acked < bench->window)
        publish(bench);
}

static void on_connect(struct mosquitto *mosq, void *userdata, int code, int flags,
                       const mosquitto_property *properties)
{
    struct bench *bench = userdata;
    uint16_t receive_maximum = UINT16_MAX;
    (void)mosq, (void)flags;
    if (code)
        fail("connect", code);
    mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
    bench->window = receive_maximum < WINDOW ? receive_maximum : WINDOW;
    clock_gettime(CLOCK_MONOTONIC, &bench->begin);
    bench->n_packets++;
    fill_window(bench);
}

static void on_publish(struct mosquitto *mosq, void *userdata, int mid, int code,
                       const mosquitto_property *properties)
{
    struct bench *bench = userdata;
    struct timespec end;
    (void)mosq, (void)mid, (void)code, (void)properties;
    bench->n_packets++;
    bench->n_acked++;
    fill_window(bench);
    if (bench->n_acked < bench->n)
        return;
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.6f\n", (double)(end.tv_sec - bench->begin.tv_sec) +
                         (double)(end.tv_nsec - bench->begin.tv_nsec) / 1e9);
    sd_event_exit(bench->event, 0);
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct bench *bench = userdata;
    (void)fd, (void)revents;
    // Reads until a call brings nothing.
    for (unsigned before, turns = 0; turns < MAX_TURNS; turns++) {
        before = bench->n_packets;
        int rc = mosquitto_loop_read(bench->mosq, 1);
        if (rc)
            fail("read", rc);
        if (bench->n_packets == before)
            break;
    }
    mosquitto_loop_write(bench->mosq, 1);
    bool wants = mosquitto_want_write(bench->mosq);
    return sd_event_source_set_io_events(source, wants ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

int main(int argc, char **argv)
{
    struct bench bench = { 0 };
    if (argc < 4) {
        fprintf(stderr, "Usage: outbox-publish PORT COUNT TOPIC [plain]\n");
        return 2;
    }
    bench.n = strtoul(argv[2], NULL, 10);
    bench.topic = argv[3];
    bench.is_plain = argc > 4;
    mosquitto_lib_init();
    bench.mosq = mosquitto_new("outbox-publish", true, &bench);
    if (!bench.mosq || sd_event_new(&bench.event) < 0)
        return 1;
    mosquitto_int_option(bench.mosq, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_int_option(bench.mosq, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_int_option(bench.mosq, MOSQ_OPT_SEND_MAXIMUM, UINT16_MAX);
    mosquitto_connect_v5_callback_set(bench.mosq, on_connect);
    mosquitto_publish_v5_callback_set(bench.mosq, on_publish);
    int rc = mosquitto_connect(bench.mosq, "127.0.0.1", (int)strtol(argv[1], NULL, 10), 60);
    if (rc)
        fail("connect", rc);
    if (sd_event_add_io(bench.event, NULL, mosquitto_socket(bench.mosq), EPOLLIN | EPOLLOUT,
                        on_socket, &bench) < 0 ||
        sd_event_loop(bench.event) < 0)
        return 1;
    mosquitto_disconnect(bench.mosq);
    mosquitto_destroy(bench.mosq);
    sd_event_unref(bench.event);
    return 0;
}
