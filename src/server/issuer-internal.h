// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the files of the issuer share. Nobody else includes this. */
#pragma once

#include "server/issuer.h"
#include "util/heap.h"
#include "util/ratelimit.h"

enum {
    ISSUER_BUCKETS = 1 << 16, // a pointer each; what is not touched costs no memory
    ISSUER_ROLL_BUCKETS = 1 << 10,
    ISSUER_PART_DEVICES = 64,
};

/* What is said; shared by the devices of a group. */
struct body {
    unsigned n_refs;
    uint64_t number; // in order of issuing; part of the id
    uint64_t seq;    // 0: none
    uint64_t expires_wall_usec, lease_usec;
    bool is_ordered;
    int qos;
    char *group, *rule; // group NULL: none
    char *payload;
    struct command *command;
    char id[ISSUER_ID_SIZE];
    struct roll *roll; // of a group's; NULL: a device's own, or the roll has been struck off
};

/* Of a group's command, as it is written down beside what it says. */
struct roll_head {
    bool is_sent;             // the group has been told
    size_t n_members, n_done; // devices that are to reply, and that have done it
};

struct peer;

/* A command that waits for its device's reply. */
struct open {
    struct heap_entry due;
    struct open *next;          // of its peer
    struct open *newer, *older; // of all
    struct peer *peer;
    struct body *body;
    uint64_t ticket;        // it is on disk with this one
    uint64_t try_mono_usec; // not sent before
    unsigned n_tries;
    bool was_sent; // at any time, or may have been before a restart
    // It may have been carried out in an earlier connection, since which the device may have
    // decided for itself: sent again, it would move nothing.
    bool is_dated;
    bool is_urgent;            // its device has just come back: sent at once
    bool is_repeat;            // it is in `repeats`, not in `due`
    bool is_groups;            // one of its body's roll, which is on disk as a whole
    struct open *next_in_part; // of the roll
    size_t part;
};

/* Some of a roll's devices: a record with the ids of those that have not replied. */
struct part {
    struct open *first;
    size_t n_enrolled; // ever
    bool is_dirty, is_on_disk;
};

/* A command to a group: who has not replied. What changes is written down in portions. */
struct roll {
    struct heap_entry due;
    struct roll *next; // in the bucket of its group
    struct body *body;
    uint64_t ticket;          // it is on disk with this one
    uint64_t try_mono_usec;   // the group is not told before
    uint64_t flush_mono_usec; // when replies are written down; USEC_INFINITY: there are none
    bool is_recorded, is_sent;
    bool is_inherited; // the rule that said so has begun anew, and has not repeated it yet
    bool is_fresh;     // the group was told since the rule has begun
    bool is_dissolving;
    size_t n_members, n_closed, n_done;
    size_t n_parts;
    struct part *parts;
};

/* Part of a roll that an earlier run has written down. */
struct stray {
    struct stray *next;
    char *key, *value;
};

/* A device that has announced itself, or has open commands. */
struct peer {
    struct peer *next; // in the bucket
    struct open *first;
    size_t n_open;
    bool is_announced, is_offline;
    char id[];
};

struct issuer {
    const struct issuer_handlers *handlers;
    void *userdata;
    uint64_t seed, last_number, last_seq;
    uint64_t random;     // of random_jitter()
    struct peer **peers; // by hash
    size_t n_announced;
    struct open *oldest, *newest;
    struct open *unrecorded; // the first, in their order, that is not on disk yet
    struct heap due, rolls_due;
    struct heap repeats;     // those that are due to be sent again, which is paced
    uint64_t pace_mono_usec; // when their allowance is used up
    uint64_t full_mono_usec; // nothing is sent before
    size_t n_open, n_bytes, n_followed;
    struct roll *rolls[ISSUER_ROLL_BUCKETS]; // by hash of the group
    size_t n_rolls, n_unrecorded;            // and those of them that are not on disk yet
    struct stray *strays;                    // until issuer_recalled()
    size_t n_offline;                        // peers
    uint64_t recorded_ticket;
    bool has_recorded; // it has grown, which is to be taken in
    bool is_connected;
    uint64_t ended[ISSUER_ENDS], n_refused;
    struct ratelimit troubles, refusals;
};

/* --- issuer.c -------------------------------------------------------------------------------- */

/* Closes a command; its peer, and its roll, may be freed with it. */
void issuer_close(struct issuer *issuer, struct open *open, enum issuer_end end, const char *reason,
                  const struct ruleset_now *now);

/* The next body; 0 or -ENOMEM. */
int issuer_make_body(struct issuer *issuer, const struct issuer_order *order,
                     const struct ruleset_now *now, struct body **ret_body);
/* An open command of peer with a reference to body, not linked yet; NULL without memory. */
struct open *issuer_new_open(struct peer *peer, struct body *body, bool is_groups);
/* Puts open behind all others, of its peer and of all; and takes it out. */
void issuer_link(struct issuer *issuer, struct open *open);
void issuer_unlink(struct issuer *issuer, struct open *open);
/* Counts and logs an order at a bound. Returns error. */
int issuer_refuse(struct issuer *issuer, const struct issuer_order *order, int error,
                  const struct ruleset_now *now);
/* Whether order says once more what body does. */
bool issuer_repeats(const struct body *body, const struct issuer_order *order);
/*
 * Closes the `latest` commands of peer with a number below before whose place by takes, and issues
 * anew what they set beside it. peer may be freed with its last one.
 */
void issuer_supersede(struct issuer *issuer, struct peer *peer, const struct command *by,
                      uint64_t before, const struct ruleset_now *now);
/* What issues rest, a part of old's command, as old was. device NULL: to the group. */
struct issuer_order issuer_order_rest(const char *device, const struct body *old,
                                      const struct command *rest, const struct ruleset_now *now);

/* --- issuer-roll.c --------------------------------------------------------------------------- */

/* A roll of nobody, of a group's body. 0 or -ENOMEM. */
int roll_new(struct issuer *issuer, struct body *body, struct roll **ret_roll);
/* Its i-th part, made if need be; NULL without memory. */
struct part *roll_part(struct roll *roll, size_t i);
/* Lets peer reply, in the i-th part. false: at a bound, without memory, or it is one already. */
bool roll_enroll(struct issuer *issuer, struct roll *roll, struct peer *peer, size_t i);
/* Likewise, in the next part with room. Who does not find any is told with the group, once. */
void roll_enroll_next(struct issuer *issuer, struct roll *roll, struct peer *peer);
/* Where the rolls of a group begin, among those of others. */
struct roll **roll_bucket(struct issuer *issuer, const char *group);
/* Writes it all down; it waits until that is on disk. 0 or -ENOMEM. */
int roll_record(struct issuer *issuer, struct roll *roll);
/* Nobody is to reply any more: tells how it ended, and removes it. */
void roll_end(struct issuer *issuer, struct roll *roll);
/* Ends it for all who have not replied. Returns for how many, at least 1. */
size_t roll_dissolve(struct issuer *issuer, struct roll *roll, enum issuer_end end,
                     const char *reason, const struct ruleset_now *now);
/* open, of a roll, comes to its end; the last one takes the roll along. */
void roll_strike(struct issuer *issuer, struct open *open, enum issuer_end end,
                 const struct ruleset_now *now);
/* Whether a device of the roll may be sent the command on its own. */
bool roll_is_out(const struct roll *roll);
/* Sees to it that it is looked at when there is something to do for it. */
void roll_arm(struct issuer *issuer, struct roll *roll, const struct ruleset_now *now);
void roll_connected(struct issuer *issuer, const struct ruleset_now *now);
void roll_recorded(struct issuer *issuer, const struct ruleset_now *now);
void roll_run(struct issuer *issuer, const struct ruleset_now *now);
void roll_free_all(struct issuer *issuer);

/* --- issuer-group.c -------------------------------------------------------------------------- */

/* As issuer_supersede(), of what a group is told. */
void roll_supersede(struct issuer *issuer, const char *group, const struct command *by,
                    uint64_t before, const struct ruleset_now *now);

/* The rules are others: what it says they may say again. */
void roll_begin_anew(struct roll *roll);

/* --- issuer-recall.c ------------------------------------------------------------------------- */

/* Writes down what a roll says and how far it is; its i-th part. 0 or -ENOMEM. */
int roll_save_head(const struct issuer *issuer, const struct roll *roll);
int roll_save_part(const struct issuer *issuer, struct roll *roll, size_t i);

/* --- issuer-peers.c -------------------------------------------------------------------------- */

/* The device with that id, or NULL; with make, a new one if need be, NULL without memory. */
struct peer *issuer_peer(const struct issuer *issuer, struct topic_slice id);
struct peer *issuer_make_peer(struct issuer *issuer, const char *id);
/* Frees peer if nothing is known of it any more. */
void issuer_release_peer(struct issuer *issuer, struct peer *peer);
void issuer_free_peers(struct issuer *issuer);

/* --- issuer-send.c --------------------------------------------------------------------------- */

/* When body expires, by the other clock; USEC_INFINITY: never. */
uint64_t issuer_expires_mono_usec(const struct body *body, const struct ruleset_now *now);
/* Sees to it that open is looked at when there is something to do for it. */
void issuer_arm(struct issuer *issuer, struct open *open, const struct ruleset_now *now);
/* open is not looked at any more. */
void issuer_disarm(struct issuer *issuer, struct open *open);
void issuer_arm_all(struct issuer *issuer, struct peer *peer, const struct ruleset_now *now);
/* Lets all that waits for a reply of peer be sent again. */
void issuer_urge(struct issuer *issuer, struct peer *peer, const struct ruleset_now *now);
/* When a command that was sent n_tries times is sent again. */
uint64_t issuer_next_try(struct issuer *issuer, unsigned n_tries, uint64_t now_mono_usec);

/* --- issuer-body.c --------------------------------------------------------------------------- */

/* A body of number; 0 or -ENOMEM. */
int body_new(const struct issuer_order *order, uint64_t seed, uint64_t number, uint64_t seq,
             uint64_t now_wall_usec, struct body **ret_body);
void body_unref(struct body *body);
DEFINE_CLEANUP(struct body *, body_unref)

/* Whether some key, or all keys, of a are in b. */
bool body_overlaps(const struct body *a, const struct command *b);
/* A new command of a's items that b does not set; -ENOENT: there is none. */
int body_remainder(const struct body *a, const struct command *b, struct command **ret_command);

/*
 * The record of a command, a new string, or NULL: of a device's own, or with device NULL of a
 * group's, with head; and back. -EBADMSG, -ENOMEM.
 */
char *body_format(const struct body *body, const char *device, const struct roll_head *head);
int body_parse(const char *key, const char *value, struct body **ret_body, char **ret_device,
               struct roll_head *ret_head);
