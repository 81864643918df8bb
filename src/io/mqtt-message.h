// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The properties of messages (MQTT 5.0, section 3.3.2.3) on their way to libmosquitto; internal to
 * io/mqtt.c. Those of a message that came in are read by io/mqtt.h's mqtt_message_...().
 */
#pragma once

#include <mosquitto.h>

#include "io/mqtt.h"

/*
 * *ret_properties is new, NULL if there are none. The correlation data has at most 65535 bytes.
 * MOSQ_ERR_SUCCESS, or libmosquitto's code: MOSQ_ERR_NOMEM, MOSQ_ERR_INVAL,
 * MOSQ_ERR_MALFORMED_UTF8.
 */
int mqtt_message_make_properties(const struct mqtt_publication *publication,
                                 mosquitto_property **ret_properties);

/* *properties may be NULL. For _cleanup_(). */
void mqtt_message_free_properties(mosquitto_property **properties);
