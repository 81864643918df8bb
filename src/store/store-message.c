// SPDX-License-Identifier: LGPL-2.1-or-later
// A message of its own; see store-message.h.
#include "store/store-message.h"

#include <errno.h>
#include <stdlib.h>

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
        free((void *)messages[i].payload); // the subject is behind it
    free(messages);
}
