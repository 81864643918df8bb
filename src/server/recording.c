// SPDX-License-Identifier: LGPL-2.1-or-later
// Lines of a recording; see recording.h.
#include "server/recording.h"

#include <string.h>

#include "core/json.h"
#include "util/clock.h"
#include "util/parse.h"

void recording_done(struct recording *recording)
{
    free(recording->topic);
    json_object_put(recording->payload);
    *recording = (struct recording){ 0 };
}

char *recording_format(uint64_t wall_usec, uint64_t taken_wall_usec, const char *topic,
                       const char *payload, size_t payload_size)
{
    char received[CLOCK_RFC3339_SIZE], taken[CLOCK_RFC3339_SIZE], time[64] = "", quoted[8192];
    char *line;
    if (taken_wall_usec > 0)
        snprintf(time, sizeof(time), "\"time\": \"%s\", ",
                 clock_format_rfc3339(taken_wall_usec, taken));
    if (asprintf(&line, "{\"tst\": \"%s\", %s\"topic\": %s, \"payload\": %.*s}\n",
                 clock_format_rfc3339(wall_usec, received), time,
                 json_quote(topic, quoted, sizeof(quoted)), (int)payload_size, payload) < 0)
        return NULL;
    // A message may be spread over lines, and JSON has line feeds nowhere else.
    for (char *at = line; (at = strpbrk(at, "\r\n")) && at[1] != '\0'; at++)
        *at = ' ';
    return line;
}

/* RFC 3339; mosquitto_sub leaves the colon out of the offset. */
static int parse_time(const char *text, uint64_t *ret_wall_usec)
{
    char copy[64];
    size_t length = strlen(text);
    if (parse_rfc3339(text, ret_wall_usec) == 0)
        return 0;
    if (length < 5 || length + 2 > sizeof(copy) || !strchr("+-", text[length - 5]))
        return -EINVAL;
    snprintf(copy, sizeof(copy), "%.*s:%s", (int)(length - 2), text, text + length - 2);
    return parse_rfc3339(copy, ret_wall_usec);
}

static int time_member(struct json_object *object, const char *key, uint64_t *ret_wall_usec)
{
    struct json_object *member;
    if (!json_object_object_get_ex(object, key, &member))
        return -ENOENT;
    if (!json_object_is_type(member, json_type_string))
        return -EINVAL;
    return parse_time(json_object_get_string(member), ret_wall_usec);
}

static int take_payload(struct json_object *object, struct json_object **ret_payload,
                        struct why *why)
{
    struct json_object *member = NULL;
    json_object_object_get_ex(object, "payload", &member);
    if (json_object_is_type(member, json_type_object)) {
        *ret_payload = json_object_get(member);
        return 0;
    }
    if (!json_object_is_type(member, json_type_string))
        return why_set(why, EBADMSG, "there is no \"payload\"");
    int r = json_parse_object(json_object_get_string(member),
                              (size_t)json_object_get_string_len(member), ret_payload, why);
    return r == -ENOMEM ? r : r < 0 ? -EBADMSG : 0;
}

int recording_parse(const char *line, size_t length, struct recording *ret_recording,
                    struct why *why)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    struct json_object *topic;
    struct recording recording = { 0 };
    int r = json_parse_object(line, length, &object, why);
    if (r < 0)
        return r == -ENOMEM ? r : -EBADMSG;
    if (time_member(object, "tst", &recording.wall_usec) < 0)
        return why_set(why, EBADMSG, "there is no \"tst\" with the time");
    r = time_member(object, "time", &recording.taken_wall_usec);
    if (r < 0 && r != -ENOENT)
        return why_set(why, EBADMSG, "\"time\" is no time");
    if (!json_object_object_get_ex(object, "topic", &topic) ||
        !json_object_is_type(topic, json_type_string))
        return why_set(why, EBADMSG, "there is no \"topic\"");
    r = take_payload(object, &recording.payload, why);
    if (r < 0)
        return r;
    recording.topic = strdup(json_object_get_string(topic));
    if (!recording.topic) {
        recording_done(&recording);
        return -ENOMEM;
    }
    *ret_recording = recording;
    return 0;
}
