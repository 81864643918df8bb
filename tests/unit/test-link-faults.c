// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a link does when its connector ends, hangs or says what it must not. The connector is
 * connector-fake.c, and this test speaks for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "io/child.h"

#include "link-fixture.h"

/* A connector, from the inside. */
struct peer {
    int fd;     // its end of the pair
    int orders; // see connector-fake.c
    struct frame_reader reader;
    struct frame_options options;
    struct frame_record record; // heard last
    uint8_t frame[FRAME_MAX_SIZE];
};

static int calls_fd = -EBADF; // fakes call here

static int listen_for_fakes(void **state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char name[64];
    (void)state;
    int length = snprintf(name, sizeof(name), "test-link-faults-%d", (int)getpid());
    memcpy(address.sun_path + 1, name, (size_t)length);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    calls_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(calls_fd >= 0);
    assert_int_equal(bind(calls_fd, (const struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(calls_fd, 16), 0);
    assert_int_equal(setenv("FAKE_CONNECTOR", name, 1), 0);
    return 0;
}

static int take_over_pair(int orders)
{
    char byte;
    struct iovec data = { .iov_base = &byte, .iov_len = 1 };
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct msghdr message = { .msg_iov = &data,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof(control.bytes) };
    int fd;
    assert_int_equal(recvmsg(orders, &message, MSG_CMSG_CLOEXEC), 1);
    assert_non_null(CMSG_FIRSTHDR(&message));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

/* The loop turns until the next connector has called. */
static void meet(struct client *client, struct peer *peer)
{
    *peer = (struct peer){ .reader = { .max_size = 8 << 20 } };
    peer->record.options = &peer->options;
    for (int i = 0; (peer->orders = accept4(calls_fd, NULL, NULL, SOCK_CLOEXEC)) < 0; i++) {
        assert_true(i < 20000);
        assert_true(sd_event_run(client->event, USEC_PER_MSEC) >= 0);
    }
    peer->fd = take_over_pair(peer->orders);
}

static void hang_up(struct peer *peer)
{
    closep(&peer->fd);
    closep(&peer->orders);
    peer->fd = peer->orders = -EBADF;
    frame_reader_done(&peer->reader);
}

static void order(struct peer *peer, const char *text)
{
    assert_int_equal(send(peer->orders, text, strlen(text), 0), strlen(text));
}

/* It aborts, and is a zombie when this returns: the loop has not turned. */
static void die(struct peer *peer)
{
    siginfo_t info;
    order(peer, "a");
    assert_int_equal(waitid(P_PID, (id_t)connector_pid(), &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(info.si_status, SIGABRT);
}

static bool is_dead(struct peer *peer)
{
    char byte;
    return recv(peer->orders, &byte, 1, MSG_DONTWAIT) == 0;
}

/* The next record from the link, whose strings are good until the one after; 0: the pair has ended.
 */
static enum frame_kind hear(struct client *client, struct peer *peer)
{
    for (int i = 0;; i++) {
        int r = frame_reader_next(&peer->reader, &peer->record);
        assert_true(r >= 0);
        if (r > 0)
            return peer->record.kind;
        ssize_t n;
        while ((n = recv(peer->fd, peer->frame, sizeof(peer->frame), MSG_DONTWAIT)) < 0) {
            assert_true(i++ < 20000);
            assert_true(sd_event_run(client->event, USEC_PER_MSEC) >= 0);
        }
        if (n == 0)
            return 0;
        frame_reader_feed(&peer->reader, peer->frame, (size_t)n);
    }
}

static void say_bytes(struct peer *peer, const void *bytes, size_t size)
{
    assert_int_equal(send(peer->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL), size);
}

static void say_all(struct peer *peer, struct frame_queue *queue)
{
    const void *bytes;
    size_t size;
    while (frame_queue_first(queue, &bytes, &size)) {
        say_bytes(peer, bytes, size);
        frame_queue_pop(queue);
    }
    frame_queue_done(queue);
}

static void say(struct peer *peer, struct frame_record record)
{
    struct frame_queue queue = { 0 };
    assert_int_equal(frame_queue_put(&queue, &record), 0);
    say_all(peer, &queue);
}

static void acknowledge(struct peer *peer, uint32_t id)
{
    say(peer, (struct frame_record){ .kind = FRAME_ACKNOWLEDGED, .id = id });
}

static void say_message(struct peer *peer, const char *payload)
{
    say(peer,
        (struct frame_record){
            .kind = FRAME_MESSAGE,
            .message = { .topic = "t/x", .payload = payload, .payload_size = strlen(payload) } });
}

/* A connector that has come as far as TCP. */
static void reach(struct client *client, struct peer *peer)
{
    meet(client, peer);
    assert_int_equal(hear(client, peer), FRAME_OPTIONS);
    say(peer, (struct frame_record){ .kind = FRAME_REACHED, .text = "broker:1" });
}

static void come_up(struct client *client, struct peer *peer)
{
    unsigned n_connected = client->n_connected;
    reach(client, peer);
    say(peer, (struct frame_record){ .kind = FRAME_CONNECTED,
                                     .connected = { .protocol = peer->options.protocol,
                                                    .receive_maximum = 100,
                                                    .keepalive_sec = 60 } });
    RUN_UNTIL(client, client->n_connected == n_connected + 1);
}

static void init_and_start(struct client *client)
{
    client_init(client, 1);
    client_start(client);
}

/* --- what is said ---------------------------------------------------------------------------- */

static void options_come_first_and_alone(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    client_init(&client, 1884);
    client.hosts[0] = (char *)"a";
    client.hosts[1] = (char *)"b";
    client.options.connector.username = "user";
    client.options.connector.password_file = "file";
    client.options.connector.will_topic = "will";
    client.options.connector.session_expiry_sec = 90;
    client.options.connector.max_rate = 7;
    client_start(&client);
    meet(&client, &peer);
    assert_int_equal(hear(&client, &peer), FRAME_OPTIONS);
    const struct frame_options *options = &peer.options;
    assert_int_equal(options->parent, getpid());
    assert_int_equal(options->n_hosts, 2);
    assert_string_equal(options->hosts[0], "a");
    assert_string_equal(options->hosts[1], "b");
    assert_int_equal(options->port, 1884);
    assert_false(options->unix_socket || options->tls);
    assert_int_equal(options->protocol, MQTT_PROTOCOL_5);
    assert_string_equal(options->client_id, "test");
    assert_int_equal(options->keepalive_sec, 60);
    assert_int_equal(options->session_expiry_sec, 90);
    assert_string_equal(options->username, "user");
    assert_string_equal(options->password_file, "file");
    assert_string_equal(options->will_topic, "will");
    assert_null(options->will_payload);
    assert_null(options->ca_file);
    assert_int_equal(options->receive_maximum, UINT16_MAX);
    assert_int_equal(options->max_message, 1 << 20);
    assert_int_equal(options->max_rate, 7);
    run_for(&client, 20 * USEC_PER_MSEC);
    assert_true(recv(peer.fd, peer.frame, 1, MSG_DONTWAIT) < 0);
    client_done(&client);
    hang_up(&peer);
}

static void hosts_behind_the_one_that_failed_are_offered_next(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    client_init(&client, 1);
    client.hosts[0] = (char *)"a";
    client.hosts[1] = (char *)"b";
    client_start(&client);
    reach(&client, &peer);
    say(&peer, (struct frame_record){ .kind = FRAME_FAILED, .text = "no good" });
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_string_equal(client.reason, "no good");
    assert_int_equal(client.last_retry_usec, 0);
    reach(&client, &peer); // its first host is the second of all
    assert_int_equal(peer.options.n_hosts, 1);
    assert_string_equal(peer.options.hosts[0], "b");
    assert_int_equal(peer.options.rotation, 1);
    say(&peer, (struct frame_record){ .kind = FRAME_FAILED, .text = "no good" });
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 2); // the same again, and now there is no other
    assert_true(client.last_retry_usec > 0);
    meet(&client, &peer);
    assert_int_equal(hear(&client, &peer), FRAME_OPTIONS);
    assert_int_equal(peer.options.n_hosts, 2);
    client_done(&client);
    hang_up(&peer);
}

static void refusal_of_5_is_followed_by_3_1_1_without_a_word(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    reach(&client, &peer);
    say(&peer, (struct frame_record){ .kind = FRAME_FAILED,
                                      .code = FRAME_FAILURE_VERSION_REFUSED,
                                      .text = "too new" });
    hang_up(&peer);
    come_up(&client, &peer);
    assert_int_equal(peer.options.protocol, MQTT_PROTOCOL_311);
    assert_string_equal(link_describe(client.link), "connected to broker:1, MQTT 3.1.1");
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);
    hang_up(&peer);
}

static void publications_come_in_their_order_and_in_parts(void **state)
{
    enum { SIZE = 1 << 20, N = 50 };
    _cleanup_(freep) char *payload = calloc(1, SIZE);
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    // More than the pair takes: the link waits for it, and its user does not.
    for (int i = 0; i < N; i++) {
        int mid;
        size_t size = i % 10 == 0 ? SIZE : 10;
        payload[0] = (char)i;
        assert_int_equal(publish_to(&client, "t/x", payload, size, 1, &mid), 0);
        assert_int_equal(mid, i + 1);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(hear(&client, &peer), FRAME_PUBLISH);
        assert_int_equal(peer.record.id, i + 1);
        assert_int_equal(peer.record.message.payload_size, i % 10 == 0 ? SIZE : 10);
        assert_int_equal(peer.record.message.payload[0], i);
    }
    client_done(&client);
    hang_up(&peer);
}

static void stop_comes_behind_what_was_published(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    publish(&client, "t/x", "1", 1);
    subscribe(&client, "t/#");
    client_stop(&client);
    assert_int_equal(hear(&client, &peer), FRAME_PUBLISH);
    assert_int_equal(hear(&client, &peer), FRAME_SUBSCRIBE);
    assert_int_equal(hear(&client, &peer), FRAME_STOP);
    acknowledge(&peer, 1);
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_stopped == 1);
    assert_int_equal(client.n_published, 1);
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);
}

static void one_that_does_not_stop_is_killed(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    link_stop(client.link, 50 * USEC_PER_MSEC);
    RUN_UNTIL(&client, is_dead(&peer));
    assert_int_equal(client.n_stopped, 0); // its words may still come
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_stopped == 1);
    client_done(&client);
}

static void free_kills_it(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    for (int connects = 0; connects <= 1; connects++) {
        init_and_start(&client);
        if (connects)
            come_up(&client, &peer);
        else
            meet(&client, &peer);
        client_done(&client);
        assert_true(is_dead(&peer));
        hang_up(&peer);
    }
}

static size_t count_descriptors(void)
{
    size_t n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void loop_may_end_before_it_is_reaped(void **state)
{
    size_t n_before = count_descriptors();
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    pid_t pid = connector_pid();
    link_free(client.link);
    sd_event_unref(client.event);
    n_clients--;
    hang_up(&peer);
    assert_int_equal(count_descriptors(), n_before);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* --- how it ends ----------------------------------------------------------------------------- */

static void one_that_aborts_is_told_with_its_last_line(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    order(&peer, "sthe first line\n");
    order(&peer, "sconnector: packet.c:77: Assertion `size > 0' failed.\n\n");
    die(&peer);
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_string_equal(client.reason, "broker:1: the connector was killed by signal 6 (Aborted): "
                                       "connector: packet.c:77: Assertion `size > 0' failed.");
    assert_int_equal(client.n_lost, 1);
    come_up(&client, &peer);
    client_done(&client);
    hang_up(&peer);
}

static void last_line_is_printable_and_bounded(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    for (int i = 0; i < 100; i++)
        order(&peer, "s0123456789012345678901234567890123456789012345678901234567890123456789");
    order(&peer, "s\033[2J\xff end\r\n");
    order(&peer, "e1");
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "the connector ended with status 1: ");
    assert_reason(&client, " end");
    for (const char *at = client.reason; *at; at++)
        assert_in_range(*at, ' ', '~');
    client_done(&client);
}

static void one_that_says_nothing_is_told_too(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    hang_up(&peer); // status 0
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "the connector has ended without a word");
    client_done(&client);
}

static void its_reason_counts_more_than_its_end(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    say_message(&peer, "1");
    say(&peer, (struct frame_record){ .kind = FRAME_FAILED, .text = "broker:1: it rains" });
    die(&peer); // its end is known before its words are read
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_string_equal(client.reason, "broker:1: it rains");
    assert_int_equal(client.n_messages, 1);
    client_done(&client);
}

static void one_that_dies_on_the_way_to_mqtt_5_is_followed_by_3_1_1(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    meet(&client, &peer);
    assert_int_equal(hear(&client, &peer), FRAME_OPTIONS);
    assert_int_equal(peer.options.protocol, MQTT_PROTOCOL_5);
    say(&peer, (struct frame_record){ .kind = FRAME_REACHED, .text = "broker:1" });
    die(&peer);
    hang_up(&peer);
    come_up(&client, &peer);
    assert_int_equal(peer.options.protocol, MQTT_PROTOCOL_311);
    client_done(&client);
    hang_up(&peer);
}

static void what_it_had_said_is_heard_and_the_rest_comes_back(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    for (int i = 0; i < 10; i++)
        publish(&client, "t/x", "1", 1);
    for (uint32_t id = 1; id <= 10; id++)
        assert_int_equal(hear(&client, &peer), FRAME_PUBLISH);
    for (uint32_t id = 1; id <= 4; id++) {
        acknowledge(&peer, id);
        say_message(&peer, "1");
    }
    die(&peer);
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_int_equal(client.n_lost, 1);
    assert_int_equal(client.n_published, 4);
    assert_int_equal(client.n_messages, 4);
    come_up(&client, &peer);
    assert_int_equal(client.n_published, 4);
    publish(&client, "t/x", "1", 1);
    assert_int_equal(hear(&client, &peer), FRAME_PUBLISH);
    assert_int_equal(peer.record.id, 11); // no number comes twice
    client_done(&client);
    hang_up(&peer);
}

static void next_one_begins_anew(void **state)
{
    static const uint8_t half[] = { 4, 0, 0, 0, FRAME_FAILED, 1, 0, 0, 0, 0, 0, 0 };
    enum { SIZE = 1 << 20 };
    _cleanup_(freep) char *payload = calloc(1, SIZE);
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    assert_int_equal(publish_to(&client, "t/x", payload, SIZE, 1, NULL), 0);
    run_for(&client, USEC_PER_MSEC); // the pair is full, and more waits
    say_bytes(&peer, half, sizeof(half));
    die(&peer);
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    come_up(&client, &peer);
    publish(&client, "t/x", "1", 1);
    assert_int_equal(hear(&client, &peer), FRAME_PUBLISH);
    assert_int_equal(peer.record.message.payload_size, 1);
    client_done(&client);
    hang_up(&peer);
}

static void next_one_waits_for_the_end_of_the_last(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    die(&peer); // its end of the pair is still open
    run_for(&client, 300 * USEC_PER_MSEC);
    assert_int_equal(client.n_disconnected, 0);
    assert_true(accept4(calls_fd, NULL, NULL, SOCK_CLOEXEC) < 0);
    say_message(&peer, "1");
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_int_equal(client.n_messages, 1);
    client_done(&client);
}

static void one_that_never_stops_talking_holds_nobody(void **state)
{
    struct client client;
    struct peer peer;
    struct ticker ticker;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    order(&peer, "sone line\n"); // there is no other, yet
    run_for(&client, 10 * USEC_PER_MSEC);
    order(&peer, "f");
    ticker_start(&ticker, client.event, USEC_PER_MSEC);
    for (uint32_t id = 1; id <= 100; id++) {
        publish(&client, "t/x", "1", 1);
        assert_int_equal(hear(&client, &peer), FRAME_PUBLISH);
        acknowledge(&peer, id);
        RUN_UNTIL(&client, client.n_published == id);
    }
    run_for(&client, 50 * USEC_PER_MSEC);
    ticker_stop(&ticker, 250 * USEC_PER_MSEC);
    kill(connector_pid(), SIGKILL);
    hang_up(&peer);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_reason(&client, "signal 9 (Killed): ");
    assert_reason(&client, "blah");
    client_done(&client);
}

static void one_that_cannot_be_started_is_told_and_tried_again(void **state)
{
    struct client client;
    struct peer peer;
    struct rlimit limit, none;
    (void)state;
    client_init(&client, 1);
    client_start(&client);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){ .rlim_cur = 3, .rlim_max = limit.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    RUN_UNTIL(&client, client.n_disconnected == 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_reason(&client, "Too many open files");
    assert_true(client.last_retry_usec > 0);
    come_up(&client, &peer);
    client_done(&client);
    hang_up(&peer);
}

static void give_up(void *userdata, const struct link_event *event)
{
    (void)userdata;
    if (event->news != LINK_DISCONNECTED)
        return;
    print_error("%s\n", event->reason);
    _exit(1);
}

/* The child of is_started_without_proc_too(): 77 where it may not hide /proc. */
static _Noreturn void run_without_proc(void)
{
    char *hosts[] = { (char *)"127.0.0.1", NULL };
    const struct link_options options = { .connector = { .client_id = "test", .port = 1 },
                                          .hosts = hosts };
    sd_event *event;
    struct link *link;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/proc", "tmpfs", 0, NULL) < 0)
        _exit(77);
    if (sd_event_new(&event) < 0 || link_new(event, &options, give_up, NULL, &link) < 0)
        _exit(1);
    link_start(link);
    for (int i = 0; i < 5000; i++) {
        if (accept4(calls_fd, NULL, NULL, SOCK_CLOEXEC) >= 0)
            _exit(0);
        (void)sd_event_run(event, USEC_PER_MSEC);
    }
    _exit(1);
}

/* As in a small chroot. */
static void is_started_without_proc_too(void **state)
{
    struct why why;
    int status;
    (void)state;
    assert_int_equal(child_init(&why), 0); // which looks there where the program is
    pid_t pid = fork();
    if (pid == 0)
        run_without_proc();
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- what it must not say -------------------------------------------------------------------- */

struct bad_frame {
    const char *what;
    size_t size;
    uint8_t bytes[64];
};

/* A header: size, kind, flags, two zeros. */
static const struct bad_frame bad_frames[] = {
    { "half a header", 3, { 0 } },
    { "all ones",
      16,
      { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 } },
    { "no kind", 8, { 0, 0, 0, 0, 0 } },
    { "a kind that there is not", 8, { 0, 0, 0, 0, 77 } },
    { "more than there is", 8, { 1, 0, 0, 0, FRAME_PONG } },
    { "more than it has", 9, { 1, 0, 0, 0, FRAME_PONG } },
    { "flags that there are not", 8, { 0, 0, 0, 0, FRAME_PONG, 2 } },
    { "what is not zero", 8, { 0, 0, 0, 0, FRAME_PONG, 0, 1 } },
    { "a ping", 8, { 0, 0, 0, 0, FRAME_PING } },
    { "a stop", 8, { 0, 0, 0, 0, FRAME_STOP } },
    { "options", 12, { 4, 0, 0, 0, FRAME_OPTIONS, 0, 0, 0, FRAME_VERSION } },
    { "a host that is not",
      18,
      { 10, 0, 0, 0, FRAME_REACHED, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 'a' } },
    { "a host that was never",
      18,
      { 10, 0, 0, 0, FRAME_REACHED, 0, 0, 0, 255, 255, 255, 255, 2, 0, 0, 0, 'a' } },
};

static void check_rejected(struct client *client, struct peer *peer)
{
    RUN_UNTIL(client, is_dead(peer));
    hang_up(peer);
    RUN_UNTIL(client, client->n_disconnected == 1);
    assert_reason(client, "the connector is not understood");
    assert_int_equal(client->n_lost, 1);
    client_stop(client);
    RUN_UNTIL(client, client->n_stopped == 1);
    client_done(client);
}

static void malformed_frame_ends_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < ELEMENTS(bad_frames); i++) {
        struct client client;
        struct peer peer;
        init_and_start(&client);
        come_up(&client, &peer);
        say_bytes(&peer, bad_frames[i].bytes, bad_frames[i].size);
        say_message(&peer, "too late");
        check_rejected(&client, &peer);
        assert_int_equal(client.n_messages, 0);
    }
}

static void frame_that_is_too_long_ends_it(void **state)
{
    _cleanup_(freep) uint8_t *bytes = calloc(1, FRAME_MAX_SIZE + 1);
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    say_bytes(&peer, bytes, FRAME_MAX_SIZE + 1);
    check_rejected(&client, &peer);
}

static void message_beyond_its_limit_ends_it(void **state)
{
    enum { SIZE = FRAME_MESSAGE_OVERHEAD + 1001 };
    _cleanup_(freep) char *payload = calloc(1, SIZE);
    const struct frame_record record = {
        .kind = FRAME_MESSAGE,
        .message = { .topic = "t/x", .payload = payload, .payload_size = SIZE }
    };
    struct frame_queue queue = { 0 };
    struct client client;
    struct peer peer;
    const void *bytes;
    size_t size;
    (void)state;
    client_init(&client, 1);
    client.options.connector.max_message = 1000;
    client_start(&client);
    come_up(&client, &peer);
    assert_int_equal(frame_queue_put(&queue, &record), 0);
    while (frame_queue_first(&queue, &bytes, &size) && !is_dead(&peer)) {
        (void)send(peer.fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        frame_queue_pop(&queue);
        assert_true(sd_event_run(client.event, 0) >= 0);
    }
    frame_queue_done(&queue);
    check_rejected(&client, &peer);
    assert_int_equal(client.n_messages, 0);
}

static void malformed_frame_of_one_that_is_dead_is_its_end_too(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    die(&peer);
    run_for(&client, 20 * USEC_PER_MSEC); // it is reaped
    say_bytes(&peer, "x", 1);
    check_rejected(&client, &peer);
}

static void what_comes_out_of_turn_does_no_harm(void **state)
{
    struct client client;
    struct peer peer;
    (void)state;
    init_and_start(&client);
    meet(&client, &peer);
    assert_int_equal(hear(&client, &peer), FRAME_OPTIONS);
    acknowledge(&peer, 4711);
    say(&peer, (struct frame_record){ .kind = FRAME_SUBSCRIBED, .id = 4712 });
    say(&peer, (struct frame_record){ .kind = FRAME_PONG });
    say(&peer, (struct frame_record){ .kind = FRAME_REACHED, .text = "broker:1" });
    for (int i = 0; i < 2; i++)
        say(&peer, (struct frame_record){ .kind = FRAME_CONNECTED,
                                          .connected = { .protocol = MQTT_PROTOCOL_5 } });
    say_message(&peer, "1");
    RUN_UNTIL(&client, client.n_messages == 1);
    assert_int_equal(client.n_connected, 1);
    assert_int_equal(client.n_disconnected, 0);
    client_done(&client);
    hang_up(&peer);
}

/* --- portions -------------------------------------------------------------------------------- */

static int count_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    (*(unsigned *)userdata)++;
    return 0;
}

static void timer_that_is_due_comes_before_the_next_frame(void **state)
{
    enum { N = 1000 };
    const struct frame_record record = {
        .kind = FRAME_MESSAGE, .message = { .topic = "t/x", .payload = "1", .payload_size = 1 }
    };
    struct client client;
    struct peer peer;
    struct frame_queue queue = { 0 };
    unsigned n_ticks = 0;
    (void)state;
    init_and_start(&client);
    come_up(&client, &peer);
    for (int i = 0; i < N; i++)
        assert_int_equal(frame_queue_put(&queue, &record), 0);
    say_all(&peer, &queue);
    for (unsigned i = 1; client.n_messages < N; i++) {
        _cleanup_(sd_event_source_disable_unrefp) sd_event_source *timer = NULL;
        unsigned n_messages = client.n_messages;
        assert_int_equal(
            sd_event_add_time(client.event, &timer, CLOCK_MONOTONIC, 0, 1, count_tick, &n_ticks),
            0);
        assert_true(sd_event_run(client.event, USEC_PER_SEC) > 0);
        assert_int_equal(client.n_messages, n_messages);
        assert_int_equal(n_ticks, i);
        assert_true(sd_event_run(client.event, USEC_PER_SEC) > 0);
        assert_in_range(client.n_messages, n_messages + 1, n_messages + FRAME_MAX_RECORDS);
    }
    client_done(&client);
    hang_up(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_come_first_and_alone),
        cmocka_unit_test(hosts_behind_the_one_that_failed_are_offered_next),
        cmocka_unit_test(refusal_of_5_is_followed_by_3_1_1_without_a_word),
        cmocka_unit_test(publications_come_in_their_order_and_in_parts),
        cmocka_unit_test(stop_comes_behind_what_was_published),
        cmocka_unit_test(one_that_does_not_stop_is_killed),
        cmocka_unit_test(free_kills_it),
        cmocka_unit_test(loop_may_end_before_it_is_reaped),
        cmocka_unit_test(one_that_aborts_is_told_with_its_last_line),
        cmocka_unit_test(last_line_is_printable_and_bounded),
        cmocka_unit_test(one_that_says_nothing_is_told_too),
        cmocka_unit_test(its_reason_counts_more_than_its_end),
        cmocka_unit_test(one_that_dies_on_the_way_to_mqtt_5_is_followed_by_3_1_1),
        cmocka_unit_test(what_it_had_said_is_heard_and_the_rest_comes_back),
        cmocka_unit_test(next_one_begins_anew),
        cmocka_unit_test(next_one_waits_for_the_end_of_the_last),
        cmocka_unit_test(one_that_never_stops_talking_holds_nobody),
        cmocka_unit_test(one_that_cannot_be_started_is_told_and_tried_again),
        cmocka_unit_test(is_started_without_proc_too),
        cmocka_unit_test(malformed_frame_ends_it),
        cmocka_unit_test(frame_that_is_too_long_ends_it),
        cmocka_unit_test(message_beyond_its_limit_ends_it),
        cmocka_unit_test(malformed_frame_of_one_that_is_dead_is_its_end_too),
        cmocka_unit_test(what_comes_out_of_turn_does_no_harm),
        cmocka_unit_test(timer_that_is_due_comes_before_the_next_frame),
    };
    return cmocka_run_group_tests(tests, listen_for_fakes, NULL);
}
