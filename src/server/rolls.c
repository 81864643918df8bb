// SPDX-License-Identifier: LGPL-2.1-or-later
// Commands to groups; see rolls.h.
#include "server/rolls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/fleet.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"

enum {
    MAX_AT_ONCE = 500, // in one turn of the main loop
    MAX_PART_KEY = LETTER_ID_SIZE + 24,
};

static const uint64_t flush_pause_usec = 1 * USEC_PER_SEC;
static const uint64_t full_pause_usec = 1 * USEC_PER_SEC;

struct roll **rolls_bucket(struct rolls *rolls, const char *group)
{
    const struct topic_slice slice = { group, strlen(group) };
    return &rolls->buckets[fleet_hash(slice) % ROLLS_BUCKETS];
}

static void tell_end(const struct roll *roll)
{
    const struct letter *letter = roll->letter;
    if (roll->tally.n_members > 0)
        log_info(LOG_FIELDS({ "GROUP", letter->group }, { "RULE", letter->rule },
                            { "COMMAND", letter->id }),
                 "rule %s: command %s to group %s: %zu of %zu devices have done it", letter->rule,
                 letter->command->json, letter->group, roll->tally.n_done, roll->tally.n_members);
}

/* --- who is to reply ------------------------------------------------------------------------- */

int rolls_new(struct rolls *rolls, struct letter *letter, struct roll **ret_roll)
{
    struct roll **bucket = rolls_bucket(rolls, letter->group);
    struct roll *roll = calloc(1, sizeof(*roll));
    if (!roll)
        return -ENOMEM;
    roll->flush_mono_usec = USEC_INFINITY;
    roll->letter = letter;
    letter->n_refs++;
    roll->next = *bucket;
    *bucket = roll;
    rolls->n_rolls++;
    rolls->pending->n_bytes += strlen(letter->payload);
    *ret_roll = roll;
    return 0;
}

static void free_roll(struct rolls *rolls, struct roll *roll)
{
    heap_remove(&rolls->due, &roll->due);
    letter_unref(roll->letter);
    free(roll->parts);
    free(roll);
}

struct roll_part *rolls_part(struct roll *roll, size_t i)
{
    if (i >= roll->n_parts) {
        struct roll_part *parts = reallocarray(roll->parts, i + 1, sizeof(*parts));
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
    while (open && open->letter != roll->letter)
        open = open->next;
    return open;
}

bool rolls_enroll(struct rolls *rolls, struct roll *roll, struct peer *peer, size_t i)
{
    if (rolls->pending->n_followed >= PENDING_MAX_FOLLOWED || peer->n_open >= PENDING_MAX_DEVICE ||
        has(roll, peer))
        return false;
    struct roll_part *part = rolls_part(roll, i);
    struct open *open = part ? pending_add(peer, roll->letter, roll) : NULL;
    if (!open)
        return false;
    pending_link(rolls->pending, open);
    open->part = i;
    open->next_in_part = part->first;
    part->first = open;
    part->n_enrolled++;
    part->is_dirty = true;
    roll->tally.n_members++;
    return true;
}

void rolls_enroll_next(struct rolls *rolls, struct roll *roll, struct peer *peer)
{
    size_t last = roll->n_parts > 0 ? roll->n_parts - 1 : 0;
    bool is_full = roll->n_parts > 0 && roll->parts[last].n_enrolled == ROLLS_PART_DEVICES;
    rolls_enroll(rolls, roll, peer, last + is_full); // else it is told with the group, once
}

/* --- on disk --------------------------------------------------------------------------------- */

static int save_head(const struct rolls *rolls, const struct roll *roll)
{
    _cleanup_(freep) char *record = letter_format(roll->letter, NULL, &roll->tally);
    return record ? post_save(rolls->pending->post, roll->letter->id, record) : -ENOMEM;
}

static char *format_ids(const struct roll_part *part)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (const struct open *open = part->first; open; open = open->next_in_part)
        fprintf(out, "%s%s", open == part->first ? "" : " ", open->peer->id);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static int save_part(const struct rolls *rolls, struct roll *roll, size_t i)
{
    struct roll_part *part = &roll->parts[i];
    char key[MAX_PART_KEY];
    _cleanup_(freep) char *ids = part->first ? format_ids(part) : NULL;
    if (part->first && !ids)
        return -ENOMEM;
    if (!part->first && !part->is_on_disk)
        return 0;
    snprintf(key, sizeof(key), "%s/%zu", roll->letter->id, i);
    int r = post_save(rolls->pending->post, key, ids);
    if (r < 0)
        return r;
    part->is_dirty = false;
    part->is_on_disk = part->first;
    return 0;
}

int rolls_record(struct rolls *rolls, struct roll *roll)
{
    int r = save_head(rolls, roll);
    for (size_t i = 0; r == 0 && i < roll->n_parts; i++)
        r = save_part(rolls, roll, i);
    if (r < 0)
        return r;
    roll->ticket = post_sync(rolls->pending->post);
    rolls->n_unrecorded++;
    KILL_POINT("group-record");
    return 0;
}

/* Without memory a device is asked again after a restart. */
static void flush(struct rolls *rolls, struct roll *roll)
{
    roll->flush_mono_usec = USEC_INFINITY;
    KILL_POINT("group-flush");
    for (size_t i = 0; i < roll->n_parts; i++) {
        if (roll->parts[i].is_dirty)
            (void)save_part(rolls, roll, i);
    }
    (void)save_head(rolls, roll);
}

void rolls_flush(struct rolls *rolls)
{
    for (size_t i = 0; rolls->n_rolls > 0 && i < ROLLS_BUCKETS; i++) {
        for (struct roll *roll = rolls->buckets[i]; roll; roll = roll->next) {
            if (roll->flush_mono_usec != USEC_INFINITY)
                flush(rolls, roll);
        }
    }
}

/* --- its end --------------------------------------------------------------------------------- */

void rolls_end(struct rolls *rolls, struct roll *roll)
{
    struct roll **place = rolls_bucket(rolls, roll->letter->group);
    tell_end(roll);
    KILL_POINT("group-end");
    (void)post_save(rolls->pending->post, roll->letter->id, NULL);
    for (size_t i = 0; i < roll->n_parts; i++)
        (void)save_part(rolls, roll, i); // none has a device any more: they are removed
    while (*place != roll)
        place = &(*place)->next;
    *place = roll->next;
    rolls->n_rolls--;
    rolls->pending->n_bytes -= strlen(roll->letter->payload);
    rolls->n_unrecorded -= roll->ticket > 0 && !roll->letter->is_recorded;
    free_roll(rolls, roll);
}

void rolls_close(struct rolls *rolls, struct open *open, enum letter_end end, const char *reason,
                 const struct ruleset_now *now)
{
    struct roll *roll = open->roll;
    struct roll_part *part = &roll->parts[open->part];
    struct open **place = &part->first;
    while (*place != open)
        place = &(*place)->next_in_part;
    *place = open->next_in_part;
    part->is_dirty = true;
    roll->n_closed++;
    roll->tally.n_done += end == LETTER_DONE;
    pending_end(rolls->pending, open, end, reason, now);
    if (roll->is_dissolving)
        return;
    if (roll->letter->is_sent && roll->n_closed == roll->tally.n_members) {
        rolls_end(rolls, roll);
        return;
    }
    if (roll->flush_mono_usec == USEC_INFINITY)
        roll->flush_mono_usec = now->mono_usec + flush_pause_usec;
    rolls_arm(rolls, roll, now);
}

size_t rolls_dissolve(struct rolls *rolls, struct roll *roll, enum letter_end end,
                      const char *reason, const struct ruleset_now *now)
{
    size_t n = 0;
    roll->is_dissolving = true;
    for (size_t i = 0; i < roll->n_parts; i++) {
        for (; roll->parts[i].first; n++)
            rolls_close(rolls, roll->parts[i].first, end, reason, now);
    }
    if (n == 0 && end == LETTER_EXPIRED)
        rolls->pending->ended[end]++;
    rolls_end(rolls, roll);
    return n > 0 ? n : 1;
}

/* --- when there is something to do ----------------------------------------------------------- */

void rolls_arm(struct rolls *rolls, struct roll *roll, const struct ruleset_now *now)
{
    uint64_t due_mono_usec = roll->flush_mono_usec;
    uint64_t expires_mono_usec = letter_expires_mono_usec(roll->letter, now);
    if (!roll->letter->is_sent && rolls->pending->is_connected && roll->letter->is_recorded &&
        roll->try_mono_usec < due_mono_usec)
        due_mono_usec = roll->try_mono_usec;
    if (!roll->letter->is_sent && expires_mono_usec < due_mono_usec)
        due_mono_usec = expires_mono_usec;
    if (due_mono_usec == USEC_INFINITY)
        heap_remove(&rolls->due, &roll->due);
    else
        (void)heap_put(&rolls->due, &roll->due, due_mono_usec); // else with the next event
}

/* Lets each device that has not replied be sent it on its own, when it is time for its next try. */
static void arm_devices(struct rolls *rolls, struct roll *roll, unsigned n_tries,
                        const struct ruleset_now *now)
{
    for (size_t i = 0; i < roll->n_parts; i++) {
        for (struct open *open = roll->parts[i].first; open; open = open->next_in_part) {
            open->n_tries = n_tries;
            open->try_mono_usec = n_tries > 0
                                      ? pending_next_try(rolls->pending, n_tries, now->mono_usec)
                                      : now->mono_usec;
            pending_arm(rolls->pending, open, now);
        }
    }
}

void rolls_connected(struct rolls *rolls, const struct ruleset_now *now)
{
    for (size_t i = 0; rolls->n_rolls > 0 && i < ROLLS_BUCKETS; i++) {
        for (struct roll *roll = rolls->buckets[i]; roll; roll = roll->next) {
            if (roll->letter->is_sent)
                continue; // its devices are sent it on their own
            roll->try_mono_usec = now->mono_usec;
            rolls_arm(rolls, roll, now);
        }
    }
}

void rolls_take_recorded(struct rolls *rolls, const struct ruleset_now *now)
{
    for (size_t i = 0; rolls->n_unrecorded > 0 && i < ROLLS_BUCKETS; i++) {
        for (struct roll *roll = rolls->buckets[i]; roll; roll = roll->next) {
            if (roll->letter->is_recorded || roll->ticket > rolls->pending->recorded_ticket)
                continue;
            roll->letter->is_recorded = true;
            rolls->n_unrecorded--;
            rolls_arm(rolls, roll, now);
            if (roll->letter->is_sent)
                arm_devices(rolls, roll, 0, now);
        }
    }
}

/* Returns whether others are to be tried as well. */
static bool publish(struct rolls *rolls, struct roll *roll, const struct ruleset_now *now)
{
    KILL_POINT("group-publish");
    if (pending_publish(rolls->pending, roll->letter, NULL) < 0) {
        roll->try_mono_usec = now->mono_usec + full_pause_usec;
        rolls_arm(rolls, roll, now);
        return false;
    }
    roll->letter->is_sent = true;
    roll->is_fresh = true;
    KILL_POINT("group-published");
    if (roll->n_closed == roll->tally.n_members) {
        rolls_end(rolls, roll);
        return true;
    }
    flush(rolls, roll); // else all are told anew after a restart
    arm_devices(rolls, roll, 1, now);
    rolls_arm(rolls, roll, now);
    return true;
}

void rolls_run(struct rolls *rolls, const struct ruleset_now *now)
{
    struct heap_entry *first;
    for (unsigned n = 0; n < MAX_AT_ONCE; n++) {
        first = heap_first(&rolls->due);
        if (!first || first->key > now->mono_usec)
            return;
        struct roll *roll = (struct roll *)((char *)first - offsetof(struct roll, due));
        if (!roll->letter->is_sent && roll->letter->expires_wall_usec <= now->wall_usec) {
            rolls_dissolve(rolls, roll, LETTER_EXPIRED, "it could not be sent in time", now);
            continue;
        }
        if (roll->flush_mono_usec <= now->mono_usec)
            flush(rolls, roll);
        if (roll->letter->is_sent || !rolls->pending->is_connected || !roll->letter->is_recorded ||
            roll->try_mono_usec > now->mono_usec)
            rolls_arm(rolls, roll, now);
        else if (!publish(rolls, roll, now))
            return;
    }
}

uint64_t rolls_next_mono_usec(const struct rolls *rolls)
{
    const struct heap_entry *first = heap_first(&rolls->due);
    return first ? first->key : USEC_INFINITY;
}

/* --- life ------------------------------------------------------------------------------------ */

void rolls_done(struct rolls *rolls)
{
    for (size_t i = 0; i < ROLLS_BUCKETS; i++) {
        while (rolls->buckets[i]) {
            struct roll *roll = rolls->buckets[i];
            rolls->buckets[i] = roll->next;
            free_roll(rolls, roll);
        }
    }
    heap_done(&rolls->due);
}
