// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the files of the issuer share. Nobody else includes this. */
#pragma once

#include "server/issuer.h"
#include "util/heap.h"
#include "util/ratelimit.h"

enum { ISSUER_BUCKETS = 1 << 16 }; // a pointer each; what is not touched costs no memory

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
    // Of a group's: how many were told, of how many it is known what became of it, how many did it.
    size_t n_members, n_closed, n_done;
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
    bool is_groups; // followed, not on disk
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
    uint64_t random;     // a linear congruential generator: jitter needs no more
    struct peer **peers; // by hash
    size_t n_announced;
    struct open *oldest, *newest;
    struct open *unrecorded; // the first, in their order, that is not on disk yet
    struct heap due;
    size_t n_open, n_bytes, n_followed;
    size_t n_offline; // peers
    uint64_t recorded_ticket;
    bool is_connected;
    uint64_t ended[ISSUER_ENDS], n_refused;
    struct ratelimit troubles, refusals;
};

/* --- issuer.c -------------------------------------------------------------------------------- */

/* Closes a command; its peer may be freed with it. */
void issuer_close(struct issuer *issuer, struct open *open, enum issuer_end end, const char *reason,
                  const struct ruleset_now *now);

/* --- issuer-peers.c -------------------------------------------------------------------------- */

/* The device with that id, or NULL; with make, a new one if need be, NULL without memory. */
struct peer *issuer_peer(const struct issuer *issuer, struct topic_slice id);
struct peer *issuer_make_peer(struct issuer *issuer, const char *id);
/* Frees peer if nothing is known of it any more. */
void issuer_release_peer(struct issuer *issuer, struct peer *peer);
void issuer_free_peers(struct issuer *issuer);

/* --- issuer-send.c --------------------------------------------------------------------------- */

/* Sees to it that open is looked at when there is something to do for it. */
void issuer_arm(struct issuer *issuer, struct open *open, const struct ruleset_now *now);
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

/* The record of a device's own command, a new string, or NULL; and back. -EBADMSG, -ENOMEM. */
char *body_format(const struct body *body, const char *device);
int body_parse(const char *key, const char *value, struct body **ret_body, char **ret_device);
