// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A recording of telemetry: a line of JSON a message, as `mosquitto_sub -F %j` writes it:
 *
 *     {"tst": "2026-11-24T12:34:56.789Z", "topic": "lamp1/telemetry", "payload": {"light": 250}}
 *
 * payload is the message itself, or its text as a string; a user property `time` stands beside it.
 * Pure.
 */
#pragma once

#include <json-c/json.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/why.h"

enum { RECORDING_MAX_LINE = 132 * 1024 };

/* One message. */
struct recording {
    uint64_t wall_usec;       // when it came in
    uint64_t taken_wall_usec; // when its readings were taken; 0: then
    char *topic;
    struct json_object *payload; // an object
};

void recording_done(struct recording *recording);

/* A new line, with its line feed. payload is a valid JSON object's text. NULL: out of memory. */
char *recording_format(uint64_t wall_usec, uint64_t taken_wall_usec, const char *topic,
                       const char *payload, size_t payload_size);

/* Parses a line, with or without its line feed. -EBADMSG with why; -ENOMEM. */
int recording_parse(const char *line, size_t length, struct recording *ret_recording,
                    struct why *why);
