// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The load of bench/server: telemetry of many devices, and a count of the commands that answer it.
 * It speaks just enough MQTT by itself, so that it costs as little as can be.
 *
 *     load behind PORT DEVICES MOST RATE   through a broker on 127.0.0.1, MQTT 3.1.1, QoS 0
 *     load alone PORT DEVICES MOST RATE    as the broker of one server, which connects to it
 *
 * RATE 0: as fast as the server answers, with at most WINDOW messages unanswered; else so many a
 * second. Reads lines from standard input, each the number of messages of a run (at most MOST), and
 * prints one line after it (before the first one "listening", if it is alone, and "ready"):
 * messages, seconds, answers, and the latency's median, 99th percentile and maximum in
 * microseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 400, BUFFER = 1 << 18, TRACKED = 64, QUIET_MSEC = 2000 };

struct side {
    int fd;
    bool is_v5;
    bool is_subscribed;
    size_t n_in, n_out;
    unsigned char in[BUFFER], out[BUFFER];
};

struct run {
    uint64_t n_messages, rate, sent, answered;
    uint64_t *latencies;
    size_t n_latencies;
};

static struct side publisher, subscriber; // alone: publisher is the server's connection
static struct side *answers;
static size_t n_devices;
static uint64_t *sent_nsec; // TRACKED for each device
static uint64_t *n_sent, *n_answered;
static struct run run;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_nsec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void put(struct side *side, const void *bytes, size_t length)
{
    if (side->n_out + length > BUFFER)
        die("a full buffer");
    memcpy(side->out + side->n_out, bytes, length);
    side->n_out += length;
}

static void flush(struct side *side)
{
    size_t done = 0;
    while (done < side->n_out) {
        ssize_t n = send(side->fd, side->out + done, side->n_out - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            die("send");
        done += (size_t)n;
    }
    side->n_out -= done;
    memmove(side->out, side->out + done, side->n_out);
}

static void publish(struct side *side)
{
    size_t device = run.sent % n_devices;
    char topic[32], payload[96];
    int topic_length = snprintf(topic, sizeof(topic), "d%06zu/telemetry", device);
    // Even and odd rounds on either side of 300.
    unsigned light = (unsigned)((run.sent / n_devices + device) % 2 ? 150 : 700);
    int payload_length =
        snprintf(payload, sizeof(payload),
                 "{\"light\": %u, \"temperature\": 21.4, \"seq\": %llu, \"unit\": \"lux\"}", light,
                 (unsigned long long)(100000 + run.sent % 900000));
    unsigned char head[4] = { 0x30,
                              (unsigned char)(2 + topic_length + side->is_v5 + payload_length), 0,
                              (unsigned char)topic_length };
    put(side, head, sizeof(head));
    put(side, topic, (size_t)topic_length);
    if (side->is_v5)
        put(side, "", 1);
    put(side, payload, (size_t)payload_length);
    if (sent_nsec)
        sent_nsec[device * TRACKED + n_sent[device] % TRACKED] = now_nsec();
    n_sent[device]++;
    run.sent++;
}

static void take_answer(const unsigned char *topic, size_t length)
{
    run.answered++;
    if (!sent_nsec || length < 7 || topic[0] != 'd')
        return;
    size_t device = 0;
    for (size_t i = 1; i < 7; i++)
        device = device * 10 + (topic[i] - '0');
    if (device >= n_devices || n_answered[device] >= n_sent[device])
        return;
    uint64_t since = sent_nsec[device * TRACKED + n_answered[device]++ % TRACKED];
    if (run.n_latencies < run.n_messages)
        run.latencies[run.n_latencies++] = now_nsec() - since;
}

static void take_publish(struct side *side, const unsigned char *packet, size_t head, size_t length)
{
    size_t topic = head + 2, topic_length = packet[head] << 8 | packet[head + 1];
    unsigned qos = packet[0] >> 1 & 3;
    (void)length;
    if (qos == 1) {
        const unsigned char ack[4] = { 0x40, 2, packet[topic + topic_length],
                                       packet[topic + topic_length + 1] };
        put(side, ack, sizeof(ack));
    }
    if (topic_length > 9 && memcmp(packet + topic + topic_length - 9, "/commands", 9) == 0)
        take_answer(packet + topic, topic_length);
}

static void take_packet(struct side *side, const unsigned char *packet, size_t head, size_t length)
{
    switch (packet[0] >> 4) {
    case 1: // CONNECT: the protocol's name, then its level
        side->is_v5 = packet[head + 6] == 5;
        put(side, side->is_v5 ? "\x20\x03\0\0\0" : "\x20\x02\0\0", side->is_v5 ? 5 : 4);
        break;
    case 3:
        take_publish(side, packet, head, length);
        break;
    case 8: { // SUBSCRIBE: one filter
        const unsigned char v5[6] = { 0x90, 4, packet[head], packet[head + 1], 0, 0 };
        const unsigned char v4[5] = { 0x90, 3, packet[head], packet[head + 1], 0 };
        put(side, side->is_v5 ? v5 : v4, side->is_v5 ? sizeof(v5) : sizeof(v4));
        side->is_subscribed = true;
        break;
    }
    case 9:
        side->is_subscribed = true;
        break;
    case 12:
        put(side, "\xd0\0", 2);
        break;
    default:
        break;
    }
}

static void take_bytes(struct side *side)
{
    ssize_t n = recv(side->fd, side->in + side->n_in, BUFFER - side->n_in, MSG_DONTWAIT);
    if (n == 0)
        exit(0);
    if (n < 0) {
        if (errno == EAGAIN)
            return;
        die("recv");
    }
    side->n_in += (size_t)n;
    size_t at = 0;
    for (;;) {
        size_t length = 0, head = 1, left = side->n_in - at;
        unsigned shift = 0;
        bool whole = false;
        while (head < left && head <= 4 && !whole) {
            unsigned char byte = side->in[at + head++];
            length |= (size_t)(byte & 0x7f) << shift;
            shift += 7;
            whole = !(byte & 0x80);
        }
        if (!whole || left < head + length)
            break;
        take_packet(side, side->in + at, head, length);
        at += head + length;
    }
    side->n_in -= at;
    memmove(side->in, side->in + at, side->n_in);
}

static void prepare(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int dial(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        die("connect");
    prepare(fd);
    return fd;
}

static int answer_call(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0)
        die("listen");
    puts("listening");
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    prepare(fd);
    return fd;
}

/* One turn, of at most so many nanoseconds. */
static void turn(uint64_t limit_nsec)
{
    struct pollfd fds[2] = { { publisher.fd, POLLIN, 0 }, { answers->fd, POLLIN, 0 } };
    nfds_t n = answers == &publisher ? 1 : 2;
    flush(&publisher);
    fds[0].events |= (short)(publisher.n_out > 0 ? POLLOUT : 0);
    const struct timespec limit = { (time_t)(limit_nsec / 1000000000),
                                    (long)(limit_nsec % 1000000000) };
    if (ppoll(fds, n, &limit, NULL) < 0)
        die("poll");
    take_bytes(&publisher);
    if (n == 2)
        take_bytes(answers);
    flush(answers);
}

static void connect_side(struct side *side, int port, const char *name)
{
    unsigned char packet[64] = { 0x10, 0, 0, 4, 'M', 'Q', 'T',
                                 'T',  4, 2, 0, 0,   0,   (unsigned char)strlen(name) };
    packet[1] = (unsigned char)(12 + strlen(name));
    memcpy(packet + 14, name, strlen(name));
    side->fd = dial(port);
    put(side, packet, 14 + strlen(name));
    flush(side);
}

static int by_size(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return (one > other) - (one < other);
}

static double percentile(double part)
{
    return run.n_latencies
               ? (double)run.latencies[(size_t)((double)(run.n_latencies - 1) * part)] / 1000
               : 0;
}

static void do_run(void)
{
    uint64_t begin_nsec = now_nsec(), last_answer_nsec = begin_nsec, answered = 0;
    run.sent = run.answered = run.n_latencies = 0;
    memset(n_sent, 0, n_devices * sizeof(*n_sent));
    memset(n_answered, 0, n_devices * sizeof(*n_answered));
    while (run.answered < run.n_messages) {
        uint64_t at_nsec = now_nsec(), wait_nsec = 100000000;
        if (run.rate > 0) {
            while (run.sent < run.n_messages &&
                   begin_nsec + run.sent * 1000000000 / run.rate <= at_nsec)
                publish(&publisher);
            uint64_t next_nsec = begin_nsec + run.sent * 1000000000 / run.rate;
            if (run.sent < run.n_messages)
                wait_nsec = next_nsec > at_nsec ? next_nsec - at_nsec : 0;
        } else {
            while (run.sent < run.n_messages && run.sent < run.answered + WINDOW)
                publish(&publisher);
        }
        turn(wait_nsec);
        if (run.answered > answered)
            last_answer_nsec = now_nsec();
        answered = run.answered;
        if (now_nsec() - last_answer_nsec > QUIET_MSEC * 1000000ULL)
            break; // what is missing is lost
    }
    qsort(run.latencies, run.n_latencies, sizeof(*run.latencies), by_size);
    printf("%llu %.6f %llu %.1f %.1f %.1f\n", (unsigned long long)run.sent,
           (double)(last_answer_nsec - begin_nsec) / 1e9, (unsigned long long)run.answered,
           percentile(0.5), percentile(0.99), percentile(1));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int port = atoi(argv[2]);
    n_devices = strtoull(argv[3], NULL, 10);
    run.n_messages = strtoull(argv[4], NULL, 10);
    run.rate = strtoull(argv[5], NULL, 10);
    n_sent = calloc(n_devices, sizeof(*n_sent));
    n_answered = calloc(n_devices, sizeof(*n_answered));
    run.latencies = calloc(run.n_messages, sizeof(*run.latencies));
    if (run.rate > 0)
        sent_nsec = calloc(n_devices * TRACKED, sizeof(*sent_nsec));
    if (strcmp(argv[1], "alone") == 0) {
        answers = &publisher;
        publisher.fd = answer_call(port);
    } else {
        answers = &subscriber;
        connect_side(&publisher, port, "load-pub");
        connect_side(&subscriber, port, "load-sub");
        put(&subscriber, "\x82\x0f\0\1\0\x0a+/commands\0", 17);
        put(&subscriber, "\x82\x16\0\2\0\x11groups/+/commands\0", 24);
        flush(&subscriber);
    }
    while (!answers->is_subscribed)
        turn(100000000);
    puts("ready");
    fflush(stdout);
    // Between the runs, the connections are looked after.
    char line[64];
    uint64_t most = run.n_messages;
    struct pollfd input = { STDIN_FILENO, POLLIN, 0 };
    for (;;) {
        turn(5000000);
        if (poll(&input, 1, 0) <= 0)
            continue;
        if (!fgets(line, sizeof(line), stdin))
            return 0;
        run.n_messages = strtoull(line, NULL, 10);
        if (run.n_messages > most)
            run.n_messages = most;
        do_run();
    }
}
