// SPDX-License-Identifier: LGPL-2.1-or-later
// Where an outbox's messages go: the templates of its streams, and what stands in for {id} and the
// others.
#include <string.h>

#include "outbox/outbox-internal.h"

static const unsigned any_field = (1u << TOPIC_FIELDS) - 1;

/* NULL: there is none. */
static int parse(const char *text, struct topic_template **ret_template)
{
    return text ? topic_parse(text, any_field, ret_template, NULL) : 0;
}

int outbox_topics_make(const struct outbox_options *options, const struct stream_policy *policies,
                       size_t n_policies, struct outbox_topics *ret_topics)
{
    struct outbox_topics topics = {
        .id = options->id ? strdup(options->id) : NULL,
        .group = options->group ? strdup(options->group) : NULL,
        .streams = calloc(n_policies + 1, sizeof(struct topic_template *)),
        .n_streams = n_policies,
    };
    int r = 0;
    if (!topics.streams || (options->id && !topics.id) || (options->group && !topics.group))
        r = -ENOMEM;
    if (r == 0)
        r = parse(options->topic, &topics.other);
    if (r == 0)
        r = parse(options->late_topic, &topics.late);
    for (size_t i = 0; r == 0 && i < n_policies; i++)
        r = parse(policies[i].topic, &topics.streams[i]);
    if (r < 0) {
        outbox_topics_done(&topics);
        return r;
    }
    *ret_topics = topics;
    return 0;
}

void outbox_topics_done(struct outbox_topics *topics)
{
    for (size_t i = 0; topics->streams && i < topics->n_streams; i++)
        topic_free(topics->streams[i]);
    free(topics->streams);
    topic_free(topics->other);
    topic_free(topics->late);
    free(topics->id);
    free(topics->group);
    *topics = (struct outbox_topics){ 0 };
}

int outbox_topic(const struct outbox *outbox, const struct entry *entry, bool is_late,
                 char **ret_topic)
{
    const struct outbox_topics *topics = &outbox->topics;
    const struct topic_template *template = entry->stream->topic;
    // A message of several sensors has no place in a topic that names one.
    if (is_late && topics->late && (entry->subject || !topic_has(topics->late, TOPIC_SENSOR)))
        template = topics->late;
    const struct topic_values values = { .field = {
                                             [TOPIC_ID] = topics->id,
                                             [TOPIC_GROUP] = topics->group,
                                             [TOPIC_SENSOR] = entry->subject,
                                             [TOPIC_STREAM] = entry->stream->name,
                                         } };
    return template ? topic_expand(template, &values, ret_topic) : -ENOENT;
}
