// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A reply as whoever sent the command takes it: core/envelope.h formats what is parsed here.
 *
 *     {"$id": "a7", "status": "done", "state": {"led_on": true}, "time": "2026-11-24T12:00:00Z"}
 *
 * Pure.
 */
#pragma once

#include <stddef.h>

#include "core/envelope.h"
#include "util/why.h"

enum { ANSWER_MAX_REASON = 255 }; // bytes; a longer one is cut

struct answer {
    char id[ENVELOPE_MAX_ID + 1]; // "": the command had none
    enum reply_status status;
    char reason[ANSWER_MAX_REASON + 1]; // "": none was given
};

/*
 * Parses by json_parse_object()'s rules; members that are not known are passed over. *answer is set
 * on success. Errors: -EBADMSG, -EMSGSIZE, -ENOMEM, each with why.
 */
int answer_parse(const char *bytes, size_t length, struct answer *ret_answer, struct why *why);
