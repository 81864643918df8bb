// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What no row alone can say: values that depend on each other, names that must exist, and values
 * that are made from others (the id, the port, an actuator's limits). Internal to config/. A
 * section that already has an error is passed over, so that one mistake is one line.
 */
#pragma once

#include "config/config.h"
#include "config/errors.h"

struct check {
    const struct config *config; // its sections' structures are still written to
    const struct config_sources *sources;
    struct errors *errors;
    bool incomplete; // some section may be missing: do not look for names
    bool role_known; // [daemon] is right
};

/* Every section; errors go to check->errors. */
void check_all(struct check *check);

/* The parts of the above that look at named sections. */
void check_stream(struct check *check, const struct config_section *section);
void check_sensor(struct check *check, const struct config_section *section);
void check_actuator(struct check *check, const struct config_section *section);
void check_action(struct check *check, const struct config_section *section);
void check_rule(struct check *check, const struct config_section *section);

/* Parts that several sections share. */
enum { CHECK_READINGS, CHECK_COMMANDS, CHECK_GROUP, CHECK_STATE }; // what a topic is for
void check_topic(struct check *check, const struct config_section *section, const char *key,
                 int purpose);
bool check_has_device(const struct check *check); // the role includes one
struct config_value *check_value(const struct config_section *section, const char *key);
bool check_is_set(const struct config_section *section, const char *key);
void check_complain(struct check *check, const struct config_section *section, const char *key,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
