// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One poll(2) over two descriptors: the broker's and the daemon's. Nothing waits in a send; what
 * one side does not take is kept, within bounds, while the other is served. When the daemon is
 * behind, a server's connector stops reading the network; a device's reads on, since the
 * acknowledgements of what it has sent come the same way, and drops commands (client.c).
 *
 * A turn: what the daemon says, what the broker says, then all that came of it is sent, to the
 * daemon first: a message that the broker sees acknowledged is on its way there.
 */
#include "connector/session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "connector/pair.h"
#include "connector/process.h"
#include "connector/wire.h"
#include "util/clock.h"

enum {
    // Then the daemon gets what there is, and is heard. Not every packet has a callback by which it
    // could be counted, and one may be long.
    MAX_PACKETS_A_TURN = 256,
    MAX_READS_A_TURN = 16, // of the wire's buffer
    LARGE_BURST = 16,      // packets: there is no need to wait for more
};

/*
 * A broker writes message by message. When one comes within busy_usec of the one before, a server's
 * connector gives the next ones gather_usec to come too: that many more share what it costs to wake
 * two processes. At 5,000 messages a second and below nothing waits.
 */
static const uint64_t busy_usec = 100;
static const long gather_usec = 200;

struct session {
    struct client *client;
    bool is_stopping; // the daemon has said so
    int rc, error;    // libmosquitto's, and the errno beside it
    // Since when nothing has come and nothing was sent: the library's keepalive is due so long
    // after.
    unsigned n_reads, n_writes; // as wire.h counted them last
    uint64_t read_mono_usec, written_mono_usec;
    uint64_t misc_mono_usec;  // not looked at before
    bool has_more;            // there may be more than the last turn has handled
    unsigned last_burst;      // packets of the last turn that read any
    uint64_t burst_mono_usec; // when it had been read
};

static bool is_open(const struct session *session)
{
    return session->rc == MOSQ_ERR_SUCCESS && mosquitto_socket(session->client->mosq) >= 0;
}

static void note(struct session *session, int rc)
{
    if (session->rc == MOSQ_ERR_SUCCESS && rc != MOSQ_ERR_SUCCESS) {
        session->error = errno;
        session->rc = rc;
    }
}

/* --- the daemon ------------------------------------------------------------------------------ */

static void take(struct session *session, const struct frame_record *record)
{
    switch (record->kind) {
    case FRAME_PUBLISH:
        client_publish(session->client, record);
        break;
    case FRAME_SUBSCRIBE:
        client_subscribe(session->client, record);
        break;
    case FRAME_PING:
        pair_put(&(const struct frame_record){ .kind = FRAME_PONG });
        break;
    case FRAME_STOP:
        session->is_stopping = true;
        break;
    default:
        process_end("the daemon says what is not its to say: record %u", record->kind);
    }
}

/* A frame: poll(2) says whether there is another, which costs no more than to try. */
static void serve_daemon(struct session *session)
{
    struct frame_record record;
    record.options = NULL;
    if (!pair_receive())
        return;
    while (pair_next(&record))
        take(session, &record);
}

/* --- the network ----------------------------------------------------------------------------- */

static bool is_server(const struct session *session)
{
    return session->client->options->max_rate == 0;
}

static bool may_read(const struct session *session)
{
    return !is_server(session) || !pair_is_full();
}

/* A server's message is not acknowledged while the daemon does not have it. */
static bool may_write(const struct session *session)
{
    return !is_server(session) || !pair_has_output();
}

static void gather(const struct session *session)
{
    const struct timespec pause = { .tv_nsec = gather_usec * 1000 };
    if (is_server(session) && session->last_burst > 0 && session->last_burst < LARGE_BURST &&
        clock_mono_usec() - session->burst_mono_usec < busy_usec)
        nanosleep(&pause, NULL);
}

/*
 * Reads until nothing is left in the buffer; with TLS until a call brings nothing, since what
 * OpenSSL has decrypted by then wakes no poll.
 */
static void read_packets(struct session *session)
{
    struct client *client = session->client;
    unsigned first = client->n_packets, first_read = wire_count_reads();
    bool is_drained = false;
    gather(session);
    while (is_open(session) && may_read(session) && !is_drained &&
           client->n_packets - first < MAX_PACKETS_A_TURN &&
           wire_count_reads() - first_read < MAX_READS_A_TURN) {
        unsigned before = client->n_packets;
        note(session, mosquitto_loop_read(client->mosq, 1));
        is_drained = !wire_has_input() && (!client->options->tls || client->n_packets == before);
    }
    session->has_more = !is_drained && is_open(session);
    session->last_burst = client->n_packets - first;
    session->burst_mono_usec = clock_mono_usec();
}

static void write_packets(struct session *session)
{
    int r = wire_flush();
    if (r == 0 && is_open(session) && mosquitto_want_write(session->client->mosq)) {
        note(session, mosquitto_loop_write(session->client->mosq, 1));
        r = is_open(session) ? wire_flush() : 0;
    }
    // What is left to read may say why; a connection that is gone says so there as well.
    if (r < 0 && r != -EAGAIN && session->rc == MOSQ_ERR_SUCCESS && !session->has_more) {
        note(session, mosquitto_loop_read(session->client->mosq, 1));
        if (session->rc == MOSQ_ERR_SUCCESS) {
            errno = -r;
            note(session, MOSQ_ERR_ERRNO);
        }
    }
}

/* When the library is to look at its keepalive. While both sides talk that is never. */
static uint64_t keepalive_due(const struct session *session)
{
    uint64_t silent_mono_usec = session->read_mono_usec < session->written_mono_usec
                                    ? session->read_mono_usec
                                    : session->written_mono_usec;
    uint64_t due_mono_usec = silent_mono_usec + session->client->keepalive_usec;
    return due_mono_usec > session->misc_mono_usec ? due_mono_usec : session->misc_mono_usec;
}

static void keep_alive(struct session *session, uint64_t now_mono_usec)
{
    if (wire_count_reads() != session->n_reads)
        session->read_mono_usec = now_mono_usec;
    if (wire_count_writes() != session->n_writes)
        session->written_mono_usec = now_mono_usec;
    session->n_reads = wire_count_reads();
    session->n_writes = wire_count_writes();
    if (now_mono_usec < keepalive_due(session))
        return;
    note(session, mosquitto_loop_misc(session->client->mosq));
    session->misc_mono_usec = now_mono_usec + session->client->keepalive_usec / 4;
}

/* --- turns ----------------------------------------------------------------------------------- */

static int timeout_msec(const struct session *session, uint64_t now_mono_usec,
                        uint64_t until_told_usec)
{
    uint64_t due_mono_usec = keepalive_due(session);
    uint64_t usec = due_mono_usec > now_mono_usec ? due_mono_usec - now_mono_usec : 0;
    if (until_told_usec < usec)
        usec = until_told_usec;
    return (int)(usec / USEC_PER_MSEC) + 1;
}

/* A build in which the library's calls do not come by wire.c would work, slowly. */
static void check_wire(const struct client *client)
{
    if (!wire_is_taken() || wire_count_reads() == 0 || wire_count_writes() == 0)
        process_end("it is built wrongly: %s does not call its read(), write() and connect()",
                    client->options->tls ? "OpenSSL" : "libmosquitto");
}

/* Waits for something to do, and does it. */
static void turn(struct session *session)
{
    struct client *client = session->client;
    uint64_t now_mono_usec = clock_mono_usec();
    uint64_t until_told_usec = client_tell_dropped(client, now_mono_usec);
    pair_flush();
    bool writes = may_write(session);
    if (writes)
        write_packets(session);
    if (!is_open(session))
        return;
    // Not before: what has just been flushed makes room, and nothing else may wake this.
    bool reads = may_read(session);
    bool has_input = reads && (session->has_more || wire_has_input());
    struct pollfd fds[] = {
        { .fd = FRAME_FD, .events = pair_has_output() ? POLLIN | POLLOUT : POLLIN },
        { .fd = mosquitto_socket(client->mosq),
          .events = (short)((reads ? POLLIN : 0) | (writes && wire_has_output() ? POLLOUT : 0)) },
    };
    if (fds[1].events == 0)
        fds[1].fd = -1; // that it is gone is seen when it is read again
    if (poll(fds, 2, has_input ? 0 : timeout_msec(session, now_mono_usec, until_told_usec)) < 0)
        return;
    if (fds[0].revents)
        serve_daemon(session);
    if (fds[1].revents || has_input)
        read_packets(session);
    if (is_open(session))
        keep_alive(session, clock_mono_usec());
}

/* DISCONNECT, behind all that was to be sent; the daemon ends us if that takes too long. */
static void say_goodbye(struct session *session)
{
    struct client *client = session->client;
    if (client->connack != 0 || !is_open(session))
        return;
    struct pollfd fd = { .fd = mosquitto_socket(client->mosq), .events = POLLOUT };
    pair_drain(-1);
    write_packets(session);
    while (is_open(session) && wire_has_output() && poll(&fd, 1, -1) > 0)
        write_packets(session);
    if (is_open(session))
        mosquitto_disconnect_v5(client->mosq, 0, NULL);
}

int session_run(struct client *client, enum frame_failure *ret_failure)
{
    struct session session = { .client = client };
    bool is_checked = false;
    client->keepalive_usec = client->options->keepalive_sec * USEC_PER_SEC;
    session.read_mono_usec = session.written_mono_usec = clock_mono_usec();
    while (is_open(&session) && !session.is_stopping) {
        turn(&session);
        if (!is_checked && client->connack == 0) {
            check_wire(client);
            is_checked = true;
        }
    }
    if (session.is_stopping) {
        say_goodbye(&session);
        return 0;
    }
    *ret_failure = client_explain(client, session.rc, session.error);
    return -EIO;
}
