// SPDX-License-Identifier: LGPL-2.1-or-later
// The policies of a device's streams; see streams.h. Pure.
#include "device/streams.h"

#include <stdlib.h>

#include "device/journal.h"
#include "util/clock.h"

const char streams_state[] = "$state";
const char streams_replies[] = "$replies";
const char streams_refusals[] = "$refusals";

struct stream_policy *streams_make(const struct config *config, size_t *ret_n)
{
    const struct config_section *section;
    size_t n = config_count(config, "stream");
    struct stream_policy *policies = calloc(n + 3, sizeof(*policies));
    if (!policies)
        return NULL;
    for (size_t i = 0; (section = config_nth(config, "stream", i)); i++) {
        const struct stream_config *stream = config_stream(section);
        policies[i] = (struct stream_policy){
            .name = section->name,
            .topic = stream->topic ? stream->topic : config->topics->telemetry,
            .keep = (enum stream_keep)stream->keep,
            .when_full = (enum stream_full)stream->when_full,
            .order = (enum stream_order)stream->order,
            .time = (enum stream_time)stream->time,
            .qos = (int)stream->qos,
            .retain = stream->retain,
            .priority = stream->priority,
            .max_age_usec = stream->max_age_usec,
            .max_messages = stream->max_messages > 0 ? (uint64_t)stream->max_messages : UINT64_MAX,
        };
    }
    policies[n] = (struct stream_policy){
        .name = streams_state,
        .keep = STREAM_KEEP_LATEST,
        .time = STREAM_TIME_NEVER,
        .is_volatile = true, // it is told anew with each connection
        .urgent = true,      // what is retained when the device has gone is true
        .subject_is_topic = true,
        .qos = 1,
        .retain = true,
        .priority = INT64_MAX,
        .max_age_usec = USEC_INFINITY,
        .max_messages = UINT64_MAX,
    };
    policies[n + 1] = (struct stream_policy){
        .name = streams_replies,
        .time = STREAM_TIME_NEVER,
        .is_strict = true, // who has the reply may rely on it that a duplicate moves nothing
        .subject_is_topic = true,
        .qos = 1,
        .priority = INT64_MAX,
        .max_age_usec = JOURNAL_MAX_AGE_USEC,
        .max_messages = JOURNAL_MAX_ENTRIES,
    };
    policies[n + 2] = policies[n + 1];
    policies[n + 2].name = streams_refusals;
    policies[n + 2].is_strict = false;
    policies[n + 2].is_volatile = true; // a flood of bad commands shall not wear out the disk
    *ret_n = n + 3;
    return policies;
}
