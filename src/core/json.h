// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * JSON from a peer, made safe before json-c sees it. json-c takes NaN, 1., 1e400, {'a':1} and
 * repeated keys, even strict; this refuses what RFC 8259 refuses, and bounds size and depth.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

#include "util/cleanup.h"
#include "util/why.h"

enum {
    JSON_MAX_SIZE = 64 * 1024, // bytes of a message that is read at all
    JSON_MAX_DEPTH = 16,       // nested arrays and objects
};

DEFINE_CLEANUP(struct json_object *, json_object_put)

/*
 * Whether bytes are one JSON text as RFC 8259 has it: valid UTF-8, no NaN or infinity, numbers that
 * a double holds (finite; at most 512 bytes), no escaped half of a surrogate pair, at most max_size
 * bytes and max_depth (0..64) levels, nothing but white space behind it. Constant stack, no
 * allocation. Returns 0, -EMSGSIZE (too large or too deep) or -EBADMSG, with why ("byte 17: ...",
 * counted from 0). Repeated keys are found by json_parse_object(), not here.
 */
int json_check(const char *bytes, size_t length, size_t max_size, unsigned max_depth,
               struct why *why);

/*
 * Parses a JSON object within JSON_MAX_SIZE and JSON_MAX_DEPTH. *ret_object is new, freed with
 * json_object_put(). An integer beyond 64 bits is a double. Errors as json_check(), -EBADMSG also
 * for a repeated key, a NUL in a key or another type than an object; -ENOMEM.
 */
int json_parse_object(const char *bytes, size_t length, struct json_object **ret_object,
                      struct why *why);

/* The text of a member, which stays object's; NULL: there is none, or it is no string. */
const char *json_text_of(struct json_object *object, const char *key);

/* Whether newer, a JSON object, has every key that older, another, has. false if one is none. */
bool json_has_keys_of(const char *newer, const char *older);

/*
 * Writes text as a JSON string with its quotes and escapes. What is not UTF-8 becomes U+FFFD; what
 * does not fit in size (>= 3) is cut after a whole character. Returns out.
 */
const char *json_quote(const char *text, char *out, size_t size);
