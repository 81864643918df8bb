// SPDX-License-Identifier: LGPL-2.1-or-later
// Owns the topics; see topics.h.
#include "device/topics.h"

#include "core/topic.h"

struct topics {
    char *own[N_OWN_TOPICS];
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

int topics_new(const struct config *config, struct topics **ret_topics)
{
    const char *const texts[N_OWN_TOPICS] = {
        [TOPICS_COMMANDS] = config->topics->commands,
        [TOPICS_GROUP_COMMANDS] = config->topics->group_commands,
        [TOPICS_REPLIES] = config->topics->replies,
        [TOPICS_STATE] = config->topics->state,
    };
    _cleanup_(topics_freep) struct topics *topics = calloc(1, sizeof(*topics));
    if (!topics)
        return -ENOMEM;
    for (size_t i = 0; i < N_OWN_TOPICS; i++) {
        int r = expand(config, texts[i], &topics->own[i]);
        if (r < 0)
            return r;
    }
    *ret_topics = TAKE_PTR(topics);
    return 0;
}

void topics_free(struct topics *topics)
{
    if (!topics)
        return;
    for (size_t i = 0; i < N_OWN_TOPICS; i++)
        free(topics->own[i]);
    free(topics);
}

const char *topics_own(const struct topics *topics, enum own_topic own)
{
    return topics->own[own];
}
