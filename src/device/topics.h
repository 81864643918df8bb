// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The topics of a device, as one configuration has them. Never changes; pure.
 */
#pragma once

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

/* 0 or -ENOMEM: the templates have been checked with the file. */
int topics_new(const struct config *config, struct topics **ret_topics);
void topics_free(struct topics *topics);
DEFINE_CLEANUP(struct topics *, topics_free)

const char *topics_own(const struct topics *topics, enum own_topic own);
