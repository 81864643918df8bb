// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The server's journal of commands: each has an $id, is on disk before it is sent, is sent again
 * until its device replies, and is closed by the reply.
 *
 *     issuer_recall() for each record of an earlier run, issuer_recalled(). issuer_issue() a
 *     command; issuer_announce(), issuer_heard() and issuer_reply() as devices say something;
 *     issuer_connected() and issuer_recorded() as the world does; issuer_run() when it asks.
 *
 * A device has its open commands in the order in which they were issued. Those with `latest` are
 * sent at once, and a newer one takes the place of the older for the actuators it sets; of those
 * with `ordered` only the first is sent, the next with its end. No clock of its own;
 * what it does to the world is in post.h.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/answer.h"
#include "core/topic.h"
#include "server/letter.h"
#include "server/pending.h"
#include "util/cleanup.h"

enum { ISSUER_MAX_DEVICES = 250000 }; // that have announced themselves

struct issuer;

struct issuer_counts {
    uint64_t ended[LETTER_ENDS]; // since the start
    uint64_t refused;            // at a bound, until there was room
    size_t n_open;               // a device's own
    size_t n_outstanding;        // devices that have not replied to their group's command
};

/* seed: any number that no server had before; ids are made of it. post is borrowed. 0 or -ENOMEM.
 */
int issuer_new(uint64_t seed, struct post *post, struct issuer **ret_issuer);
void issuer_free(struct issuer *issuer);
DEFINE_CLEANUP(struct issuer *, issuer_free)

/* A record of an earlier run, in any order; what is none is removed. After the last one: */
void issuer_recall(struct issuer *issuer, const char *key, const char *value,
                   const struct ruleset_now *now);
void issuer_recalled(struct issuer *issuer, const struct ruleset_now *now);

/*
 * Issues a command to a device. 0; 1: the same of that rule is still open, of this connection of
 * the device and of ours, and remains so; -ENOBUFS at a bound; -EDQUOT at that of the device;
 * -ENOMEM.
 */
int issuer_issue(struct issuer *issuer, const struct letter_order *order,
                 const struct ruleset_now *now);

/*
 * Issues a command to a group: it is published once, and those of devices (a vector of ids) that
 * have announced themselves are to reply: each that does not is sent it on its own, with the same
 * $id. So are devices that have not replied to an older one whose place it takes, and may not have
 * been heard of since a restart. Of more than PENDING_MAX_FOLLOWED no reply is expected. Returns as
 * issuer_issue(); 1 also when a rule that has begun anew only repeats itself.
 */
int issuer_issue_group(struct issuer *issuer, const struct letter_order *order,
                       const char *const *devices, size_t n_devices, const struct ruleset_now *now);

/* How many commands more may be issued. */
size_t issuer_room(const struct issuer *issuer);

/* Nothing is open. */
bool issuer_is_idle(const struct issuer *issuer);

/* What order says was published without being seen through: what it replaces is out of date. */
void issuer_overrule(struct issuer *issuer, const struct letter_order *order,
                     const struct ruleset_now *now);

/*
 * The rules are others, and decide anew: shows each command that is open, and issuer_give_up()
 * closes the one just shown, as superseded; it returns for how many.
 *
 *     struct issuer_cursor cursor = { 0 };
 *     while (issuer_next(issuer, &cursor, &letter, &device)) ...
 *
 * device NULL: a group's as a whole, before its devices are shown.
 */
struct issuer_cursor {
    size_t n_buckets;              // that have been looked at
    struct roll *roll, *next_roll; // the one shown, and what follows in its bucket
    struct open *open, *next_open; // likewise, behind all rolls
    bool in_opens;
};
bool issuer_next(struct issuer *issuer, struct issuer_cursor *cursor,
                 const struct letter **ret_letter, const char **ret_device);
size_t issuer_give_up(struct issuer *issuer, const struct issuer_cursor *cursor,
                      const struct ruleset_now *now);

/* Writes down at once what would be written down soon: before the end. */
void issuer_flush(struct issuer *issuer);

/* A status message; is_news: just now. Commands for one that is offline wait. */
void issuer_announce(struct issuer *issuer, struct topic_slice id, bool is_online, bool is_news,
                     const struct ruleset_now *now);
/* Its status message is gone. */
void issuer_withdraw(struct issuer *issuer, struct topic_slice id);
/* Whether a device has announced itself. */
bool issuer_knows(const struct issuer *issuer, const char *id);
/* A message of it. */
void issuer_heard(struct issuer *issuer, struct topic_slice id, const struct ruleset_now *now);

/* Returns whether it was the reply to an open command of that device. */
bool issuer_reply(struct issuer *issuer, struct topic_slice id, const struct answer *answer,
                  const struct ruleset_now *now);

/*
 * A command was seen on a device's topic, an object. Returns whether it is known to be another
 * sender's; what is open and is settled by it is closed.
 */
bool issuer_observe(struct issuer *issuer, struct topic_slice device, struct json_object *command,
                    const struct ruleset_now *now);

void issuer_connected(struct issuer *issuer, const struct ruleset_now *now);
/* What post_sync() gave that ticket is on disk, and all before; issuer_run() is wanted then. */
void issuer_recorded(struct issuer *issuer, uint64_t ticket);

/* Does what is due. issuer_next_mono_usec() may become earlier with every other call here. */
void issuer_run(struct issuer *issuer, const struct ruleset_now *now);
uint64_t issuer_next_mono_usec(const struct issuer *issuer);

void issuer_count(const struct issuer *issuer, struct issuer_counts *ret_counts);
