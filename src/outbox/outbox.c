// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The queue in front of an MQTT client. Owns what waits and knows which message ids are its own;
 * must never hand the client more than the window.
 */
#include "outbox/outbox.h"

#include <string.h>

enum {
    N_MIDS = UINT16_MAX + 1,
    N_TAGS = 1024, // ids come in turn: what is in flight shares no place, unless it is very old
};

struct entry {
    struct entry *next;
    size_t size; // topic and payload, as counted against OUTBOX_MAX_BYTES
    int qos;
    bool retain;
    uint64_t tag;
    const char *payload; // behind the topic
    char topic[];
};

struct outbox {
    struct mqtt *mqtt;
    unsigned max_inflight;
    bool is_connected;

    struct entry *head, **tail;
    size_t n_queued, n_bytes;

    unsigned n_in_flight;
    uint8_t is_ours[N_MIDS / 8]; // a bit a message id
    bool is_sending;             // within mqtt_publish(), which may call outbox_published()
    int sending_mid;             // of that message; 0 once it is acknowledged

    struct {
        int mid;
        uint64_t tag;
    } tags[N_TAGS]; // at mid % N_TAGS

    uint64_t n_sent, n_dropped, n_rejected;
};

int outbox_new(struct mqtt *mqtt, unsigned max_inflight, struct outbox **ret_outbox)
{
    struct outbox *outbox = calloc(1, sizeof(*outbox));
    if (!outbox)
        return -ENOMEM;
    outbox->mqtt = mqtt;
    outbox->max_inflight = max_inflight;
    outbox->tail = &outbox->head;
    *ret_outbox = outbox;
    return 0;
}

static struct entry *pop(struct outbox *outbox)
{
    struct entry *entry = outbox->head;
    outbox->head = entry->next;
    if (!outbox->head)
        outbox->tail = &outbox->head;
    outbox->n_queued--;
    outbox->n_bytes -= entry->size;
    return entry;
}

void outbox_free(struct outbox *outbox)
{
    if (!outbox)
        return;
    while (outbox->head)
        free(pop(outbox));
    free(outbox);
}

static void set_ours(struct outbox *outbox, int mid, bool is_ours)
{
    uint8_t bit = (uint8_t)(1U << (mid % 8));
    if (is_ours)
        outbox->is_ours[mid / 8] |= bit;
    else
        outbox->is_ours[mid / 8] &= (uint8_t)~bit;
}

static bool take_ours(struct outbox *outbox, int mid)
{
    if (mid <= 0 || mid >= N_MIDS)
        return false;
    if (outbox->is_sending && mid == outbox->sending_mid) {
        outbox->sending_mid = 0;
        return true;
    }
    bool is_ours = outbox->is_ours[mid / 8] & (1U << (mid % 8));
    set_ours(outbox, mid, false);
    return is_ours;
}

/* Hands one message over. It may be acknowledged before mqtt_publish() returns. */
static int send_now(struct outbox *outbox, const char *topic, const char *payload,
                    size_t payload_size, int qos, bool retain, uint64_t tag)
{
    outbox->n_in_flight++;
    outbox->is_sending = true;
    outbox->sending_mid = 0;
    const struct mqtt_publication publication = { .topic = topic,
                                                  .payload = payload,
                                                  .payload_size = payload_size,
                                                  .qos = qos,
                                                  .retain = retain };
    int r = mqtt_publish(outbox->mqtt, &publication, &outbox->sending_mid);
    outbox->is_sending = false;
    if (r < 0) {
        outbox->n_in_flight--;
        outbox->n_dropped++;
    } else if (outbox->sending_mid > 0) {
        set_ours(outbox, outbox->sending_mid, true);
        outbox->tags[outbox->sending_mid % N_TAGS].mid = outbox->sending_mid;
        outbox->tags[outbox->sending_mid % N_TAGS].tag = tag;
    }
    return r;
}

static void fill_window(struct outbox *outbox)
{
    // What is acknowledged while it is sent makes room for the loop below us on the stack.
    if (outbox->is_sending)
        return;
    while (outbox->head && outbox->n_in_flight < outbox->max_inflight) {
        _cleanup_(freep) struct entry *entry = pop(outbox);
        send_now(outbox, entry->topic, entry->payload, strlen(entry->payload), entry->qos,
                 entry->retain, entry->tag);
    }
}

static int push(struct outbox *outbox, const char *topic, const char *payload, int qos, bool retain,
                uint64_t tag)
{
    size_t topic_size = strlen(topic) + 1;
    size_t size = topic_size + strlen(payload) + 1;
    if (outbox->n_queued >= OUTBOX_MAX_MESSAGES || size > OUTBOX_MAX_BYTES - outbox->n_bytes)
        return -ENOBUFS;
    struct entry *entry = malloc(sizeof(*entry) + size);
    if (!entry)
        return -ENOMEM;
    *entry = (struct entry){
        .size = size,
        .qos = qos,
        .retain = retain,
        .tag = tag,
        .payload = entry->topic + topic_size,
    };
    memcpy(entry->topic, topic, topic_size);
    memcpy(entry->topic + topic_size, payload, size - topic_size);
    *outbox->tail = entry;
    outbox->tail = &entry->next;
    outbox->n_queued++;
    outbox->n_bytes += size;
    return 0;
}

int outbox_publish(struct outbox *outbox, const char *topic, const char *payload, int qos,
                   bool retain, uint64_t tag)
{
    int r = -ENOTCONN;
    if (outbox->is_connected) {
        if (!outbox->head && !outbox->is_sending && outbox->n_in_flight < outbox->max_inflight) {
            r = send_now(outbox, topic, payload, strlen(payload), qos, retain, tag);
            fill_window(outbox); // what a handler has published meanwhile
            return r;
        }
        r = push(outbox, topic, payload, qos, retain, tag);
    }
    if (r < 0)
        outbox->n_dropped++;
    return r;
}

void outbox_connected(struct outbox *outbox)
{
    outbox->is_connected = true;
}

void outbox_disconnected(struct outbox *outbox)
{
    outbox->is_connected = false;
    outbox->n_dropped += outbox->n_queued + outbox->n_in_flight;
    outbox->n_in_flight = 0;
    memset(outbox->is_ours, 0, sizeof(outbox->is_ours));
    while (outbox->head)
        free(pop(outbox));
}

bool outbox_published(struct outbox *outbox, int mid, int reason_code, uint64_t *ret_tag)
{
    if (!take_ours(outbox, mid))
        return false;
    if (ret_tag)
        *ret_tag = outbox->tags[mid % N_TAGS].mid == mid ? outbox->tags[mid % N_TAGS].tag : 0;
    outbox->n_in_flight--;
    if (reason_code >= 0x80) // MQTT 5.0, section 2.4
        outbox->n_rejected++;
    else
        outbox->n_sent++;
    fill_window(outbox);
    return true;
}

bool outbox_is_empty(const struct outbox *outbox)
{
    return outbox->n_queued == 0 && outbox->n_in_flight == 0;
}

void outbox_count(const struct outbox *outbox, struct outbox_counters *ret_counters)
{
    *ret_counters = (struct outbox_counters){
        .sent = outbox->n_sent,
        .dropped = outbox->n_dropped,
        .rejected = outbox->n_rejected,
        .queued = outbox->n_queued,
        .in_flight = outbox->n_in_flight,
    };
}
