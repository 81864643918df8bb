// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The format of what the daemon and a connector say to each other: frames, each a message of a
 * SOCK_SEQPACKET pair, each with up to FRAME_MAX_RECORDS records. It is all that the two share
 * (io/link and src/connector/). Pure: it neither sends nor receives.
 *
 *     frame_queue_put(&queue, &record);                      // what is to be sent
 *     while (frame_queue_first(&queue, &bytes, &size) && send(...) == size)
 *         frame_queue_pop(&queue);
 *
 *     frame_reader_feed(&reader, bytes, size);               // what was received
 *     while ((r = frame_reader_next(&reader, &record)) > 0)
 *         ...
 *
 * A record that is too long for a frame goes in parts, which the reader puts together again. The
 * bytes are checked as a stranger's are: whoever has taken over a connector can say what he likes,
 * but not in another form.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/mqtt.h"

enum {
    FRAME_VERSION = 1,      // of the format; the two ends must agree
    FRAME_FD = 3,           // the connector's end of the pair, in the connector
    FRAME_MAX_SIZE = 65536, // bytes
    // Records of a frame: a turn of the daemon's loop takes a frame, and then timers and edges have
    // theirs.
    FRAME_MAX_RECORDS = 32,
    FRAME_MAX_PROPERTIES = 16, // user properties of a message; what is beyond is left out
    FRAME_MAX_HOSTS = 64,
    // What a message may have beside its payload, in bytes: three strings and the properties.
    FRAME_MESSAGE_OVERHEAD = 512 << 10,
};

enum frame_kind {
    // From the daemon. The first frame is FRAME_OPTIONS, alone.
    FRAME_OPTIONS = 1,
    FRAME_PUBLISH,   // id, message
    FRAME_SUBSCRIBE, // id, message.topic (a filter), message.qos
    FRAME_STOP,      // say DISCONNECT and end
    FRAME_PING,
    // From the connector.
    FRAME_REACHED,      // host (an index), text ("host:port"): TCP is there
    FRAME_CONNECTED,    // CONNACK: connected
    FRAME_MESSAGE,      // message
    FRAME_ACKNOWLEDGED, // id, code: PUBACK, PUBCOMP, or written (QoS 0)
    FRAME_SUBSCRIBED,   // id, code: SUBACK, 0..2 or a refusal
    FRAME_DROPPED,      // code (enum frame_drop), count, text: the last one's topic
    FRAME_FAILED,       // code (enum frame_failure), text: why; the connector ends
    FRAME_PONG,
};

/* What could mend it. */
enum frame_failure {
    FRAME_FAILURE_OTHER,           // nothing that another version of the protocol could
    FRAME_FAILURE_CLOSED_EARLY,    // TCP was there, and CONNACK did not come
    FRAME_FAILURE_VERSION_REFUSED, // by CONNACK
};

/* Why messages that came in were not handed on. */
enum frame_drop {
    FRAME_DROP_FLOOD,     // the daemon, or the rate that it is to bear, was behind
    FRAME_DROP_TOO_LARGE, // beyond max_message
};

/* How a connector is to connect. Strings are borrowed; NULL where there is none. */
struct frame_options {
    uint64_t parent; // the pid of who started it
    uint64_t n_hosts;
    const char *hosts[FRAME_MAX_HOSTS]; // paths with unix_socket
    uint64_t port;
    uint64_t unix_socket; // a bool
    uint64_t protocol;    // MQTT_PROTOCOL_5 or MQTT_PROTOCOL_311
    uint64_t rotation;    // which of a name's addresses is tried first, modulo their number
    const char *client_id;
    uint64_t keepalive_sec;
    uint64_t session_expiry_sec; // 0: a clean session; UINT32_MAX: it never ends
    const char *username, *password_file;
    uint64_t tls; // a bool
    const char *ca_file, *cert_file, *key_file, *psk_identity, *psk_file, *alpn;
    const char *will_topic, *will_payload; // QoS 1, retained
    uint64_t receive_maximum;              // MQTT 5.0, section 3.1.2.11.3; 1..65535
    uint64_t max_message;                  // bytes of a payload, either way
    // Messages a second that are handed on, and a second's worth at once; more are dropped, as is
    // what the daemon does not keep up with. 0: no limit, and the network waits for the daemon.
    uint64_t max_rate;
};

struct frame_connected {
    uint64_t session_present; // a bool; MQTT 5.0, section 3.2.2.1.1
    uint64_t protocol;
    uint64_t receive_maximum; // the broker's
    uint64_t keepalive_sec;   // in force
};

struct frame_record {
    enum frame_kind kind;
    uint32_t id;
    uint32_t code;
    uint32_t host;
    uint64_t count;
    const char *text;
    struct frame_options *options; // to be read: where to put them; NULL: a malformed record
    struct frame_connected connected;
    struct mqtt_message message;
    struct mqtt_user_property properties[FRAME_MAX_PROPERTIES]; // of a message that was read
};

/* Frames that wait to be sent. Zero-initialised it is empty. */
struct frame_queue {
    uint8_t *bytes;
    size_t begin, end, capacity;
    size_t last;        // where the last frame begins
    unsigned n_records; // in it
};

/*
 * Appends a copy of the record. -EINVAL: a text is not UTF-8; -EMSGSIZE: one has more than 65535
 * bytes, or a payload more than 1 GiB; -ENOMEM. Then nothing has been appended.
 */
int frame_queue_put(struct frame_queue *queue, const struct frame_record *record);

/* The first frame, borrowed until the next put or pop; false: there is none. */
bool frame_queue_first(const struct frame_queue *queue, const void **ret_bytes, size_t *ret_size);

/* Forgets the first frame. */
void frame_queue_pop(struct frame_queue *queue);

/* How many bytes wait. */
size_t frame_queue_size(const struct frame_queue *queue);

void frame_queue_done(struct frame_queue *queue);

/* What was received. Set max_size, leave the rest zero. */
struct frame_reader {
    size_t max_size; // bytes of a record that came in parts
    const uint8_t *at, *end;
    unsigned n_records; // of this frame so far
    uint8_t *parts;
    size_t parts_size, parts_capacity;
    uint8_t parts_kind; // 0: none
};

/* Begins with a frame, which is borrowed until it has been read. */
void frame_reader_feed(struct frame_reader *reader, const void *bytes, size_t size);

/*
 * 1 with the next record, whose strings are borrowed until the next call; 0 at the end of the
 * frame; -EBADMSG: it is malformed; -EPROTO: options of another FRAME_VERSION; -EMSGSIZE: a record
 * is longer than max_size; -ENOMEM. ret_record->options is the caller's to set before.
 */
int frame_reader_next(struct frame_reader *reader, struct frame_record *ret_record);

void frame_reader_done(struct frame_reader *reader);
