// SPDX-License-Identifier: LGPL-2.1-or-later
#include "device/topics.h"

#include <string.h>

#include "core/topic.h"

struct stream_topic {
    const char *stream; // in config
    struct topic_template *template;
};

struct topics {
    struct config *config;
    char *own[N_OWN_TOPICS];
    size_t n_streams;
    struct stream_topic *streams;
};

static int expand(const struct config *config, const char *text, char **ret_topic)
{
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    int r = topic_parse(text, 1u << TOPIC_ID | 1u << TOPIC_GROUP, &template, NULL);
    if (r < 0)
        return r;
    return topic_expand(
        template,
        &(struct topic_values){
            .field = { [TOPIC_ID] = config->daemon->id, [TOPIC_GROUP] = config->daemon->group } },
        ret_topic);
}

static int make_own(struct topics *topics)
{
    const struct config *config = topics->config;
    const char *const texts[N_OWN_TOPICS] = {
        [TOPICS_COMMANDS] = config->topics->commands,
        [TOPICS_GROUP_COMMANDS] = config->topics->group_commands,
        [TOPICS_REPLIES] = config->topics->replies,
        [TOPICS_STATE] = config->topics->state,
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < N_OWN_TOPICS; i++)
        r = expand(config, texts[i], &topics->own[i]);
    return r;
}

static int parse(const char *text, struct topic_template **ret_template)
{
    return topic_parse(text, (1u << TOPIC_FIELDS) - 1, ret_template, NULL);
}

static int make_streams(struct topics *topics)
{
    const struct config *config = topics->config;
    int r = 0;
    topics->streams = calloc(config_count(config, "stream") + 1, sizeof(*topics->streams));
    if (!topics->streams)
        return -ENOMEM;
    const struct config_section *section;
    for (size_t i = 0; r == 0 && (section = config_nth(config, "stream", i)); i++) {
        const char *topic = config_stream(section)->topic;
        topics->streams[i].stream = section->name;
        r = parse(topic ? topic : config->topics->telemetry, &topics->streams[i].template);
        topics->n_streams++;
    }
    return r;
}

int topics_new(struct config *config, struct topics **ret_topics)
{
    _cleanup_(topics_freep) struct topics *topics = calloc(1, sizeof(*topics));
    if (!topics)
        return -ENOMEM;
    topics->config = config_ref(config);
    int r = make_own(topics);
    if (r == 0)
        r = make_streams(topics);
    if (r < 0)
        return r;
    *ret_topics = TAKE_PTR(topics);
    return 0;
}

void topics_free(struct topics *topics)
{
    if (!topics)
        return;
    for (size_t i = 0; i < N_OWN_TOPICS; i++)
        free(topics->own[i]);
    for (size_t i = 0; i < topics->n_streams; i++)
        topic_free(topics->streams[i].template);
    free(topics->streams);
    config_unref(topics->config);
    free(topics);
}

const char *topics_own(const struct topics *topics, enum own_topic own)
{
    return topics->own[own];
}

static const struct topic_template *find(const struct topics *topics, const char *stream)
{
    for (size_t i = 0; i < topics->n_streams; i++) {
        if (strcmp(topics->streams[i].stream, stream) == 0)
            return topics->streams[i].template;
    }
    return find(topics, "telemetry"); // which is always there
}

bool topics_are_of_sensors(const struct topics *topics, const char *stream)
{
    return topic_has(find(topics, stream), TOPIC_SENSOR);
}
