// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/stream.h"

#include <stdlib.h>
#include <string.h>

struct stream *stream_new(const struct stream_policy *policy)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        return NULL;
    stream->name = strdup(policy->name);
    if (!stream->name) {
        free(stream);
        return NULL;
    }
    stream_set_policy(stream, policy);
    return stream;
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    free(stream->name);
    free(stream);
}

void stream_set_policy(struct stream *stream, const struct stream_policy *policy)
{
    stream->policy = *policy;
    stream->policy.name = stream->name;
    stream->policy.topic = NULL; // the caller's
}

struct entry_list *stream_list_of(const struct entry *entry)
{
    switch ((enum entry_place)entry->place) {
    case ENTRY_FRESH:
        return &entry->stream->fresh;
    case ENTRY_LOADED:
        return &entry->stream->loaded;
    case ENTRY_IN_FLIGHT:
    case ENTRY_DONE:
        break;
    }
    return NULL;
}

uint64_t stream_n_waiting(const struct stream *stream)
{
    uint64_t on_disk = stream->disk.n_messages > stream->n_stored_done
                           ? stream->disk.n_messages - stream->n_stored_done
                           : 0;
    return on_disk + stream->n_unwritten;
}

uint64_t stream_n_unloaded(const struct stream *stream)
{
    return stream->disk.n_messages > stream->n_stored ? stream->disk.n_messages - stream->n_stored
                                                      : 0;
}

bool stream_is_on_disk(const struct stream *stream)
{
    return stream->disk.n_messages > 0 || stream->n_handed_over > 0;
}

void stream_rewind(struct stream *stream, uint64_t seq)
{
    if (stream->cursor >= seq)
        stream->cursor = seq - 1;
    stream->is_exhausted = false;
}

struct ledger stream_ledger(const struct stream *stream)
{
    struct ledger ledger = stream->disk.ledger;
    ledger_add(&ledger, &stream->delta);
    ledger_add(&ledger, &stream->job_delta);
    ledger_add(&ledger, &stream->pending);
    return ledger;
}
