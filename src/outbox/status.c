// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/status.h"

#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "core/ledger.h"
#include "util/cleanup.h"
#include "util/clock.h"

const struct stream_policy status_policy = {
    .name = "$status",
    .keep = STREAM_KEEP_LATEST,
    .time = STREAM_TIME_NEVER,
    .is_volatile = true,
    .urgent = true,
    .subject_is_topic = true,
    .qos = 1,
    .retain = true,
    .max_age_usec = USEC_INFINITY,
    .max_messages = UINT64_MAX,
};

static void add_uint(struct json_object *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_uint64(value));
}

/* Every sample of every stream that goes through the store, accounted for. */
static void add_streams(struct json_object *status, const struct outbox *outbox)
{
    const char *name;
    struct ledger ledger;
    uint64_t in_flight;
    struct json_object *streams = json_object_new_object();
    if (!streams)
        return;
    for (size_t i = 0; outbox_ledger(outbox, i, &name, &ledger, &in_flight); i++) {
        struct json_object *stream = name[0] == '$' ? NULL : json_object_new_object();
        if (!stream)
            continue;
        add_uint(stream, "sampled", ledger.sampled);
        for (int end = 0; end < LEDGER_ENDS; end++)
            add_uint(stream, ledger_end_names[end], ledger.ended[end]);
        add_uint(stream, "queued", ledger_waiting(&ledger) - in_flight);
        add_uint(stream, "in_flight", in_flight);
        json_object_object_add(streams, name, stream);
    }
    if (json_object_object_length(streams) > 0)
        json_object_object_add(status, "streams", streams);
    else
        json_object_put(streams);
}

static void add_counters(struct json_object *status, const struct status_counters *counters)
{
    struct outbox_counters sums;
    char since[CLOCK_RFC3339_SIZE];
    outbox_count(counters->outbox, &sums);
    clock_format_rfc3339(counters->since_wall_usec, since);
    json_object_object_add(status, "since", json_object_new_string(since));
    add_uint(status, "sent", sums.sent);
    add_uint(status, "queued", sums.queued + sums.in_flight);
    add_uint(status, "dropped", sums.dropped + sums.expired + sums.rejected);
    add_uint(status, "rejected", counters->n_rejected);
    const char *trouble = outbox_trouble(counters->outbox);
    if (trouble)
        json_object_object_add(status, "error", json_object_new_string(trouble));
    add_streams(status, counters->outbox);
}

struct json_object *status_new(const struct daemon_config *daemon, const char *status,
                               const struct status_counters *counters)
{
    struct json_object *object = json_object_new_object();
    if (!object)
        return NULL;
    json_object_object_add(object, "status", json_object_new_string(status));
    json_object_object_add(object, "role", json_object_new_string(config_role_names[daemon->role]));
    json_object_object_add(object, "version", json_object_new_string(NIGHTLIGHT_VERSION));
    if (counters)
        add_counters(object, counters);
    return object;
}

const char *status_text(struct json_object *status)
{
    return json_object_to_json_string_ext(status,
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

const char *status_describe(const struct config *config, const struct link *link,
                            const struct outbox *outbox, char *out, size_t size)
{
    struct outbox_counters counters;
    const char *trouble = outbox_trouble(outbox);
    outbox_count(outbox, &counters);
    const char *lowered =
        config_lowers_qos(config) ? "; QoS 2 goes as 1, since session_expiry is set" : "";
    snprintf(out, size, "%s; %" PRIu64 " sent, %" PRIu64 " queued, %" PRIu64 " dropped%s%s%s",
             link_describe(link), counters.sent, counters.queued + counters.in_flight,
             counters.dropped + counters.expired + counters.rejected,
             trouble ? "; NOT ON DISK: " : "", trouble ? trouble : "", lowered);
    return out;
}
