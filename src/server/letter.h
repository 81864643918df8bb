// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A command as it is sent and as it is written down, to one device or to a group, whose devices
 * share it.
 *
 *     letter_new() of an order, or letter_parse() of a record; letter_unref() by each who has it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/answer.h"
#include "core/command.h"
#include "server/ruleset.h"
#include "util/cleanup.h"

enum { LETTER_ID_SIZE = 40 };

/* What became of a letter; those of enum reply_status come first, in their order. */
enum letter_end {
    LETTER_DONE = REPLY_DONE,
    LETTER_REJECTED = REPLY_REJECTED,
    LETTER_FAILED = REPLY_FAILED,
    LETTER_EXPIRED = REPLY_EXPIRED,       // the device says so, or the server
    LETTER_SUPERSEDED = REPLY_SUPERSEDED, // likewise
    LETTER_UNANSWERED,                    // given up
    LETTER_ENDS,
};
extern const char *const letter_end_names[LETTER_ENDS];

/* What a rule wants to be said. */
struct letter_order {
    const char *device; // NULL: to the group
    const char *group;  // NULL: the device's topic names none
    const char *rule;
    const struct command *command;
    bool is_ordered; // else latest
    int qos;
    uint64_t expires_usec, lease_usec; // from now; USEC_INFINITY: none
    bool has_seq; // the clock is right: devices may order by it what they are sent
};

struct letter {
    unsigned n_refs;
    uint64_t number; // in order of issuing; part of the id
    uint64_t seq;    // 0: none
    uint64_t expires_wall_usec, lease_usec;
    bool is_ordered;
    bool is_recorded, is_sent; // of a group's: it is on disk; the group has been told
    int qos;
    char *group, *rule; // group NULL: none
    char *payload;
    struct command *command;
    char id[LETTER_ID_SIZE];
};

/* The devices that are to reply to a group's letter, as they are written down with it. */
struct letter_tally {
    size_t n_members, n_done;
};

/* seed, number: make the id. 0 or -ENOMEM. */
int letter_new(const struct letter_order *order, uint64_t seed, uint64_t number, uint64_t seq,
               uint64_t now_wall_usec, struct letter **ret_letter);
void letter_unref(struct letter *letter);
DEFINE_CLEANUP(struct letter *, letter_unref)

/* Whether letter sets a key that command sets too. */
bool letter_overlaps(const struct letter *letter, const struct command *command);

/* A new command of what letter sets and command does not; -ENOENT: there is nothing; -ENOMEM. */
int letter_remainder(const struct letter *letter, const struct command *command,
                     struct command **ret_command);

/* What sends rest, a part of letter's command, as letter was sent. device NULL: to the group. */
struct letter_order letter_reorder(const struct letter *letter, const char *device,
                                   const struct command *rest, const struct ruleset_now *now);

/* Whether order says once more what letter does. */
bool letter_repeats(const struct letter *letter, const struct letter_order *order);

/* When letter expires, by the other clock; USEC_INFINITY: never. */
uint64_t letter_expires_mono_usec(const struct letter *letter, const struct ruleset_now *now);

/*
 * The record of a letter, a new string, or NULL: of a device's own, or with device NULL of a
 * group's, with tally. And back, with its id; *ret_device is NULL for a group's. -EBADMSG, -ENOMEM.
 */
char *letter_format(const struct letter *letter, const char *device,
                    const struct letter_tally *tally);
int letter_parse(const char *id, const char *record, struct letter **ret_letter, char **ret_device,
                 struct letter_tally *ret_tally);
