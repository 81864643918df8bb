// SPDX-License-Identifier: LGPL-2.1-or-later
#include "device/address.h"

#include <stdlib.h>
#include <string.h>

#include "core/topic.h"
#include "util/cleanup.h"
#include "util/strings.h"

void address_done(struct address *address)
{
    free(address->topic);
    free(address->correlation);
}

static bool is_topic(const char *text)
{
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    return topic_parse(text, 0, &template, NULL) == 0;
}

struct address address_of(const struct mqtt_message *message)
{
    struct address address = { 0 };
    if (!message->response_topic || !is_topic(message->response_topic) ||
        message->correlation_size > ADDRESS_MAX_CORRELATION)
        return address;
    address.topic = strdup(message->response_topic);
    if (message->correlation_size == 0 || !address.topic)
        return address;
    address.correlation = malloc(message->correlation_size);
    if (!address.correlation)
        return address;
    address.correlation_size = message->correlation_size;
    memcpy(address.correlation, message->correlation, message->correlation_size);
    return address;
}

/* The topic, and behind a line feed the correlation data in hexadecimal. */
char *address_subject(const struct address *address, const char *own_topic)
{
    const char *topic = address->topic ? address->topic : own_topic;
    size_t length = strlen(topic);
    char *subject = malloc(length + 2 + 2 * address->correlation_size);
    if (!subject)
        return NULL;
    memcpy(subject, topic, length + 1);
    if (address->correlation_size == 0)
        return subject;
    subject[length++] = '\n';
    strings_to_hex(address->correlation, address->correlation_size, subject + length);
    return subject;
}
