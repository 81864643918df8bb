// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What comes in on a command topic: values for actuators, or an action, and around it the envelope,
 * the keys that begin with '$'.
 *
 *     {"led_on": true}
 *     {"$id": "a7", "$seq": 12, "$expires": "2026-11-24T12:00:00Z", "$for": "10min", "heat": true}
 *     {"$id": "b1", "$action": "sample", "sensors": ["light"]}
 *
 * Pure. Whether there are such actuators is the device's to say.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/command.h"
#include "util/cleanup.h"
#include "util/why.h"

enum {
    ENVELOPE_MAX_ID = 64, // bytes of $id, and of the names of actions and sensors
    ENVELOPE_MAX_SENSORS = 64,
};

struct envelope {
    char id[ENVELOPE_MAX_ID + 1];     // "": none
    uint64_t seq;                     // 1..2^53; 0: none
    uint64_t expires_wall_usec;       // USEC_INFINITY: never
    uint64_t lease_usec;              // $for; 0: none
    char action[ENVELOPE_MAX_ID + 1]; // "": none; else there is no command
    char **sensors;                   // of the action: a vector; NULL: not said
    struct command *command;
};

/*
 * Parses by json_parse_object()'s and command_parse()'s rules; a key of the envelope that is not
 * known is refused. *envelope is filled in, to be given to envelope_done(), whatever comes of it:
 * on failure only id counts, which is there if one could be read, so that the refusal can be told.
 * Errors: -EBADMSG, -EMSGSIZE, -EOPNOTSUPP, -ENOMEM, each with why.
 */
int envelope_parse(const char *bytes, size_t length, struct envelope *envelope, struct why *why);
void envelope_done(struct envelope *envelope);

/* What a reply says became of a command. */
enum reply_status { REPLY_DONE, REPLY_REJECTED, REPLY_FAILED, REPLY_EXPIRED, REPLY_SUPERSEDED };
extern const char *const reply_status_names[]; // indexed by enum reply_status

struct reply {
    const char *id; // "": none
    enum reply_status status;
    const char *reason;   // "": none
    const char *state;    // a JSON object
    const char *readings; // a JSON object of fresh readings; NULL: none
    uint64_t wall_usec;
};

/* The reply as JSON, a new string; NULL without memory. */
char *reply_format(const struct reply *reply);
