// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Makes a libmosquitto client and connects it, in a worker: reads the secrets, looks the name up,
 * waits for TCP. Must not touch the struct mqtt that it is for.
 */
#include "io/mqtt-connection.h"

#include <assert.h>
#include <limits.h>
#include <mqtt_protocol.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"
#include "util/files.h"

/* Where Debian and most others keep the system's certificates, hashed. */
#define SYSTEM_CERTIFICATES "/etc/ssl/certs"

enum {
    SECRET_MAX_SIZE = 64 << 10,
    MIN_KEEPALIVE_SEC = 5, // less is refused by the library
};

static atomic_uint n_abandoned;

static const size_t option_strings[] = {
    offsetof(struct mqtt_options, client_id),     offsetof(struct mqtt_options, username),
    offsetof(struct mqtt_options, password_file), offsetof(struct mqtt_options, ca_file),
    offsetof(struct mqtt_options, cert_file),     offsetof(struct mqtt_options, key_file),
    offsetof(struct mqtt_options, psk_identity),  offsetof(struct mqtt_options, psk_file),
    offsetof(struct mqtt_options, alpn),          offsetof(struct mqtt_options, will_topic),
    offsetof(struct mqtt_options, will_payload),
};

static char **option_string(struct mqtt_options *options, size_t i)
{
    return (char **)(void *)((char *)options + option_strings[i]);
}

unsigned mqtt_connection_count_abandoned(void)
{
    return atomic_load(&n_abandoned);
}

void mqtt_connection_free(struct mqtt_connection *connection)
{
    if (!connection)
        return;
    if (connection->mosq)
        mosquitto_destroy(connection->mosq);
    for (size_t i = 0; i < ELEMENTS(option_strings); i++)
        free(*option_string(&connection->options, i));
    free(connection->host);
    free(connection->where);
    free(connection);
}

/* The library has no other way to say what TLS did not like. */
static void on_log(struct mosquitto *mosq, void *userdata, int level, const char *text)
{
    struct mqtt_connection *connection = userdata;
    (void)mosq;

    // Each packet that comes in is worth a debug line, also those that have no callback.
    connection->n_packets++;
    if ((level != MOSQ_LOG_ERR && level != MOSQ_LOG_WARNING) || connection->complaint[0])
        return;
    const char *last = strrchr(text, ':');
    if (strncmp(text, "OpenSSL Error", strlen("OpenSSL Error")) == 0 && last)
        text = last + 1; // "OpenSSL Error[0]: error:0A000086:SSL routines::certificate ..."
    else if (strncmp(text, "Error: ", strlen("Error: ")) == 0)
        text += strlen("Error: ");
    snprintf(connection->complaint, sizeof(connection->complaint), "%s", text);
}

__attribute__((format(printf, 2, 3))) static int fail(struct mqtt_connection *connection,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(connection->error, sizeof(connection->error), format, arguments);
    va_end(arguments);
    return -EIO;
}

static void wipe_and_free(char **secret)
{
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
}

/* A path, or the name of a credential (systemd.exec(5), "CREDENTIALS"). what names it in errors. */
static int find_secret(struct mqtt_connection *connection, const char *what, const char *name,
                       char path[static PATH_MAX])
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    int n;

    if (strchr(name, '/'))
        n = snprintf(path, PATH_MAX, "%s", name);
    else if (directory)
        n = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    else
        return fail(connection,
                    "%s '%s': no path, and systemd has handed over no credentials directory", what,
                    name);
    return n < 0 || n >= PATH_MAX ? fail(connection, "%s: the path is too long", what) : 0;
}

static int read_secret(struct mqtt_connection *connection, const char *what, const char *name,
                       char **ret_secret)
{
    _cleanup_(wipe_and_free) char *secret = NULL;
    char path[PATH_MAX];
    size_t size;

    int r = find_secret(connection, what, name, path);
    if (r < 0)
        return r;
    r = files_read(path, SECRET_MAX_SIZE, &secret, &size);
    if (r < 0)
        return fail(connection, "cannot read %s %s: %s", what, path, strerror(-r));
    if (strlen(secret) != size)
        return fail(connection, "%s %s holds a NUL byte", what, path);
    // The newline that an editor leaves; a space at the end may be meant.
    while (size > 0 && (secret[size - 1] == '\n' || secret[size - 1] == '\r'))
        secret[--size] = '\0';
    *ret_secret = TAKE_PTR(secret);
    return 0;
}

static int set_credentials(struct mqtt_connection *connection, struct mosquitto *mosq)
{
    const struct mqtt_options *options = &connection->options;
    _cleanup_(wipe_and_free) char *password = NULL;

    if (options->password_file) {
        int r = read_secret(connection, "password_file", options->password_file, &password);
        if (r < 0)
            return r;
    }
    if (!options->username && !password)
        return 0;
    int rc = mosquitto_username_pw_set(mosq, options->username, password);
    return rc ? fail(connection, "user name or password: %s", mosquitto_strerror(rc)) : 0;
}

static int set_psk(struct mqtt_connection *connection, struct mosquitto *mosq)
{
    const struct mqtt_options *options = &connection->options;
    _cleanup_(wipe_and_free) char *key = NULL;

    int r = read_secret(connection, "psk_file", options->psk_file, &key);
    if (r < 0)
        return r;
    assert(key);
    if (!key[0] || key[strspn(key, "0123456789abcdefABCDEF")])
        return fail(connection, "psk_file %s: not a key in hexadecimal digits", options->psk_file);
    int rc =
        mosquitto_tls_psk_set(mosq, key, options->psk_identity ? options->psk_identity : "", NULL);
    return rc ? fail(connection, "psk_file %s: %s", options->psk_file, mosquitto_strerror(rc)) : 0;
}

/* The library only says "invalid" of a file that it cannot open. */
static int check_readable(struct mqtt_connection *connection, const char *what, const char *path)
{
    if (!path || access(path, R_OK) == 0)
        return 0;
    return fail(connection, "cannot read %s %s: %s", what, path, strerror(errno));
}

static int set_certificates(struct mqtt_connection *connection, struct mosquitto *mosq)
{
    const struct mqtt_options *options = &connection->options;
    char key_path[PATH_MAX];

    int r = check_readable(connection, "ca_file", options->ca_file);
    if (r == 0)
        r = check_readable(connection, "cert_file", options->cert_file);
    if (r == 0 && options->key_file)
        r = find_secret(connection, "key_file", options->key_file, key_path);
    if (r == 0 && options->key_file)
        r = check_readable(connection, "key_file", key_path);
    if (r < 0)
        return r;
    // A client certificate is taken only beside a CA, and the system's store counts as one only by
    // its directory.
    int rc =
        mosquitto_tls_set(mosq, options->ca_file, options->ca_file ? NULL : SYSTEM_CERTIFICATES,
                          options->cert_file, options->key_file ? key_path : NULL, NULL);
    return rc ? fail(connection, "TLS: %s", mosquitto_strerror(rc)) : 0;
}

static int set_tls(struct mqtt_connection *connection, struct mosquitto *mosq)
{
    const struct mqtt_options *options = &connection->options;
    int r = 0, rc = MOSQ_ERR_SUCCESS;

    if (!options->tls)
        return 0;
    if (options->psk_file)
        r = set_psk(connection, mosq);
    else if (options->ca_file || options->cert_file)
        r = set_certificates(connection, mosq);
    else
        rc = mosquitto_int_option(mosq, MOSQ_OPT_TLS_USE_OS_CERTS, 1);
    if (r < 0)
        return r;
    if (rc == MOSQ_ERR_SUCCESS && options->alpn)
        rc = mosquitto_string_option(mosq, MOSQ_OPT_TLS_ALPN, options->alpn);
    return rc ? fail(connection, "TLS: %s", mosquitto_strerror(rc)) : 0;
}

static int set_options(struct mqtt_connection *connection, struct mosquitto *mosq)
{
    const struct mqtt_options *options = &connection->options;

    mosquitto_log_callback_set(mosq, on_log);
    mosquitto_int_option(mosq, MOSQ_OPT_PROTOCOL_VERSION, connection->protocol);
    mosquitto_int_option(mosq, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_int_option(mosq, MOSQ_OPT_RECEIVE_MAXIMUM,
                         options->receive_maximum ? options->receive_maximum : UINT16_MAX);
    // The window is the caller's; the library's own, of 20, would queue in addition.
    mosquitto_int_option(mosq, MOSQ_OPT_SEND_MAXIMUM, UINT16_MAX);

    int r = set_credentials(connection, mosq);
    if (r == 0)
        r = set_tls(connection, mosq);
    if (r < 0 || !options->will_topic)
        return r;
    const char *payload = options->will_payload ? options->will_payload : "";
    int rc = mosquitto_will_set(mosq, options->will_topic, (int)strlen(payload), payload, 1, true);
    return rc ? fail(connection, "last will: %s", mosquitto_strerror(rc)) : 0;
}

static const char *explain_refusal(const struct mqtt_connection *connection)
{
    switch (connection->connack) {
    case CONNACK_REFUSED_BAD_USERNAME_PASSWORD:
    case CONNACK_REFUSED_NOT_AUTHORIZED:
    case MQTT_RC_BAD_USERNAME_OR_PASSWORD:
    case MQTT_RC_NOT_AUTHORIZED:
        return "not authorised (bad user name or password)";
    default:
        return connection->protocol == MQTT_PROTOCOL_V5
                   ? mosquitto_reason_string(connection->connack)
                   : mosquitto_connack_string(connection->connack);
    }
}

static const char *explain_code(const struct mqtt_connection *connection, int rc, int error)
{
    switch (rc) {
    case MOSQ_ERR_SUCCESS: // it has closed the socket, which says as much
    case MOSQ_ERR_NO_CONN:
    case MOSQ_ERR_CONN_LOST:
        if (connection->connack == 0)
            return "closed by the broker";
        return connection->options.tls
                   ? "closed by the broker before it answered; does it speak TLS on this port?"
                   : "closed by the broker before it answered";
    case MOSQ_ERR_KEEPALIVE:
        return "keepalive: no answer to PINGREQ";
    case MOSQ_ERR_ERRNO:
        return error ? strerror(error) : "closed by the broker";
    case MOSQ_ERR_PROTOCOL:
    case MOSQ_ERR_MALFORMED_PACKET:
        // What an old broker answers to MQTT 5, where the library does not know it for a refusal.
        return connection->connack == 0
                   ? mosquitto_strerror(rc)
                   : "its answer is not that of an MQTT broker, or it does not "
                     "speak this protocol version";
    default:
        return mosquitto_strerror(rc);
    }
}

enum mqtt_failure mqtt_connection_explain(const struct mqtt_connection *connection, int rc,
                                          int error, char *reason, size_t size)
{
    const char *where = connection->where;
    const char *complaint = connection->complaint;
    bool tls = connection->options.tls;

    if (connection->connack > 0) {
        snprintf(reason, size, "%s: %s", where, explain_refusal(connection));
        return connection->connack == MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION ? MQTT_VERSION_REFUSED
                                                                           : MQTT_FAILED;
    }
    if (connection->farewell >= MQTT_FIRST_REFUSAL) {
        snprintf(reason, size, "%s: closed by the broker: %s", where,
                 mosquitto_reason_string(connection->farewell));
        return MQTT_FAILED;
    }
    // A peer that closes without the alert that TLS asks for has closed, no more.
    bool closed = strstr(complaint, "unexpected eof");
    // The alert that says what is missing comes with a reset, which often overtakes it. A newer
    // libmosquitto (2.0.21, not 2.0.11) has a line for that, else only the errno tells.
    bool reset = strstr(complaint, "reset by peer") || (!complaint[0] && error == EPROTO);
    if (tls && reset && connection->connack < 0) {
        snprintf(reason, size, "%s: TLS: broken off by the broker (a client certificate required?)",
                 where);
        return MQTT_FAILED;
    }
    if (tls && complaint[0] && !closed) {
        snprintf(reason, size, "%s: TLS: %s", where, complaint);
        return MQTT_FAILED;
    }
    if (tls && complaint[0])
        rc = MOSQ_ERR_CONN_LOST;
    snprintf(reason, size, "%s: %s", where, explain_code(connection, rc, error));
    return MQTT_CLOSED_EARLY;
}

static uint32_t clamp_seconds(uint64_t usec, uint32_t min, uint32_t max)
{
    uint64_t sec = usec / USEC_PER_SEC;
    return sec < min ? min : sec > max ? max : (uint32_t)sec;
}

static int connect_client(struct mqtt_connection *connection, struct mosquitto *mosq)
{
    const struct mqtt_options *options = &connection->options;
    mosquitto_property *properties = NULL;

    if (connection->protocol == MQTT_PROTOCOL_V5 && options->session_expiry_usec > 0) {
        // UINT32_MAX: never expires (MQTT 5.0, section 3.1.2.11.2).
        uint32_t expiry_sec = clamp_seconds(options->session_expiry_usec, 1, UINT32_MAX);
        if (mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL,
                                         expiry_sec))
            return fail(connection, "out of memory");
    }
    int keepalive_sec = (int)clamp_seconds(options->keepalive_usec, MIN_KEEPALIVE_SEC, UINT16_MAX);
    errno = 0;
    int rc =
        mosquitto_connect_bind_v5(mosq, connection->host, options->unix_socket ? 0 : options->port,
                                  keepalive_sec, NULL, properties);
    int error = errno;
    mosquitto_property_free_all(&properties);
    if (rc == MOSQ_ERR_EAI) // with getaddrinfo()'s code for an errno
        return fail(connection, "name look-up of %s failed: %s", connection->host,
                    gai_strerror(error));
    if (rc)
        mqtt_connection_explain(connection, rc, error, connection->error,
                                sizeof(connection->error));
    return rc ? -EIO : 0;
}

static void run(struct worker_job *job)
{
    struct mqtt_connection *connection = (struct mqtt_connection *)job;
    const struct mqtt_options *options = &connection->options;

    struct mosquitto *mosq =
        mosquitto_new(options->client_id, options->session_expiry_usec == 0, connection);
    if (!mosq) {
        fail(connection, "cannot make a client: %s", strerror(errno));
        return;
    }
    if (set_options(connection, mosq) < 0 || connect_client(connection, mosq) < 0) {
        mosquitto_destroy(mosq);
        return;
    }
    connection->mosq = mosq;
}

static void cancel(struct worker_job *job)
{
    // A look-up cannot be interrupted: the thread is left behind.
    ((struct mqtt_connection *)job)->is_counted = true;
    atomic_fetch_add(&n_abandoned, 1);
}

static void abandoned(struct worker_job *job)
{
    struct mqtt_connection *connection = (struct mqtt_connection *)job;
    bool is_counted = connection->is_counted; // else it had just come back
    mqtt_connection_free(connection);
    if (is_counted)
        atomic_fetch_sub(&n_abandoned, 1);
}

static int copy_options(struct mqtt_connection *connection, const struct mqtt_options *options)
{
    connection->options = *options;
    connection->options.hosts = NULL;
    int r = 0;
    for (size_t i = 0; i < ELEMENTS(option_strings); i++) {
        char **string = option_string(&connection->options, i);
        if (*string && !(*string = strdup(*string)))
            r = -ENOMEM; // and go on: what is left in options is not ours to free
    }
    return r;
}

int mqtt_connection_new(const struct mqtt_options *options, const char *host, int protocol,
                        struct mqtt_connection **ret_connection)
{
    _cleanup_(mqtt_connection_freep) struct mqtt_connection *connection =
        calloc(1, sizeof(*connection));
    if (!connection || copy_options(connection, options) < 0)
        return -ENOMEM;
    connection->base.run = run;
    connection->base.cancel = cancel;
    connection->base.abandoned = abandoned;
    connection->protocol = protocol;
    connection->connack = -1;
    connection->host = strdup(host);
    int n = options->unix_socket ? asprintf(&connection->where, "%s", host)
                                 : asprintf(&connection->where, "%s:%d", host, options->port);
    if (n < 0)
        connection->where = NULL;
    if (!connection->host || !connection->where)
        return -ENOMEM;
    *ret_connection = TAKE_PTR(connection);
    return 0;
}
