// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A link with a client that counts what it is told, its connector, and a mosquitto of the whole
 * group.
 *
 *     client_init(), change its options, client_start(); RUN_UNTIL() a condition holds;
 * client_done(). start_plain() and stop_plain() are the group's.
 *
 * Calls go by the functions here (publish(), client_stop()): they check that nothing is told from
 * within one.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <time.h>

#include "io/link.h"
#include "util/clock.h"

#include "broker.h"

enum { MAX_MIDS = 1 << 17 }; // more than a test publishes

struct client {
    sd_event *event;
    struct link *link;
    struct link_options options;
    char *hosts[3];
    bool in_call; // of the link's

    unsigned n_connected, n_disconnected, n_lost, n_messages, n_published, n_granted, n_stopped;
    int last_mid, last_code, last_granted;
    bool is_acknowledged[MAX_MIDS];
    uint64_t last_retry_usec;
    char reason[512];
    char last_topic[64], last_payload[64];
    size_t last_size;
    char last_response_topic[64], last_correlation[64], last_seq[64]; // "-": had none
    int last_qos;
    bool last_retain, session_present;
    uint64_t n_dropped[2]; // by enum frame_drop
    char last_dropped[64];

    void (*in_connected)(struct client *);
    void (*in_message)(struct client *);
    void (*in_published)(struct client *);
    void (*in_disconnected)(struct client *);
    void (*in_stopped)(struct client *);
    void (*take)(struct client *, const struct mqtt_message *);
};

static unsigned n_clients; // that are not done

/* --- events ---------------------------------------------------------------------------------- */

static inline void react(struct client *client, void (*in)(struct client *))
{
    if (in)
        in(client);
}

static inline void connected(struct client *client, bool session_present)
{
    client->n_connected++;
    client->session_present = session_present;
    assert_true(link_is_connected(client->link));
    react(client, client->in_connected);
}

static inline void disconnected(struct client *client, const struct link_event *event)
{
    client->n_disconnected++;
    client->n_lost += event->was_connected;
    client->last_retry_usec = event->retry_usec;
    snprintf(client->reason, sizeof(client->reason), "%s", event->reason);
    assert_false(link_is_connected(client->link));
    assert_int_equal(link_window(client->link), 0);
    assert_null(strchr(event->reason, '\n'));
    react(client, client->in_disconnected);
}

static inline void note_properties(struct client *client, const struct mqtt_message *message)
{
    const char *seq = mqtt_message_property(message, "seq");
    bool has = message->correlation;
    snprintf(client->last_response_topic, sizeof(client->last_response_topic), "%s",
             message->response_topic ? message->response_topic : "-");
    snprintf(client->last_correlation, sizeof(client->last_correlation), "%.*s",
             has ? (int)message->correlation_size : 1,
             has ? (const char *)message->correlation : "-");
    snprintf(client->last_seq, sizeof(client->last_seq), "%s", seq ? seq : "-");
}

static inline void message_came(struct client *client, const struct mqtt_message *message)
{
    client->n_messages++;
    note_properties(client, message);
    client->last_qos = message->qos;
    client->last_retain = message->retain;
    client->last_size = message->payload_size;
    snprintf(client->last_topic, sizeof(client->last_topic), "%s", message->topic);
    snprintf(client->last_payload, sizeof(client->last_payload), "%.*s", (int)message->payload_size,
             message->payload);
    if (client->take)
        client->take(client, message);
    react(client, client->in_message);
}

static inline void published(struct client *client, int mid, int reason_code)
{
    client->n_published++;
    client->last_mid = mid;
    client->last_code = reason_code;
    assert_true(mid > 0);
    assert_false(client->is_acknowledged[mid % MAX_MIDS]);
    client->is_acknowledged[mid % MAX_MIDS] = true;
    react(client, client->in_published);
}

static inline void dropped(struct client *client, const struct frame_record *record)
{
    assert_true(record->count > 0);
    client->n_dropped[record->code] += record->count;
    snprintf(client->last_dropped, sizeof(client->last_dropped), "%s", record->text);
}

static inline void stopped(struct client *client)
{
    client->n_stopped++;
    assert_false(link_is_connected(client->link));
    react(client, client->in_stopped);
}

static inline void on_event(void *userdata, const struct link_event *event)
{
    struct client *client = userdata;
    assert_false(client->in_call); // it is told from the loop
    switch (event->news) {
    case LINK_CONNECTED:
        connected(client, event->session_present);
        break;
    case LINK_DISCONNECTED:
        disconnected(client, event);
        break;
    case LINK_MESSAGE:
        message_came(client, event->message);
        break;
    case LINK_PUBLISHED:
        published(client, event->mid, event->code);
        break;
    case LINK_SUBSCRIBED:
        client->n_granted++;
        client->last_mid = event->mid;
        client->last_granted = event->code;
        break;
    case LINK_DROPPED:
        dropped(client, event->dropped);
        break;
    case LINK_STOPPED:
        stopped(client);
        break;
    }
}

/* --- connectors ------------------------------------------------------------------------------ */

/* The children that are connectors, zombies too, as far as they have got to their name. */
static inline size_t find_connectors(pid_t *pids, size_t max)
{
    char path[64], name[32];
    int pid;
    size_t n = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *children = fopen(path, "re");
    assert_non_null(children);
    while (n < max && fscanf(children, "%d", &pid) == 1) { // NOLINT(cert-err34-c)
        snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        FILE *comm = fopen(path, "re");
        if (!comm)
            continue;
        if (fgets(name, sizeof(name), comm) && strcmp(name, "nl-connector\n") == 0)
            pids[n++] = pid;
        fclose(comm);
    }
    fclose(children);
    return n;
}

/* The only one. */
static inline pid_t connector_pid(void)
{
    pid_t pids[2];
    assert_int_equal(find_connectors(pids, 2), 1);
    return pids[0];
}

/* What a process has used of a processor. */
static inline uint64_t cpu_usec(pid_t pid)
{
    clockid_t clock;
    struct timespec used;
    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &used), 0);
    return (uint64_t)used.tv_sec * USEC_PER_SEC + (uint64_t)used.tv_nsec / 1000;
}

/* --- life ------------------------------------------------------------------------------------ */

static inline void client_init(struct client *client, int port)
{
    *client = (struct client){
        .hosts = { (char *)"127.0.0.1" },
        .options = {
            .connector = {
                .client_id = "test",
                .port = (uint64_t)port,
                .keepalive_sec = 60,
                .receive_maximum = UINT16_MAX,
                .max_message = 1 << 20,
            },
            .reconnect_min_usec = 20 * USEC_PER_MSEC,
            .reconnect_max_usec = 200 * USEC_PER_MSEC,
            .attempt_limit_usec = 5 * USEC_PER_SEC,
        },
    };
    assert_int_equal(sd_event_new(&client->event), 0);
    n_clients++;
}

/* Something listens where it will connect to, until the caller closes that, and says nothing. */
static inline int listen_for(struct client *client)
{
    int port, fd = listen_somewhere(&port);
    client->options.connector.port = (uint64_t)port;
    return fd;
}

static inline void client_start(struct client *client)
{
    client->options.hosts = client->hosts;
    assert_int_equal(link_new(client->event, &client->options, on_event, client, &client->link), 0);
    client->in_call = true;
    link_start(client->link);
    client->in_call = false;
}

static inline void client_stop(struct client *client)
{
    client->in_call = true;
    link_stop(client->link, 5 * USEC_PER_SEC);
    client->in_call = false;
}

/* Leaves no connector behind, and no zombie. */
static inline void client_done(struct client *client)
{
    pid_t pids[8];
    client->in_call = true; // it hears no more
    link_free(client->link);
    n_clients--;
    for (int i = 0; find_connectors(pids, ELEMENTS(pids)) > n_clients; i++) {
        assert_true(i < 500);
        assert_true(sd_event_run(client->event, 10 * USEC_PER_MSEC) >= 0);
    }
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
                         link_describe((client)->link));                                           \
            assert_true(sd_event_run((client)->event, 100 * USEC_PER_MSEC) >= 0);                  \
        }                                                                                          \
    } while (0)

static inline void run_for(struct client *client, uint64_t usec)
{
    uint64_t end_mono_usec = clock_mono_usec() + usec;
    for (uint64_t now; (now = clock_mono_usec()) < end_mono_usec;)
        assert_true(sd_event_run(client->event, end_mono_usec - now) >= 0);
}

/* --- calls ----------------------------------------------------------------------------------- */

static inline int publish_message(struct client *client, const struct mqtt_message *message,
                                  int *ret_mid)
{
    client->in_call = true;
    int r = link_publish(client->link, message, ret_mid);
    client->in_call = false;
    return r;
}

static inline int publish_to(struct client *client, const char *topic, const void *payload,
                             size_t payload_size, int qos, int *ret_mid)
{
    const struct mqtt_message message = {
        .topic = topic, .payload = payload, .payload_size = payload_size, .qos = qos
    };
    return publish_message(client, &message, ret_mid);
}

static inline void publish(struct client *client, const char *topic, const char *payload, int qos)
{
    int mid = 0;
    assert_int_equal(publish_to(client, topic, payload, strlen(payload), qos, &mid), 0);
    assert_true(mid > 0);
}

static inline int subscribe_to(struct client *client, const char *filter, int qos, int *ret_mid)
{
    client->in_call = true;
    int r = link_subscribe(client->link, filter, qos, ret_mid);
    client->in_call = false;
    return r;
}

static inline void subscribe(struct client *client, const char *filter)
{
    assert_int_equal(subscribe_to(client, filter, 1, NULL), 0);
}

/* Publishes and receives what it has published, at each QoS. */
static inline void converse(struct client *client)
{
    RUN_UNTIL(client, client->n_connected == 1);
    subscribe(client, "t/#");
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

/* --- the group's broker ---------------------------------------------------------------------- */

static struct broker plain;

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

/* --- nothing holds the loop ------------------------------------------------------------------ */

struct ticker {
    sd_event_source *source;
    uint64_t interval_usec, last_mono_usec, longest_usec;
    unsigned n_ticks;
};

static inline int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct ticker *ticker = userdata;
    uint64_t now = clock_mono_usec();
    (void)usec;
    if (ticker->last_mono_usec && now - ticker->last_mono_usec > ticker->longest_usec)
        ticker->longest_usec = now - ticker->last_mono_usec;
    ticker->last_mono_usec = now;
    ticker->n_ticks++;
    sd_event_source_set_time_relative(source, ticker->interval_usec);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static inline void ticker_start(struct ticker *ticker, sd_event *event, uint64_t interval_usec)
{
    *ticker = (struct ticker){ .interval_usec = interval_usec };
    assert_int_equal(
        sd_event_add_time(event, &ticker->source, CLOCK_BOOTTIME, 0, 1, on_tick, ticker), 0);
}

static inline void ticker_stop(struct ticker *ticker, uint64_t limit_usec)
{
    sd_event_source_disable_unref(ticker->source);
    assert_true(ticker->longest_usec > 0);
    assert_true(ticker->longest_usec < limit_usec);
}
