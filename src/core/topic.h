// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Topic templates: "{id}/telemetry", "site/{group}/{id}/{sensor}". A placeholder is a whole level,
 * so that the same template gives a topic to publish to (topic_expand), a filter to subscribe with
 * (topic_filter, "+" for what is not known) and the fields of a topic that came in (topic_match).
 * MQTT 5.0, section 4.7.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/cleanup.h"
#include "util/why.h"

enum topic_field { TOPIC_ID, TOPIC_GROUP, TOPIC_SENSOR, TOPIC_STREAM, TOPIC_FIELDS };

enum { TOPIC_MAX_LENGTH = 1024 }; // bytes of an expanded topic

struct topic_template;

/* The value of each field; NULL where there is none. */
struct topic_values {
    const char *field[TOPIC_FIELDS];
};

/* A field's bytes within the matched topic, not NUL-terminated; NULL where the template has none.
 */
struct topic_slice {
    const char *bytes;
    size_t length;
};

struct topic_match {
    struct topic_slice field[TOPIC_FIELDS];
};

/*
 * Parses a template. allowed is a mask of 1 << TOPIC_... that may stand in it. Errors: -EINVAL with
 * why, for an empty template or level, a placeholder that is not a whole level, an unknown,
 * repeated or not allowed placeholder, '+' or '#', a leading '$', control characters, invalid
 * UTF-8, more than TOPIC_MAX_LENGTH / 2 bytes or 32 levels; -ENOMEM.
 */
int topic_parse(const char *text, unsigned allowed, struct topic_template **ret_template,
                struct why *why);
void topic_free(struct topic_template *template);
DEFINE_CLEANUP(struct topic_template *, topic_free)

bool topic_has(const struct topic_template *template, enum topic_field field);

/*
 * A new topic with every placeholder replaced; -EINVAL if a value is missing or is none by
 * topic_valid_value(), -EMSGSIZE, -ENOMEM.
 */
int topic_expand(const struct topic_template *template, const struct topic_values *values,
                 char **ret_topic);

/* A new subscription filter: '+' where values has no value. Errors as topic_expand(). */
int topic_filter(const struct topic_template *template, const struct topic_values *values,
                 char **ret_filter);

/*
 * Whether topic (NUL-terminated) fits; fields point into it. Every field has at least one byte;
 * what it holds is the sender's choice. A topic that begins with '$' never fits.
 */
bool topic_match(const struct topic_template *template, const char *topic,
                 struct topic_match *ret_match);

/*
 * Whether text may be an id, or another value of a field: 1..64 bytes of A-Z a-z 0-9 and . _ : @ -
 */
bool topic_valid_value(const char *text, size_t length);
