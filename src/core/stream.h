// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How a stream of messages is treated on its way to the broker; see [stream] and [queue] in
 * nightlightd.conf(5). The enumerations are in the order of the configuration's words.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum stream_keep { STREAM_KEEP_ALL, STREAM_KEEP_LATEST, STREAM_KEEP_NONE };
enum stream_full { STREAM_DROP_OLDEST, STREAM_DROP_NEWEST };
enum stream_order { STREAM_LIVE_FIRST, STREAM_IN_ORDER };
enum stream_time { STREAM_TIME_LATE, STREAM_TIME_ALWAYS, STREAM_TIME_NEVER };

enum stream_durability {
    STREAM_BATCHED, // written at once, through a power cut after the commit interval
    STREAM_STRICT,  // through a power cut before it is sent
    STREAM_OUTAGE,  // written when it could not be delivered at once
};

struct stream_policy {
    const char *name;
    enum stream_keep keep;
    enum stream_full when_full;
    enum stream_order order;
    enum stream_time time;
    bool is_volatile;      // never written to disk
    bool is_strict;        // STREAM_STRICT, whatever the queue's durability is
    bool urgent;           // sent before all others, also while the outbox is quiescing
    const char *topic;     // a template (core/topic.h): {sensor} is a message's subject
    bool subject_is_topic; // there is no template; behind a line feed in the subject stands MQTT
                           // 5's correlation data, in hexadecimal
    int qos;
    bool retain;
    int64_t priority;      // the higher the sooner
    uint64_t max_age_usec; // USEC_INFINITY: no limit
    uint64_t max_messages; // UINT64_MAX: no limit
};
