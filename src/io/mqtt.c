// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The MQTT client on the main loop: a state machine over one connection at a time. Connecting is
 * mqtt-connection.c's, in a worker; what comes next after a failure is mqtt-retry.c's; what is
 * beside the payload of a message is mqtt-message.c's.
 *
 * libmosquitto calls back from within its own functions and must not be destroyed meanwhile. So all
 * that may end in a handler is bracketed by enter() and leave(), and what mqtt_stop() and
 * mqtt_free() want destroyed is destroyed by the outermost leave().
 */
#include "io/mqtt.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "io/mqtt-connection.h"
#include "io/mqtt-message.h"
#include "io/mqtt-retry.h"
#include "util/clock.h"

enum {
    MAX_PACKETS_A_TURN = 256, // then timers and other descriptors get theirs
    MAX_ABANDONED = 4,        // threads that hang in a look-up or a connect
};

#define ATTEMPT_LIMIT_USEC (20 * USEC_PER_SEC)

enum state {
    STATE_STOPPED,
    STATE_CONNECTING, // a worker has the connection
    STATE_GREETING,   // CONNECT is on its way, CONNACK is not yet here
    STATE_CONNECTED,
    STATE_WAITING, // for the time of the next attempt
};

struct mqtt {
    sd_event *event;
    struct mqtt_options options;
    struct mqtt_handlers handlers;
    void *userdata;

    enum state state;
    struct mqtt_retry retry;
    struct worker *worker;              // while STATE_CONNECTING
    struct mqtt_connection *connection; // STATE_CONNECTING: lent to the worker
    sd_event_source *timer;             // the attempt's limit, the next attempt, or the keepalive
    sd_event_source *socket;            // of the connection, from STATE_GREETING on
    sd_event_source *again;             // comes back to serve() without an event on the socket
    bool watches_write;

    char reported[256];  // the reason last given to disconnected() in this outage; "": none yet
    bool reported_round; // that reason ended a round of all hosts
    uint64_t connected_mono_usec;
    uint64_t keepalive_usec;
    unsigned receive_maximum;
    unsigned n_published;    // since something was written
    int call_rc, call_errno; // publishing or subscribing found the connection broken

    unsigned depth;    // of enter()
    bool is_condemned; // mqtt_stop(): the connection goes with the outermost leave()
    bool is_freed;     // mqtt_free(): and so does the client

    char description[256];
};

static const char *protocol_name(int protocol)
{
    return protocol == MQTT_PROTOCOL_V5 ? "MQTT 5" : "MQTT 3.1.1";
}

__attribute__((format(printf, 2, 3))) static void describe(struct mqtt *mqtt, const char *format,
                                                           ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(mqtt->description, sizeof(mqtt->description), format, arguments);
    va_end(arguments);
}

static void set_timer(struct mqtt *mqtt, uint64_t usec, uint64_t accuracy_usec)
{
    sd_event_source_set_time_relative(mqtt->timer, usec);
    sd_event_source_set_time_accuracy(mqtt->timer, accuracy_usec);
    sd_event_source_set_enabled(mqtt->timer, SD_EVENT_ONESHOT);
}

static void drop_connection(struct mqtt *mqtt)
{
    mqtt->socket = sd_event_source_disable_unref(mqtt->socket);
    sd_event_source_set_enabled(mqtt->again, SD_EVENT_OFF);
    mqtt->watches_write = false;
    if (mqtt->worker) {
        worker_free(TAKE_PTR(mqtt->worker));
        mqtt->connection = NULL; // the thread's now
    }
    mqtt_connection_free(TAKE_PTR(mqtt->connection));
}

static void enter(struct mqtt *mqtt)
{
    mqtt->depth++;
}

/* mqtt may be gone afterwards. */
static void leave(struct mqtt *mqtt)
{
    assert(mqtt->depth > 0);
    if (--mqtt->depth > 0)
        return;
    if (mqtt->is_condemned) {
        mqtt->depth++; // the last write may call back
        // With a worker about, the connection is the worker's.
        if (!mqtt->worker && !mqtt->is_freed && mqtt->connection && mqtt->connection->mosq)
            mosquitto_loop_write(mqtt->connection->mosq, 1);
        mqtt->depth--;
        mqtt->is_condemned = false;
        drop_connection(mqtt);
    }
    if (mqtt->is_freed) {
        sd_event_source_disable_unref(mqtt->timer);
        sd_event_source_disable_unref(mqtt->again);
        sd_event_unref(mqtt->event);
        free(mqtt);
    }
}

static uint32_t random_u32(void)
{
    uint32_t random;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = (uint32_t)clock_mono_usec() * 2654435761U; // early at boot; spread is enough
    return random;
}

/* The attempt or the connection has failed. Never called from within libmosquitto. */
static void fail(struct mqtt *mqtt, enum mqtt_failure failure, const char *text)
{
    bool was_connected = mqtt->state == STATE_CONNECTED;
    char reason[sizeof(mqtt->description)];
    uint64_t pause_usec;

    snprintf(reason, sizeof(reason), "%s", text); // may be the connection's
    drop_connection(mqtt);
    bool fell_back = mqtt->retry.falls_back;
    if (was_connected)
        pause_usec = mqtt_retry_lost(&mqtt->retry, clock_mono_usec() - mqtt->connected_mono_usec,
                                     random_u32());
    else
        pause_usec = mqtt_retry_failed(&mqtt->retry, failure, random_u32());

    mqtt->state = STATE_WAITING;
    describe(mqtt, "not connected: %s", reason);
    set_timer(mqtt, pause_usec, 10 * USEC_PER_MSEC);
    if (!was_connected && !fell_back && mqtt->retry.falls_back)
        return; // not the end of an attempt but its second half
    // The same of every host (an unreadable secret) is news once more when there is no other.
    bool ends_round = pause_usec > 0;
    if (was_connected || strcmp(reason, mqtt->reported) != 0 ||
        (ends_round && !mqtt->reported_round)) {
        snprintf(mqtt->reported, sizeof(mqtt->reported), "%s", reason);
        mqtt->reported_round = ends_round;
        mqtt->handlers.disconnected(mqtt->userdata, was_connected, reason, pause_usec);
    }
}

/* A connection that had come up is no more: rc is the library's code, error the errno beside it. */
static void fail_connection(struct mqtt *mqtt, int rc, int error)
{
    char reason[sizeof(mqtt->description)];
    enum mqtt_failure failure =
        mqtt_connection_explain(mqtt->connection, rc, error, reason, sizeof(reason));
    fail(mqtt, failure, reason);
}

static void on_connect(struct mosquitto *mosq, void *userdata, int code, int flags,
                       const mosquitto_property *properties)
{
    struct mqtt_connection *connection = userdata;
    struct mqtt *mqtt = connection->mqtt;
    uint16_t keepalive_sec = 0, receive_maximum = 0;

    connection->n_packets++;
    if (mqtt->state != STATE_GREETING)
        return;
    connection->connack = code;
    if (code != 0)
        return; // the library closes the connection
    // Its lines tell of packets without a callback, which matters with TLS alone (see serve());
    // formatting them costs as much as a packet.
    if (!connection->options.tls)
        mosquitto_log_callback_set(mosq, NULL);

    mosquitto_property_read_int16(properties, MQTT_PROP_SERVER_KEEP_ALIVE, &keepalive_sec, false);
    mqtt->keepalive_usec =
        keepalive_sec > 0 ? keepalive_sec * USEC_PER_SEC : mqtt->options.keepalive_usec;
    mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
    mqtt->receive_maximum = receive_maximum > 0 ? receive_maximum : UINT16_MAX;
    set_timer(mqtt, mqtt->keepalive_usec / 4, mqtt->keepalive_usec / 8);
    mqtt->state = STATE_CONNECTED;
    mqtt->reported[0] = '\0';
    mqtt->connected_mono_usec = clock_mono_usec();
    mqtt_retry_connected(&mqtt->retry);
    describe(mqtt, "connected to %s, %s", connection->where, protocol_name(connection->protocol));
    mqtt->handlers.connected(mqtt->userdata, flags & 1);
}

static void on_disconnect(struct mosquitto *mosq, void *userdata, int code,
                          const mosquitto_property *properties)
{
    struct mqtt_connection *connection = userdata;
    (void)mosq;
    (void)properties;
    if (code >= MQTT_FIRST_REFUSAL) // else the library's own code, which may follow the broker's
        connection->farewell = code;
}

static void on_message(struct mosquitto *mosq, void *userdata,
                       const struct mosquitto_message *message,
                       const mosquitto_property *properties)
{
    struct mqtt_connection *connection = userdata;
    struct mqtt *mqtt = connection->mqtt;
    (void)mosq;

    connection->n_packets++;
    if (mqtt->state != STATE_CONNECTED)
        return; // a handler has stopped us
    mqtt->handlers.message(mqtt->userdata, &(const struct mqtt_message){
                                               .topic = message->topic,
                                               .payload = message->payload,
                                               .payload_size = (size_t)message->payloadlen,
                                               .qos = message->qos,
                                               .retain = message->retain,
                                               .properties = (const void *)properties,
                                           });
}

static void on_publish(struct mosquitto *mosq, void *userdata, int mid, int code,
                       const mosquitto_property *properties)
{
    struct mqtt_connection *connection = userdata;
    struct mqtt *mqtt = connection->mqtt;
    (void)mosq;
    (void)properties;

    connection->n_packets++;
    if (mqtt->state == STATE_CONNECTED)
        mqtt->handlers.published(mqtt->userdata, mid, code);
}

static void on_subscribe(struct mosquitto *mosq, void *userdata, int mid, int n_granted,
                         const int *granted, const mosquitto_property *properties)
{
    struct mqtt_connection *connection = userdata;
    struct mqtt *mqtt = connection->mqtt;
    (void)mosq;
    (void)properties;

    connection->n_packets++;
    if (mqtt->state == STATE_CONNECTED && n_granted > 0)
        mqtt->handlers.subscribed(mqtt->userdata, mid, granted[0]);
}

static bool is_open(const struct mqtt *mqtt)
{
    return (mqtt->state == STATE_GREETING || mqtt->state == STATE_CONNECTED) &&
           mosquitto_socket(mqtt->connection->mosq) >= 0;
}

static void watch_write(struct mqtt *mqtt)
{
    // While TLS shakes hands CONNECT waits, which some versions of the library call wanting to
    // write, and the socket is writable all the time: to watch for that would spin. What the
    // handshake says itself fits into the send buffer.
    bool wants = mosquitto_want_write(mqtt->connection->mosq) &&
                 (mqtt->state == STATE_CONNECTED || !mqtt->options.tls);
    if (wants == mqtt->watches_write)
        return;
    mqtt->watches_write = wants;
    sd_event_source_set_io_events(mqtt->socket, wants ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/*
 * What was published from within callbacks waits for this, and the library writes packet by packet:
 * corked, they leave in as few segments as they fit in, and wake the broker once. Without TCP there
 * is no cork, and nothing to save.
 */
static int write_packets(struct mqtt *mqtt)
{
    struct mosquitto *mosq = mqtt->connection->mosq;
    const int on = 1, off = 0;
    bool corks = mqtt->n_published > 1 && mosquitto_want_write(mosq); // else it saves nothing
    if (corks)
        (void)setsockopt(mosquitto_socket(mosq), IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
    mqtt->n_published = 0;
    int rc = mosquitto_loop_write(mosq, 1);
    int error = errno;
    if (corks && mosquitto_socket(mosq) >= 0)
        (void)setsockopt(mosquitto_socket(mosq), IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
    errno = error;
    return rc;
}

/*
 * Reads until a call brings nothing, not until EAGAIN: the library calls a read finished by an
 * errno that may come from elsewhere (its wake-up pair, which nobody empties here), and what
 * OpenSSL has decrypted by then wakes no epoll.
 */
static void serve(struct mqtt *mqtt)
{
    struct mqtt_connection *connection = mqtt->connection;
    unsigned first = connection->n_packets;
    unsigned before;
    int rc = mqtt->call_rc;
    int error = mqtt->call_errno;

    while (rc == MOSQ_ERR_SUCCESS && is_open(mqtt)) {
        before = connection->n_packets;
        rc = mosquitto_loop_read(connection->mosq, 1);
        error = errno;
        if (connection->n_packets == before)
            break;
        if (connection->n_packets - first >= MAX_PACKETS_A_TURN) {
            sd_event_source_set_enabled(mqtt->again, SD_EVENT_ONESHOT);
            break;
        }
    }
    if (rc == MOSQ_ERR_SUCCESS && is_open(mqtt)) {
        rc = write_packets(mqtt);
        error = errno;
    }
    if (mqtt->state != STATE_GREETING && mqtt->state != STATE_CONNECTED)
        return; // a handler has stopped us
    if (rc != MOSQ_ERR_SUCCESS || !is_open(mqtt))
        fail_connection(mqtt, rc, error);
    else
        watch_write(mqtt);
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct mqtt *mqtt = userdata;
    (void)source;
    (void)fd;
    (void)revents;
    enter(mqtt);
    serve(mqtt);
    leave(mqtt);
    return 0;
}

static int on_again(sd_event_source *source, void *userdata)
{
    struct mqtt *mqtt = userdata;
    (void)source;
    enter(mqtt);
    serve(mqtt);
    leave(mqtt);
    return 0;
}

/*
 * A descriptor of our own for the event loop: the library closes its own when it likes, and while a
 * program is being started (posix_spawn(3) in a worker) that has a copy of it for a moment.
 * epoll(7) would go on reporting it then, for an event source that is gone.
 */
static int watch_socket(struct mqtt *mqtt)
{
    int fd = fcntl(mosquitto_socket(mqtt->connection->mosq), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0)
        return -errno;
    int r = sd_event_add_io(mqtt->event, &mqtt->socket, fd, EPOLLIN, on_socket, mqtt);
    if (r < 0)
        close(fd);
    else
        (void)sd_event_source_set_io_fd_own(mqtt->socket, true);
    return r;
}

/* The worker is done: from here on the connection is the main loop's. */
static int adopt(struct mqtt *mqtt)
{
    struct mqtt_connection *connection = mqtt->connection;
    struct mosquitto *mosq = connection->mosq;

    mosquitto_connect_v5_callback_set(mosq, on_connect);
    mosquitto_disconnect_v5_callback_set(mosq, on_disconnect);
    mosquitto_message_v5_callback_set(mosq, on_message);
    mosquitto_publish_v5_callback_set(mosq, on_publish);
    mosquitto_subscribe_v5_callback_set(mosq, on_subscribe);
    mqtt->call_rc = MOSQ_ERR_SUCCESS;
    int r = watch_socket(mqtt);
    if (r < 0)
        return r;
    mqtt->state = STATE_GREETING;
    watch_write(mqtt);
    return 0;
}

static void on_opened(struct worker_job *job)
{
    struct mqtt_connection *connection = (struct mqtt_connection *)job;
    struct mqtt *mqtt = connection->mqtt;

    enter(mqtt);
    worker_free(TAKE_PTR(mqtt->worker));
    if (connection->error[0]) {
        fail(mqtt, MQTT_FAILED, connection->error);
    } else {
        int r = adopt(mqtt);
        if (r < 0)
            fail(mqtt, MQTT_FAILED, strerror(-r));
    }
    leave(mqtt);
}

static int open_connection(struct mqtt *mqtt)
{
    int r = mqtt_connection_new(&mqtt->options, mqtt->options.hosts[mqtt->retry.i_host],
                                mqtt_retry_protocol(&mqtt->retry), &mqtt->connection);
    if (r < 0)
        return r;
    mqtt->connection->mqtt = mqtt;
    mqtt->connection->base.done = on_opened;

    _cleanup_(worker_freep) struct worker *worker = NULL;
    r = worker_new(mqtt->event, "mqtt-connect", &worker);
    if (r == 0)
        r = worker_run(worker, &mqtt->connection->base);
    if (r < 0)
        return r;
    mqtt->worker = TAKE_PTR(worker);
    return 0;
}

static void attempt(struct mqtt *mqtt)
{
    mqtt->state = STATE_CONNECTING;
    if (mqtt_connection_count_abandoned() >= MAX_ABANDONED) {
        fail(mqtt, MQTT_FAILED, "earlier attempts still hang in a look-up or a connect");
        return;
    }
    int r = open_connection(mqtt);
    if (r < 0) {
        fail(mqtt, MQTT_FAILED, strerror(-r));
        return;
    }
    describe(mqtt, "connecting to %s", mqtt->connection->where);
    set_timer(mqtt, mqtt->options.attempt_limit_usec, 100 * USEC_PER_MSEC);
}

static void time_out(struct mqtt *mqtt)
{
    char limit[32];
    char reason[sizeof(mqtt->description)];
    snprintf(reason, sizeof(reason), "no answer from %s within %s", mqtt->connection->where,
             clock_format_span(mqtt->options.attempt_limit_usec, limit, sizeof(limit)));
    fail(mqtt, MQTT_FAILED, reason);
}

static void keep_alive(struct mqtt *mqtt)
{
    int rc = mosquitto_loop_misc(mqtt->connection->mosq);
    int error = errno;
    if (rc != MOSQ_ERR_SUCCESS || !is_open(mqtt)) {
        fail_connection(mqtt, rc, error);
        return;
    }
    set_timer(mqtt, mqtt->keepalive_usec / 4, mqtt->keepalive_usec / 8);
    watch_write(mqtt);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct mqtt *mqtt = userdata;
    (void)source;
    (void)usec;

    enter(mqtt);
    switch (mqtt->state) {
    case STATE_WAITING:
        attempt(mqtt);
        break;
    case STATE_CONNECTING: // what the thread reads is not written any more
    case STATE_GREETING:
        time_out(mqtt);
        break;
    case STATE_CONNECTED:
        keep_alive(mqtt);
        break;
    case STATE_STOPPED:
        break;
    }
    leave(mqtt);
    return 0;
}

int mqtt_new(sd_event *event, const struct mqtt_options *options,
             const struct mqtt_handlers *handlers, void *userdata, struct mqtt **ret_mqtt)
{
    _cleanup_(mqtt_freep) struct mqtt *mqtt = calloc(1, sizeof(*mqtt));
    if (!mqtt)
        return -ENOMEM;
    // Counted by the library; never taken back, since an abandoned thread may need it to the end.
    mosquitto_lib_init();
    mqtt->event = sd_event_ref(event);
    mqtt->options = *options;
    mqtt->handlers = *handlers;
    mqtt->userdata = userdata;
    if (mqtt->options.attempt_limit_usec == 0)
        mqtt->options.attempt_limit_usec = ATTEMPT_LIMIT_USEC;
    mqtt->retry = (struct mqtt_retry){
        .protocol = options->protocol,
        .min_usec = options->reconnect_min_usec,
        .max_usec = options->reconnect_max_usec,
    };
    while (options->hosts[mqtt->retry.n_hosts])
        mqtt->retry.n_hosts++;
    assert(mqtt->retry.n_hosts > 0);
    describe(mqtt, "stopped");

    // CLOCK_BOOTTIME: after a suspend the connection is looked after at once.
    int r = sd_event_add_time(event, &mqtt->timer, CLOCK_BOOTTIME, 0, 0, on_timer, mqtt);
    if (r >= 0)
        r = sd_event_add_defer(event, &mqtt->again, on_again, mqtt);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(mqtt->timer, SD_EVENT_OFF);
    sd_event_source_set_enabled(mqtt->again, SD_EVENT_OFF);
    *ret_mqtt = TAKE_PTR(mqtt);
    return 0;
}

void mqtt_free(struct mqtt *mqtt)
{
    if (!mqtt)
        return;
    enter(mqtt);
    mqtt->state = STATE_STOPPED;
    mqtt->is_condemned = true;
    mqtt->is_freed = true;
    leave(mqtt);
}

int mqtt_start(struct mqtt *mqtt)
{
    if (mqtt->state != STATE_STOPPED)
        return 0;
    mqtt->state = STATE_WAITING;
    mqtt->reported[0] = '\0';
    describe(mqtt, "connecting to %s", mqtt->options.hosts[mqtt->retry.i_host]);
    set_timer(mqtt, 0, 1);
    return 0;
}

void mqtt_stop(struct mqtt *mqtt)
{
    enter(mqtt);
    enum state state = mqtt->state;
    mqtt->state = STATE_STOPPED;
    mqtt->is_condemned = true;
    describe(mqtt, "stopped");
    sd_event_source_set_enabled(mqtt->timer, SD_EVENT_OFF);
    if (state == STATE_CONNECTED)
        mosquitto_disconnect_v5(mqtt->connection->mosq, 0, NULL);
    leave(mqtt);
}

bool mqtt_is_connected(const struct mqtt *mqtt)
{
    return mqtt->state == STATE_CONNECTED;
}

const char *mqtt_describe(const struct mqtt *mqtt)
{
    return mqtt->description;
}

const char *mqtt_reason(int reason_code)
{
    return mosquitto_reason_string(reason_code);
}

int mqtt_protocol(const struct mqtt *mqtt)
{
    return mqtt->state == STATE_CONNECTED ? mqtt->connection->protocol : 0;
}

/* The outcome of a call as an errno. A broken connection is dealt with from the loop. */
static int after_call(struct mqtt *mqtt, int rc, int error)
{
    switch (rc) {
    case MOSQ_ERR_SUCCESS:
        if (mqtt->depth == 1 && is_open(mqtt))
            watch_write(mqtt);
        return 0;
    case MOSQ_ERR_NOMEM:
        return -ENOMEM;
    case MOSQ_ERR_PAYLOAD_SIZE:
    case MOSQ_ERR_OVERSIZE_PACKET:
        return -EMSGSIZE;
    case MOSQ_ERR_INVAL:
    case MOSQ_ERR_MALFORMED_UTF8:
    case MOSQ_ERR_QOS_NOT_SUPPORTED:
    case MOSQ_ERR_RETAIN_NOT_SUPPORTED:
        return -EINVAL;
    default:
        mqtt->call_rc = rc;
        mqtt->call_errno = error;
        if (mqtt->state == STATE_CONNECTED)
            sd_event_source_set_enabled(mqtt->again, SD_EVENT_ONESHOT);
        return -ENOTCONN;
    }
}

static bool can_call(const struct mqtt *mqtt)
{
    return mqtt->state == STATE_CONNECTED && mqtt->call_rc == MOSQ_ERR_SUCCESS;
}

unsigned mqtt_receive_maximum(const struct mqtt *mqtt)
{
    return mqtt->state == STATE_CONNECTED ? mqtt->receive_maximum : 0;
}

int mqtt_publish(struct mqtt *mqtt, const struct mqtt_publication *publication, int *ret_mid)
{
    _cleanup_(mqtt_message_free_properties) mosquitto_property *properties = NULL;
    int rc = MOSQ_ERR_SUCCESS;
    if (!can_call(mqtt))
        return -ENOTCONN;
    if (publication->payload_size > INT_MAX || publication->correlation_size > UINT16_MAX)
        return -EMSGSIZE;
    if (mqtt->connection->protocol == MQTT_PROTOCOL_V5)
        rc = mqtt_message_make_properties(publication, &properties);
    enter(mqtt);
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_publish_v5(mqtt->connection->mosq, ret_mid, publication->topic,
                                  (int)publication->payload_size, publication->payload,
                                  publication->qos, publication->retain, properties);
    mqtt->n_published += rc == MOSQ_ERR_SUCCESS;
    int r = after_call(mqtt, rc, errno);
    leave(mqtt);
    return r;
}

int mqtt_subscribe(struct mqtt *mqtt, const char *filter, int qos, int *ret_mid)
{
    if (!can_call(mqtt))
        return -ENOTCONN;
    enter(mqtt);
    int rc = mosquitto_subscribe_v5(mqtt->connection->mosq, ret_mid, filter, qos, 0, NULL);
    int r = after_call(mqtt, rc, errno);
    leave(mqtt);
    return r;
}
