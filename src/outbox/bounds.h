// SPDX-License-Identifier: LGPL-2.1-or-later
/* What is given up: at a bound, when it is too old, and when something newer says the same. */
#pragma once

#include "outbox/queue.h"

/* Makes room for a message that is to come; false: it is to be dropped. */
bool bounds_make_room(struct queue *queue, struct stream *stream, size_t size);
/* keep = latest: gives up what entry replaces, or, for one that was loaded, entry itself. */
void bounds_merge(struct queue *queue, struct entry *entry);
/* Ends what is too old, in memory. Whether entry itself was. */
bool bounds_expire(struct queue *queue, struct entry *entry);
/* Frees memory of what is on disk as well. */
void bounds_evict(struct queue *queue, struct stream *stream);
/* The file is full to max_size before our count says so: the least important gives way. */
void bounds_trim_a_part(struct queue *queue);
