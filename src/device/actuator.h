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
#include "util/cleanup.h"

struct actuator;

struct actuator_handlers {
    // What it is has changed, or it has come to rest.
    void (*rested)(void *userdata, struct actuator *actuator);
    // A call of its driver has ended, and before the next begins: see actuator_outcome().
    void (*settled)(void *userdata, struct actuator *actuator);
};

/* What became of a value that it was to be set to. */
enum actuator_outcome {
    ACTUATOR_PENDING,
    ACTUATOR_REACHED,
    ACTUATOR_FAILED,     // and will be tried again
    ACTUATOR_SUPERSEDED, // by a newer one, before it was its turn
};

/* config is referenced; section stands in it. Call actuator_start() next. */
int actuator_new(sd_event *event, struct config *config, const struct config_section *section,
                 const struct actuator_handlers *handlers, void *userdata,
                 struct actuator **ret_actuator);
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
 * Opens the driver, without moving anything where it can, unless a wish was inherited or restored;
 * handlers may be called from here. The second and every further call does nothing.
 */
void actuator_start(struct actuator *actuator);

const struct config_section *actuator_section(const struct actuator *actuator);
const char *actuator_name(const struct actuator *actuator);
bool actuator_has_failed(const struct actuator *actuator);

/* Whether a call of the driver is under way. */
bool actuator_is_moving(const struct actuator *actuator);

/*
 * value fits the actuator's limits: command_check_item() was asked. Returns a ticket for
 * actuator_outcome(); handlers may be called from here.
 */
uint64_t actuator_set(struct actuator *actuator, const struct value *value);

/*
 * Within settled(): a value that waits is not set, and one that has failed is not tried again; the
 * driver stays at what it was at.
 */
void actuator_drop(struct actuator *actuator, uint64_t ticket);

/*
 * A node of that name in /dev has come, gone or changed its mode. If it may be the actuator's, it
 * is set once more to what it is or shall be: thus it notices, and a failed one does not wait.
 */
void actuator_node_changed(struct actuator *actuator, const char *name);

/* Once it is not pending, an outcome is only known until the next settled(). */
enum actuator_outcome actuator_outcome(const struct actuator *actuator, uint64_t ticket);

/* Why the last call failed; within settled(). */
const char *actuator_failure(const struct actuator *actuator);

/* What it was set to last, or is to be; VALUE_NONE: nothing. */
const struct value *actuator_wish(const struct actuator *actuator);

/* What it is now; VALUE_NONE while that is not known. */
const struct value *actuator_now(const struct actuator *actuator);
