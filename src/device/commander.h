// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Commands from the broker: checked as a whole, carried out once and in order, answered when every
 * actuator is where it shall be.
 *
 *     commander_take() for each message; commander_settled() from the actuators' handler;
 *     commander_acted() when an action has come to its end.
 *
 * A plain command gets no answer. One that has an $id or a response topic does: done, rejected
 * (and nothing was touched), failed, expired or superseded.
 *
 * Actuators are set first and then written down, since setting one again does no harm. An action
 * that must not be done twice is written down first.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/envelope.h"
#include "core/mqtt.h"
#include "device/actuators.h"
#include "device/journal.h"
#include "util/cleanup.h"

/* Of act(): the action has not begun, and does so behind begun(). */
enum { COMMANDER_ONCE = 1 };

enum {
    COMMANDER_MAX_PENDING = 256,     // commands that wait for their end
    COMMANDER_MAX_CORRELATION = 256, // bytes of correlation data that are sent back
};

/*
 * Where the reply to a message goes: MQTT 5's response topic and what comes back with it. One that
 * cannot be used counts as none.
 */
struct commander_address {
    char *topic; // NULL: the device's own
    void *correlation;
    size_t correlation_size;
};

struct commander_handlers {
    // is_final: it is in the journal, in the same turn of the main loop.
    void (*reply)(void *userdata, const struct commander_address *to, const char *payload,
                  bool is_final);
    // Begins an action, to be ended with commander_acted(); not from in here. 0; COMMANDER_ONCE:
    // it must not be done twice; -errno: it is rejected, with why.
    int (*act)(void *userdata, const struct envelope *envelope, uint64_t token, struct why *why);
    // Such an action is in the journal, if it has an id. It is to begin when that is on disk.
    void (*begun)(void *userdata, uint64_t token);
    // For the log and the counters, in the order of events: it is carried out now, or nothing of
    // it.
    void (*accepted)(void *userdata, const struct mqtt_message *message, const char *id);
    void (*rejected)(void *userdata, const struct mqtt_message *message, const char *id,
                     const char *reason);
};

struct commander;

/* actuators and journal are borrowed. 0 or -ENOMEM. */
int commander_new(struct actuators *actuators, struct journal *journal,
                  const struct commander_handlers *handlers, void *userdata,
                  struct commander **ret_commander);
void commander_free(struct commander *commander);
DEFINE_CLEANUP(struct commander *, commander_free)

void commander_take(struct commander *commander, const struct mqtt_message *message);
void commander_settled(struct commander *commander, struct actuator *actuator);

/* readings: a JSON object, or NULL. */
void commander_acted(struct commander *commander, uint64_t token, enum reply_status status,
                     const char *reason, const char *readings);
