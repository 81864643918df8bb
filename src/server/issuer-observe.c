// SPDX-License-Identifier: LGPL-2.1-or-later
// What other servers that share the fleet are seen to send: the journals of all stay right when a
// device's readings go to another one.
#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "server/issuer-internal.h"

/* Of this run; those of an earlier one are open, or over. */
static bool is_of_this_run(const struct issuer *issuer, const char *id)
{
    char prefix[24];
    int length = snprintf(prefix, sizeof(prefix), "%016" PRIx64 "-", issuer->seed);
    return strncmp(id, prefix, (size_t)length) == 0;
}

static bool is_open(const struct peer *peer, const char *id)
{
    for (const struct open *open = peer ? peer->first : NULL; open; open = open->next) {
        if (strcmp(open->body->id, id) == 0)
            return true;
    }
    return false;
}

/*
 * Whether a command need not be sent, now that another server's of seq is on its way: one that says
 * the same, or, being newer, sets all that it sets, so that its device would refuse it.
 */
static bool is_settled(const struct open *open, struct json_object *command, uint64_t seq)
{
    const struct body *body = open->body;
    if (open->is_groups || body->is_ordered)
        return false; // in order, all count
    return (open->n_tries == 0 && command_is_said_by(body->command, command)) ||
           (body->seq > 0 && body->seq < seq && command_is_covered_by(body->command, command));
}

bool issuer_observe(struct issuer *issuer, struct topic_slice device, struct json_object *command,
                    const struct ruleset_now *now)
{
    struct json_object *seq;
    const char *id = json_text_of(command, "$id");
    struct peer *peer = issuer_peer(issuer, device);
    if (!id || is_of_this_run(issuer, id) || is_open(peer, id))
        return false;
    // A server's has a $seq, and that server sees it through. One to a device that is offline, or
    // a person's, may come to nothing.
    if (!peer || peer->is_offline || !json_object_object_get_ex(command, "$seq", &seq) ||
        !json_object_is_type(seq, json_type_int))
        return true;
    struct open *next;
    for (struct open *open = peer->first; open; open = next) {
        next = open->next;
        if (is_settled(open, command, json_object_get_uint64(seq)))
            issuer_close(issuer, open, ISSUER_SUPERSEDED, "by another server's", now);
    }
    return true;
}
