// SPDX-License-Identifier: LGPL-2.1-or-later
// How a link connects: to a real mosquitto, and to peers that refuse, hang or go away.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>

#include "link-fixture.h"

static bool speaks(const struct client *client, const char *protocol)
{
    const char *description = link_describe(client->link), *comma = strstr(description, ", ");
    return comma && strcmp(comma + 2, protocol) == 0;
}

static void broker_restart_is_reported_and_mended(void **state)
{
    struct broker broker;
    struct client client;
    (void)state;
    broker_init(&broker);
    broker_start(&broker, "allow_anonymous true\n");
    client_init(&client, broker.port);
    client_start(&client);
    for (unsigned i = 1; i <= 3; i++) {
        RUN_UNTIL(&client, client.n_connected == i);
        broker_stop(&broker);
        RUN_UNTIL(&client, client.n_lost == i);
        assert_reason(&client, "closed by the broker");
        assert_true(client.last_retry_usec >= client.options.reconnect_min_usec);
        assert_true(client.last_retry_usec <= client.options.reconnect_max_usec);
        broker_start(&broker, "allow_anonymous true\n");
    }
    RUN_UNTIL(&client, client.n_connected == 4);
    assert_true(speaks(&client, "MQTT 5")); // a restart is no refusal of 5
    assert_int_equal(client.n_disconnected, 3);
    client_done(&client);
    broker_done(&broker);
}

static void refused_connection_is_reported_once_and_tried_again(void **state)
{
    struct broker broker;
    struct client client;
    (void)state;
    broker_init(&broker);
    client_init(&client, broker.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "Connection refused");
    assert_reason(&client, "127.0.0.1");
    assert_non_null(strstr(link_describe(client.link), "not connected: 127.0.0.1"));
    run_for(&client, 500 * USEC_PER_MSEC); // several attempts
    broker_start(&broker, "allow_anonymous true\n");
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(client.n_disconnected, 1);
    client_done(&client);
    broker_done(&broker);
}

static void host_that_refuses_is_not_waited_for(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.hosts[0] = (char *)"127.0.0.2"; // mosquitto listens on 127.0.0.1 alone
    client.hosts[1] = (char *)"127.0.0.1";
    client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(client.n_disconnected, 0);
    assert_non_null(strstr(link_describe(client.link), "connected to 127.0.0.1:"));
    client_done(&client);
}

static void host_that_is_named_first_is_preferred(void **state)
{
    int port = plain.port;
    (void)state;
    _cleanup_(closep) int silent_fd = listen_at("127.0.0.2", &port);
    for (int i = 0; i < 10; i++) {
        struct client client;
        client_init(&client, port);
        client.hosts[0] = (char *)"127.0.0.1";
        client.hosts[1] = (char *)"127.0.0.2";
        client_start(&client);
        RUN_UNTIL(&client, client.n_connected + client.n_disconnected > 0);
        assert_int_equal(client.n_connected, 1);
        client_done(&client);
    }
}

static void all_hosts_that_fail_are_named(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, 0);
    close(listen_for(&client));
    client.hosts[0] = (char *)"127.0.0.2";
    client.hosts[1] = (char *)"a..b";
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "127.0.0.2:");
    assert_reason(&client, "Connection refused");
    assert_reason(&client, "name look-up of a..b failed");
    assert_true(client.last_retry_usec > 0);
    client_done(&client);
}

static void name_that_does_not_exist_is_named(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.hosts[0] = (char *)"a..b"; // refused by the resolver itself
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "name look-up of a..b failed");
    client_done(&client);
}

/* --- a broker of our own, that a thread plays ------------------------------------------------ */

enum fake_answer { REFUSES_5, CLOSES_ON_5, TAKES_5_AND_SAYS_GOODBYE };

struct fake {
    int fd, port;
    pthread_t thread;
    enum fake_answer answer;
};

static void answer_5(const struct fake *fake, int fd)
{
    // MQTT 3.1.1, section 3.2; MQTT 5.0, sections 3.2 and 3.14 (session taken over)
    static const uint8_t refusal[] = { 0x20, 2, 0, 1 };
    static const uint8_t goodbye[] = { 0x20, 3, 0, 0, 0, 0xe0, 2, 0x8e, 0 };
    if (fake->answer == REFUSES_5)
        (void)!send(fd, refusal, sizeof(refusal), MSG_NOSIGNAL);
    if (fake->answer == TAKES_5_AND_SAYS_GOODBYE)
        (void)!send(fd, goodbye, sizeof(goodbye), MSG_NOSIGNAL);
}

static void *play_broker(void *userdata)
{
    static const uint8_t connack[] = { 0x20, 2, 0, 0 };
    const struct fake *fake = userdata;
    for (;;) {
        uint8_t packet[256];
        int fd = accept(fake->fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        // Fixed header of 2 bytes, "\0\4MQTT", then the level (MQTT 3.1.1, section 3.1.2.2).
        if (recv(fd, packet, sizeof(packet), 0) > 8 && packet[8] == 4) {
            (void)!send(fd, connack, sizeof(connack), MSG_NOSIGNAL);
            while (recv(fd, packet, sizeof(packet), 0) > 0)
                ;
        } else {
            answer_5(fake, fd);
        }
        close(fd);
    }
}

static void fake_start(struct fake *fake, enum fake_answer answer)
{
    fake->answer = answer;
    if (fake->fd < 0)
        fake->fd = listen_somewhere(&fake->port);
    assert_int_equal(pthread_create(&fake->thread, NULL, play_broker, fake), 0);
}

static void fake_stop(struct fake *fake)
{
    shutdown(fake->fd, SHUT_RDWR);
    pthread_join(fake->thread, NULL);
    close(fake->fd);
}

static void falls_back_to_3_1_1(enum fake_answer answer)
{
    struct fake fake = { .fd = -EBADF };
    struct client client;
    fake_start(&fake, answer);
    client_init(&client, fake.port);
    client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_true(speaks(&client, "MQTT 3.1.1"));
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);

    // With protocol = 5 that is final.
    client_init(&client, fake.port);
    client.options.protocol = MQTT_PROTOCOL_5;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    client_done(&client);
    fake_stop(&fake);
}

static void reason_of_the_brokers_disconnect_is_told(void **state)
{
    struct fake fake = { .fd = -EBADF };
    struct client client;
    (void)state;
    fake_start(&fake, TAKES_5_AND_SAYS_GOODBYE);
    client_init(&client, fake.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_lost == 1);
    assert_reason(&client, "closed by the broker: session taken over");
    client_done(&client);
    fake_stop(&fake);
}

static void falls_back_where_5_is_refused(void **state)
{
    (void)state;
    falls_back_to_3_1_1(REFUSES_5);
}

static void falls_back_where_5_makes_the_broker_close(void **state)
{
    (void)state;
    falls_back_to_3_1_1(CLOSES_ON_5);
}

static void host_that_is_no_broker_gives_way_to_the_next(void **state)
{
    struct fake fake = { .port = plain.port };
    struct client client;
    (void)state;
    fake.fd = listen_at("127.0.0.2", &fake.port);
    fake_start(&fake, CLOSES_ON_5);
    client_init(&client, plain.port);
    client.hosts[0] = (char *)"127.0.0.2";
    client.hosts[1] = (char *)"127.0.0.1";
    client.options.protocol = MQTT_PROTOCOL_5;
    client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "127.0.0.2:");
    assert_reason(&client, "closed by the broker before it answered");
    assert_int_equal(client.last_retry_usec, 0);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(client.n_disconnected, 1);
    client_done(&client);
    fake_stop(&fake);
}

/* --- access ---------------------------------------------------------------------------------- */

static void wrong_password_and_unreadable_file_are_named(void **state)
{
    struct broker broker;
    struct client client;
    char path[128], lines[512];
    (void)state;
    broker_init(&broker);
    broker_shell(&broker, "mosquitto_passwd -b -c passwords user secret");
    broker_path(&broker, "passwords", path);
    snprintf(lines, sizeof(lines), "allow_anonymous false\npassword_file %s\n", path);
    broker_start(&broker, lines);
    broker_write(&broker, "wrong", "guess\n");
    broker_write(&broker, "right", "secret\n");

    for (int protocol = MQTT_PROTOCOL_311; protocol <= MQTT_PROTOCOL_5; protocol++) {
        client_init(&client, broker.port);
        client.options.protocol = protocol;
        client.options.connector.username = "user";
        client.options.connector.password_file = path;
        broker_path(&broker, "wrong", path);
        client_start(&client);
        RUN_UNTIL(&client, client.n_disconnected == 1);
        assert_reason(&client, "not authorised (bad user name or password)");
        // Read anew at each attempt.
        broker_path(&broker, "right", path);
        RUN_UNTIL(&client, client.n_connected == 1);
        client_done(&client);
    }
    client_init(&client, broker.port);
    client.options.connector.username = "user";
    client.options.connector.password_file = "/nonexistent/password";
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "password_file /nonexistent/password: No such file");
    client_done(&client);

    // It is the same for each host.
    client_init(&client, broker.port);
    client.hosts[0] = client.hosts[1] = (char *)"127.0.0.1";
    client.options.connector.password_file = "/nonexistent/password";
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_true(client.last_retry_usec > 0);
    run_for(&client, 500 * USEC_PER_MSEC);
    assert_int_equal(client.n_disconnected, 1);
    client_done(&client);

    // A bare name is a credential.
    client_init(&client, broker.port);
    client.options.connector.username = "user";
    client.options.connector.password_file = "right";
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "no credentials directory");
    setenv("CREDENTIALS_DIRECTORY", broker.directory, 1);
    RUN_UNTIL(&client, client.n_connected == 1);
    unsetenv("CREDENTIALS_DIRECTORY");
    client_done(&client);
    broker_done(&broker);
}

#define MAKE_CA(name)                                                                              \
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=" name \
    " -keyout " name ".key -out " name ".crt"
#define MAKE_CERTIFICATE(name, cn)                                                                 \
    "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" cn                 \
    " -keyout " name ".key -out " name ".csr && "                                                  \
    "openssl x509 -req -in " name                                                                  \
    ".csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out " name ".crt"

static void tls_checks_both_sides(void **state)
{
    struct broker broker;
    struct client client;
    char lines[1024], ca[128], other_ca[128], certificate[128], key[128];
    const char *d;
    (void)state;
    broker_init(&broker);
    d = broker.directory;
    broker_shell(&broker, MAKE_CA("ca") " && " MAKE_CA("other") " && " MAKE_CERTIFICATE(
                              "server", "localhost") " && " MAKE_CERTIFICATE("client", "client"));
    snprintf(lines, sizeof(lines),
             "allow_anonymous true\ncafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile "
             "%s/server.key\nrequire_certificate true\n",
             d, d, d);
    broker_start(&broker, lines);
    broker_path(&broker, "ca.crt", ca);
    broker_path(&broker, "other.crt", other_ca);
    broker_path(&broker, "client.crt", certificate);
    broker_path(&broker, "client.key", key);

    client_init(&client, broker.port);
    client.hosts[0] = (char *)"localhost";
    client.options.connector.tls = true;
    client.options.connector.ca_file = ca;
    client.options.connector.cert_file = certificate;
    client.options.connector.key_file = key;
    client_start(&client);
    converse(&client);
    client_done(&client);

    client_init(&client, broker.port);
    client.hosts[0] = (char *)"localhost";
    client.options.connector.tls = true;
    client.options.connector.ca_file = other_ca;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "TLS: certificate verify failed");
    client_done(&client);

    // The system's store does not know it either, with and without a certificate of our own.
    for (int i = 0; i < 2; i++) {
        client_init(&client, broker.port);
        client.hosts[0] = (char *)"localhost";
        client.options.connector.tls = true;
        client.options.connector.cert_file = i ? certificate : NULL;
        client.options.connector.key_file = i ? key : NULL;
        client_start(&client);
        RUN_UNTIL(&client, client.n_disconnected == 1);
        assert_reason(&client, "TLS: certificate verify failed");
        client_done(&client);
    }

    // A name that is not in the certificate, no certificate, a CA that is not there.
    client_init(&client, broker.port);
    client.options.connector.tls = true;
    client.options.connector.ca_file = ca;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "TLS: host name verification failed");
    client_done(&client);

    client_init(&client, broker.port);
    client.hosts[0] = (char *)"localhost";
    client.options.connector.tls = true;
    client.options.connector.ca_file = ca;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "TLS: ");
    assert_reason(&client, "certificate required"); // by its alert, or by our guess

    client_done(&client);

    client_init(&client, broker.port);
    client.hosts[0] = (char *)"localhost";
    client.options.connector.tls = true;
    client.options.connector.ca_file = "/nonexistent/ca";
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "ca_file");
    client_done(&client);
    broker_done(&broker);
}

static void psk_opens_with_the_right_key(void **state)
{
    struct broker broker;
    struct client client;
    char lines[512], path[128];
    (void)state;
    broker_init(&broker);
    broker_write(&broker, "psk", "me:0123456789abcdef\n");
    broker_write(&broker, "right", "0123456789abcdef\n");
    broker_write(&broker, "wrong", "0123456789abcdee\n");
    broker_write(&broker, "bad", "no hex\n");
    snprintf(lines, sizeof(lines), "allow_anonymous true\npsk_hint hint\npsk_file %s/psk\n",
             broker.directory);
    broker_start(&broker, lines);
    for (int i = 0; i < 3; i++) {
        client_init(&client, broker.port);
        client.options.connector.tls = true;
        client.options.connector.psk_identity = "me";
        client.options.connector.psk_file = path;
        broker_path(&broker, i == 0 ? "right" : i == 1 ? "wrong" : "bad", path);
        client_start(&client);
        if (i == 0) {
            converse(&client);
        } else {
            RUN_UNTIL(&client, client.n_disconnected == 1);
            assert_reason(&client, i == 1 ? "TLS: " : "hexadecimal");
        }
        client_done(&client);
    }
    broker_done(&broker);
}

/* --- nothing holds the loop ------------------------------------------------------------------ */

/* Whether a while of waiting costs no more than that, here and in the connector. */
static bool is_quiet(struct client *client)
{
    pid_t connector;
    RUN_UNTIL(client, find_connectors(&connector, 1) == 1);
    uint64_t begin_usec = cpu_usec(getpid()), connectors_begin_usec = cpu_usec(connector);
    run_for(client, 100 * USEC_PER_MSEC);
    return cpu_usec(getpid()) - begin_usec < 20 * USEC_PER_MSEC &&
           cpu_usec(connector) - connectors_begin_usec < 20 * USEC_PER_MSEC;
}

/* A peer that takes the connection and says nothing: plain, and during the TLS handshake. */
static void silent_peer_times_out_without_spinning(void **state)
{
    (void)state;
    for (int tls = 0; tls <= 1; tls++) {
        struct client client;
        int port;
        _cleanup_(closep) int fd = listen_somewhere(&port);
        client_init(&client, port);
        client.options.connector.tls = tls;
        client.options.attempt_limit_usec = 2 * USEC_PER_SEC;
        client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
        client_start(&client);
        bool sleeps = false;
        while (!sleeps && client.n_disconnected == 0)
            sleeps = is_quiet(&client);
        assert_true(sleeps);
        RUN_UNTIL(&client, client.n_disconnected == 1);
        assert_reason(&client, "no answer from 127.0.0.1");
        assert_reason(&client, "within 2 s");
        client_done(&client);
    }
}

/* connect(2) hangs: the one place in the backlog is taken. */
static int listen_full(int *ret_port, int others[static 4])
{
    int fd = listen_somewhere(ret_port);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)*ret_port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(listen(fd, 0), 0);
    for (int i = 0; i < 4; i++) {
        others[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(others[i], (struct sockaddr *)&address, sizeof(address));
    }
    return fd;
}

static void black_hole_does_not_hold_the_loop(void **state)
{
    struct client client;
    struct ticker ticker;
    int port, others[4];
    (void)state;
    _cleanup_(closep) int fd = listen_full(&port, others);
    client_init(&client, port);
    client.options.attempt_limit_usec = 200 * USEC_PER_MSEC;
    client_start(&client);
    ticker_start(&ticker, client.event, 5 * USEC_PER_MSEC);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "no answer from 127.0.0.1");
    assert_reason(&client, "within 200 ms");
    RUN_UNTIL(&client, strstr(link_describe(client.link), "connecting to")); // once more
    ticker_stop(&ticker, 250 * USEC_PER_MSEC);
    uint64_t begin_mono_usec = clock_mono_usec();
    client_done(&client);
    assert_true(clock_mono_usec() - begin_mono_usec < USEC_PER_SEC);
    for (int i = 0; i < 4; i++)
        close(others[i]);
}

static void dead_broker_is_found_by_keepalive(void **state)
{
    struct broker broker;
    struct client client;
    (void)state;
    broker_init(&broker);
    broker_start(&broker, "allow_anonymous true\n");
    client_init(&client, broker.port);
    client.options.connector.keepalive_sec = 5; // the library's least
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    kill(broker.pid, SIGSTOP);
    RUN_UNTIL(&client, client.n_lost == 1);
    assert_reason(&client, "keepalive: no answer to PINGREQ");
    kill(broker.pid, SIGCONT);
    RUN_UNTIL(&client, client.n_connected == 2);
    client_done(&client);
    broker_done(&broker);
}

/* --- a side that is slow --------------------------------------------------------------------- */

/* A broker of the test's own, and one who sees what comes on t/#. */
static void start_watched(struct broker *broker, struct client *watcher)
{
    broker_init(broker);
    broker_start(broker, "allow_anonymous true\n");
    client_init(watcher, broker->port);
    watcher->options.connector.client_id = "watcher";
    client_start(watcher);
    RUN_UNTIL(watcher, watcher->n_connected == 1);
    subscribe(watcher, "t/#");
    RUN_UNTIL(watcher, watcher->n_granted == 1);
}

static void goodbye_waits_until_all_has_left(void **state)
{
    enum { SIZE = 1 << 20, N = 8 }; // more than sockets hold
    _cleanup_(freep) char *payload = calloc(1, SIZE);
    struct broker broker;
    struct client watcher, client;
    (void)state;
    start_watched(&broker, &watcher);
    client_init(&client, broker.port);
    client.options.connector.will_topic = "t/will";
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    kill(broker.pid, SIGSTOP);
    for (int i = 0; i < N; i++)
        assert_int_equal(publish_to(&client, "t/x", payload, SIZE, 0, NULL), 0);
    client_stop(&client);
    run_for(&client, 200 * USEC_PER_MSEC);
    assert_int_equal(client.n_stopped, 0);
    kill(broker.pid, SIGCONT);
    RUN_UNTIL(&client, client.n_stopped == 1);
    RUN_UNTIL(&watcher, watcher.n_messages == N);
    run_for(&watcher, 20 * USEC_PER_MSEC);
    assert_int_equal(watcher.n_messages, N);
    client_done(&client);
    client_done(&watcher);
    broker_done(&broker);
}

static void last_words_wait_for_a_loop_that_is_behind(void **state)
{
    enum { SIZE = 1000, N = 2000 }; // more than the pair and the connector hold
    char payload[SIZE] = { 0 };
    struct broker broker;
    struct client sender, client;
    (void)state;
    start_watched(&broker, &sender);
    client_init(&client, broker.port);
    client.options.connector.max_rate = 1000000; // it reads on, and drops
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    subscribe(&client, "t/#");
    RUN_UNTIL(&client, client.n_granted == 1);
    for (int i = 0; i < N; i++)
        assert_int_equal(publish_to(&sender, "t/x", payload, SIZE, 1, NULL), 0);
    RUN_UNTIL(&sender, sender.n_published == N && sender.n_messages == N);
    broker_stop(&broker);
    run_for(&sender, 300 * USEC_PER_MSEC); // the client's own loop stands still meanwhile
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_int_equal(client.n_lost, 1);
    assert_reason(&client, "closed by the broker");
    assert_in_range(client.n_messages, 100, N - 1);
    client_done(&client);
    client_done(&sender);
    broker_done(&broker);
}

/* --- a connector that is killed -------------------------------------------------------------- */

/* Whether CONNECT has come to a listener, by the connection that *ret_fd then is. */
static bool has_connect(int listener, int *ret_fd)
{
    struct pollfd fds = { .fd = listener, .events = POLLIN };
    if (poll(&fds, 1, 0) != 1)
        return false;
    fds.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    bool has = poll(&fds, 1, 5000) == 1;
    *ret_fd = fds.fd;
    return has;
}

static void killed_amidst_connecting_is_an_attempt_that_has_failed(void **state)
{
    (void)state;
    for (int answers = 0; answers <= 1; answers++) { // on TCP
        struct client client;
        int port, others[4] = { -1, -1, -1, -1 };
        _cleanup_(closep) int fd = answers ? listen_somewhere(&port) : listen_full(&port, others);
        _cleanup_(closep) int peer_fd = -EBADF;
        pid_t pid;
        client_init(&client, port);
        client.options.protocol = MQTT_PROTOCOL_5;
        client_start(&client);
        RUN_UNTIL(&client, answers ? has_connect(fd, &peer_fd) : find_connectors(&pid, 1) == 1);
        assert_int_equal(client.n_disconnected, 0);
        kill(connector_pid(), SIGKILL);
        RUN_UNTIL(&client, client.n_disconnected == 1);
        assert_int_equal(client.n_lost, 0);
        assert_reason(&client, "the connector was killed by signal 9 (Killed)");
        assert_int_equal(strncmp(client.reason, "127.0.0.1:", 10) == 0, answers);
        assert_true(client.last_retry_usec >= client.options.reconnect_min_usec);
        RUN_UNTIL(&client, strstr(link_describe(client.link), "connecting to")); // once more
        client_done(&client);
        for (int i = 0; i < 4; i++)
            closep(&others[i]);
    }
}

static void killed_while_connected_is_a_connection_that_is_lost(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client_start(&client);
    for (unsigned i = 1; i <= 3; i++) {
        RUN_UNTIL(&client, client.n_connected == i);
        kill(connector_pid(), SIGKILL);
        RUN_UNTIL(&client, client.n_lost == i);
        assert_int_equal(client.n_disconnected, i);
        assert_reason(&client, "127.0.0.1:");
        assert_reason(&client, ": the connector was killed by signal 9 (Killed)");
        assert_true(client.last_retry_usec >= client.options.reconnect_min_usec);
    }
    RUN_UNTIL(&client, client.n_connected == 4);
    client_done(&client);
}

static void what_the_dead_had_in_flight_comes_back_once(void **state)
{
    enum { WINDOW = 20 };
    struct client client;
    unsigned n_sent = 0, n_lost_messages = 0;
    (void)state;
    client_init(&client, plain.port);
    client.options.protocol = MQTT_PROTOCOL_5;
    client_start(&client);
    for (unsigned i = 1; i <= 10; i++) {
        RUN_UNTIL(&client, client.n_connected == i);
        unsigned n_before = client.n_published;
        pid_t pid = connector_pid();
        while (client.n_lost < i) {
            while (link_is_connected(client.link) &&
                   n_sent - n_lost_messages - client.n_published < WINDOW) {
                publish(&client, "t/flight", "0123456789", 1);
                n_sent++;
            }
            if (client.n_published - n_before > 10 * i && pid > 0) {
                kill(pid, SIGKILL);
                pid = 0;
            }
            assert_true(sd_event_run(client.event, 100 * USEC_PER_MSEC) >= 0);
        }
        unsigned n_missing = n_sent - n_lost_messages - client.n_published;
        assert_true(n_missing <= WINDOW);
        n_lost_messages += n_missing;
    }
    RUN_UNTIL(&client, client.n_connected == 11);
    run_for(&client, 20 * USEC_PER_MSEC);
    assert_int_equal(client.n_published + n_lost_messages, n_sent); // none is acknowledged late
    assert_int_equal(client.n_disconnected, 10);
    client_done(&client);
}

static void what_a_broker_did_not_acknowledge_is_lost_with_the_connector(void **state)
{
    struct broker broker;
    struct client client;
    (void)state;
    broker_init(&broker);
    broker_start(&broker, "allow_anonymous true\n");
    client_init(&client, broker.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    kill(broker.pid, SIGSTOP);
    for (int i = 0; i < 10; i++)
        publish(&client, "t/flight", "0123456789", 1);
    run_for(&client, 50 * USEC_PER_MSEC);
    kill(connector_pid(), SIGKILL);
    RUN_UNTIL(&client, client.n_lost == 1);
    assert_int_equal(client.n_published, 0);
    kill(broker.pid, SIGCONT);
    RUN_UNTIL(&client, client.n_connected == 2);
    publish(&client, "t/flight", "0123456789", 1);
    RUN_UNTIL(&client, client.n_published == 1);
    run_for(&client, 20 * USEC_PER_MSEC);
    assert_int_equal(client.n_published, 1);
    client_done(&client);
    broker_done(&broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broker_restart_is_reported_and_mended),
        cmocka_unit_test(refused_connection_is_reported_once_and_tried_again),
        cmocka_unit_test(host_that_refuses_is_not_waited_for),
        cmocka_unit_test(host_that_is_named_first_is_preferred),
        cmocka_unit_test(all_hosts_that_fail_are_named),
        cmocka_unit_test(name_that_does_not_exist_is_named),
        cmocka_unit_test(reason_of_the_brokers_disconnect_is_told),
        cmocka_unit_test(falls_back_where_5_is_refused),
        cmocka_unit_test(falls_back_where_5_makes_the_broker_close),
        cmocka_unit_test(host_that_is_no_broker_gives_way_to_the_next),
        cmocka_unit_test(wrong_password_and_unreadable_file_are_named),
        cmocka_unit_test(tls_checks_both_sides),
        cmocka_unit_test(psk_opens_with_the_right_key),
        cmocka_unit_test(silent_peer_times_out_without_spinning),
        cmocka_unit_test(black_hole_does_not_hold_the_loop),
        cmocka_unit_test(dead_broker_is_found_by_keepalive),
        cmocka_unit_test(goodbye_waits_until_all_has_left),
        cmocka_unit_test(last_words_wait_for_a_loop_that_is_behind),
        cmocka_unit_test(killed_amidst_connecting_is_an_attempt_that_has_failed),
        cmocka_unit_test(killed_while_connected_is_a_connection_that_is_lost),
        cmocka_unit_test(what_the_dead_had_in_flight_comes_back_once),
        cmocka_unit_test(what_a_broker_did_not_acknowledge_is_lost_with_the_connector),
    };
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
