// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the server subscribes to, and what a message that comes in is: its kind, and the device and
 * group that its topic names.
 */
#pragma once

#include "config/config.h"
#include "core/topic.h"
#include "util/cleanup.h"

struct intake;

enum intake_kind {
    INTAKE_OTHER,     // not for the server: a stranger's device, a topic of another form
    INTAKE_TELEMETRY, // of a device
    INTAKE_STATUS,    // of a device
    INTAKE_REPLY,     // of a device, to a command
    INTAKE_COMMAND,   // to a device; only where the telemetry is shared
};

/* config is referenced. 0 or -errno. */
int intake_new(struct config *config, struct intake **ret_intake);
void intake_free(struct intake *intake);
DEFINE_CLEANUP(struct intake *, intake_free)

/*
 * Every filter, a new vector (util/strings.h). Devices named without a wildcard have filters of
 * their own. Where the telemetry is shared, commands are subscribed to as well: what another server
 * has decided. 0 or -ENOMEM.
 */
int intake_filters(const struct intake *intake, char ***ret_filters);

/*
 * What came in on topic; *ret_id and *ret_group (bytes NULL where the topic has none) point into
 * it. An id that is not one, or of a device that is not ours, makes it INTAKE_OTHER.
 */
enum intake_kind intake_classify(const struct intake *intake, const char *topic,
                                 struct topic_slice *ret_id, struct topic_slice *ret_group);

/* Whether some telemetry topic names the device's group, which may then be any. */
bool intake_has_group(const struct intake *intake);

/* A new topic for a command to a device. group is NULL where the device's topic names none. */
int intake_command_topic(const struct intake *intake, const char *id, const char *group,
                         char **ret_topic);

/* A new topic for a command to a group. */
int intake_group_topic(const struct intake *intake, const char *group, char **ret_topic);
