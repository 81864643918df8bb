// SPDX-License-Identifier: LGPL-2.1-or-later
// What all stores have in common; see store.h.
#include "store/store.h"

#include <assert.h>
#include <stdlib.h>

void store_free(struct store *store)
{
    if (store)
        store->vtable->free(store);
}

void store_end(struct store *store)
{
    store->vtable->end(store);
}

int store_run(struct store *store, struct store_job *job, struct why *why)
{
    assert(job->query.max_messages == 0 || job->query.stream < job->n_streams);
    return store->vtable->run(store, job, why);
}

void store_get_run(const struct store *store, uint8_t ret_run[static STORE_RUN_SIZE])
{
    store->vtable->get_run(store, ret_run);
}

int store_names(struct store *store, char ***ret_names)
{
    return store->vtable->names(store, ret_names);
}

int store_records(struct store *store, const char *space,
                  void (*visit)(void *userdata, const char *key, const char *value), void *userdata,
                  struct why *why)
{
    return store->vtable->records(store, space, visit, userdata, why);
}

void store_messages_free(struct store_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free((void *)messages[i].payload); // the subject is behind it; see store-message.h
    free(messages);
}
