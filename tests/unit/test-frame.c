// SPDX-License-Identifier: LGPL-2.1-or-later
// What a daemon and a connector say to each other, to bytes and back.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/frame.h"
#include "util/cleanup.h"

enum {
    HEADER_SIZE = 8,
    MAX_BODY = FRAME_MAX_SIZE - HEADER_SIZE,
    FLAG_MORE = 1,
};

/* --- a way from one to the other ------------------------------------------------------------- */

struct way {
    struct frame_queue queue;
    struct frame_reader reader;
    struct frame_options options;
    struct frame_record record; // that came out last
    uint8_t *frame;             // being read, of its exact size, so that ASan sees a byte too far
    unsigned n_frames;
};

static void way_init(struct way *way)
{
    *way = (struct way){ .reader = { .max_size = 4 << 20 } };
    way->record.options = &way->options;
}

static void way_done(struct way *way)
{
    frame_queue_done(&way->queue);
    frame_reader_done(&way->reader);
    free(way->frame);
}

/* Hands bytes to the reader in memory of exactly their size. */
static void feed(struct way *way, const void *bytes, size_t size)
{
    free(way->frame);
    way->frame = malloc(size);
    if (size > 0)
        memcpy(way->frame, bytes, size);
    frame_reader_feed(&way->reader, way->frame, size);
}

/* Takes the next frame from the queue to the reader; false: there is none. */
static bool carry(struct way *way)
{
    const void *bytes;
    size_t size;
    if (!frame_queue_first(&way->queue, &bytes, &size))
        return false;
    assert_in_range(size, HEADER_SIZE, FRAME_MAX_SIZE);
    feed(way, bytes, size);
    frame_queue_pop(&way->queue);
    way->n_frames++;
    return true;
}

/* As frame_reader_next(), over as many frames as it takes. */
static int take(struct way *way)
{
    int r;
    while ((r = frame_reader_next(&way->reader, &way->record)) == 0 && carry(way))
        continue;
    return r;
}

static void put(struct way *way, const struct frame_record *record)
{
    assert_int_equal(frame_queue_put(&way->queue, record), 0);
}

/* --- records --------------------------------------------------------------------------------- */

static const struct frame_options full_options = {
    .parent = UINT64_MAX,
    .n_hosts = 3,
    .hosts = { "localhost", "", "/run/b\xffroker" }, // a path is whatever the file system has
    .port = UINT16_MAX,
    .unix_socket = 1,
    .protocol = MQTT_PROTOCOL_5,
    .rotation = UINT32_MAX,
    .client_id = "id",
    .keepalive_sec = 60,
    .session_expiry_sec = UINT32_MAX,
    .username = "user",
    .password_file = "password",
    .tls = 1,
    .ca_file = "ca",
    .cert_file = "cert",
    .key_file = "key",
    .psk_identity = "identity",
    .psk_file = "psk",
    .alpn = "mqtt",
    .will_topic = "will/\xc3\xa9",
    .will_payload = "gone",
    .receive_maximum = 1000,
    .max_message = 1 << 30,
    .max_rate = UINT32_MAX,
};

static const struct frame_options empty_options;

static const struct mqtt_user_property properties[] = { { "time", "1" },
                                                        { "", "" },
                                                        { "seq", "2" } };

#define FULL_MESSAGE                                                                               \
    {                                                                                              \
        .topic = "home/lamp\xc3\xa9", .payload = "a\0b", .payload_size = 3, .qos = 2,              \
        .retain = true, .properties = properties, .n_properties = ELEMENTS(properties),            \
        .response_topic = "answer", .correlation = "\0\xff", .correlation_size = 2                 \
    }

static const struct frame_record records[] = {
    { .kind = FRAME_OPTIONS, .options = (struct frame_options *)(uintptr_t)&full_options },
    { .kind = FRAME_OPTIONS, .options = (struct frame_options *)(uintptr_t)&empty_options },
    { .kind = FRAME_PUBLISH, .id = UINT32_MAX, .message = FULL_MESSAGE },
    { .kind = FRAME_PUBLISH, .id = 1, .message = { .topic = "", .payload = "" } },
    { .kind = FRAME_SUBSCRIBE, .id = 2, .message = { .topic = "home/#", .qos = 1 } },
    { .kind = FRAME_STOP },
    { .kind = FRAME_PING },
    { .kind = FRAME_REACHED, .host = 63, .text = "localhost:1883" },
    { .kind = FRAME_CONNECTED,
      .connected = { .session_present = 1,
                     .protocol = MQTT_PROTOCOL_311,
                     .receive_maximum = 20,
                     .keepalive_sec = UINT16_MAX } },
    { .kind = FRAME_MESSAGE, .message = FULL_MESSAGE },
    { .kind = FRAME_MESSAGE,
      .message = { .topic = "t", .payload = "", .correlation = "", .response_topic = "" } },
    { .kind = FRAME_ACKNOWLEDGED, .id = 4711, .code = 0x87 },
    { .kind = FRAME_SUBSCRIBED, .id = 4712, .code = UINT8_MAX },
    { .kind = FRAME_DROPPED, .code = FRAME_DROP_TOO_LARGE, .count = UINT64_MAX, .text = "t" },
    { .kind = FRAME_FAILED, .code = FRAME_FAILURE_VERSION_REFUSED, .text = "" },
    { .kind = FRAME_PONG },
};

static void check_string(const char *is, const char *expected)
{
    if (expected)
        assert_string_equal(is, expected);
    else
        assert_null(is);
}

static void check_bytes(const void *is, size_t size, const void *expected, size_t expected_size)
{
    assert_int_equal(size, expected_size);
    assert_int_equal(!is, !expected);
    if (size > 0)
        assert_memory_equal(is, expected, size);
}

static void check_message(const struct mqtt_message *is, const struct mqtt_message *expected)
{
    check_string(is->topic, expected->topic);
    check_bytes(is->payload, is->payload_size, expected->payload ? expected->payload : "",
                expected->payload_size);
    assert_int_equal(is->qos, expected->qos);
    assert_int_equal(is->retain, expected->retain);
    assert_int_equal(is->n_properties, expected->n_properties);
    for (size_t i = 0; i < expected->n_properties; i++) {
        assert_string_equal(is->properties[i].name, expected->properties[i].name);
        assert_string_equal(is->properties[i].value, expected->properties[i].value);
    }
    check_string(is->response_topic, expected->response_topic);
    check_bytes(is->correlation, is->correlation_size, expected->correlation,
                expected->correlation_size);
}

static void check_options(const struct frame_options *is, const struct frame_options *expected)
{
    assert_int_equal(is->parent, expected->parent);
    assert_int_equal(is->n_hosts, expected->n_hosts);
    for (size_t i = 0; i < expected->n_hosts; i++)
        assert_string_equal(is->hosts[i], expected->hosts[i]);
    assert_int_equal(is->port, expected->port);
    assert_int_equal(is->unix_socket, expected->unix_socket);
    assert_int_equal(is->protocol, expected->protocol);
    assert_int_equal(is->rotation, expected->rotation);
    check_string(is->client_id, expected->client_id);
    assert_int_equal(is->keepalive_sec, expected->keepalive_sec);
    assert_int_equal(is->session_expiry_sec, expected->session_expiry_sec);
    check_string(is->username, expected->username);
    check_string(is->password_file, expected->password_file);
    assert_int_equal(is->tls, expected->tls);
    check_string(is->ca_file, expected->ca_file);
    check_string(is->cert_file, expected->cert_file);
    check_string(is->key_file, expected->key_file);
    check_string(is->psk_identity, expected->psk_identity);
    check_string(is->psk_file, expected->psk_file);
    check_string(is->alpn, expected->alpn);
    check_string(is->will_topic, expected->will_topic);
    check_string(is->will_payload, expected->will_payload);
    assert_int_equal(is->receive_maximum, expected->receive_maximum);
    assert_int_equal(is->max_message, expected->max_message);
    assert_int_equal(is->max_rate, expected->max_rate);
}

/* What belongs to the kind. */
static void check_record(const struct frame_record *is, const struct frame_record *expected)
{
    assert_int_equal(is->kind, expected->kind);
    switch (expected->kind) {
    case FRAME_OPTIONS:
        check_options(is->options, expected->options);
        break;
    case FRAME_PUBLISH:
    case FRAME_SUBSCRIBE:
    case FRAME_MESSAGE:
        if (expected->kind != FRAME_MESSAGE)
            assert_int_equal(is->id, expected->id);
        check_message(&is->message, &expected->message);
        break;
    case FRAME_CONNECTED:
        assert_memory_equal(&is->connected, &expected->connected, sizeof(is->connected));
        break;
    case FRAME_REACHED:
        assert_int_equal(is->host, expected->host);
        check_string(is->text, expected->text);
        break;
    case FRAME_ACKNOWLEDGED:
    case FRAME_SUBSCRIBED:
        assert_int_equal(is->id, expected->id);
        assert_int_equal(is->code, expected->code);
        break;
    case FRAME_DROPPED:
    case FRAME_FAILED:
        assert_int_equal(is->code, expected->code);
        check_string(is->text, expected->text);
        if (expected->kind == FRAME_DROPPED)
            assert_int_equal(is->count, expected->count);
        break;
    default:
        break;
    }
}

/* --- what is said is heard ------------------------------------------------------------------- */

static void every_kind_arrives_as_it_was(void **state)
{
    unsigned kinds = 0;
    (void)state;
    for (size_t i = 0; i < ELEMENTS(records); i++) {
        struct way way;
        way_init(&way);
        put(&way, &records[i]);
        assert_int_equal(take(&way), 1);
        check_record(&way.record, &records[i]);
        assert_int_equal(take(&way), 0);
        assert_int_equal(way.n_frames, 1);
        assert_int_equal(frame_queue_size(&way.queue), 0);
        way_done(&way);
        kinds |= 1U << records[i].kind;
    }
    assert_int_equal(kinds, (2U << FRAME_PONG) - 2); // none is missing above
}

static void strings_that_are_not_there_stay_so(void **state)
{
    struct way way;
    (void)state;
    way_init(&way);
    way.options = full_options; // what was read before is forgotten
    put(&way, &records[1]);
    assert_int_equal(take(&way), 1);
    check_options(&way.options, &empty_options);
    assert_null(way.options.hosts[0]);
    put(&way, &(const struct frame_record){
                  .kind = FRAME_MESSAGE,
                  .message = { .topic = "t", .response_topic = "", .correlation = "" } });
    assert_int_equal(take(&way), 1);
    assert_string_equal(way.record.message.response_topic, ""); // nor is an empty one none
    assert_non_null(way.record.message.correlation);
    put(&way, &(const struct frame_record){ .kind = FRAME_MESSAGE, .message = { .topic = "t" } });
    assert_int_equal(take(&way), 1);
    assert_null(way.record.message.response_topic);
    assert_null(way.record.message.correlation);
    assert_int_equal(way.record.message.n_properties, 0);
    assert_non_null(way.record.message.payload);
    put(&way, &(const struct frame_record){ .kind = FRAME_FAILED, .text = "why" });
    put(&way, &(const struct frame_record){ .kind = FRAME_PONG });
    assert_int_equal(take(&way), 1);
    assert_int_equal(take(&way), 1);
    assert_null(way.record.text); // it would point to a frame that is gone
    assert_null(way.record.message.topic);
    way_done(&way);
}

static void records_share_frames_up_to_their_limit(void **state)
{
    enum { N = 10 * FRAME_MAX_RECORDS + 1 };
    struct way way;
    (void)state;
    way_init(&way);
    for (uint32_t id = 1; id <= N; id++)
        put(&way, &(const struct frame_record){ .kind = FRAME_ACKNOWLEDGED, .id = id });
    for (uint32_t id = 1; id <= N; id++) {
        assert_int_equal(take(&way), 1);
        assert_int_equal(way.record.id, id);
    }
    assert_int_equal(take(&way), 0);
    assert_int_equal(way.n_frames, 11);
    way_done(&way);
}

static void order_is_kept_whatever_the_sizes(void **state)
{
    static const size_t sizes[] = {
        0, 10, 70000, 30000, 30000, 30000, 200000, 1, 1, 65000, 131072
    };
    _cleanup_(freep) char *payload = calloc(1, 200000);
    struct way way;
    (void)state;
    way_init(&way);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ELEMENTS(sizes); i++)
            put(&way,
                &(const struct frame_record){
                    .kind = FRAME_PUBLISH,
                    .id = (uint32_t)i,
                    .message = { .topic = "t", .payload = payload, .payload_size = sizes[i] } });
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
            assert_int_equal(take(&way), 1);
            assert_int_equal(way.record.id, i);
            assert_int_equal(way.record.message.payload_size, sizes[i]);
        }
    }
    way_done(&way);
}

static void long_records_go_in_parts(void **state)
{
    enum { MAX = 3 * FRAME_MAX_SIZE };
    // Eight numbers (id, QoS, retain, a count, four lengths), and "t" with its NUL.
    enum { AROUND = 8 * 4 + 2 };
    _cleanup_(freep) uint8_t *payload = malloc(MAX);
    (void)state;
    for (size_t i = 0; i < MAX; i++)
        payload[i] = (uint8_t)(i * 31 + (i >> 8));
    for (unsigned n = 1; n <= 2; n++) {
        for (int beyond = -2; beyond <= 2; beyond++) {
            const struct frame_record record = {
                .kind = FRAME_PUBLISH,
                .id = 7,
                .message = { .topic = "t",
                             .payload = (const char *)payload,
                             .payload_size = (size_t)((int)n * MAX_BODY - AROUND + beyond) }
            };
            struct way way;
            way_init(&way);
            put(&way, &record);
            unsigned n_parts = beyond > 0 ? n + 1 : n;
            assert_int_equal(frame_queue_size(&way.queue),
                             AROUND + record.message.payload_size +
                                 n_parts * (sizeof(uint32_t) + HEADER_SIZE));
            put(&way, &(const struct frame_record){ .kind = FRAME_STOP });
            assert_int_equal(take(&way), 1);
            check_record(&way.record, &record);
            assert_int_equal(take(&way), 1);
            assert_int_equal(way.record.kind, FRAME_STOP);
            assert_null(way.reader.parts);         // given back
            assert_int_equal(way.n_frames, n + 1); // what is behind a short part is in its frame
            assert_int_equal(take(&way), 0);
            way_done(&way);
        }
    }
}

static void properties_beyond_the_limit_are_left_out(void **state)
{
    struct mqtt_user_property many[FRAME_MAX_PROPERTIES + 5];
    struct frame_record record = {
        .kind = FRAME_MESSAGE,
        .message = { .topic = "t", .properties = many, .n_properties = ELEMENTS(many) }
    };
    struct way way;
    (void)state;
    for (size_t i = 0; i < ELEMENTS(many); i++)
        many[i] = (struct mqtt_user_property){ "name", i % 2 ? "odd" : "even" };
    way_init(&way);
    put(&way, &record);
    assert_int_equal(take(&way), 1);
    record.message.n_properties = FRAME_MAX_PROPERTIES;
    check_record(&way.record, &record);
    way_done(&way);
}

/* --- what cannot be said --------------------------------------------------------------------- */

static void check_refused(struct way *way, const struct frame_record *record, int expected)
{
    size_t size = frame_queue_size(&way->queue);
    assert_int_equal(frame_queue_put(&way->queue, record), expected);
    assert_int_equal(frame_queue_size(&way->queue), size);
}

static void what_is_not_utf8_is_refused(void **state)
{
    static const struct mqtt_user_property bad_name = { "\xc3", "x" }, bad_value = { "x", "\x80" };
    struct way way;
    (void)state;
    way_init(&way);
    put(&way, &records[3]);
    check_refused(&way, &(const struct frame_record){ .kind = FRAME_FAILED, .text = "a\xff" },
                  -EINVAL);
    check_refused(
        &way,
        &(const struct frame_record){ .kind = FRAME_PUBLISH, .message = { .topic = "\xc0\x80" } },
        -EINVAL);
    check_refused(
        &way,
        &(const struct frame_record){
            .kind = FRAME_PUBLISH, .message = { .topic = "t", .response_topic = "\xed\xa0\x80" } },
        -EINVAL);
    check_refused(&way,
                  &(const struct frame_record){
                      .kind = FRAME_PUBLISH,
                      .message = { .topic = "t", .properties = &bad_name, .n_properties = 1 } },
                  -EINVAL);
    check_refused(&way,
                  &(const struct frame_record){
                      .kind = FRAME_PUBLISH,
                      .message = { .topic = "t", .properties = &bad_value, .n_properties = 1 } },
                  -EINVAL);
    assert_int_equal(take(&way), 1); // what was there before is as it was
    check_record(&way.record, &records[3]);
    assert_int_equal(take(&way), 0);
    way_done(&way);
}

static void what_is_too_long_is_refused(void **state)
{
    enum { MAX_STRING = 65535 };
    _cleanup_(freep) char *text = malloc(MAX_STRING + 2);
    struct way way;
    (void)state;
    memset(text, 'x', MAX_STRING + 1);
    text[MAX_STRING + 1] = '\0';
    way_init(&way);
    check_refused(&way, &(const struct frame_record){ .kind = FRAME_FAILED, .text = text },
                  -EMSGSIZE);
    check_refused(
        &way,
        &(const struct frame_record){
            .kind = FRAME_PUBLISH,
            .message = { .topic = "t", .correlation = text, .correlation_size = MAX_STRING + 1 } },
        -EMSGSIZE);
    check_refused(
        &way,
        &(const struct frame_record){
            .kind = FRAME_PUBLISH,
            .message = { .topic = "t", .payload = text, .payload_size = ((size_t)1 << 30) + 1 } },
        -EMSGSIZE);
    check_refused(&way,
                  &(const struct frame_record){
                      .kind = FRAME_PUBLISH,
                      .message = { .topic = "t", .payload = text, .payload_size = SIZE_MAX } },
                  -EMSGSIZE);
    // The longest, and all of them in one record.
    text[MAX_STRING] = '\0';
    const struct frame_record longest = { .kind = FRAME_PUBLISH,
                                          .message = { .topic = text,
                                                       .response_topic = text,
                                                       .correlation = text,
                                                       .correlation_size = MAX_STRING } };
    put(&way, &longest);
    assert_int_equal(take(&way), 1);
    check_record(&way.record, &longest);
    way_done(&way);
}

/* --- what must not be heard ------------------------------------------------------------------ */

/* All that the bytes have, and the outcome. */
static int read_all(struct way *way, const void *bytes, size_t size)
{
    int r;
    feed(way, bytes, size);
    while ((r = frame_reader_next(&way->reader, &way->record)) > 0)
        continue;
    return r;
}

static int read_fresh(const void *bytes, size_t size)
{
    struct way way;
    way_init(&way);
    int r = read_all(&way, bytes, size);
    way_done(&way);
    return r;
}

/* A frame of the record alone; the caller frees it. */
static uint8_t *frame_of(const struct frame_record *record, size_t *ret_size)
{
    struct frame_queue queue = { 0 };
    const void *bytes;
    assert_int_equal(frame_queue_put(&queue, record), 0);
    assert_true(frame_queue_first(&queue, &bytes, ret_size));
    uint8_t *frame = malloc(*ret_size);
    memcpy(frame, bytes, *ret_size);
    frame_queue_done(&queue);
    return frame;
}

static void every_truncation_is_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ELEMENTS(records); i++) {
        size_t size;
        _cleanup_(freep) uint8_t *frame = frame_of(&records[i], &size);
        assert_int_equal(read_fresh(frame, size), 0);
        assert_int_equal(read_fresh(frame, 0), 0);
        for (size_t length = 1; length < size; length++)
            assert_int_equal(read_fresh(frame, length), -EBADMSG);
        // The header says so, too: the record itself ends early, or has more than it should.
        for (uint32_t length = 0; length < size - HEADER_SIZE; length++) {
            _cleanup_(freep) uint8_t *copy = malloc(size);
            memcpy(copy, frame, size);
            memcpy(copy, &length, sizeof(length));
            assert_int_equal(read_fresh(copy, HEADER_SIZE + length), -EBADMSG);
        }
        uint32_t length = (uint32_t)(size - HEADER_SIZE + 1);
        _cleanup_(freep) uint8_t *longer = calloc(1, size + 1);
        memcpy(longer, frame, size);
        memcpy(longer, &length, sizeof(length));
        assert_int_equal(read_fresh(longer, size + 1), -EBADMSG);
    }
}

/* What is taken can be said again. */
static void any_bit_may_be_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < ELEMENTS(records); i++) {
        size_t size;
        _cleanup_(freep) uint8_t *frame = frame_of(&records[i], &size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            struct way way;
            way_init(&way);
            frame[bit / 8] ^= (uint8_t)(1U << bit % 8);
            feed(&way, frame, size);
            int r = frame_reader_next(&way.reader, &way.record);
            assert_true(r == 1 || r == 0 || r == -EBADMSG || r == -EPROTO);
            if (r == 1)
                put(&way, &way.record);
            frame[bit / 8] ^= (uint8_t)(1U << bit % 8);
            way_done(&way);
        }
    }
}

static void headers_are_checked(void **state)
{
    uint8_t pong[HEADER_SIZE] = { 0, 0, 0, 0, FRAME_PONG };
    uint8_t many[(FRAME_MAX_RECORDS + 1) * HEADER_SIZE];
    (void)state;
    assert_int_equal(read_fresh(pong, sizeof(pong)), 0);
    for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
        pong[4] = (uint8_t)kind;
        bool is_known = kind >= FRAME_OPTIONS && kind <= FRAME_PONG;
        bool is_empty = kind == FRAME_PONG || kind == FRAME_PING || kind == FRAME_STOP;
        assert_int_equal(read_fresh(pong, sizeof(pong)), is_known && is_empty ? 0 : -EBADMSG);
    }
    for (size_t i = 5; i < HEADER_SIZE; i++) {
        uint8_t bad[HEADER_SIZE] = { 0, 0, 0, 0, FRAME_PONG };
        bad[i] = 2;
        assert_int_equal(read_fresh(bad, sizeof(bad)), -EBADMSG);
    }
    pong[4] = FRAME_PONG;
    for (size_t i = 0; i <= FRAME_MAX_RECORDS; i++)
        memcpy(many + i * HEADER_SIZE, pong, HEADER_SIZE);
    assert_int_equal(read_fresh(many, sizeof(many) - HEADER_SIZE), 0);
    assert_int_equal(read_fresh(many, sizeof(many)), -EBADMSG);
}

/* A frame in which every `from` of the record has become `to`. */
static int read_changed(const struct frame_record *record, const char *from, const char *to)
{
    size_t size, length = strlen(from);
    unsigned n_changes = 0;
    _cleanup_(freep) uint8_t *frame = frame_of(record, &size);
    for (size_t i = 0; i + length <= size; i++) {
        if (memcmp(frame + i, from, length) == 0) {
            memcpy(frame + i, to, length);
            n_changes++;
        }
    }
    assert_int_equal(n_changes, 1);
    return read_fresh(frame, size);
}

static void texts_are_checked(void **state)
{
    static const struct mqtt_user_property property = { "nameX", "valueX" };
    const struct frame_record message = { .kind = FRAME_MESSAGE,
                                          .message = { .topic = "topicX",
                                                       .response_topic = "answerX",
                                                       .correlation = "correlX",
                                                       .correlation_size = 7,
                                                       .properties = &property,
                                                       .n_properties = 1,
                                                       .payload = "payloadX",
                                                       .payload_size = 8 } };
    const struct frame_record failed = { .kind = FRAME_FAILED, .text = "textX" };
    struct frame_options options = {
        .n_hosts = 1, .hosts = { "hostX" }, .will_topic = "willX", .username = "userX"
    };
    const struct frame_record begin = { .kind = FRAME_OPTIONS, .options = &options };
    static const char *const names[] = { "topicX", "answerX", "nameX", "valueX" };
    (void)state;
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        size_t length = strlen(names[i]);
        char changed[16];
        memcpy(changed, names[i], length + 1);
        changed[length - 1] = 'Y';
        assert_int_equal(read_changed(&message, names[i], changed), 0);
        changed[length - 1] = '\0'; // within a string
        assert_int_equal(read_changed(&message, names[i], changed), -EBADMSG);
        changed[length - 1] = '\xff';
        assert_int_equal(read_changed(&message, names[i], changed), -EBADMSG);
    }
    assert_int_equal(read_changed(&message, "correlX", "\0\xff\0\xff\0\0\0"), 0); // bytes
    assert_int_equal(read_changed(&message, "payloadX", "\0\xff\0\xff\0\0\0"), 0);
    assert_int_equal(read_changed(&failed, "textX", "tex\0X"), -EBADMSG);
    assert_int_equal(read_changed(&failed, "textX", "tex\xffX"), -EBADMSG);
    assert_int_equal(read_changed(&begin, "hostX", "hos\0X"), -EBADMSG);
    assert_int_equal(read_changed(&begin, "hostX", "hos\xffX"), 0); // a path is bytes
    assert_int_equal(read_changed(&begin, "userX", "us\0rX"), -EBADMSG);
    assert_int_equal(read_changed(&begin, "willX",
                                  "wil\xff"
                                  "X"),
                     -EBADMSG);
}

static void last_byte_of_a_string_is_its_end(void **state)
{
    size_t size;
    (void)state;
    _cleanup_(freep) uint8_t *frame =
        frame_of(&(const struct frame_record){ .kind = FRAME_FAILED, .text = "text" }, &size);
    assert_int_equal(frame[size - 1], 0);
    frame[size - 1] = 'x';
    assert_int_equal(read_fresh(frame, size), -EBADMSG);
}

static void what_must_be_there_is(void **state)
{
    (void)state;
    // The other side would not take them: they are our own faults, and no more than that.
    static const struct frame_record lacking[] = {
        { .kind = FRAME_MESSAGE },
        { .kind = FRAME_PUBLISH, .id = 1 },
        { .kind = FRAME_MESSAGE, .message = { .topic = "t", .qos = 3 } },
        { .kind = FRAME_MESSAGE, .message = { .topic = "t", .qos = -1 } },
    };
    for (size_t i = 0; i < ELEMENTS(lacking); i++) {
        size_t size;
        _cleanup_(freep) uint8_t *frame = frame_of(&lacking[i], &size);
        assert_int_equal(read_fresh(frame, size), -EBADMSG);
    }
}

static void numbers_have_limits(void **state)
{
    struct way way;
    (void)state;
    way_init(&way);
    static const struct frame_options bad[] = {
        { .n_hosts = FRAME_MAX_HOSTS + 1 },
        { .port = UINT16_MAX + 1 },
        { .unix_socket = 2 },
        { .protocol = 6 },
        { .rotation = UINT64_MAX },
        { .keepalive_sec = UINT16_MAX + 1 },
        { .tls = 2 },
        { .session_expiry_sec = UINT64_MAX },
        { .receive_maximum = 1 << 16 },
        { .max_message = (1 << 30) + 1 },
        { .max_rate = UINT64_MAX },
        { .n_hosts = 1 }, // and it is not there
    };
    for (size_t i = 0; i < ELEMENTS(bad); i++)
        check_refused(
            &way,
            &(const struct frame_record){ .kind = FRAME_OPTIONS,
                                          .options = (struct frame_options *)(uintptr_t)&bad[i] },
            -EBADMSG);
    static const struct frame_record others[] = {
        { .kind = FRAME_CONNECTED, .connected = { .session_present = 2 } },
        { .kind = FRAME_CONNECTED, .connected = { .receive_maximum = UINT16_MAX + 1 } },
        { .kind = FRAME_ACKNOWLEDGED, .code = UINT8_MAX + 1 },
        { .kind = FRAME_SUBSCRIBED, .code = UINT32_MAX },
        { .kind = FRAME_DROPPED, .code = FRAME_DROP_TOO_LARGE + 1, .text = "" },
        { .kind = FRAME_FAILED, .code = FRAME_FAILURE_VERSION_REFUSED + 1, .text = "" },
        { .kind = FRAME_FAILED },
        { .kind = 0 },
        { .kind = FRAME_PONG + 1 },
    };
    for (size_t i = 0; i < ELEMENTS(others); i++)
        check_refused(&way, &others[i], -EBADMSG);
    way_done(&way);
}

static void options_of_another_version_are_told_apart(void **state)
{
    size_t size;
    (void)state;
    _cleanup_(freep) uint8_t *frame = frame_of(&records[0], &size);
    frame[HEADER_SIZE]++;
    assert_int_equal(read_fresh(frame, size), -EPROTO);
    // Whatever else that version has.
    uint8_t other[HEADER_SIZE + 5] = { 5, 0, 0, 0, FRAME_OPTIONS, 0, 0, 0, FRAME_VERSION + 1 };
    assert_int_equal(read_fresh(other, sizeof(other)), -EPROTO);
}

static void options_are_for_one_who_wants_them(void **state)
{
    struct way way;
    (void)state;
    way_init(&way);
    way.record.options = NULL;
    put(&way, &records[0]);
    assert_int_equal(take(&way), -EBADMSG);
    way_done(&way);
}

/* --- parts ----------------------------------------------------------------------------------- */

static void parts_have_a_limit(void **state)
{
    enum { SIZE = 200000 };
    _cleanup_(freep) char *payload = calloc(1, SIZE);
    const struct frame_record record = {
        .kind = FRAME_MESSAGE, .message = { .topic = "t", .payload = payload, .payload_size = SIZE }
    };
    (void)state;
    struct frame_queue queue = { 0 };
    assert_int_equal(frame_queue_put(&queue, &record), 0);
    size_t n_parts = SIZE / MAX_BODY + 1;
    size_t body = frame_queue_size(&queue) - n_parts * (sizeof(uint32_t) + HEADER_SIZE);
    frame_queue_done(&queue);
    for (int too_much = 0; too_much <= 1; too_much++) {
        struct way way;
        way_init(&way);
        way.reader.max_size = body - (size_t)too_much;
        put(&way, &record);
        assert_int_equal(take(&way), too_much ? -EMSGSIZE : 1);
        assert_true(way.reader.parts_capacity <= body);
        way_done(&way);
    }
}

static void part(struct way *way, uint8_t kind, uint8_t flags, const void *body, uint32_t size,
                 int expected)
{
    _cleanup_(freep) uint8_t *frame = calloc(1, HEADER_SIZE + size);
    memcpy(frame, &size, sizeof(size));
    frame[4] = kind;
    frame[5] = flags;
    if (size > 0)
        memcpy(frame + HEADER_SIZE, body, size);
    feed(way, frame, HEADER_SIZE + size);
    assert_int_equal(frame_reader_next(&way->reader, &way->record), expected);
}

static void parts_are_of_one_record(void **state)
{
    struct way way;
    (void)state;
    way_init(&way);
    part(&way, FRAME_FAILED, FLAG_MORE, "\2\0\0\0", 4, 0);
    part(&way, FRAME_PONG, 0, NULL, 0, -EBADMSG); // nothing comes between
    way_done(&way);
    way_init(&way);
    part(&way, FRAME_SUBSCRIBED, FLAG_MORE, "\2\0\0\0", 4, 0);
    part(&way, FRAME_ACKNOWLEDGED, 0, "\0\0\0\0", 4, -EBADMSG);
    way_done(&way);
    way_init(&way);
    part(&way, 0, FLAG_MORE, "x", 1, -EBADMSG); // one of no kind
    way_done(&way);
    way_init(&way);
    part(&way, FRAME_FAILED, FLAG_MORE, "\2\0\0\0", 4, 0);
    part(&way, FRAME_FAILED, FLAG_MORE, "\4\0\0", 3, 0);
    part(&way, FRAME_FAILED, FLAG_MORE, NULL, 0, 0);
    part(&way, FRAME_FAILED, 0, "\0why", 5, 1);
    assert_int_equal(way.record.code, FRAME_FAILURE_VERSION_REFUSED);
    assert_string_equal(way.record.text, "why");
    part(&way, FRAME_PONG, 0, NULL, 0, 1);
    assert_int_equal(way.record.kind, FRAME_PONG);
    // What is missing at the end.
    part(&way, FRAME_FAILED, FLAG_MORE, "\2\0\0\0", 4, 0);
    part(&way, FRAME_FAILED, 0, "\4\0\0", 3, -EBADMSG);
    way_done(&way);
}

static void empty_parts_take_no_memory(void **state)
{
    struct way way;
    (void)state;
    way_init(&way);
    for (int i = 0; i < 1000; i++)
        part(&way, FRAME_PING, FLAG_MORE, NULL, 0, 0);
    assert_null(way.reader.parts);
    part(&way, FRAME_PING, 0, NULL, 0, 1);
    assert_int_equal(way.record.kind, FRAME_PING);
    part(&way, FRAME_FAILED, FLAG_MORE, NULL, 0, 0);
    part(&way, FRAME_FAILED, 0, NULL, 0, -EBADMSG);
    way_done(&way);
}

/* --- records that no put makes --------------------------------------------------------------- */

struct body {
    uint8_t bytes[1024];
    size_t size;
};

static void add_number(struct body *body, uint32_t number)
{
    memcpy(body->bytes + body->size, &number, sizeof(number));
    body->size += sizeof(number);
}

static void add_text(struct body *body, const char *text)
{
    size_t size = strlen(text) + 1;
    add_number(body, (uint32_t)size);
    memcpy(body->bytes + body->size, text, size);
    body->size += size;
}

/* A message, up to its properties. */
static struct body begin_message(uint32_t qos, uint32_t retain)
{
    struct body body = { .size = 0 };
    add_number(&body, qos);
    add_number(&body, retain);
    add_text(&body, "t");
    add_number(&body, UINT32_MAX); // no response topic
    add_number(&body, UINT32_MAX); // no correlation data
    return body;
}

static void check_body(uint8_t kind, const struct body *body, int expected)
{
    struct way way;
    way_init(&way);
    part(&way, kind, 0, body->bytes, (uint32_t)body->size, expected);
    way_done(&way);
}

static void fields_of_a_message_are_checked(void **state)
{
    (void)state;
    for (uint32_t qos = 0; qos <= 3; qos++) {
        for (uint32_t retain = 0; retain <= 2; retain++) {
            struct body body = begin_message(qos, retain);
            add_number(&body, 0); // properties
            add_number(&body, 0); // bytes of the payload
            check_body(FRAME_MESSAGE, &body, qos <= 2 && retain <= 1 ? 1 : -EBADMSG);
        }
    }
    struct body body = begin_message(0, 0);
    add_number(&body, 0);
    add_number(&body, UINT32_MAX); // no payload, which is not the same as an empty one
    check_body(FRAME_MESSAGE, &body, -EBADMSG);
}

static void properties_are_checked(void **state)
{
    (void)state;
    for (uint32_t n = FRAME_MAX_PROPERTIES; n <= FRAME_MAX_PROPERTIES + 1; n++) {
        struct body body = begin_message(0, 0);
        add_number(&body, n);
        for (uint32_t i = 0; i < 2 * n; i++)
            add_text(&body, "x");
        add_number(&body, 0);
        check_body(FRAME_MESSAGE, &body, n <= FRAME_MAX_PROPERTIES ? 1 : -EBADMSG);
    }
    for (int lacks_name = 0; lacks_name <= 1; lacks_name++) {
        struct body body = begin_message(0, 0);
        add_number(&body, 1);
        for (int i = 0; i < 2; i++) {
            if (i == lacks_name)
                add_text(&body, "x");
            else
                add_number(&body, UINT32_MAX);
        }
        add_number(&body, 0);
        check_body(FRAME_MESSAGE, &body, -EBADMSG);
    }
}

static void strings_have_an_end_and_a_limit(void **state)
{
    enum { TOO_LONG = 65537 }; // bytes, with the NUL
    _cleanup_(freep) uint8_t *text = malloc(TOO_LONG);
    struct body body = { .size = 0 };
    struct way way;
    (void)state;
    add_number(&body, 0); // the code
    add_number(&body, 0); // not even a NUL
    check_body(FRAME_FAILED, &body, -EBADMSG);
    memset(text, 'x', TOO_LONG);
    text[TOO_LONG - 1] = '\0';
    for (uint32_t size = TOO_LONG - 1; size <= TOO_LONG; size++) {
        body.size = 0;
        add_number(&body, 0);
        add_number(&body, size);
        way_init(&way);
        part(&way, FRAME_FAILED, FLAG_MORE, body.bytes, (uint32_t)body.size, 0);
        part(&way, FRAME_FAILED, FLAG_MORE, text + TOO_LONG - size, size - 10, 0);
        part(&way, FRAME_FAILED, 0, text + TOO_LONG - 10, 10, size < TOO_LONG ? 1 : -EBADMSG);
        way_done(&way);
    }
}

/* --- memory ---------------------------------------------------------------------------------- */

static void memory_is_given_back_after_a_burst(void **state)
{
    _cleanup_(freep) char *payload = calloc(1, 1 << 20);
    const void *bytes;
    size_t size;
    struct way way;
    (void)state;
    way_init(&way);
    for (int i = 0; i < 3; i++) {
        put(&way, &(const struct frame_record){
                      .kind = FRAME_PUBLISH,
                      .message = { .topic = "t", .payload = payload, .payload_size = 1 << 20 } });
        assert_in_range(frame_queue_size(&way.queue), 1 << 20, (1 << 20) + 1000);
        assert_int_equal(take(&way), 1);
        assert_int_equal(take(&way), 0);
        assert_int_equal(frame_queue_size(&way.queue), 0);
        assert_false(frame_queue_first(&way.queue, &bytes, &size));
        assert_int_equal(way.queue.capacity, 0);
        assert_null(way.queue.bytes);
        assert_null(way.reader.parts);
    }
    way_done(&way);
}

static void queue_that_is_never_empty_does_not_grow(void **state)
{
    struct way way;
    uint32_t last_id = 0;
    (void)state;
    way_init(&way);
    for (uint32_t id = 1; id <= 10000; id++) {
        put(&way, &(const struct frame_record){ .kind = FRAME_ACKNOWLEDGED, .id = id });
        if (id > 100) {
            assert_int_equal(take(&way), 1);
            assert_int_equal(way.record.id, ++last_id);
        }
        assert_true(way.queue.capacity <= 8192);
    }
    way_done(&way);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_arrives_as_it_was),
        cmocka_unit_test(strings_that_are_not_there_stay_so),
        cmocka_unit_test(records_share_frames_up_to_their_limit),
        cmocka_unit_test(order_is_kept_whatever_the_sizes),
        cmocka_unit_test(long_records_go_in_parts),
        cmocka_unit_test(properties_beyond_the_limit_are_left_out),
        cmocka_unit_test(what_is_not_utf8_is_refused),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(every_truncation_is_malformed),
        cmocka_unit_test(any_bit_may_be_wrong),
        cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(texts_are_checked),
        cmocka_unit_test(last_byte_of_a_string_is_its_end),
        cmocka_unit_test(what_must_be_there_is),
        cmocka_unit_test(numbers_have_limits),
        cmocka_unit_test(options_of_another_version_are_told_apart),
        cmocka_unit_test(options_are_for_one_who_wants_them),
        cmocka_unit_test(parts_have_a_limit),
        cmocka_unit_test(parts_are_of_one_record),
        cmocka_unit_test(empty_parts_take_no_memory),
        cmocka_unit_test(fields_of_a_message_are_checked),
        cmocka_unit_test(properties_are_checked),
        cmocka_unit_test(strings_have_an_end_and_a_limit),
        cmocka_unit_test(memory_is_given_back_after_a_burst),
        cmocka_unit_test(queue_that_is_never_empty_does_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
