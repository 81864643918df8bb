// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The topics of a device, as one configuration has them. Never changes; pure.
 */
#pragma once

#include <stdbool.h>

#include "config/config.h"
#include "util/cleanup.h"

struct topics;

/* Of which there is one each. */
enum own_topic {
    TOPICS_COMMANDS,
    TOPICS_GROUP_COMMANDS,
    TOPICS_REPLIES,
    TOPICS_STATE,
    N_OWN_TOPICS
};

/* Holds a reference to config. 0 or -ENOMEM: the templates have been checked with the file. */
int topics_new(struct config *config, struct topics **ret_topics);
void topics_free(struct topics *topics);
DEFINE_CLEANUP(struct topics *, topics_free)

const char *topics_own(const struct topics *topics, enum own_topic own);

/* Whether each sensor of a stream of the configuration has a topic of its own. */
bool topics_are_of_sensors(const struct topics *topics, const char *stream);
