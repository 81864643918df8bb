// SPDX-License-Identifier: LGPL-2.1-or-later
// The envelope of commands and their replies; see envelope.h. Pure.
#include "core/envelope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

static const int64_t max_seq = (int64_t)1 << 53; // that every JSON parser keeps whole
static const uint64_t max_lease_usec = 365ULL * 86400 * USEC_PER_SEC;

/* A short text of at least one byte. */
static int take_text(const char *key, struct json_object *member, char out[ENVELOPE_MAX_ID + 1],
                     struct why *why)
{
    if (!json_object_is_type(member, json_type_string))
        return why_set(why, EBADMSG, "'%s' is not a string", key);
    const char *text = json_object_get_string(member);
    size_t length = (size_t)json_object_get_string_len(member);
    if (length == 0 || strlen(text) != length)
        return why_set(why, EBADMSG, "'%s' is empty or holds a NUL", key);
    if (length > ENVELOPE_MAX_ID)
        return why_set(why, EMSGSIZE, "'%s' is longer than %d bytes", key, ENVELOPE_MAX_ID);
    memcpy(out, text, length + 1);
    return 0;
}

static int take_id(struct json_object *member, struct envelope *envelope, struct why *why)
{
    return take_text("$id", member, envelope->id, why);
}

static int take_action(struct json_object *member, struct envelope *envelope, struct why *why)
{
    return take_text("$action", member, envelope->action, why);
}

static int take_seq(struct json_object *member, struct envelope *envelope, struct why *why)
{
    int64_t seq = json_object_is_type(member, json_type_int) ? json_object_get_int64(member) : 0;
    if (seq < 1 || seq > max_seq)
        return why_set(why, EBADMSG, "'$seq' is not a whole number from 1 to 2^53");
    envelope->seq = (uint64_t)seq;
    return 0;
}

static int take_expires(struct json_object *member, struct envelope *envelope, struct why *why)
{
    char text[ENVELOPE_MAX_ID + 1];
    int r = take_text("$expires", member, text, why);
    if (r < 0)
        return r;
    if (parse_rfc3339(text, &envelope->expires_wall_usec) < 0)
        return why_set(why, EBADMSG, "'$expires' is not a time such as 2026-11-24T12:00:00Z");
    return 0;
}

static int take_lease(struct json_object *member, struct envelope *envelope, struct why *why)
{
    char text[ENVELOPE_MAX_ID + 1];
    uint64_t usec = 0;
    if (json_object_is_type(member, json_type_int) ||
        json_object_is_type(member, json_type_double)) {
        double seconds = json_object_get_double(member);
        if (seconds > 0 && seconds * (double)USEC_PER_SEC <= (double)max_lease_usec)
            usec = (uint64_t)llround(seconds * (double)USEC_PER_SEC);
    } else if (take_text("$for", member, text, NULL) == 0 && parse_duration(text, &usec) < 0) {
        usec = 0;
    }
    if (usec == 0 || usec > max_lease_usec)
        return why_set(why, EBADMSG,
                       "'$for' is not a duration such as \"10min\" or a number of seconds, of at "
                       "most 365 days");
    envelope->lease_usec = usec;
    return 0;
}

static const struct {
    const char *key;
    int (*take)(struct json_object *member, struct envelope *envelope, struct why *why);
} members[] = {
    { "$id", take_id }, // first: a refusal of the others is told by it
    { "$seq", take_seq },   { "$expires", take_expires },
    { "$for", take_lease }, { "$action", take_action },
};

static int take_members(struct json_object *object, struct envelope *envelope, struct why *why)
{
    for (size_t i = 0; i < ELEMENTS(members); i++) {
        struct json_object *member;
        if (!json_object_object_get_ex(object, members[i].key, &member))
            continue;
        int r = members[i].take(member, envelope, why);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_known(struct json_object *object, struct why *why)
{
    const char *known[ELEMENTS(members)];
    for (size_t i = 0; i < ELEMENTS(members); i++)
        known[i] = members[i].key;
    json_object_object_foreach(object, key, member)
    {
        (void)member;
        bool is_known = key[0] != '$';
        for (size_t i = 0; i < ELEMENTS(members); i++)
            is_known = is_known || strcmp(key, known[i]) == 0;
        const char *nearest = is_known ? NULL : strings_nearest(key, known, ELEMENTS(known));
        if (!is_known)
            return why_set(why, EOPNOTSUPP, "'%.80s' is no key of the envelope%s%s%s", key,
                           nearest ? " (did you mean '" : "", nearest ? nearest : "",
                           nearest ? "'?)" : "");
    }
    return 0;
}

static int take_sensors(struct json_object *array, struct envelope *envelope, struct why *why)
{
    size_t n = json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
    if (n == 0 || n > ENVELOPE_MAX_SENSORS)
        return why_set(why, EBADMSG, "'sensors' is not an array of 1 to %d names",
                       ENVELOPE_MAX_SENSORS);
    envelope->sensors = calloc(n + 1, sizeof(char *));
    for (size_t i = 0; envelope->sensors && i < n; i++) {
        char name[ENVELOPE_MAX_ID + 1];
        int r = take_text("sensors", json_object_array_get_idx(array, i), name, why);
        if (r < 0)
            return r;
        envelope->sensors[i] = strdup(name);
        if (!envelope->sensors[i])
            return why_set(why, ENOMEM, "out of memory");
    }
    return envelope->sensors ? 0 : why_set(why, ENOMEM, "out of memory");
}

/* What stands beside $action. */
static int take_arguments(struct json_object *object, struct envelope *envelope, struct why *why)
{
    if (envelope->lease_usec > 0)
        return why_set(why, EBADMSG, "'$for' does not go with '$action'");
    json_object_object_foreach(object, key, member)
    {
        if (key[0] == '$')
            continue;
        if (strcmp(key, "sensors") != 0)
            return why_set(why, EBADMSG, "'%.80s' does not go with '$action'", key);
        int r = take_sensors(member, envelope, why);
        if (r < 0)
            return r;
    }
    return 0;
}

int envelope_parse(const char *bytes, size_t length, struct envelope *envelope, struct why *why)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    *envelope = (struct envelope){ .expires_wall_usec = USEC_INFINITY };
    int r = json_parse_object(bytes, length, &object, why);
    if (r == 0)
        r = take_members(object, envelope, why);
    if (r == 0)
        r = check_known(object, why);
    if (r < 0)
        return r;
    if (envelope->action[0])
        return take_arguments(object, envelope, why);
    return command_from_object(object, bytes, length, &envelope->command, why);
}

void envelope_done(struct envelope *envelope)
{
    strings_free(envelope->sensors);
    command_free(envelope->command);
    *envelope = (struct envelope){ .expires_wall_usec = USEC_INFINITY };
}

/* --- replies --------------------------------------------------------------------------------- */

const char *const reply_status_names[] = {
    [REPLY_DONE] = "done",       [REPLY_REJECTED] = "rejected",     [REPLY_FAILED] = "failed",
    [REPLY_EXPIRED] = "expired", [REPLY_SUPERSEDED] = "superseded",
};

char *reply_format(const struct reply *reply)
{
    char time[CLOCK_RFC3339_SIZE], id[ENVELOPE_MAX_ID * 6 + 3], reason[2048];
    char *text = NULL;
    if (asprintf(&text, "{%s%s%s\"status\": \"%s\", %s%s%s\"state\": %s%s%s, \"time\": \"%s\"}",
                 reply->id[0] ? "\"$id\": " : "",
                 reply->id[0] ? json_quote(reply->id, id, sizeof(id)) : "",
                 reply->id[0] ? ", " : "", reply_status_names[reply->status],
                 reply->reason[0] ? "\"reason\": " : "",
                 reply->reason[0] ? json_quote(reply->reason, reason, sizeof(reason)) : "",
                 reply->reason[0] ? ", " : "", reply->state,
                 reply->readings ? ", \"readings\": " : "", reply->readings ? reply->readings : "",
                 clock_format_rfc3339(reply->wall_usec, time)) < 0)
        return NULL;
    return text;
}
