// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One exchange with the broker, by the daemon's own settings: connects, subscribes, publishes a
 * message if there is one, and waits for the message that is meant. Blocks, within limits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "core/mqtt.h"
#include "core/topic.h"

struct exchange {
    const struct config *config;
    const char *filter;  // NULL: nothing is waited for, but that the broker has the message
    const char *topic;   // NULL: nothing is published
    const char *payload; // NUL-terminated
    uint64_t wait_usec;  // from when it has been published, or subscribed to
    // Whether this is the message that is meant. May be NULL without a filter.
    bool (*take)(void *userdata, const struct mqtt_message *message);
    void *userdata;
};

/*
 * 0; -ETIMEDOUT: nothing came in time; -ENOTCONN or another: printed. A broker that refuses or is
 * not there is told at once; one that does not answer has 15 s.
 */
int exchange_run(const struct exchange *exchange);

/*
 * Topics of a device by a template of the configuration's [topics]: the filter that hears it, or
 * with a group the topic itself. -EINVAL, printed, if id or group is no name; -ENOMEM.
 */
int exchange_filter(const char *text, const char *id, char **ret_filter);
int exchange_topic(const char *text, const char *id, const char *group, char **ret_topic);
