// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the program knows of MQTT: a message, and reason codes in words. Plain values, without a
 * library and without a network; who speaks the protocol is src/connector/.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum {
    MQTT_PROTOCOL_5 = 5,
    MQTT_PROTOCOL_311 = 4,               // the level in CONNECT, MQTT 3.1.1, section 3.1.2.2
    MQTT_NO_MATCHING_SUBSCRIBERS = 0x10, // MQTT 5.0, section 3.4.2.1
    MQTT_FIRST_REFUSAL = 0x80,           // MQTT 5.0, section 2.4: from here on a failure
    MQTT_MAX_TOPIC = 65535,              // bytes, as of every UTF-8 string
};

/* MQTT 5.0, section 3.3.2.3.7: UTF-8, NUL-terminated. */
struct mqtt_user_property {
    const char *name, *value;
};

/*
 * A message to publish, or one that came in. All is borrowed. What is behind `retain` is of MQTT 5
 * alone, and left out where the connection has 3.1.1.
 */
struct mqtt_message {
    const char *topic;   // UTF-8, NUL-terminated
    const char *payload; // not NUL-terminated
    size_t payload_size;
    int qos;     // 0..2
    bool retain; // to publish: keep it; came in: it was kept, and is not news
    const struct mqtt_user_property *properties;
    size_t n_properties;
    const char *response_topic; // MQTT 5.0, section 3.3.2.3.5; NULL: none
    const void *correlation;    // MQTT 5.0, section 3.3.2.3.6; NULL: none
    size_t correlation_size;    // at most 65535
};

/* The value of the first user property of that name; NULL: there is none. */
const char *mqtt_message_property(const struct mqtt_message *message, const char *name);

/* A reason code (MQTT 5.0, section 2.4) in words: "not authorised". Never NULL. */
const char *mqtt_reason(int reason_code);
