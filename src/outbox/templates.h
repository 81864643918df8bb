// SPDX-License-Identifier: LGPL-2.1-or-later
/* Where messages go: the templates of the streams' topics, and what stands in for {id} and others.
 */
#pragma once

#include "outbox/outbox-options.h"
#include "outbox/stream.h"
#include "util/cleanup.h"

struct templates;

/* Copies all. -ENOMEM, -EINVAL (a template). */
int templates_new(const struct outbox_options *options, const struct stream_policy *policies,
                  size_t n_policies, struct templates **ret_templates);
void templates_free(struct templates *templates);
DEFINE_CLEANUP(struct templates *, templates_free)

/* That of the i-th policy, or of a stream that is not configured. NULL: there is none. */
const struct topic_template *templates_of_policy(const struct templates *templates, size_t i);
const struct topic_template *templates_of_others(const struct templates *templates);

/* A new topic for a message. -ENOENT: its stream has none; or as topic_expand(). */
int templates_expand(const struct templates *templates, const struct entry *entry, bool is_late,
                     char **ret_topic);
