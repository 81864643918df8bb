// SPDX-License-Identifier: LGPL-2.1-or-later
// What all stores have in common; see store.h.
#include "store/store.h"

#include <assert.h>
#include <string.h>

#include "store/store-driver.h"

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

int store_copy_message(const struct store_message *message, struct store_message *ret_copy)
{
    size_t subject_size = message->subject ? strlen(message->subject) + 1 : 0;
    char *bytes = malloc(message->payload_size + subject_size + 1);
    if (!bytes)
        return -ENOMEM;
    if (message->payload_size > 0)
        memcpy(bytes, message->payload, message->payload_size);
    if (subject_size > 0)
        memcpy(bytes + message->payload_size, message->subject, subject_size);
    *ret_copy = *message;
    ret_copy->payload = bytes;
    ret_copy->subject = message->subject ? bytes + message->payload_size : NULL;
    return 0;
}

void store_messages_free(struct store_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free((void *)messages[i].payload); // the subject is behind it; see store_copy_message()
    free(messages);
}
