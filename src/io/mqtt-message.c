// SPDX-License-Identifier: LGPL-2.1-or-later
// What MQTT 5 has beside the payload of a message, in libmosquitto's form; see mqtt-message.h.
#include "io/mqtt-message.h"

#include <errno.h>
#include <mqtt_protocol.h>
#include <stdlib.h>
#include <string.h>

/* --- of a message to publish ----------------------------------------------------------------- */

void mqtt_message_free_properties(mosquitto_property **properties)
{
    mosquitto_property_free_all(properties);
}

int mqtt_message_make_properties(const struct mqtt_publication *publication,
                                 mosquitto_property **ret_properties)
{
    _cleanup_(mqtt_message_free_properties) mosquitto_property *properties = NULL;
    int rc = MOSQ_ERR_SUCCESS;
    for (size_t i = 0; i < publication->n_properties && rc == MOSQ_ERR_SUCCESS; i++)
        rc = mosquitto_property_add_string_pair(&properties, MQTT_PROP_USER_PROPERTY,
                                                publication->properties[i].name,
                                                publication->properties[i].value);
    if (publication->response_topic && rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_property_add_string(&properties, MQTT_PROP_RESPONSE_TOPIC,
                                           publication->response_topic);
    if (publication->correlation && rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_property_add_binary(&properties, MQTT_PROP_CORRELATION_DATA,
                                           publication->correlation,
                                           (uint16_t)publication->correlation_size);
    if (rc == MOSQ_ERR_SUCCESS)
        *ret_properties = TAKE_PTR(properties);
    return rc;
}

/* --- of one that came in --------------------------------------------------------------------- */

static const mosquitto_property *properties_of(const struct mqtt_message *message)
{
    return (const void *)message->properties;
}

/* The library returns NULL both for "not there" and for "no memory". */
static int not_read(const struct mqtt_message *message, int identifier)
{
    for (const mosquitto_property *property = properties_of(message); property;
         property = mosquitto_property_next(property)) {
        if (mosquitto_property_identifier(property) == identifier)
            return -ENOMEM;
    }
    return -ENOENT;
}

int mqtt_message_response_topic(const struct mqtt_message *message, char **ret_topic)
{
    char *topic;
    if (!mosquitto_property_read_string(properties_of(message), MQTT_PROP_RESPONSE_TOPIC, &topic,
                                        false))
        return not_read(message, MQTT_PROP_RESPONSE_TOPIC);
    *ret_topic = topic;
    return 0;
}

int mqtt_message_correlation(const struct mqtt_message *message, void **ret_bytes, size_t *ret_size)
{
    void *bytes;
    uint16_t size;
    if (!mosquitto_property_read_binary(properties_of(message), MQTT_PROP_CORRELATION_DATA, &bytes,
                                        &size, false))
        return not_read(message, MQTT_PROP_CORRELATION_DATA);
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

int mqtt_message_user_property(const struct mqtt_message *message, const char *name,
                               char **ret_value)
{
    const mosquitto_property *property = properties_of(message);
    char *found_name, *value;
    for (bool skip = false;; skip = true) {
        property = mosquitto_property_read_string_pair(property, MQTT_PROP_USER_PROPERTY,
                                                       &found_name, &value, skip);
        if (!property)
            return -ENOENT;
        bool found = strcmp(found_name, name) == 0;
        free(found_name);
        if (found)
            break;
        free(value);
    }
    *ret_value = value;
    return 0;
}
