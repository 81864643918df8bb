// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Where the reply to a message goes: MQTT 5's response topic, and the correlation data that come
 * back with it. One that cannot be used counts as none. Pure.
 */
#pragma once

#include <stddef.h>

#include "core/mqtt.h"

enum { ADDRESS_MAX_CORRELATION = 256 }; // bytes that are sent back

struct address {
    char *topic; // NULL: the device's own
    void *correlation;
    size_t correlation_size;
};

/* Without memory it counts as none too. To be given to address_done(). */
struct address address_of(const struct mqtt_message *message);
void address_done(struct address *address);

/*
 * What a stream with subject_is_topic (core/stream.h) takes, a new string; own_topic is for an
 * address without a topic. NULL without memory.
 */
char *address_subject(const struct address *address, const char *own_topic);
