// SPDX-License-Identifier: LGPL-2.1-or-later
// How the MQTT client connects: to a real mosquitto, and to peers that refuse, hang or go away.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

#include "mqtt-fixture.h"

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
    assert_int_equal(mqtt_protocol(client.mqtt), 5); // a restart is no refusal of 5
    assert_int_equal(client.n_disconnected, 3);
    client_done(&client);
    broker_done(&broker);
}

/* Copies of every connection to port, as a program that is just being started has them. */
static size_t copy_connections(int port, int copies[static 8])
{
    size_t n = 0;
    for (int fd = 3; fd < 100; fd++) {
        struct sockaddr_in peer;
        socklen_t size = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == port && n < 8) {
            copies[n] = fcntl(fd, F_DUPFD_CLOEXEC, 100); // beyond those that are looked at
            assert_true(copies[n++] >= 100);
        }
    }
    return n;
}

static void copy_of_the_socket_elsewhere_does_not_haunt_the_loop(void **state)
{
    struct broker broker;
    struct client client;
    int copies[8];
    (void)state;
    broker_init(&broker);
    broker_start(&broker, "allow_anonymous true\n");
    client_init(&client, broker.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    size_t n_copies = copy_connections(broker.port, copies);
    assert_true(n_copies > 0);
    broker_stop(&broker);
    RUN_UNTIL(&client, client.n_disconnected >= 1);
    broker_start(&broker, "allow_anonymous true\n");
    RUN_UNTIL(&client, client.n_connected == 2);
    for (size_t i = 0; i < n_copies; i++)
        close(copies[i]);
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
    for (int i = 0; i < 10; i++)
        assert_true(sd_event_run(client.event, 50 * USEC_PER_MSEC) >= 0);
    broker_start(&broker, "allow_anonymous true\n");
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(client.n_disconnected, 1);
    client_done(&client);
    broker_done(&broker);
}

static void next_host_is_tried_at_once(void **state)
{
    struct client client;
    (void)state;
    client_init(&client, plain.port);
    client.hosts[0] = (char *)"127.0.0.2"; // mosquitto listens on 127.0.0.1 alone
    client.hosts[1] = (char *)"127.0.0.1";
    client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(client.n_disconnected, 1);
    assert_int_equal(client.last_retry_usec, 0);
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
    struct fake fake;
    struct client client;
    fake_start(&fake, answer);
    client_init(&client, fake.port);
    client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
    client_start(&client);
    RUN_UNTIL(&client, client.n_connected == 1);
    assert_int_equal(mqtt_protocol(client.mqtt), 4);
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);

    // With protocol = 5 that is final.
    client_init(&client, fake.port);
    client.options.protocol = 5;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    client_done(&client);
    fake_stop(&fake);
}

static void reason_of_the_brokers_disconnect_is_told(void **state)
{
    struct fake fake;
    struct client client;
    (void)state;
    fake_start(&fake, TAKES_5_AND_SAYS_GOODBYE);
    client_init(&client, fake.port);
    client_start(&client);
    RUN_UNTIL(&client, client.n_lost == 1);
    assert_reason(&client, "closed by the broker: Session taken over");
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

    for (int protocol = 4; protocol <= 5; protocol++) {
        client_init(&client, broker.port);
        client.options.protocol = protocol;
        client.options.username = "user";
        client.options.password_file = path;
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
    client.options.username = "user";
    client.options.password_file = "/nonexistent/password";
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "password_file /nonexistent/password: No such file");
    client_done(&client);

    // The same of each host: told with the first, and with the pause once there is no other.
    client_init(&client, broker.port);
    client.hosts[0] = client.hosts[1] = (char *)"127.0.0.1";
    client.options.password_file = "/nonexistent/password";
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_int_equal(client.last_retry_usec, 0);
    RUN_UNTIL(&client, client.n_disconnected == 2);
    assert_true(client.last_retry_usec > 0);
    for (int i = 0; i < 10; i++)
        assert_true(sd_event_run(client.event, 50 * USEC_PER_MSEC) >= 0);
    assert_int_equal(client.n_disconnected, 2);
    client_done(&client);

    // A bare name is a credential.
    client_init(&client, broker.port);
    client.options.username = "user";
    client.options.password_file = "right";
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
    client.options.tls = true;
    client.options.ca_file = ca;
    client.options.cert_file = certificate;
    client.options.key_file = key;
    client_start(&client);
    converse(&client);
    client_done(&client);

    client_init(&client, broker.port);
    client.hosts[0] = (char *)"localhost";
    client.options.tls = true;
    client.options.ca_file = other_ca;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "TLS: certificate verify failed");
    client_done(&client);

    // The system's store does not know it either, with and without a certificate of our own.
    for (int i = 0; i < 2; i++) {
        client_init(&client, broker.port);
        client.hosts[0] = (char *)"localhost";
        client.options.tls = true;
        client.options.cert_file = i ? certificate : NULL;
        client.options.key_file = i ? key : NULL;
        client_start(&client);
        RUN_UNTIL(&client, client.n_disconnected == 1);
        assert_reason(&client, "TLS: certificate verify failed");
        client_done(&client);
    }

    // A name that is not in the certificate, no certificate, a CA that is not there.
    client_init(&client, broker.port);
    client.options.tls = true;
    client.options.ca_file = ca;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "TLS: host name verification failed");
    client_done(&client);

    client_init(&client, broker.port);
    client.hosts[0] = (char *)"localhost";
    client.options.tls = true;
    client.options.ca_file = ca;
    client_start(&client);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "TLS: ");
    assert_reason(&client, "certificate required"); // by its alert, or by our guess

    client_done(&client);

    client_init(&client, broker.port);
    client.hosts[0] = (char *)"localhost";
    client.options.tls = true;
    client.options.ca_file = "/nonexistent/ca";
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
        client.options.tls = true;
        client.options.psk_identity = "me";
        client.options.psk_file = path;
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

struct ticker {
    sd_event_source *source;
    uint64_t last_mono_usec, longest_usec;
};

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct ticker *ticker = userdata;
    uint64_t now = clock_mono_usec();
    (void)usec;
    if (ticker->last_mono_usec && now - ticker->last_mono_usec > ticker->longest_usec)
        ticker->longest_usec = now - ticker->last_mono_usec;
    ticker->last_mono_usec = now;
    sd_event_source_set_time_relative(source, 5 * USEC_PER_MSEC);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void ticker_start(struct ticker *ticker, sd_event *event)
{
    *ticker = (struct ticker){ 0 };
    assert_int_equal(
        sd_event_add_time(event, &ticker->source, CLOCK_BOOTTIME, 0, 1, on_tick, ticker), 0);
}

static void ticker_stop(struct ticker *ticker)
{
    sd_event_source_disable_unref(ticker->source);
    assert_true(ticker->longest_usec > 0);
    assert_true(ticker->longest_usec < 100 * USEC_PER_MSEC);
}

static uint64_t cpu_usec(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * USEC_PER_SEC +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
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
        client.options.tls = tls;
        client.options.attempt_limit_usec = USEC_PER_SEC;
        client.options.reconnect_min_usec = client.options.reconnect_max_usec = 3600 * USEC_PER_SEC;
        client_start(&client);
        uint64_t begin_usec = 0;
        for (int i = 0; i < 100 && client.n_disconnected == 0; i++) {
            assert_true(sd_event_run(client.event, 50 * USEC_PER_MSEC) >= 0);
            if (i == 6)
                begin_usec = cpu_usec(); // setting up is over
        }
        assert_int_equal(client.n_disconnected, 1);
        assert_true(begin_usec > 0);
        assert_true(cpu_usec() - begin_usec < 100 * USEC_PER_MSEC);
        assert_reason(&client, "no answer from 127.0.0.1");
        assert_reason(&client, "within 1 s");
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
    ticker_start(&ticker, client.event);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "no answer from 127.0.0.1");
    // Attempts go on until four threads hang there; then it waits for one of them.
    RUN_UNTIL(&client, strstr(mqtt_describe(client.mqtt), "still hang"));
    uint64_t begin_mono_usec = clock_mono_usec();
    ticker_stop(&ticker);
    client_done(&client);
    assert_true(clock_mono_usec() - begin_mono_usec < 100 * USEC_PER_MSEC);
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
    client.options.keepalive_usec = 5 * USEC_PER_SEC; // the library's least
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broker_restart_is_reported_and_mended),
        cmocka_unit_test(copy_of_the_socket_elsewhere_does_not_haunt_the_loop),
        cmocka_unit_test(refused_connection_is_reported_once_and_tried_again),
        cmocka_unit_test(next_host_is_tried_at_once),
        cmocka_unit_test(name_that_does_not_exist_is_named),
        cmocka_unit_test(reason_of_the_brokers_disconnect_is_told),
        cmocka_unit_test(falls_back_where_5_is_refused),
        cmocka_unit_test(falls_back_where_5_makes_the_broker_close),
        cmocka_unit_test(wrong_password_and_unreadable_file_are_named),
        cmocka_unit_test(tls_checks_both_sides),
        cmocka_unit_test(psk_opens_with_the_right_key),
        cmocka_unit_test(silent_peer_times_out_without_spinning),
        cmocka_unit_test(dead_broker_is_found_by_keepalive),
        cmocka_unit_test(black_hole_does_not_hold_the_loop), // last: it leaves threads behind
    };
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
