// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Records to bytes and back; see frame.h. One function a record says its fields in their order, and
 * a struct codec counts, writes or reads them: the two directions cannot disagree.
 *
 * In the queue each frame has its size in front. Both ends are programs of one machine, so numbers
 * are as it has them.
 */
#include "core/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/strings.h"

enum {
    NO_STRING = UINT32_MAX,
    MAX_STRING = 65535,
    MAX_PAYLOAD = 1 << 30,
    FLAG_MORE = 1, // another part of this record follows
};

/* In front of each record. */
struct header {
    uint32_t size; // of what follows
    uint8_t kind;
    uint8_t flags;
    uint16_t zero;
};

enum direction { COUNT, WRITE, READ };

struct codec {
    enum direction direction;
    uint8_t *to;
    const uint8_t *from, *end; // READ
    size_t size;               // COUNT
    int error;
};

/* --- fields ---------------------------------------------------------------------------------- */

static bool take(struct codec *codec, size_t size)
{
    if (codec->error == 0 && (size_t)(codec->end - codec->from) < size)
        codec->error = -EBADMSG;
    return codec->error == 0;
}

static void code_bytes(struct codec *codec, void *value, size_t size)
{
    switch (codec->direction) {
    case COUNT:
        codec->size += size;
        break;
    case WRITE:
        memcpy(codec->to, value, size);
        codec->to += size;
        break;
    case READ:
        if (take(codec, size)) {
            memcpy(value, codec->from, size);
            codec->from += size;
        }
        break;
    }
}

static void code_u32(struct codec *codec, uint32_t *value)
{
    code_bytes(codec, value, sizeof(*value));
}

static void code_u64(struct codec *codec, uint64_t *value)
{
    code_bytes(codec, value, sizeof(*value));
}

static void code_limited(struct codec *codec, uint64_t *value, uint64_t max)
{
    code_u64(codec, value);
    if (codec->error == 0 && *value > max)
        codec->error = -EBADMSG;
}

/* Bytes of their own length; read, they stay where they are. */
static void code_blob(struct codec *codec, const void **value, size_t *size, size_t max)
{
    uint32_t length = *value ? (uint32_t)*size : NO_STRING;
    if (codec->direction != READ && *value && *size > max)
        codec->error = -EMSGSIZE;
    code_u32(codec, &length);
    if (codec->error || (length == NO_STRING && codec->direction != READ))
        return;
    if (codec->direction != READ) {
        code_bytes(codec, (void *)(uintptr_t)*value, length);
        return;
    }
    *value = NULL;
    *size = 0;
    if (length == NO_STRING)
        return;
    if (length > max) {
        codec->error = -EBADMSG;
    } else if (take(codec, length)) {
        *value = codec->from;
        *size = length;
        codec->from += length;
    }
}

/* With its NUL, so that what was read is a string where it lies. */
static void code_path(struct codec *codec, const char **value)
{
    const void *bytes = *value;
    size_t size = codec->direction != READ && *value ? strlen(*value) + 1 : 0;
    code_blob(codec, &bytes, &size, MAX_STRING + 1);
    if (codec->direction != READ || codec->error)
        return;
    *value = bytes;
    if (*value && (size == 0 || memchr(*value, '\0', size) != *value + size - 1))
        codec->error = -EBADMSG;
}

/* Likewise, and UTF-8, as every text of MQTT is (MQTT 5.0, section 1.5.4). */
static void code_string(struct codec *codec, const char **value)
{
    code_path(codec, value);
    if (codec->error == 0 && codec->direction != WRITE && *value &&
        !strings_is_utf8(*value, strlen(*value)))
        codec->error = codec->direction == READ ? -EBADMSG : -EINVAL;
}

/* --- records --------------------------------------------------------------------------------- */

static void code_properties(struct codec *codec, struct frame_record *record)
{
    struct mqtt_message *message = &record->message;
    uint32_t n = message->n_properties < FRAME_MAX_PROPERTIES ? (uint32_t)message->n_properties
                                                              : FRAME_MAX_PROPERTIES;
    code_u32(codec, &n);
    if (codec->direction == READ) {
        if (n > FRAME_MAX_PROPERTIES)
            codec->error = -EBADMSG;
        message->n_properties = codec->error ? 0 : n;
        message->properties = record->properties;
    }
    for (size_t i = 0; i < n && codec->error == 0; i++) {
        struct mqtt_user_property property = message->properties[i];
        code_string(codec, &property.name);
        code_string(codec, &property.value);
        if (codec->direction != READ)
            continue;
        if (!property.name || !property.value)
            codec->error = -EBADMSG;
        record->properties[i] = property;
    }
}

static void code_message(struct codec *codec, struct frame_record *record)
{
    struct mqtt_message *message = &record->message;
    const void *payload = message->payload ? message->payload : "";
    uint32_t qos = (uint32_t)message->qos, retain = message->retain;
    code_u32(codec, &qos);
    code_u32(codec, &retain);
    code_string(codec, &message->topic);
    code_string(codec, &message->response_topic);
    code_blob(codec, &message->correlation, &message->correlation_size, MAX_STRING);
    code_properties(codec, record);
    code_blob(codec, &payload, &message->payload_size, MAX_PAYLOAD);
    if (codec->direction != READ || codec->error)
        return;
    message->qos = (int)qos;
    message->retain = retain;
    message->payload = payload;
    if (qos > 2 || retain > 1 || !message->topic || !payload)
        codec->error = -EBADMSG;
}

static void code_options(struct codec *codec, struct frame_options *options)
{
    uint32_t version = FRAME_VERSION;
    code_u32(codec, &version);
    if (codec->error == 0 && version != FRAME_VERSION)
        codec->error = -EPROTO;
    code_u64(codec, &options->parent);
    code_limited(codec, &options->n_hosts, FRAME_MAX_HOSTS);
    for (size_t i = 0; i < options->n_hosts && codec->error == 0; i++) {
        code_path(codec, &options->hosts[i]);
        if (codec->error == 0 && !options->hosts[i])
            codec->error = -EBADMSG;
    }
    code_limited(codec, &options->port, UINT16_MAX);
    code_limited(codec, &options->unix_socket, 1);
    code_limited(codec, &options->protocol, MQTT_PROTOCOL_5);
    code_limited(codec, &options->rotation, UINT32_MAX);
    code_path(codec, &options->client_id);
    code_limited(codec, &options->keepalive_sec, UINT16_MAX);
    code_limited(codec, &options->session_expiry_sec, UINT32_MAX);
    code_path(codec, &options->username);
    code_path(codec, &options->password_file);
    code_limited(codec, &options->tls, 1);
    code_path(codec, &options->ca_file);
    code_path(codec, &options->cert_file);
    code_path(codec, &options->key_file);
    code_path(codec, &options->psk_identity);
    code_path(codec, &options->psk_file);
    code_path(codec, &options->alpn);
    code_string(codec, &options->will_topic);
    code_path(codec, &options->will_payload);
    code_limited(codec, &options->receive_maximum, UINT16_MAX);
    code_limited(codec, &options->max_message, MAX_PAYLOAD);
    code_limited(codec, &options->max_rate, UINT32_MAX);
}

static void code_connected(struct codec *codec, struct frame_connected *connected)
{
    code_limited(codec, &connected->session_present, 1);
    code_limited(codec, &connected->protocol, MQTT_PROTOCOL_5);
    code_limited(codec, &connected->receive_maximum, UINT16_MAX);
    code_limited(codec, &connected->keepalive_sec, UINT16_MAX);
}

static void code_text(struct codec *codec, struct frame_record *record)
{
    code_string(codec, &record->text);
    if (codec->error == 0 && !record->text)
        codec->error = -EBADMSG;
}

static void code_record(struct codec *codec, struct frame_record *record)
{
    switch (record->kind) {
    case FRAME_OPTIONS:
        if (record->options)
            code_options(codec, record->options);
        else
            codec->error = -EBADMSG;
        break;
    case FRAME_PUBLISH:
    case FRAME_SUBSCRIBE:
        code_u32(codec, &record->id);
        code_message(codec, record);
        break;
    case FRAME_MESSAGE:
        code_message(codec, record);
        break;
    case FRAME_REACHED:
        code_u32(codec, &record->host);
        code_text(codec, record);
        break;
    case FRAME_CONNECTED:
        code_connected(codec, &record->connected);
        break;
    case FRAME_ACKNOWLEDGED:
    case FRAME_SUBSCRIBED:
        code_u32(codec, &record->id);
        code_u32(codec, &record->code);
        if (codec->error == 0 && record->code > UINT8_MAX)
            codec->error = -EBADMSG;
        break;
    case FRAME_DROPPED:
        code_u32(codec, &record->code);
        code_u64(codec, &record->count);
        code_text(codec, record);
        if (codec->error == 0 && record->code > FRAME_DROP_TOO_LARGE)
            codec->error = -EBADMSG;
        break;
    case FRAME_FAILED:
        code_u32(codec, &record->code);
        code_text(codec, record);
        if (codec->error == 0 && record->code > FRAME_FAILURE_VERSION_REFUSED)
            codec->error = -EBADMSG;
        break;
    case FRAME_STOP:
    case FRAME_PING:
    case FRAME_PONG:
        break;
    default:
        codec->error = -EBADMSG;
    }
}

/* --- the queue ------------------------------------------------------------------------------- */

static uint32_t frame_size(const struct frame_queue *queue, size_t at)
{
    uint32_t size;
    memcpy(&size, queue->bytes + at, sizeof(size));
    return size;
}

/* Room for size bytes behind the end. */
static int reserve(struct frame_queue *queue, size_t size)
{
    if (queue->capacity - queue->end >= size)
        return 0;
    if (queue->begin > 0) {
        memmove(queue->bytes, queue->bytes + queue->begin, queue->end - queue->begin);
        queue->end -= queue->begin;
        queue->last -= queue->begin;
        queue->begin = 0;
    }
    size_t capacity = queue->capacity > 0 ? queue->capacity : 1024;
    while (capacity - queue->end < size)
        capacity *= 2;
    if (capacity == queue->capacity)
        return 0;
    uint8_t *bytes = realloc(queue->bytes, capacity);
    if (!bytes)
        return -ENOMEM;
    queue->bytes = bytes;
    queue->capacity = capacity;
    return 0;
}

/* Appends a header and returns where its body goes; there is room. */
static uint8_t *append(struct frame_queue *queue, struct header header)
{
    size_t size = sizeof(header) + header.size;
    uint32_t before = 0;
    bool is_new = queue->begin == queue->end || queue->n_records == FRAME_MAX_RECORDS;
    if (!is_new) {
        before = frame_size(queue, queue->last);
        is_new = before + size > FRAME_MAX_SIZE;
    }
    if (is_new) {
        before = 0;
        queue->last = queue->end;
        queue->end += sizeof(before);
        queue->n_records = 0;
    }
    uint32_t now = before + (uint32_t)size;
    memcpy(queue->bytes + queue->last, &now, sizeof(now));
    uint8_t *to = queue->bytes + queue->end;
    memcpy(to, &header, sizeof(header));
    queue->end += size;
    queue->n_records++;
    return to + sizeof(header);
}

static const size_t max_body = FRAME_MAX_SIZE - sizeof(struct header);

/* What one record takes at most: its header, and the size of a frame of its own. */
static const size_t record_overhead = sizeof(struct header) + sizeof(uint32_t);

static int put_parts(struct frame_queue *queue, uint8_t kind, const uint8_t *body, size_t size)
{
    int r = reserve(queue, size + (size / max_body + 1) * record_overhead);
    if (r < 0)
        return r;
    for (size_t done = 0; done < size;) {
        size_t part = size - done < max_body ? size - done : max_body;
        bool is_last = done + part == size;
        struct header header = { .size = (uint32_t)part,
                                 .kind = kind,
                                 .flags = is_last ? 0 : FLAG_MORE };
        memcpy(append(queue, header), body + done, part);
        done += part;
    }
    return 0;
}

int frame_queue_put(struct frame_queue *queue, const struct frame_record *record)
{
    // Nothing is written to it: it is the same function that reads.
    struct frame_record *fields = (struct frame_record *)(uintptr_t)record;
    struct codec codec = { .direction = COUNT };
    code_record(&codec, fields);
    if (codec.error)
        return codec.error;
    size_t size = codec.size;
    codec.direction = WRITE;
    if (size <= max_body) {
        int r = reserve(queue, size + record_overhead);
        if (r < 0)
            return r;
        codec.to =
            append(queue, (struct header){ .size = (uint32_t)size, .kind = (uint8_t)record->kind });
        code_record(&codec, fields);
        return 0;
    }
    _cleanup_(freep) uint8_t *body = malloc(size);
    if (!body)
        return -ENOMEM;
    codec.to = body;
    code_record(&codec, fields);
    return put_parts(queue, (uint8_t)record->kind, body, size);
}

bool frame_queue_first(const struct frame_queue *queue, const void **ret_bytes, size_t *ret_size)
{
    if (queue->begin == queue->end)
        return false;
    *ret_bytes = queue->bytes + queue->begin + sizeof(uint32_t);
    *ret_size = frame_size(queue, queue->begin);
    return true;
}

void frame_queue_pop(struct frame_queue *queue)
{
    assert(queue->begin < queue->end);
    queue->begin += sizeof(uint32_t) + frame_size(queue, queue->begin);
    if (queue->begin < queue->end)
        return;
    queue->begin = queue->end = queue->last = 0;
    if (queue->capacity > 2 * (size_t)FRAME_MAX_SIZE) { // a burst is over
        free(queue->bytes);
        queue->bytes = NULL;
        queue->capacity = 0;
    }
}

size_t frame_queue_size(const struct frame_queue *queue)
{
    return queue->end - queue->begin;
}

void frame_queue_done(struct frame_queue *queue)
{
    free(queue->bytes);
    *queue = (struct frame_queue){ 0 };
}

/* --- the reader ------------------------------------------------------------------------------ */

void frame_reader_feed(struct frame_reader *reader, const void *bytes, size_t size)
{
    reader->at = bytes;
    reader->end = reader->at + size;
    reader->n_records = 0;
}

static int add_part(struct frame_reader *reader, const uint8_t *part, size_t size)
{
    size_t wanted = reader->parts_size + size;
    if (size == 0)
        return 0;
    if (wanted > reader->max_size)
        return -EMSGSIZE;
    if (wanted > reader->parts_capacity) {
        size_t capacity = 2 * wanted < reader->max_size ? 2 * wanted : reader->max_size;
        uint8_t *parts = realloc(reader->parts, capacity);
        if (!parts)
            return -ENOMEM;
        reader->parts = parts;
        reader->parts_capacity = capacity;
    }
    assert(reader->parts);
    memcpy(reader->parts + reader->parts_size, part, size);
    reader->parts_size = wanted;
    return 0;
}

static int decode(uint8_t kind, const uint8_t *body, size_t size, struct frame_record *record)
{
    struct codec codec = { .direction = READ, .from = body, .end = body + size };
    record->kind = kind;
    record->text = NULL;
    record->message = (struct mqtt_message){ 0 };
    if (record->options)
        *record->options = (struct frame_options){ 0 };
    code_record(&codec, record);
    if (codec.error == 0 && codec.from != codec.end)
        codec.error = -EBADMSG;
    return codec.error ? codec.error : 1;
}

int frame_reader_next(struct frame_reader *reader, struct frame_record *ret_record)
{
    if (reader->parts_kind == 0 && reader->parts) { // of the record before
        free(TAKE_PTR(reader->parts));
        reader->parts_size = reader->parts_capacity = 0;
    }
    while (reader->at < reader->end) {
        struct header header;
        if ((size_t)(reader->end - reader->at) < sizeof(header) ||
            ++reader->n_records > FRAME_MAX_RECORDS)
            return -EBADMSG;
        memcpy(&header, reader->at, sizeof(header));
        const uint8_t *body = reader->at + sizeof(header);
        if (header.size > (size_t)(reader->end - body) || header.flags > FLAG_MORE ||
            header.zero != 0 || header.kind == 0 ||
            (reader->parts_kind != 0 && header.kind != reader->parts_kind))
            return -EBADMSG;
        reader->at = body + header.size;
        bool is_whole = header.flags == 0 && reader->parts_kind == 0;
        if (is_whole)
            return decode(header.kind, body, header.size, ret_record);
        int r = add_part(reader, body, header.size);
        if (r < 0)
            return r;
        reader->parts_kind = header.flags ? header.kind : 0;
        if (header.flags)
            continue;
        const uint8_t *whole = reader->parts ? reader->parts : body; // all parts may be empty
        return decode(header.kind, whole, reader->parts_size, ret_record);
    }
    return 0;
}

void frame_reader_done(struct frame_reader *reader)
{
    free(reader->parts);
    *reader = (struct frame_reader){ .max_size = reader->max_size };
}
