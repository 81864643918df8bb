// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One actuator: what it shall be and what it is. The newest wish wins over one that waits; a
 * failing one is logged once, tried again at growing distances, and logged again when it is back.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "config/config.h"
#include "core/value.h"
#include "device/wish.h"
#include "util/cleanup.h"

struct actuator;

/*
 * config is referenced; section stands in it. wishes, borrowed, hear of all news. Call
 * actuator_start() next.
 */
int actuator_new(sd_event *event, struct config *config, const struct config_section *section,
                 struct wishes *wishes, struct actuator **ret_actuator);

/* What it was still to be set to is superseded. */
void actuator_free(struct actuator *actuator);
DEFINE_CLEANUP(struct actuator *, actuator_free)

/*
 * Before actuator_start(): what previous, of another configuration, was to be, this one shall be as
 * well, if it is of its type and in its range.
 */
void actuator_inherit(struct actuator *actuator, const struct actuator *previous);

/*
 * Before actuator_start(): what it was in an earlier run, or shall be at first. It is set to that
 * when it has been opened, unless it is so already or has been held since (fdstore.h): then what it
 * is counts. A value that does not fit the limits is passed over.
 */
void actuator_restore(struct actuator *actuator, const struct value *value);

/*
 * Opens the driver, without moving anything where it can, unless something was inherited or
 * restored. The second and every further call does nothing.
 */
void actuator_start(struct actuator *actuator);

const struct config_section *actuator_section(const struct actuator *actuator);
const char *actuator_name(const struct actuator *actuator);
bool actuator_has_failed(const struct actuator *actuator);

/* Whether a call of the driver is under way. */
bool actuator_is_moving(const struct actuator *actuator);

/*
 * value fits the actuator's limits: command_check_item() was asked. A wish that waits is
 * superseded. wish, NULL if nobody waits for it, hears what becomes of this one.
 */
void actuator_set(struct actuator *actuator, const struct value *value, struct wish *wish);

/* Whether what was wanted has been given up since this was called last. */
bool actuator_take_dropped(struct actuator *actuator);

/*
 * A node of that name in /dev has come, gone or changed its mode. If it may be the actuator's, it
 * is set once more to what it is or shall be: thus it notices, and a failed one does not wait.
 */
void actuator_node_changed(struct actuator *actuator, const char *name);

/* What it was set to last, or is to be; VALUE_NONE: nothing. */
const struct value *actuator_wanted(const struct actuator *actuator);

/* What it is now; VALUE_NONE while that is not known. */
const struct value *actuator_now(const struct actuator *actuator);
