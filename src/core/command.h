// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A command: what some actuators shall be set to, {"led_on": true, "speed": 3}.
 *
 * command_parse() takes it from a peer's bytes or from the configuration, command_check() holds it
 * against one actuator after the other before the first one moves. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

#include "core/value.h"
#include "util/cleanup.h"
#include "util/why.h"

enum {
    COMMAND_MAX_ITEMS = 64,
    COMMAND_MAX_KEY = 64, // bytes of a key
};

struct command_item {
    char key[COMMAND_MAX_KEY + 1];
    struct value value; // never VALUE_NONE
};

struct command {
    char *json; // as it was written: what a rule's command is on the wire
    size_t n_items;
    struct command_item items[];
};

void command_free(struct command *command);
DEFINE_CLEANUP(struct command *, command_free)

/*
 * Parses a JSON object of booleans, numbers and strings, by json_parse_object()'s rules. Its keys
 * are 1..COMMAND_MAX_KEY bytes; there are 1..COMMAND_MAX_ITEMS; strings are below VALUE_TEXT_SIZE
 * bytes and hold no NUL. Keys that begin with '$' (the envelope) are refused: -EOPNOTSUPP. Errors:
 * -EBADMSG, -EMSGSIZE, -EOPNOTSUPP, -ENOMEM, each with why.
 */
int command_parse(const char *bytes, size_t length, struct command **ret_command, struct why *why);

/* The same of an object that bytes were parsed to, passing over the envelope (core/envelope.h). */
int command_from_object(struct json_object *object, const char *bytes, size_t length,
                        struct command **ret_command, struct why *why);

/* A member of a JSON object as a value; as command_parse() would take it. */
int command_take_value(const char *key, struct json_object *member, struct value *ret_value,
                       struct why *why);

/* What values an actuator takes. */
struct command_limits {
    enum value_type type;
    double min, max; // numbers; -INFINITY and INFINITY for no limit
};

/* Whether item's value is of the type and in the range: 0, or -EINVAL or -ERANGE with why. */
int command_check_item(const struct command_item *item, const struct command_limits *limits,
                       struct why *why);

/* Whether object says the same, its envelope apart; whether it sets all that command sets. */
bool command_is_said_by(const struct command *command, struct json_object *object);
bool command_is_covered_by(const struct command *command, struct json_object *object);
