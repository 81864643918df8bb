// SPDX-License-Identifier: LGPL-2.1-or-later
// The libmosquitto client; see client.h.
#include "connector/client.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <mqtt_protocol.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connector/dial.h"
#include "connector/pair.h"
#include "connector/secrets.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/strings.h"

/* Where Debian and most others keep the system's certificates, hashed. */
#define SYSTEM_CERTIFICATES "/etc/ssl/certs"

enum {
    MIN_KEEPALIVE_SEC = 5,  // less is refused by the library
    MAX_PROPERTY = 4096,    // bytes of a user property that is handed on
    MAX_FLIGHT = UINT16_MAX // packet identifiers, MQTT 5.0, section 2.2.1
};

/* The daemon's number of what is in flight, by libmosquitto's; 0: nothing is. */
static uint32_t ids[MAX_FLIGHT + 1];
/* The one that is being published: the library may call back before it returns its number. */
static uint32_t id_at_work;

__attribute__((format(printf, 2, 3))) static int fail(struct client *client, const char *format,
                                                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->error, sizeof(client->error), format, arguments);
    va_end(arguments);
    return -EIO;
}

/* --- what comes from the broker -------------------------------------------------------------- */

/* The library has no other way to say what TLS did not like. */
static void on_log(struct mosquitto *mosq, void *userdata, int level, const char *text)
{
    struct client *client = userdata;
    (void)mosq;

    // Each packet that comes in is worth a debug line, also those that have no callback.
    client->n_packets++;
    if ((level != MOSQ_LOG_ERR && level != MOSQ_LOG_WARNING) || client->complaint[0])
        return;
    const char *last = strrchr(text, ':');
    if (strncmp(text, "OpenSSL Error", strlen("OpenSSL Error")) == 0 && last)
        text = last + 1; // "OpenSSL Error[0]: error:0A000086:SSL routines::certificate ..."
    else if (strncmp(text, "Error: ", strlen("Error: ")) == 0)
        text += strlen("Error: ");
    snprintf(client->complaint, sizeof(client->complaint), "%s", text);
}

static void on_connect(struct mosquitto *mosq, void *userdata, int code, int flags,
                       const mosquitto_property *properties)
{
    struct client *client = userdata;
    const struct frame_options *options = client->options;
    uint16_t keepalive_sec = 0, receive_maximum = 0;

    client->n_packets++;
    if (client->connack >= 0)
        return;
    client->connack = code;
    if (code != 0)
        return; // the library closes the connection
    dial_keep(mosquitto_socket(mosq));
    // Its lines tell of packets without a callback, which matters with TLS alone (session.c);
    // formatting them costs as much as a packet.
    if (!options->tls)
        mosquitto_log_callback_set(mosq, NULL);
    mosquitto_property_read_int16(properties, MQTT_PROP_SERVER_KEEP_ALIVE, &keepalive_sec, false);
    mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
    if (keepalive_sec == 0)
        keepalive_sec = (uint16_t)options->keepalive_sec;
    client->keepalive_usec = keepalive_sec * USEC_PER_SEC;
    pair_put(&(const struct frame_record){
        .kind = FRAME_CONNECTED,
        .connected = { .session_present = flags & 1,
                       .protocol = options->protocol,
                       .receive_maximum = receive_maximum > 0 ? receive_maximum : UINT16_MAX,
                       .keepalive_sec = keepalive_sec },
    });
}

static void on_disconnect(struct mosquitto *mosq, void *userdata, int code,
                          const mosquitto_property *properties)
{
    struct client *client = userdata;
    (void)mosq, (void)properties;
    if (code >= MQTT_FIRST_REFUSAL) // else the library's own code, which may follow the broker's
        client->farewell = code;
}

static void drop(struct client *client, enum frame_drop why, const char *topic)
{
    struct client_drops *drops = &client->drops[why];
    drops->n++;
    strings_printable(topic, strlen(topic), drops->topic, sizeof(drops->topic));
}

/* A bucket that holds a second's worth. */
static bool is_within_rate(struct client *client)
{
    double rate = (double)client->options->max_rate;
    if (client->options->max_rate == 0)
        return true;
    uint64_t now_mono_usec = clock_mono_usec();
    uint64_t passed_usec = now_mono_usec - client->allowance_mono_usec;
    client->allowance_mono_usec = now_mono_usec;
    client->allowance += rate * (double)passed_usec / USEC_PER_SEC;
    if (client->allowance > rate)
        client->allowance = rate;
    if (client->allowance < 1 || pair_is_full())
        return false;
    client->allowance -= 1;
    return true;
}

struct texts {
    char *response_topic;
    void *correlation;
    char *pairs[FRAME_MAX_PROPERTIES][2];
};

static void texts_done(struct texts *texts)
{
    free(texts->response_topic);
    free(texts->correlation);
    for (size_t i = 0; i < FRAME_MAX_PROPERTIES; i++) {
        free(texts->pairs[i][0]);
        free(texts->pairs[i][1]);
    }
}

/* What a message has beside its payload, into record; the strings are in *texts. */
static void read_properties(const mosquitto_property *properties, struct texts *texts,
                            struct frame_record *record)
{
    struct mqtt_message *message = &record->message;
    uint16_t size = 0;
    if (mosquitto_property_read_string(properties, MQTT_PROP_RESPONSE_TOPIC, &texts->response_topic,
                                       false))
        message->response_topic = texts->response_topic;
    if (mosquitto_property_read_binary(properties, MQTT_PROP_CORRELATION_DATA, &texts->correlation,
                                       &size, false)) {
        message->correlation = texts->correlation ? texts->correlation : "";
        message->correlation_size = size;
    }
    const mosquitto_property *at = properties;
    for (size_t i = 0; i < FRAME_MAX_PROPERTIES; i++) {
        char **pair = texts->pairs[i];
        at = mosquitto_property_read_string_pair(at, MQTT_PROP_USER_PROPERTY, &pair[0], &pair[1],
                                                 i > 0);
        if (!at)
            break;
        if (pair[0] && pair[1] && strlen(pair[0]) + strlen(pair[1]) <= MAX_PROPERTY)
            record->properties[message->n_properties++] =
                (struct mqtt_user_property){ pair[0], pair[1] };
    }
    message->properties = record->properties;
}

static void on_message(struct mosquitto *mosq, void *userdata,
                       const struct mosquitto_message *message,
                       const mosquitto_property *properties)
{
    struct client *client = userdata;
    _cleanup_(texts_done) struct texts texts = { 0 };
    (void)mosq;

    client->n_packets++;
    if ((size_t)message->payloadlen > client->options->max_message) {
        drop(client, FRAME_DROP_TOO_LARGE, message->topic);
        return;
    }
    if (!is_within_rate(client)) {
        drop(client, FRAME_DROP_FLOOD, message->topic);
        return;
    }
    struct frame_record record = {
        .kind = FRAME_MESSAGE,
        .message = { .topic = message->topic,
                     .payload = message->payload,
                     .payload_size = (size_t)message->payloadlen,
                     .qos = message->qos,
                     .retain = message->retain },
    };
    if (properties)
        read_properties(properties, &texts, &record);
    pair_put(&record);
}

static void acknowledge(enum frame_kind kind, uint32_t id, int code)
{
    pair_put(&(const struct frame_record){ .kind = kind, .id = id, .code = (uint8_t)code });
}

static void on_publish(struct mosquitto *mosq, void *userdata, int mid, int code,
                       const mosquitto_property *properties)
{
    struct client *client = userdata;
    (void)mosq, (void)properties;

    client->n_packets++;
    uint32_t *id = &ids[(unsigned)mid % ELEMENTS(ids)];
    if (*id == 0)
        id = &id_at_work;
    if (*id > 0)
        acknowledge(FRAME_ACKNOWLEDGED, *id, code);
    *id = 0;
}

static void on_subscribe(struct mosquitto *mosq, void *userdata, int mid, int n_granted,
                         const int *granted, const mosquitto_property *properties)
{
    struct client *client = userdata;
    (void)mosq, (void)properties;

    client->n_packets++;
    uint32_t *id = &ids[(unsigned)mid % ELEMENTS(ids)];
    if (*id > 0 && n_granted > 0)
        acknowledge(FRAME_SUBSCRIBED, *id, granted[0]);
    *id = 0;
}

uint64_t client_tell_dropped(struct client *client, uint64_t now_mono_usec)
{
    if (client->drops[0].n == 0 && client->drops[1].n == 0)
        return USEC_INFINITY;
    uint64_t passed_usec = now_mono_usec - client->told_mono_usec;
    if (passed_usec < USEC_PER_SEC)
        return USEC_PER_SEC - passed_usec;
    client->told_mono_usec = now_mono_usec;
    for (size_t i = 0; i < ELEMENTS(client->drops); i++) {
        struct client_drops *drops = &client->drops[i];
        if (drops->n > 0)
            pair_put(&(const struct frame_record){ .kind = FRAME_DROPPED,
                                                   .code = (uint32_t)i,
                                                   .count = drops->n,
                                                   .text = drops->topic });
        drops->n = 0;
    }
    return USEC_INFINITY;
}

/* --- what goes to the broker ----------------------------------------------------------------- */

static int make_properties(const struct mqtt_message *message, mosquitto_property **properties)
{
    int rc = MOSQ_ERR_SUCCESS;
    for (size_t i = 0; i < message->n_properties && rc == MOSQ_ERR_SUCCESS; i++)
        rc = mosquitto_property_add_string_pair(properties, MQTT_PROP_USER_PROPERTY,
                                                message->properties[i].name,
                                                message->properties[i].value);
    if (message->response_topic && rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_property_add_string(properties, MQTT_PROP_RESPONSE_TOPIC,
                                           message->response_topic);
    if (message->correlation && rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_property_add_binary(properties, MQTT_PROP_CORRELATION_DATA,
                                           message->correlation,
                                           (uint16_t)message->correlation_size);
    return rc;
}

/* The library's refusal of a message as the reason code that a broker has for it. */
static int reason_of(int rc)
{
    switch (rc) {
    case MOSQ_ERR_PAYLOAD_SIZE:
    case MOSQ_ERR_OVERSIZE_PACKET:
        return MQTT_RC_PACKET_TOO_LARGE;
    case MOSQ_ERR_QOS_NOT_SUPPORTED:
        return MQTT_RC_QOS_NOT_SUPPORTED;
    case MOSQ_ERR_RETAIN_NOT_SUPPORTED:
        return MQTT_RC_RETAIN_NOT_SUPPORTED;
    case MOSQ_ERR_INVAL:
    case MOSQ_ERR_MALFORMED_UTF8:
        return MQTT_RC_TOPIC_NAME_INVALID;
    default:
        return MQTT_RC_IMPLEMENTATION_SPECIFIC;
    }
}

/* The connection has broken meanwhile: it comes back to the daemon with the end of the process. */
static bool is_lost(int rc)
{
    return rc == MOSQ_ERR_NO_CONN || rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_ERRNO;
}

void client_publish(struct client *client, const struct frame_record *record)
{
    const struct mqtt_message *message = &record->message;
    mosquitto_property *properties = NULL;
    int mid = 0, rc = MOSQ_ERR_SUCCESS;
    if (client->connack != 0)
        return;
    if (client->options->protocol == MQTT_PROTOCOL_V5)
        rc = make_properties(message, &properties);
    id_at_work = record->id;
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_publish_v5(client->mosq, &mid, message->topic, (int)message->payload_size,
                                  message->payload, message->qos, message->retain, properties);
    mosquitto_property_free_all(&properties);
    if (rc == MOSQ_ERR_SUCCESS && id_at_work > 0)
        ids[(unsigned)mid % ELEMENTS(ids)] = record->id;
    else if (rc != MOSQ_ERR_SUCCESS && !is_lost(rc))
        acknowledge(FRAME_ACKNOWLEDGED, record->id, reason_of(rc));
    id_at_work = 0;
}

void client_subscribe(struct client *client, const struct frame_record *record)
{
    int mid = 0;
    if (client->connack != 0)
        return;
    int rc = mosquitto_subscribe_v5(client->mosq, &mid, record->message.topic, record->message.qos,
                                    0, NULL);
    if (rc == MOSQ_ERR_SUCCESS)
        ids[(unsigned)mid % ELEMENTS(ids)] = record->id;
    else if (!is_lost(rc))
        acknowledge(FRAME_SUBSCRIBED, record->id, reason_of(rc));
}

/* --- options --------------------------------------------------------------------------------- */

static int set_credentials(struct client *client)
{
    const struct frame_options *options = client->options;
    _cleanup_(secrets_free) char *password = NULL;

    if (options->password_file) {
        int r = secrets_read("password_file", options->password_file, &password, client->error,
                             sizeof(client->error));
        if (r < 0)
            return r;
    }
    if (!options->username && !password)
        return 0;
    int rc = mosquitto_username_pw_set(client->mosq, options->username, password);
    return rc ? fail(client, "user name or password: %s", mosquitto_strerror(rc)) : 0;
}

static int set_psk(struct client *client)
{
    const struct frame_options *options = client->options;
    _cleanup_(secrets_free) char *key = NULL;

    int r = secrets_read("psk_file", options->psk_file, &key, client->error, sizeof(client->error));
    if (r < 0)
        return r;
    assert(key);
    if (!key[0] || key[strspn(key, "0123456789abcdefABCDEF")])
        return fail(client, "psk_file %s: not a key in hexadecimal digits", options->psk_file);
    int rc = mosquitto_tls_psk_set(client->mosq, key,
                                   options->psk_identity ? options->psk_identity : "", NULL);
    return rc ? fail(client, "psk_file %s: %s", options->psk_file, mosquitto_strerror(rc)) : 0;
}

/* The library only says "invalid" of a file that it cannot open. */
static int check_readable(struct client *client, const char *what, const char *path)
{
    if (!path || access(path, R_OK) == 0)
        return 0;
    return fail(client, "cannot read %s %s: %s", what, path, strerror(errno));
}

static int set_certificates(struct client *client)
{
    const struct frame_options *options = client->options;
    char key_path[PATH_MAX];

    int r = check_readable(client, "ca_file", options->ca_file);
    if (r == 0)
        r = check_readable(client, "cert_file", options->cert_file);
    if (r == 0 && options->key_file)
        r = secrets_find("key_file", options->key_file, key_path, client->error,
                         sizeof(client->error));
    if (r == 0 && options->key_file)
        r = check_readable(client, "key_file", key_path);
    if (r < 0)
        return r;
    // A client certificate is taken only beside a CA, and the system's store counts as one only by
    // its directory.
    int rc = mosquitto_tls_set(client->mosq, options->ca_file,
                               options->ca_file ? NULL : SYSTEM_CERTIFICATES, options->cert_file,
                               options->key_file ? key_path : NULL, NULL);
    return rc ? fail(client, "TLS: %s", mosquitto_strerror(rc)) : 0;
}

static int set_tls(struct client *client)
{
    const struct frame_options *options = client->options;
    int r = 0, rc = MOSQ_ERR_SUCCESS;

    if (!options->tls)
        return 0;
    if (options->psk_file)
        r = set_psk(client);
    else if (options->ca_file || options->cert_file)
        r = set_certificates(client);
    else
        rc = mosquitto_int_option(client->mosq, MOSQ_OPT_TLS_USE_OS_CERTS, 1);
    if (r < 0)
        return r;
    if (rc == MOSQ_ERR_SUCCESS && options->alpn)
        rc = mosquitto_string_option(client->mosq, MOSQ_OPT_TLS_ALPN, options->alpn);
    return rc ? fail(client, "TLS: %s", mosquitto_strerror(rc)) : 0;
}

static int set_will(struct client *client)
{
    const struct frame_options *options = client->options;
    if (!options->will_topic)
        return 0;
    const char *payload = options->will_payload ? options->will_payload : "";
    int rc = mosquitto_will_set(client->mosq, options->will_topic, (int)strlen(payload), payload, 1,
                                true);
    return rc ? fail(client, "last will: %s", mosquitto_strerror(rc)) : 0;
}

int client_new(struct client *client, const struct frame_options *options)
{
    *client = (struct client){ .options = options, .connack = -1 };
    client->allowance = (double)options->max_rate;
    client->allowance_mono_usec = clock_mono_usec();
    client->mosq = mosquitto_new(options->client_id, options->session_expiry_sec == 0, client);
    if (!client->mosq)
        return fail(client, "cannot make a client: %s", strerror(errno));
    mosquitto_log_callback_set(client->mosq, on_log);
    mosquitto_connect_v5_callback_set(client->mosq, on_connect);
    mosquitto_disconnect_v5_callback_set(client->mosq, on_disconnect);
    mosquitto_message_v5_callback_set(client->mosq, on_message);
    mosquitto_publish_v5_callback_set(client->mosq, on_publish);
    mosquitto_subscribe_v5_callback_set(client->mosq, on_subscribe);
    mosquitto_int_option(client->mosq, MOSQ_OPT_PROTOCOL_VERSION, (int)options->protocol);
    mosquitto_int_option(client->mosq, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_int_option(client->mosq, MOSQ_OPT_RECEIVE_MAXIMUM, (int)options->receive_maximum);
    // The window is the daemon's; the library's own, of 20, would queue in addition.
    mosquitto_int_option(client->mosq, MOSQ_OPT_SEND_MAXIMUM, MAX_FLIGHT);
    int r = set_credentials(client);
    if (r == 0)
        r = set_tls(client);
    return r < 0 ? r : set_will(client);
}

/* MQTT 5.0, sections 3.1.2.11.2 and 3.1.2.11.4. */
static int add_connect_properties(const struct frame_options *options,
                                  mosquitto_property **properties)
{
    int rc = MOSQ_ERR_SUCCESS;
    if (options->protocol != MQTT_PROTOCOL_V5)
        return rc;
    if (options->session_expiry_sec > 0)
        rc = mosquitto_property_add_int32(properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL,
                                          (uint32_t)options->session_expiry_sec);
    // With what a message has around its payload.
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_property_add_int32(properties, MQTT_PROP_MAXIMUM_PACKET_SIZE,
                                          (uint32_t)options->max_message + MQTT_MAX_TOPIC);
    return rc;
}

int client_connect(struct client *client, const char *host)
{
    const struct frame_options *options = client->options;
    mosquitto_property *properties = NULL;
    dial_format(options, host, client->where, sizeof(client->where));
    if (add_connect_properties(options, &properties) != MOSQ_ERR_SUCCESS)
        return fail(client, "out of memory");
    int keepalive_sec = (int)(options->keepalive_sec < MIN_KEEPALIVE_SEC ? MIN_KEEPALIVE_SEC
                                                                         : options->keepalive_sec);
    errno = 0;
    int rc =
        mosquitto_connect_bind_v5(client->mosq, host, options->unix_socket ? 0 : (int)options->port,
                                  keepalive_sec, NULL, properties);
    int error = errno;
    mosquitto_property_free_all(&properties);
    if (rc)
        client_explain(client, rc, error);
    return rc ? -EIO : 0;
}

void client_done(struct client *client)
{
    if (client->mosq)
        mosquitto_destroy(client->mosq);
    client->mosq = NULL;
}

/* --- why it ended ---------------------------------------------------------------------------- */

static const char *explain_refusal(const struct client *client)
{
    switch (client->connack) {
    case CONNACK_REFUSED_BAD_USERNAME_PASSWORD:
    case CONNACK_REFUSED_NOT_AUTHORIZED:
    case MQTT_RC_BAD_USERNAME_OR_PASSWORD:
    case MQTT_RC_NOT_AUTHORIZED:
        return "not authorised (bad user name or password)";
    default:
        return client->options->protocol == MQTT_PROTOCOL_V5
                   ? mqtt_reason(client->connack)
                   : mosquitto_connack_string(client->connack);
    }
}

static const char *explain_code(const struct client *client, int rc, int error)
{
    switch (rc) {
    case MOSQ_ERR_SUCCESS: // it has closed the socket, which says as much
    case MOSQ_ERR_NO_CONN:
    case MOSQ_ERR_CONN_LOST:
        if (client->connack == 0)
            return "closed by the broker";
        return client->options->tls
                   ? "closed by the broker before it answered; does it speak TLS on this port?"
                   : "closed by the broker before it answered";
    case MOSQ_ERR_KEEPALIVE:
        return "keepalive: no answer to PINGREQ";
    case MOSQ_ERR_NOMEM:
        return "out of memory: what the broker sends is too large";
    case MOSQ_ERR_ERRNO:
        return error ? strerror(error) : "closed by the broker";
    case MOSQ_ERR_PROTOCOL:
    case MOSQ_ERR_MALFORMED_PACKET:
        // What an old broker answers to MQTT 5, where the library does not know it for a refusal.
        return client->connack == 0 ? mosquitto_strerror(rc)
                                    : "its answer is not that of an MQTT broker, or it does not "
                                      "speak this protocol version";
    default:
        return mosquitto_strerror(rc);
    }
}

enum frame_failure client_explain(struct client *client, int rc, int error)
{
    const char *where = client->where;
    const char *complaint = client->complaint;
    bool tls = client->options->tls;

    if (client->connack > 0) {
        fail(client, "%s: %s", where, explain_refusal(client));
        return client->connack == MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION
                   ? FRAME_FAILURE_VERSION_REFUSED
                   : FRAME_FAILURE_OTHER;
    }
    if (client->farewell >= MQTT_FIRST_REFUSAL) {
        fail(client, "%s: closed by the broker: %s", where, mqtt_reason(client->farewell));
        return FRAME_FAILURE_OTHER;
    }
    // A peer that closes without the alert that TLS asks for has closed, no more.
    bool closed = strstr(complaint, "unexpected eof");
    // The alert that says what is missing comes with a reset, which often overtakes it. A newer
    // libmosquitto (2.0.21, not 2.0.11) has a line for that, else only the errno tells.
    bool reset = strstr(complaint, "reset by peer") || (!complaint[0] && error == EPROTO);
    if (tls && reset && client->connack < 0) {
        fail(client, "%s: TLS: broken off by the broker (a client certificate required?)", where);
        return FRAME_FAILURE_OTHER;
    }
    if (tls && complaint[0] && !closed) {
        fail(client, "%s: TLS: %s", where, complaint);
        return FRAME_FAILURE_OTHER;
    }
    if (tls && complaint[0])
        rc = MOSQ_ERR_CONN_LOST;
    fail(client, "%s: %s", where, explain_code(client, rc, error));
    return FRAME_FAILURE_CLOSED_EARLY;
}
