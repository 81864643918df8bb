// SPDX-License-Identifier: LGPL-2.1-or-later
// The queue in memory and the window in flight; see outbox.h. Owns what waits, counts what became
// of the rest.
#include "outbox/outbox.h"

#include <string.h>

struct waiting {
    struct waiting *next;
    size_t size; // topic and payload
    int qos;
    bool retain;
    const char *payload; // behind the topic
    char topic[];
};

struct outbox {
    struct mqtt *mqtt;
    unsigned max_inflight;
    struct outbox_counters counters;
    size_t waiting_bytes;
    struct waiting *first, **last;
    uint64_t in_flight[65536 / 64]; // bit n: message id n
    bool pumping;
};

static bool flip(struct outbox *outbox, int mid, bool on)
{
    uint64_t *word = &outbox->in_flight[(mid & 0xffff) / 64], bit = UINT64_C(1) << (mid & 63);
    bool was_on = *word & bit;
    *word = on ? *word | bit : *word & ~bit;
    return was_on;
}

int outbox_new(struct mqtt *mqtt, unsigned max_inflight, struct outbox **ret_outbox)
{
    struct outbox *outbox = calloc(1, sizeof(*outbox));
    if (!outbox)
        return -ENOMEM;
    outbox->mqtt = mqtt;
    outbox->max_inflight = max_inflight;
    outbox->last = &outbox->first;
    *ret_outbox = outbox;
    return 0;
}

static void drop_waiting(struct outbox *outbox)
{
    while (outbox->first) {
        struct waiting *waiting = outbox->first;
        outbox->first = waiting->next;
        free(waiting);
    }
    outbox->last = &outbox->first;
    outbox->waiting_bytes = 0;
}

void outbox_free(struct outbox *outbox)
{
    if (!outbox)
        return;
    drop_waiting(outbox);
    free(outbox);
}

static int send_now(struct outbox *outbox, const char *topic, const char *payload, int qos,
                    bool retain)
{
    int mid;
    int r = mqtt_publish(outbox->mqtt, topic, payload, strlen(payload), qos, retain, &mid);
    if (r < 0) {
        outbox->counters.dropped++;
        return r;
    }
    if (qos == 0) { // written or about to be: nobody will ever say more
        outbox->counters.sent++;
        return 0;
    }
    flip(outbox, mid, true);
    outbox->counters.in_flight++;
    return 0;
}

static void pump(struct outbox *outbox)
{
    while (outbox->first && outbox->counters.in_flight < outbox->max_inflight) {
        struct waiting *waiting = outbox->first;
        outbox->first = waiting->next;
        if (!outbox->first)
            outbox->last = &outbox->first;
        outbox->waiting_bytes -= waiting->size;
        outbox->counters.queued--;
        send_now(outbox, waiting->topic, waiting->payload, waiting->qos, waiting->retain);
        free(waiting);
    }
}

int outbox_publish(struct outbox *outbox, const char *topic, const char *payload, int qos,
                   bool retain)
{
    if (!mqtt_is_connected(outbox->mqtt)) {
        outbox->counters.dropped++;
        return -ENOTCONN;
    }
    if (!outbox->first && outbox->counters.in_flight < outbox->max_inflight)
        return send_now(outbox, topic, payload, qos, retain);
    size_t topic_size = strlen(topic) + 1, size = topic_size + strlen(payload) + 1;
    if (outbox->counters.queued >= OUTBOX_MAX_MESSAGES ||
        outbox->waiting_bytes + size > OUTBOX_MAX_BYTES) {
        outbox->counters.dropped++;
        return -ENOBUFS;
    }
    struct waiting *waiting = malloc(sizeof(*waiting) + size);
    if (!waiting) {
        outbox->counters.dropped++;
        return -ENOMEM;
    }
    waiting->next = NULL;
    waiting->size = size;
    waiting->qos = qos;
    waiting->retain = retain;
    memcpy(waiting->topic, topic, topic_size);
    waiting->payload = memcpy(waiting->topic + topic_size, payload, size - topic_size);
    *outbox->last = waiting;
    outbox->last = &waiting->next;
    outbox->waiting_bytes += size;
    outbox->counters.queued++;
    return 0;
}

void outbox_connected(struct outbox *outbox)
{
    (void)outbox;
}

void outbox_disconnected(struct outbox *outbox)
{
    outbox->counters.dropped += outbox->counters.queued + outbox->counters.in_flight;
    outbox->counters.queued = outbox->counters.in_flight = 0;
    memset(outbox->in_flight, 0, sizeof(outbox->in_flight));
    drop_waiting(outbox);
}

bool outbox_published(struct outbox *outbox, int mid, int reason_code)
{
    if (!flip(outbox, mid, false))
        return false;
    outbox->counters.in_flight--;
    if (reason_code >= 0x80)
        outbox->counters.rejected++;
    else
        outbox->counters.sent++;
    pump(outbox);
    return true;
}

bool outbox_is_empty(const struct outbox *outbox)
{
    return outbox->counters.queued + outbox->counters.in_flight == 0;
}

void outbox_count(const struct outbox *outbox, struct outbox_counters *ret_counters)
{
    *ret_counters = outbox->counters;
}
