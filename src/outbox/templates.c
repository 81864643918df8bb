// SPDX-License-Identifier: LGPL-2.1-or-later
// See templates.h.
#include "outbox/templates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/topic.h"

struct templates {
    char *id, *group;
    struct topic_template *other, *late; // see outbox_options; NULL: none
    struct topic_template **streams;     // of the policies, in their order
    size_t n_streams;
};

static const unsigned any_field = (1u << TOPIC_FIELDS) - 1;

/* NULL: there is none. */
static int parse(const char *text, struct topic_template **ret_template)
{
    return text ? topic_parse(text, any_field, ret_template, NULL) : 0;
}

int templates_new(const struct outbox_options *options, const struct stream_policy *policies,
                  size_t n_policies, struct templates **ret_templates)
{
    _cleanup_(templates_freep) struct templates *templates = calloc(1, sizeof(*templates));
    if (!templates)
        return -ENOMEM;
    templates->id = options->id ? strdup(options->id) : NULL;
    templates->group = options->group ? strdup(options->group) : NULL;
    templates->streams = calloc(n_policies + 1, sizeof(struct topic_template *));
    templates->n_streams = n_policies;
    if (!templates->streams || (options->id && !templates->id) ||
        (options->group && !templates->group))
        return -ENOMEM;
    int r = parse(options->topic, &templates->other);
    if (r == 0)
        r = parse(options->late_topic, &templates->late);
    for (size_t i = 0; r == 0 && i < n_policies; i++)
        r = parse(policies[i].topic, &templates->streams[i]);
    if (r < 0)
        return r;
    *ret_templates = TAKE_PTR(templates);
    return 0;
}

void templates_free(struct templates *templates)
{
    if (!templates)
        return;
    for (size_t i = 0; templates->streams && i < templates->n_streams; i++)
        topic_free(templates->streams[i]);
    free(templates->streams);
    topic_free(templates->other);
    topic_free(templates->late);
    free(templates->id);
    free(templates->group);
    free(templates);
}

const struct topic_template *templates_of_policy(const struct templates *templates, size_t i)
{
    return templates->streams[i];
}

const struct topic_template *templates_of_others(const struct templates *templates)
{
    return templates->other;
}

int templates_expand(const struct templates *templates, const struct entry *entry, bool is_late,
                     char **ret_topic)
{
    const struct topic_template *template = entry->stream->topic;
    // A message of several sensors has no place in a topic that names one.
    if (is_late && templates->late && (entry->subject || !topic_has(templates->late, TOPIC_SENSOR)))
        template = templates->late;
    const struct topic_values values = { .field = {
                                             [TOPIC_ID] = templates->id,
                                             [TOPIC_GROUP] = templates->group,
                                             [TOPIC_SENSOR] = entry->subject,
                                             [TOPIC_STREAM] = entry->stream->name,
                                         } };
    return template ? topic_expand(template, &values, ret_topic) : -ENOENT;
}
