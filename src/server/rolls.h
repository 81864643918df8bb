// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Commands to groups: each has a roll of the devices that are to reply, and is on disk with it
 * before the group is told, once, on its own topic. Who does not reply is sent it on its own, as
 * any other command. Replies are written down together, a record for some devices: a crash in
 * between asks a device again that has replied, and its journal says what it said.
 *
 *     rolls_new(), rolls_enroll_next() each device, rolls_record(), rolls_arm(); rolls_run() when
 *     rolls_next_mono_usec() says so. rolls_close() as devices reply; the last one ends the roll.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/pending.h"

enum { ROLLS_BUCKETS = 1 << 10, ROLLS_PART_DEVICES = 64 };

/* Some of a roll's devices: a record with the ids of those that have not replied. */
struct roll_part {
    struct open *first;
    size_t n_enrolled; // ever
    bool is_dirty, is_on_disk;
};

struct roll {
    struct heap_entry due;
    struct roll *next; // in the bucket of its group
    struct letter *letter;
    uint64_t ticket;          // it is on disk with this one
    uint64_t try_mono_usec;   // the group is not told before
    uint64_t flush_mono_usec; // when replies are written down; USEC_INFINITY: there are none
    bool is_inherited;        // the rule that said so has begun anew, and has not repeated it yet
    bool is_fresh;            // the group was told since the rule has begun
    bool is_dissolving;
    size_t n_closed;
    struct letter_tally tally;
    size_t n_parts;
    struct roll_part *parts;
};

struct rolls {
    struct pending *pending;             // borrowed
    struct roll *buckets[ROLLS_BUCKETS]; // by hash of the group
    size_t n_rolls, n_unrecorded;        // and those of them that are not on disk yet
    struct heap due;
};

void rolls_done(struct rolls *rolls);

/* Where the rolls of a group begin, among those of others. */
struct roll **rolls_bucket(struct rolls *rolls, const char *group);

/* A roll of nobody, with a reference to a group's letter. 0 or -ENOMEM. */
int rolls_new(struct rolls *rolls, struct letter *letter, struct roll **ret_roll);
/* Its i-th part, made if need be; NULL without memory. */
struct roll_part *rolls_part(struct roll *roll, size_t i);
/* Lets peer reply, in the i-th part. false: at a bound, without memory, or it is one already. */
bool rolls_enroll(struct rolls *rolls, struct roll *roll, struct peer *peer, size_t i);
/* Likewise, in the next part with room. Who does not find any is told with the group, once. */
void rolls_enroll_next(struct rolls *rolls, struct roll *roll, struct peer *peer);
/* Writes it all down; it waits until that is on disk. 0 or -ENOMEM. */
int rolls_record(struct rolls *rolls, struct roll *roll);

/* open, of a roll, comes to its end and is freed; the last one takes the roll along. */
void rolls_close(struct rolls *rolls, struct open *open, enum letter_end end, const char *reason,
                 const struct ruleset_now *now);
/* Closes it for all who have not replied. Returns for how many, at least 1. */
size_t rolls_dissolve(struct rolls *rolls, struct roll *roll, enum letter_end end,
                      const char *reason, const struct ruleset_now *now);
/* Nobody is to reply any more: tells how it ended, and removes it. */
void rolls_end(struct rolls *rolls, struct roll *roll);

/* Sees to it that it is looked at when there is something to do for it. */
void rolls_arm(struct rolls *rolls, struct roll *roll, const struct ruleset_now *now);
void rolls_connected(struct rolls *rolls, const struct ruleset_now *now);
void rolls_take_recorded(struct rolls *rolls, const struct ruleset_now *now);
/* Writes down at once what would be written down soon. */
void rolls_flush(struct rolls *rolls);
void rolls_run(struct rolls *rolls, const struct ruleset_now *now);
uint64_t rolls_next_mono_usec(const struct rolls *rolls);
