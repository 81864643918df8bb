// SPDX-License-Identifier: LGPL-2.1-or-later
// Replies to commands, taken apart; see answer.h. Pure.
#include "core/answer.h"

#include <string.h>

#include "core/json.h"
#include "util/strings.h"

static int take_status(struct json_object *object, enum reply_status *ret_status, struct why *why)
{
    struct json_object *member;
    if (!json_object_object_get_ex(object, "status", &member) ||
        !json_object_is_type(member, json_type_string))
        return why_set(why, EBADMSG, "a reply without a \"status\"");
    const char *text = json_object_get_string(member);
    for (int i = REPLY_DONE; i <= REPLY_SUPERSEDED; i++) {
        if (strcmp(reply_status_names[i], text) == 0) {
            *ret_status = (enum reply_status)i;
            return 0;
        }
    }
    return why_set(why, EBADMSG, "'%.60s' is no status of a reply", text);
}

static int take_id(struct json_object *object, struct answer *answer, struct why *why)
{
    struct json_object *member;
    if (!json_object_object_get_ex(object, "$id", &member))
        return 0;
    const char *text = json_object_get_string(member);
    size_t length = (size_t)json_object_get_string_len(member);
    if (!json_object_is_type(member, json_type_string) || length > ENVELOPE_MAX_ID ||
        strlen(text) != length)
        return why_set(why, EBADMSG, "'$id' is no text of at most %d bytes", ENVELOPE_MAX_ID);
    memcpy(answer->id, text, length + 1);
    return 0;
}

int answer_parse(const char *bytes, size_t length, struct answer *ret_answer, struct why *why)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    struct json_object *reason;
    struct answer answer = { 0 };
    int r = json_parse_object(bytes, length, &object, why);
    if (r == 0)
        r = take_id(object, &answer, why);
    if (r == 0)
        r = take_status(object, &answer.status, why);
    if (r < 0)
        return r;
    if (json_object_object_get_ex(object, "reason", &reason) &&
        json_object_is_type(reason, json_type_string))
        strings_printable(json_object_get_string(reason),
                          (size_t)json_object_get_string_len(reason), answer.reason,
                          sizeof(answer.reason));
    *ret_answer = answer;
    return 0;
}
