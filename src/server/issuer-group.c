// SPDX-License-Identifier: LGPL-2.1-or-later
// What a group is told: once, never what a newer command has replaced, and not again what it has
// been told already.
#include <assert.h>
#include <string.h>

#include "server/issuer-internal.h"
#include "util/clock.h"

/* --- what is newer --------------------------------------------------------------------------- */

/* Those of from that have not replied; none that is not there any more. */
static void enroll_rest(struct issuer *issuer, struct roll *roll, const struct roll *from)
{
    for (size_t i = 0; i < from->n_parts; i++) {
        for (struct open *open = from->parts[i].first; open; open = open->next_in_part) {
            if (open->peer->is_announced)
                roll_enroll_next(issuer, roll, open->peer);
        }
    }
}

/* What an older command sets beside the newer one goes to those that have not done it. */
static void reissue(struct issuer *issuer, struct roll *old, const struct command *newer,
                    const struct ruleset_now *now)
{
    _cleanup_(command_freep) struct command *rest = NULL;
    _cleanup_(body_unrefp) struct body *body = NULL;
    struct roll *roll;
    if (body_remainder(old->body, newer, &rest) < 0)
        return;
    const struct issuer_order order = issuer_order_rest(NULL, old->body, rest, now);
    if (issuer_make_body(issuer, &order, now, &body) < 0 || roll_new(issuer, body, &roll) < 0)
        return; // without memory the rule says it again in time
    roll->is_sent = old->is_sent;
    enroll_rest(issuer, roll, old);
    if (roll_record(issuer, roll) < 0 || (roll->is_sent && roll->n_members == 0))
        roll_dissolve(issuer, roll, ISSUER_SUPERSEDED, "", now);
    else
        roll_arm(issuer, roll, now);
}

static bool is_replaced(const struct roll *old, const char *group, const struct command *by,
                        uint64_t before)
{
    return old->body->number < before && strcmp(old->body->group, group) == 0 &&
           body_overlaps(old->body, by);
}

void roll_supersede(struct issuer *issuer, const char *group, const struct command *by,
                    uint64_t before, const struct ruleset_now *now)
{
    struct roll *next;
    for (struct roll *old = *roll_bucket(issuer, group); old; old = next) {
        next = old->next;
        if (!is_replaced(old, group, by, before))
            continue;
        reissue(issuer, old, by, now);
        roll_dissolve(issuer, old, ISSUER_SUPERSEDED, "by a newer one", now);
    }
}

/* What its devices have been sent before. */
static void supersede(struct issuer *issuer, const struct roll *roll, const struct ruleset_now *now)
{
    const struct body *by = roll->body;
    roll_supersede(issuer, by->group, by->command, by->number, now);
    for (size_t i = 0; i < roll->n_parts; i++) {
        for (struct open *open = roll->parts[i].first; open; open = open->next_in_part)
            issuer_supersede(issuer, open->peer, by->command, by->number, now);
    }
}

/* --- issuing --------------------------------------------------------------------------------- */

static struct peer *find_peer(const struct issuer *issuer, const char *device)
{
    return issuer_peer(issuer, (struct topic_slice){ device, strlen(device) });
}

/* Those that are to reply: the group's, and who has not replied to what this one replaces. */
static void enroll_all(struct issuer *issuer, struct roll *roll, const char *const *devices,
                       size_t n_devices)
{
    for (size_t i = 0; i < n_devices; i++) {
        struct peer *peer = find_peer(issuer, devices[i]);
        if (peer && peer->is_announced)
            roll_enroll_next(issuer, roll, peer);
    }
    for (struct roll *old = *roll_bucket(issuer, roll->body->group); old; old = old->next) {
        if (is_replaced(old, roll->body->group, roll->body->command, roll->body->number))
            enroll_rest(issuer, roll, old);
    }
}

static struct roll *find_same(struct issuer *issuer, const struct issuer_order *order)
{
    struct roll *roll = *roll_bucket(issuer, order->group);
    while (roll &&
           (strcmp(roll->body->group, order->group) != 0 || !issuer_repeats(roll->body, order)))
        roll = roll->next;
    return roll;
}

/*
 * Whether the group need not be told something new: it has not been told yet, or a rule that has
 * begun anew only says what its group has been told. Then the group is told the same once more: who
 * has come to it meanwhile does it, the others know by the $id that they have.
 */
static bool is_still_open(struct issuer *issuer, const struct issuer_order *order,
                          const struct ruleset_now *now)
{
    struct roll *roll = find_same(issuer, order);
    if (!roll || (roll->is_sent && (!roll->is_inherited || order->lease_usec != USEC_INFINITY)))
        return false; // a lease would not be renewed by it
    roll->is_inherited = false;
    if (roll->is_sent && !roll->is_fresh) {
        roll->is_sent = false;
        roll->try_mono_usec = now->mono_usec;
        roll_arm(issuer, roll, now);
    }
    return true;
}

int issuer_issue_group(struct issuer *issuer, const struct issuer_order *order,
                       const char *const *devices, size_t n_devices, const struct ruleset_now *now)
{
    _cleanup_(body_unrefp) struct body *body = NULL;
    struct roll *roll = NULL;
    if (is_still_open(issuer, order, now))
        return 1;
    if (issuer->n_rolls >= ISSUER_MAX_OPEN || issuer->n_bytes >= ISSUER_MAX_BYTES)
        return issuer_refuse(issuer, order, -ENOBUFS, now);
    int r = issuer_make_body(issuer, order, now, &body);
    if (r == 0)
        r = roll_new(issuer, body, &roll);
    if (r < 0)
        return r;
    assert(roll);
    enroll_all(issuer, roll, devices, n_devices);
    r = roll_record(issuer, roll);
    if (r < 0) {
        roll_dissolve(issuer, roll, ISSUER_SUPERSEDED, "", now);
        return r;
    }
    supersede(issuer, roll, now);
    roll->try_mono_usec = now->mono_usec;
    roll_arm(issuer, roll, now);
    return 0;
}

/* --- other rules ----------------------------------------------------------------------------- */

void roll_begin_anew(struct roll *roll)
{
    roll->is_inherited = true;
    roll->is_fresh = false;
}
