// SPDX-License-Identifier: LGPL-2.1-or-later
// Topics, the outbox and the log; see post.h.
#include "server/post.h"

#include "util/clock.h"
#include "util/log.h"

const char post_stream[] = "$commands", post_space[] = "issued";

enum { MAX_WAITING = OUTBOX_MAX_MESSAGES / 2 };

int post_save(struct post *post, const char *key, const char *value)
{
    return outbox_put_record(uplink_outbox(post->uplink), post_space, key, value);
}

uint64_t post_sync(struct post *post)
{
    return outbox_sync_records(uplink_outbox(post->uplink));
}

size_t post_room(const struct post *post)
{
    struct outbox_counters counters;
    outbox_count(uplink_outbox(post->uplink), &counters);
    uint64_t n_waiting = counters.queued + counters.in_flight;
    return n_waiting < MAX_WAITING ? (size_t)(MAX_WAITING - n_waiting) : 0;
}

int post_publish(struct post *post, const char *device, const char *group, const char *rule,
                 const char *id, const char *payload, int qos, uint64_t tag)
{
    _cleanup_(freep) char *topic = NULL;
    if (post_room(post) == 0)
        return -ENOBUFS;
    int r = device ? intake_command_topic(post->intake, device, group, &topic)
                   : intake_group_topic(post->intake, group, &topic);
    if (r < 0)
        return r;
    r = uplink_publish(
        post->uplink,
        &(struct outbox_message){
            .stream = post_stream, .subject = topic, .payload = payload, .qos = qos, .tag = tag });
    if (r == 0 && log_enabled(LOG_INFO) && ratelimit_pass(&post->story, clock_mono_usec(), NULL))
        log_info(LOG_FIELDS({ "DEVICE", device }, { "GROUP", group }, { "RULE", rule },
                            { "COMMAND", id }, { "TOPIC", topic }),
                 "rule %s: command %s to %s%s", rule, payload, device ? "" : "group ",
                 device ? device : group);
    return r;
}

int post_send(struct post *post, const struct letter *letter, const char *device)
{
    if (!uplink_is_connected(post->uplink))
        return -ENOTCONN;
    return post_publish(post, device, letter->group, letter->rule, letter->id, letter->payload,
                        letter->qos, 0);
}
