// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The daemon's end of a connector: a state machine over one process at a time. The process is
 * io/child's, the pair of sockets io/channel's; what comes next after a failure is io/retry's,
 * whether it still answers io/heartbeat's.
 *
 *   WAITING -> CONNECTING -> CONNECTED -> ENDING -> WAITING
 *                                      -> LEAVING -> STOPPED
 *
 * A connector has ended when two things have come, in any order: the end of the pair, up to which
 * all that it had said is read, and its exit status.
 */
#include "io/link.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "io/channel.h"
#include "io/child.h"
#include "io/heartbeat.h"
#include "io/retry.h"
#include "util/clock.h"
#include "util/random.h"

static const uint64_t attempt_limit_usec = 20 * USEC_PER_SEC;

static const uint64_t look_accuracy_usec = 2 * USEC_PER_SEC; // it comes with other wake-ups
enum {
    MIN_OUTGOING = 1 << 20,
    // In the number of a message that the broker does not acknowledge (QoS 0).
    NOT_AWAITED = 1 << 30,
};

enum state {
    STATE_STOPPED,
    STATE_WAITING,    // for the time of the next attempt
    STATE_CONNECTING, // CONNACK is not yet here
    STATE_CONNECTED,
    STATE_LEAVING, // it is to say DISCONNECT
    STATE_ENDING,  // it is dead, or as good as that; what it said is read
};

struct link {
    sd_event *event;
    struct link_options options;
    void (*on_event)(void *userdata, const struct link_event *event);
    void *userdata;

    enum state state;
    bool was_connected; // STATE_ENDING: as it was before
    bool is_stopping;   // link_stop() was called: STATE_STOPPED comes next
    struct retry retry;
    uint64_t random;
    sd_event_source *timer; // the next attempt, the attempt's limit, the goodbye's limit, or a tick

    // The connector.
    struct child *child; // NULL: there is none
    bool has_exited, has_eof;
    struct channel channel;
    uint32_t last_id;
    char where[160]; // "host:port" that has answered on TCP; "": none yet
    int host;        // its index in options.hosts; RETRY_NO_HOST
    unsigned receive_maximum;
    uint64_t connected_mono_usec;
    struct heartbeat heartbeat;

    char end[512]; // how its process ended; "": by itself

    // Why it ends, as far as it is known; the first to know says it.
    bool has_cause, is_crash;
    enum frame_failure failure;
    char cause[320];

    char reported[320];  // the reason that was told last in this outage; "": none yet
    bool reported_round; // that reason ended a round of all hosts
    char description[384];
};

static void tell(struct link *link, struct link_event event)
{
    link->on_event(link->userdata, &event);
}

__attribute__((format(printf, 2, 3))) static void describe(struct link *link, const char *format,
                                                           ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(link->description, sizeof(link->description), format, arguments);
    va_end(arguments);
}

static void set_timer(struct link *link, uint64_t usec, uint64_t accuracy_usec)
{
    sd_event_source_set_time_relative(link->timer, usec);
    sd_event_source_set_time_accuracy(link->timer, accuracy_usec);
    sd_event_source_set_enabled(link->timer, SD_EVENT_ONESHOT);
}

static void look_later(struct link *link)
{
    set_timer(link, heartbeat_pause_usec(&link->heartbeat), look_accuracy_usec);
}

/* The hosts of the attempt at hand, as they are named in a line. */
static const char *name_hosts(const struct link *link, char *out, size_t size)
{
    const struct link_options *options = &link->options;
    size_t length = 0;
    for (size_t i = link->retry.i_host; options->hosts[i] && length < size; i++) {
        const char *comma = i > link->retry.i_host ? ", " : "";
        int n = options->connector.unix_socket
                    ? snprintf(out + length, size - length, "%s%s", comma, options->hosts[i])
                    : snprintf(out + length, size - length, "%s%s:%" PRIu64, comma,
                               options->hosts[i], options->connector.port);
        length += (size_t)n;
    }
    return out;
}

/* --- the end of a connector ------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static void
set_cause(struct link *link, enum frame_failure failure, const char *format, ...)
{
    va_list arguments;
    if (link->has_cause)
        return;
    link->has_cause = true;
    link->failure = failure;
    va_start(arguments, format);
    vsnprintf(link->cause, sizeof(link->cause), format, arguments);
    va_end(arguments);
}

/* No more is sent to it, nor begun; it ends by itself, or has been killed. */
static void begin_end(struct link *link)
{
    if (link->state == STATE_ENDING)
        return;
    link->was_connected = link->state == STATE_CONNECTED || link->state == STATE_LEAVING;
    link->state = STATE_ENDING;
    sd_event_source_set_enabled(link->timer, SD_EVENT_OFF);
}

static void kill_connector(struct link *link)
{
    begin_end(link);
    child_kill(link->child);
}

static void drop_connector(struct link *link)
{
    channel_close(&link->channel);
    child_free(TAKE_PTR(link->child));
}

/* An attempt or a connection is over, and nothing is left of its process. */
static void fail(struct link *link)
{
    bool was_connected = link->was_connected;
    bool fell_back = link->retry.falls_back;
    uint32_t random = (uint32_t)random_next(&link->random);
    uint64_t pause_usec =
        was_connected
            ? retry_lost(&link->retry, clock_mono_usec() - link->connected_mono_usec,
                         link->is_crash, link->host, random)
            : retry_failed(&link->retry, link->failure, link->is_crash, link->host, random);
    link->state = STATE_WAITING;
    describe(link, "not connected: %s", link->cause);
    set_timer(link, pause_usec, 10 * USEC_PER_MSEC);
    if (!was_connected && !fell_back && link->retry.falls_back)
        return; // not the end of an attempt but its second half
    // The same of every host (an unreadable secret) is news once more when there is no other.
    bool ends_round = pause_usec > 0;
    if (was_connected || strcmp(link->cause, link->reported) != 0 ||
        (ends_round && !link->reported_round)) {
        snprintf(link->reported, sizeof(link->reported), "%s", link->cause);
        link->reported_round = ends_round;
        tell(link, (struct link_event){ .news = LINK_DISCONNECTED,
                                        .was_connected = was_connected,
                                        .reason = link->cause,
                                        .retry_usec = pause_usec });
    }
}

/* What it has said itself counts more than how its process ended. */
static void explain_end(struct link *link)
{
    bool was_reached = link->where[0];
    if (link->end[0] == '\0') {
        set_cause(link, FRAME_FAILURE_OTHER, "the connector has ended without a word");
        return;
    }
    link->is_crash |= !link->has_cause;
    set_cause(link, was_reached ? FRAME_FAILURE_CLOSED_EARLY : FRAME_FAILURE_OTHER,
              "%s%sthe connector %s", link->where, was_reached ? ": " : "", link->end);
}

static void finish_when_over(struct link *link)
{
    if (!link->has_eof || !link->has_exited)
        return;
    begin_end(link);
    drop_connector(link);
    if (!link->is_stopping) {
        explain_end(link);
        fail(link);
        return;
    }
    link->state = STATE_STOPPED;
    describe(link, "stopped");
    tell(link, (struct link_event){ .news = LINK_STOPPED });
}

static void on_exited(void *userdata, const char *how)
{
    struct link *link = userdata;
    snprintf(link->end, sizeof(link->end), "%s", how ? how : "");
    link->has_exited = true;
    finish_when_over(link);
}

/* --- what comes from the connector ----------------------------------------------------------- */

static void reject_frame(struct link *link, const char *why)
{
    set_cause(link, FRAME_FAILURE_OTHER, "the connector is not understood (%s), and was killed",
              why);
    kill_connector(link);
    link->has_eof = true; // the rest is not read
    channel_ignore(&link->channel);
}

static void take_reached(struct link *link, const struct frame_record *record)
{
    unsigned host = link->retry.i_host + record->host;
    if (record->host >= link->retry.n_hosts || host >= link->retry.n_hosts) {
        reject_frame(link, "a host that is not");
        return;
    }
    link->host = (int)host;
    snprintf(link->where, sizeof(link->where), "%s", record->text);
}

static void take_connected(struct link *link, const struct frame_connected *connected)
{
    if (link->state != STATE_CONNECTING)
        return;
    link->state = STATE_CONNECTED;
    link->receive_maximum = (unsigned)connected->receive_maximum;
    heartbeat_begin(&link->heartbeat, connected->keepalive_sec * USEC_PER_SEC);
    link->connected_mono_usec = clock_mono_usec();
    link->reported[0] = '\0';
    retry_connected(&link->retry);
    look_later(link);
    describe(link, "connected to %s, %s", link->where,
             retry_protocol(&link->retry) == MQTT_PROTOCOL_5 ? "MQTT 5" : "MQTT 3.1.1");
    tell(link, (struct link_event){ .news = LINK_CONNECTED,
                                    .session_present = connected->session_present });
}

static void take_acknowledgement(struct link *link, const struct frame_record *record)
{
    if (!(record->id & NOT_AWAITED))
        heartbeat_acknowledged(&link->heartbeat);
    bool is_published = record->kind == FRAME_ACKNOWLEDGED;
    tell(link, (struct link_event){ .news = is_published ? LINK_PUBLISHED : LINK_SUBSCRIBED,
                                    .mid = (int)record->id,
                                    .code = (int)record->code });
}

static void take(struct link *link, const struct frame_record *record)
{
    switch (record->kind) {
    case FRAME_REACHED:
        take_reached(link, record);
        break;
    case FRAME_CONNECTED:
        take_connected(link, &record->connected);
        break;
    case FRAME_MESSAGE:
        tell(link, (struct link_event){ .news = LINK_MESSAGE, .message = &record->message });
        break;
    case FRAME_ACKNOWLEDGED:
    case FRAME_SUBSCRIBED:
        take_acknowledgement(link, record);
        break;
    case FRAME_DROPPED:
        tell(link, (struct link_event){ .news = LINK_DROPPED, .dropped = record });
        break;
    case FRAME_FAILED:
        set_cause(link, record->code, "%s", record->text);
        break;
    case FRAME_PONG:
        break;
    default:
        reject_frame(link, "it says what is not its to say");
    }
}

/* How many records were in it; 0: there is no frame now, or the end has come. */
static unsigned take_frame(struct link *link)
{
    struct frame_record record;
    int r = channel_receive(&link->channel);
    if (r == -EPIPE)
        link->has_eof = true;
    if (r == -EMSGSIZE)
        reject_frame(link, "a frame is too long");
    if (r <= 0)
        return 0;
    heartbeat_heard(&link->heartbeat);
    while (!link->has_eof && (r = channel_next(&link->channel, &record)) > 0)
        take(link, &record);
    if (r < 0)
        reject_frame(link, strerror(-r));
    return link->channel.reader.n_records;
}

/* A frame's worth of records, in as many frames as that takes; then it is somebody else's turn. */
static int on_channel(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct link *link = userdata;
    unsigned n_records = 0, n;
    (void)source, (void)fd;
    if (events & EPOLLOUT)
        channel_flush(&link->channel);
    do {
        n = take_frame(link);
        n_records += n;
    } while (n > 0 && n_records < FRAME_MAX_RECORDS && !link->has_eof);
    if (link->has_eof)
        finish_when_over(link); // the process may have ended before
    else
        channel_flush(&link->channel); // at once: it may be what a command waits for
    return 0;
}

/* --- attempts -------------------------------------------------------------------------------- */

static int send_options(struct link *link)
{
    struct frame_options options = link->options.connector;
    options.parent = (uint64_t)getpid();
    options.protocol = (uint64_t)retry_protocol(&link->retry);
    options.rotation = link->retry.rotation;
    for (size_t i = link->retry.i_host; link->options.hosts[i]; i++)
        options.hosts[options.n_hosts++] = link->options.hosts[i];
    return channel_put(&link->channel,
                       &(const struct frame_record){ .kind = FRAME_OPTIONS, .options = &options });
}

static int start_connector(struct link *link, struct why *why)
{
    int fd, r = child_new(link->event, on_exited, link, &fd, &link->child, why);
    if (r < 0)
        return r;
    r = channel_open(&link->channel, link->event, fd,
                     link->options.connector.max_message + FRAME_MESSAGE_OVERHEAD, on_channel,
                     link);
    if (r >= 0)
        r = sd_event_source_set_priority(link->channel.io, LINK_PRIORITY);
    if (r >= 0)
        r = send_options(link);
    if (r < 0) {
        drop_connector(link);
        return why_set(why, -r, "cannot speak with the connector: %s", strerror(-r));
    }
    channel_flush(&link->channel);
    return 0;
}

static void attempt(struct link *link)
{
    struct why why = { "" };
    char hosts[256];
    link->has_exited = link->has_eof = link->was_connected = false;
    link->has_cause = link->is_crash = false;
    link->where[0] = '\0';
    link->host = RETRY_NO_HOST;
    link->state = STATE_CONNECTING;
    describe(link, "connecting to %s", name_hosts(link, hosts, sizeof(hosts)));
    int r = start_connector(link, &why);
    if (r < 0) {
        set_cause(link, FRAME_FAILURE_OTHER, "%s", why.text);
        fail(link);
        return;
    }
    set_timer(link, link->options.attempt_limit_usec, 100 * USEC_PER_MSEC);
}

static void time_out(struct link *link)
{
    char limit[32], hosts[256];
    set_cause(link, FRAME_FAILURE_OTHER, "no answer from %s within %s",
              link->where[0] ? link->where : name_hosts(link, hosts, sizeof(hosts)),
              clock_format_span(link->options.attempt_limit_usec, limit, sizeof(limit)));
    kill_connector(link);
}

/* silence: what has not come for so long. */
static void give_up(struct link *link, const char *silence, uint64_t usec, const char *more)
{
    char span[32];
    set_cause(link, FRAME_FAILURE_OTHER, "%s: %s for %s, and %s", link->where, silence,
              clock_format_span(usec, span, sizeof(span)), more);
    kill_connector(link);
}

static void look_after(struct link *link)
{
    switch (heartbeat_look(&link->heartbeat)) {
    case HEARTBEAT_DEAF:
        link->is_crash = true;
        give_up(link, "the connector did not answer", heartbeat_ping_limit_usec, "was killed");
        return;
    case HEARTBEAT_SILENT: // it takes all, and answers pings
        give_up(link, "the broker has acknowledged nothing",
                heartbeat_silence_usec(&link->heartbeat), "still answers pings");
        return;
    case HEARTBEAT_PING:
        (void)channel_put(&link->channel, &(const struct frame_record){ .kind = FRAME_PING });
        break;
    case HEARTBEAT_FINE:
        break;
    }
    look_later(link);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct link *link = userdata;
    (void)source, (void)usec;
    switch (link->state) {
    case STATE_WAITING:
        attempt(link);
        break;
    case STATE_CONNECTING:
        time_out(link);
        break;
    case STATE_CONNECTED:
        look_after(link);
        break;
    case STATE_LEAVING:
        if (link->child)
            kill_connector(link);
        finish_when_over(link);
        break;
    case STATE_ENDING:
    case STATE_STOPPED:
        break;
    }
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

int link_new(sd_event *event, const struct link_options *options,
             void (*on_event)(void *userdata, const struct link_event *event), void *userdata,
             struct link **ret_link)
{
    _cleanup_(link_freep) struct link *link = calloc(1, sizeof(*link));
    if (!link)
        return -ENOMEM;
    link->event = sd_event_ref(event);
    link->options = *options;
    link->on_event = on_event;
    link->userdata = userdata;
    if (link->options.attempt_limit_usec == 0)
        link->options.attempt_limit_usec = attempt_limit_usec;
    link->retry = (struct retry){
        .protocol = options->protocol,
        .min_usec = options->reconnect_min_usec,
        .max_usec = options->reconnect_max_usec,
    };
    while (options->hosts[link->retry.n_hosts])
        link->retry.n_hosts++;
    assert(link->retry.n_hosts > 0);
    if (link->retry.n_hosts > FRAME_MAX_HOSTS)
        return -E2BIG;
    // Without it, early at boot: spread is enough.
    if (getrandom(&link->random, sizeof(link->random), GRND_NONBLOCK) != sizeof(link->random))
        link->random = clock_mono_usec();
    describe(link, "stopped");
    // CLOCK_BOOTTIME: after a suspend the next attempt is due at once.
    int r =
        sd_event_add_time(event, &link->timer, CLOCK_BOOTTIME, USEC_INFINITY, 0, on_timer, link);
    // Behind the pair: what is there is heard before it is missed.
    if (r >= 0)
        r = sd_event_source_set_priority(link->timer, LINK_PRIORITY + 1);
    if (r < 0)
        return r;
    *ret_link = TAKE_PTR(link);
    return 0;
}

void link_free(struct link *link)
{
    if (!link)
        return;
    drop_connector(link);
    sd_event_source_disable_unref(link->timer);
    sd_event_unref(link->event);
    free(link);
}

void link_start(struct link *link)
{
    char hosts[256];
    if (link->state != STATE_STOPPED)
        return;
    link->state = STATE_WAITING;
    link->is_stopping = false;
    link->reported[0] = '\0';
    describe(link, "connecting to %s", name_hosts(link, hosts, sizeof(hosts)));
    set_timer(link, 0, 1);
}

void link_stop(struct link *link, uint64_t limit_usec)
{
    bool is_connected = link->state == STATE_CONNECTED;
    if (link->state == STATE_STOPPED)
        return;
    link->is_stopping = true;
    if (link->state == STATE_WAITING) {
        link->has_eof = link->has_exited = true; // as if it had ended just now
        link->state = STATE_LEAVING;
        set_timer(link, 0, 1);
    } else if (is_connected && channel_put(&link->channel, &(const struct frame_record){
                                                               .kind = FRAME_STOP }) == 0) {
        link->state = STATE_LEAVING;
        set_timer(link, limit_usec, USEC_PER_MSEC);
    } else if (link->state != STATE_LEAVING) {
        kill_connector(link);
    }
    channel_flush(&link->channel);
}

bool link_is_connected(const struct link *link)
{
    return link->state == STATE_CONNECTED;
}

const char *link_describe(const struct link *link)
{
    return link->description;
}

unsigned link_window(const struct link *link)
{
    unsigned maximum = link->receive_maximum;
    unsigned ahead = maximum < FRAME_MAX_RECORDS ? maximum : FRAME_MAX_RECORDS;
    if (link->state != STATE_CONNECTED)
        return 0;
    return maximum + ahead < UINT16_MAX ? maximum + ahead : UINT16_MAX;
}

/* --- use ------------------------------------------------------------------------------------- */

static int put_numbered(struct link *link, struct frame_record *record, int *ret_mid)
{
    bool is_awaited = record->kind == FRAME_SUBSCRIBE || record->message.qos > 0;
    if (link->state != STATE_CONNECTED)
        return -ENOTCONN;
    link->last_id = link->last_id % (NOT_AWAITED - 1) + 1;
    record->id = is_awaited ? link->last_id : link->last_id | NOT_AWAITED;
    int r = channel_put(&link->channel, record);
    if (r < 0)
        return r;
    if (is_awaited && heartbeat_expect(&link->heartbeat))
        look_later(link);
    if (ret_mid)
        *ret_mid = (int)record->id;
    return 0;
}

int link_publish(struct link *link, const struct mqtt_message *message, int *ret_mid)
{
    struct frame_record record = { .kind = FRAME_PUBLISH, .message = *message };
    const struct frame_options *options = &link->options.connector;
    if (message->payload_size > options->max_message && message->payload_size > MIN_OUTGOING)
        return -EMSGSIZE;
    if (options->session_expiry_sec > 0 && message->qos == 2)
        record.message.qos = 1;
    return put_numbered(link, &record, ret_mid);
}

int link_subscribe(struct link *link, const char *filter, int qos, int *ret_mid)
{
    struct frame_record record = { .kind = FRAME_SUBSCRIBE,
                                   .message = { .topic = filter, .qos = qos } };
    return put_numbered(link, &record, ret_mid);
}
