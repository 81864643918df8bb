// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Commands to groups. Each is on disk with the devices that are to reply before the group is told,
 * once, on its own topic; who does not reply is sent it on its own, as any other command. Replies
 * are written down together, a record for some devices: a crash in between asks a device again that
 * has replied, and its journal says what it said.
 */
#include <string.h>

#include "server/issuer-internal.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"

enum { MAX_AT_ONCE = 500 }; // in one turn of the main loop

static const uint64_t flush_pause_usec = 1 * USEC_PER_SEC;
static const uint64_t full_pause_usec = 1 * USEC_PER_SEC;

struct roll **roll_bucket(struct issuer *issuer, const char *group)
{
    const struct topic_slice slice = { group, strlen(group) };
    return &issuer->rolls[fleet_hash(slice) % ISSUER_ROLL_BUCKETS];
}

static void tell_end(const struct roll *roll)
{
    const struct body *body = roll->body;
    if (roll->n_members > 0)
        log_info(
            LOG_FIELDS({ "GROUP", body->group }, { "RULE", body->rule }, { "COMMAND", body->id }),
            "rule %s: command %s to group %s: %zu of %zu devices have done it", body->rule,
            body->command->json, body->group, roll->n_done, roll->n_members);
}

/* --- who is to reply ------------------------------------------------------------------------- */

int roll_new(struct issuer *issuer, struct body *body, struct roll **ret_roll)
{
    struct roll **bucket = roll_bucket(issuer, body->group);
    struct roll *roll = calloc(1, sizeof(*roll));
    if (!roll)
        return -ENOMEM;
    roll->flush_mono_usec = USEC_INFINITY;
    roll->body = body;
    body->n_refs++;
    body->roll = roll;
    roll->next = *bucket;
    *bucket = roll;
    issuer->n_rolls++;
    issuer->n_bytes += strlen(body->payload);
    *ret_roll = roll;
    return 0;
}

static void free_roll(struct issuer *issuer, struct roll *roll)
{
    heap_remove(&issuer->rolls_due, &roll->due);
    roll->body->roll = NULL;
    body_unref(roll->body);
    free(roll->parts);
    free(roll);
}

struct part *roll_part(struct roll *roll, size_t i)
{
    if (i >= roll->n_parts) {
        struct part *parts = reallocarray(roll->parts, i + 1, sizeof(*parts));
        if (!parts)
            return NULL;
        memset(parts + roll->n_parts, 0, (i + 1 - roll->n_parts) * sizeof(*parts));
        roll->parts = parts;
        roll->n_parts = i + 1;
    }
    return &roll->parts[i];
}

static bool has(const struct roll *roll, const struct peer *peer)
{
    const struct open *open = peer->first;
    while (open && open->body != roll->body)
        open = open->next;
    return open;
}

bool roll_enroll(struct issuer *issuer, struct roll *roll, struct peer *peer, size_t i)
{
    if (issuer->n_followed >= ISSUER_MAX_FOLLOWED || peer->n_open >= ISSUER_MAX_OPEN_DEVICE ||
        has(roll, peer))
        return false;
    struct part *part = roll_part(roll, i);
    struct open *open = part ? issuer_new_open(peer, roll->body, true) : NULL;
    if (!open)
        return false;
    issuer_link(issuer, open);
    open->part = i;
    open->next_in_part = part->first;
    part->first = open;
    part->n_enrolled++;
    part->is_dirty = true;
    roll->n_members++;
    return true;
}

void roll_enroll_next(struct issuer *issuer, struct roll *roll, struct peer *peer)
{
    size_t last = roll->n_parts > 0 ? roll->n_parts - 1 : 0;
    bool is_full = roll->n_parts > 0 && roll->parts[last].n_enrolled == ISSUER_PART_DEVICES;
    roll_enroll(issuer, roll, peer, last + is_full); // else it is told with the group, once
}

/* --- on disk --------------------------------------------------------------------------------- */

int roll_record(struct issuer *issuer, struct roll *roll)
{
    int r = roll_save_head(issuer, roll);
    for (size_t i = 0; r == 0 && i < roll->n_parts; i++)
        r = roll_save_part(issuer, roll, i);
    if (r < 0)
        return r;
    roll->ticket = issuer->handlers->sync(issuer->userdata);
    issuer->n_unrecorded++;
    KILL_POINT("group-record");
    return 0;
}

/* Without memory a device is asked again after a restart. */
static void flush(struct issuer *issuer, struct roll *roll)
{
    roll->flush_mono_usec = USEC_INFINITY;
    KILL_POINT("group-flush");
    for (size_t i = 0; i < roll->n_parts; i++) {
        if (roll->parts[i].is_dirty)
            (void)roll_save_part(issuer, roll, i);
    }
    (void)roll_save_head(issuer, roll);
}

void issuer_flush(struct issuer *issuer)
{
    for (size_t i = 0; issuer->n_rolls > 0 && i < ISSUER_ROLL_BUCKETS; i++) {
        for (struct roll *roll = issuer->rolls[i]; roll; roll = roll->next) {
            if (roll->flush_mono_usec != USEC_INFINITY)
                flush(issuer, roll);
        }
    }
}

/* --- its end --------------------------------------------------------------------------------- */

void roll_end(struct issuer *issuer, struct roll *roll)
{
    struct roll **place = roll_bucket(issuer, roll->body->group);
    tell_end(roll);
    KILL_POINT("group-end");
    (void)issuer->handlers->save(issuer->userdata, roll->body->id, NULL);
    for (size_t i = 0; i < roll->n_parts; i++)
        (void)roll_save_part(issuer, roll, i); // none has a device any more: they are removed
    while (*place != roll)
        place = &(*place)->next;
    *place = roll->next;
    issuer->n_rolls--;
    issuer->n_bytes -= strlen(roll->body->payload);
    issuer->n_unrecorded -= roll->ticket > 0 && !roll->is_recorded;
    free_roll(issuer, roll);
}

/* Closes it for all who have not replied. Returns for how many, at least 1. */
size_t roll_dissolve(struct issuer *issuer, struct roll *roll, enum issuer_end end,
                     const char *reason, const struct ruleset_now *now)
{
    size_t n = 0;
    roll->is_dissolving = true;
    for (size_t i = 0; i < roll->n_parts; i++) {
        for (; roll->parts[i].first; n++)
            issuer_close(issuer, roll->parts[i].first, end, reason, now);
    }
    if (n == 0 && end == ISSUER_EXPIRED)
        issuer->ended[end]++;
    roll_end(issuer, roll);
    return n > 0 ? n : 1;
}

/* --- when there is something to do ----------------------------------------------------------- */

bool roll_is_out(const struct roll *roll)
{
    return roll->is_sent && roll->is_recorded;
}

void roll_arm(struct issuer *issuer, struct roll *roll, const struct ruleset_now *now)
{
    uint64_t due_mono_usec = roll->flush_mono_usec;
    uint64_t expires_mono_usec = issuer_expires_mono_usec(roll->body, now);
    if (!roll->is_sent && issuer->is_connected && roll->is_recorded &&
        roll->try_mono_usec < due_mono_usec)
        due_mono_usec = roll->try_mono_usec;
    if (!roll->is_sent && expires_mono_usec < due_mono_usec)
        due_mono_usec = expires_mono_usec;
    if (due_mono_usec == USEC_INFINITY)
        heap_remove(&issuer->rolls_due, &roll->due);
    else
        (void)heap_put(&issuer->rolls_due, &roll->due, due_mono_usec); // else with the next event
}

/* Lets each device that has not replied be sent it on its own, when it is time for its next try. */
static void arm_devices(struct issuer *issuer, struct roll *roll, unsigned n_tries,
                        const struct ruleset_now *now)
{
    for (size_t i = 0; i < roll->n_parts; i++) {
        for (struct open *open = roll->parts[i].first; open; open = open->next_in_part) {
            open->n_tries = n_tries;
            open->try_mono_usec =
                n_tries > 0 ? issuer_next_try(issuer, n_tries, now->mono_usec) : now->mono_usec;
            issuer_arm(issuer, open, now);
        }
    }
}

void roll_strike(struct issuer *issuer, struct open *open, enum issuer_end end,
                 const struct ruleset_now *now)
{
    struct roll *roll = open->body->roll;
    struct part *part = &roll->parts[open->part];
    struct open **place = &part->first;
    while (*place != open)
        place = &(*place)->next_in_part;
    *place = open->next_in_part;
    part->is_dirty = true;
    roll->n_closed++;
    roll->n_done += end == ISSUER_DONE;
    if (roll->is_dissolving)
        return;
    if (roll->is_sent && roll->n_closed == roll->n_members) {
        roll_end(issuer, roll);
        return;
    }
    if (roll->flush_mono_usec == USEC_INFINITY)
        roll->flush_mono_usec = now->mono_usec + flush_pause_usec;
    roll_arm(issuer, roll, now);
}

void roll_connected(struct issuer *issuer, const struct ruleset_now *now)
{
    for (size_t i = 0; issuer->n_rolls > 0 && i < ISSUER_ROLL_BUCKETS; i++) {
        for (struct roll *roll = issuer->rolls[i]; roll; roll = roll->next) {
            if (roll->is_sent)
                continue; // its devices are sent it on their own
            roll->try_mono_usec = now->mono_usec;
            roll_arm(issuer, roll, now);
        }
    }
}

void roll_recorded(struct issuer *issuer, const struct ruleset_now *now)
{
    for (size_t i = 0; issuer->n_unrecorded > 0 && i < ISSUER_ROLL_BUCKETS; i++) {
        for (struct roll *roll = issuer->rolls[i]; roll; roll = roll->next) {
            if (roll->is_recorded || roll->ticket > issuer->recorded_ticket)
                continue;
            roll->is_recorded = true;
            issuer->n_unrecorded--;
            roll_arm(issuer, roll, now);
            if (roll->is_sent)
                arm_devices(issuer, roll, 0, now);
        }
    }
}

/* Returns whether others are to be tried as well. */
static bool publish(struct issuer *issuer, struct roll *roll, const struct ruleset_now *now)
{
    const struct issuer_letter letter = {
        .group = roll->body->group,
        .id = roll->body->id,
        .rule = roll->body->rule,
        .payload = roll->body->payload,
        .qos = roll->body->qos,
    };
    KILL_POINT("group-publish");
    int r = issuer->handlers->send(issuer->userdata, &letter);
    if (r < 0) {
        if (r == -ENOTCONN)
            issuer->is_connected = false; // until issuer_connected()
        roll->try_mono_usec = now->mono_usec + full_pause_usec;
        roll_arm(issuer, roll, now);
        return false;
    }
    roll->is_sent = true;
    roll->is_fresh = true;
    KILL_POINT("group-published");
    if (roll->n_closed == roll->n_members) {
        roll_end(issuer, roll);
        return true;
    }
    flush(issuer, roll); // else all are told anew after a restart
    arm_devices(issuer, roll, 1, now);
    roll_arm(issuer, roll, now);
    return true;
}

void roll_run(struct issuer *issuer, const struct ruleset_now *now)
{
    struct heap_entry *first;
    for (unsigned n = 0; n < MAX_AT_ONCE; n++) {
        first = heap_first(&issuer->rolls_due);
        if (!first || first->key > now->mono_usec)
            return;
        struct roll *roll = (struct roll *)((char *)first - offsetof(struct roll, due));
        if (!roll->is_sent && roll->body->expires_wall_usec <= now->wall_usec) {
            roll_dissolve(issuer, roll, ISSUER_EXPIRED, "it could not be sent in time", now);
            continue;
        }
        if (roll->flush_mono_usec <= now->mono_usec)
            flush(issuer, roll);
        if (roll->is_sent || !issuer->is_connected || !roll->is_recorded ||
            roll->try_mono_usec > now->mono_usec)
            roll_arm(issuer, roll, now);
        else if (!publish(issuer, roll, now))
            return;
    }
}

/* --- life ------------------------------------------------------------------------------------ */

void roll_free_all(struct issuer *issuer)
{
    for (size_t i = 0; i < ISSUER_ROLL_BUCKETS; i++) {
        while (issuer->rolls[i]) {
            struct roll *roll = issuer->rolls[i];
            issuer->rolls[i] = roll->next;
            free_roll(issuer, roll);
        }
    }
    heap_done(&issuer->rolls_due);
}
