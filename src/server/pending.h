// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The commands that wait for their devices' replies: in the order in which they were issued, of
 * each device and of all, and when each is sent, and sent again.
 *
 *     pending_open() a device's own, pending_add() and pending_link() one of a group's;
 *     pending_due() shows one after the other, for pending_send() or pending_end();
 *     pending_arm() whenever something has changed for one.
 *
 * What is written down waits for its ticket. No clock of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "server/letter.h"
#include "server/peers.h"
#include "server/post.h"
#include "server/ruleset.h"
#include "util/heap.h"
#include "util/ratelimit.h"

enum {
    PENDING_MAX = 20000,           // commands to devices, and as many to groups
    PENDING_MAX_BYTES = 16 << 20,  // of those, as they are sent
    PENDING_MAX_DEVICE = 100,      // of one device
    PENDING_MAX_FOLLOWED = 100000, // devices that are to reply to their group's commands
    PENDING_MAX_TRIES = 30,        // of a `latest` one that a device does not reply to
};

struct roll;

/* A command that waits for its device's reply. */
struct open {
    struct heap_entry due;
    struct open *next;     // of its peer
    TAILQ_ENTRY(open) all; // in the order of their issue
    struct peer *peer;
    struct letter *letter;
    struct roll *roll;      // its group's command, which is on disk as a whole; NULL: its own
    uint64_t ticket;        // it is on disk with this one, if it is its own
    uint64_t try_mono_usec; // not sent before
    unsigned n_tries;
    bool was_sent; // at any time, or may have been before a restart
    // It may have been carried out in an earlier connection, since which the device may have
    // decided for itself: sent again, it would move nothing.
    bool is_dated;
    bool is_urgent; // its device has just come back: sent at once
    bool is_repeat; // it is in `repeats`, not in `due`
    // The roll's:
    struct open *next_in_part;
    size_t part;
};

struct pending {
    struct post *post; // borrowed
    struct peers peers;
    uint64_t seed, last_number, last_seq; // of letters
    uint64_t random;                      // of random_jitter()
    TAILQ_HEAD(, open) opens;
    struct open *unrecorded; // the first, in their order, that is not on disk yet
    struct heap due;
    struct heap repeats;     // those that are due to be sent again, which is paced
    uint64_t pace_mono_usec; // when their allowance is used up
    uint64_t full_mono_usec; // nothing is sent before
    size_t n_own, n_followed;
    size_t n_bytes; // of payloads; those of groups are counted by their rolls
    uint64_t recorded_ticket;
    bool has_recorded; // it has grown, which is to be taken in
    bool is_connected;
    uint64_t ended[LETTER_ENDS], n_refused;
    struct ratelimit troubles, refusals;
};

/* seed: any number that no server had before; ids are made of it. 0 or -ENOMEM. */
int pending_init(struct pending *pending, uint64_t seed, struct post *post);
void pending_done(struct pending *pending);

/* As post_send(); without a connection nothing is sent until pending_connected(). */
int pending_publish(struct pending *pending, const struct letter *letter, const char *device);

/* The next letter; 0 or -ENOMEM. */
int pending_make_letter(struct pending *pending, const struct letter_order *order,
                        const struct ruleset_now *now, struct letter **ret_letter);
/* Counts and logs an order at a bound. Returns error. */
int pending_refuse(struct pending *pending, const struct letter_order *order, int error,
                   const struct ruleset_now *now);

/* Writes down what order says to peer, and opens it. 0 or -ENOMEM. */
int pending_open(struct pending *pending, struct peer *peer, const struct letter_order *order,
                 const struct ruleset_now *now);
/* A command with a reference to letter, not linked yet; NULL without memory. */
struct open *pending_add(struct peer *peer, struct letter *letter, struct roll *roll);
/* Puts open behind all others, of its peer and of all. */
void pending_link(struct pending *pending, struct open *open);
/* Puts all in the order of their numbers, and arms them. */
void pending_sort(struct pending *pending, const struct ruleset_now *now);

/* Tells how open has ended, and frees it; its peer may be freed with it. */
void pending_end(struct pending *pending, struct open *open, enum letter_end end,
                 const char *reason, const struct ruleset_now *now);

/* Sees to it that open, or each of peer, is looked at when there is something to do for it. */
void pending_arm(struct pending *pending, struct open *open, const struct ruleset_now *now);
void pending_arm_all(struct pending *pending, struct peer *peer, const struct ruleset_now *now);
/* Lets all that waits for a reply of peer be sent again. */
void pending_urge(struct pending *pending, struct peer *peer, const struct ruleset_now *now);
/* When a command that was sent n_tries times is sent again. */
uint64_t pending_next_try(struct pending *pending, unsigned n_tries, uint64_t now_mono_usec);

void pending_connected(struct pending *pending, const struct ruleset_now *now);
/* That ticket is on disk, and all before: pending_take_recorded() is wanted. */
void pending_recorded(struct pending *pending, uint64_t ticket);
void pending_take_recorded(struct pending *pending, const struct ruleset_now *now);

/* The next one that is due, also one that has expired; NULL: none, or not yet. */
struct open *pending_due(struct pending *pending, const struct ruleset_now *now);
/* Whether open may be sent now. */
bool pending_is_sendable(const struct pending *pending, const struct open *open,
                         const struct ruleset_now *now);
/* Sends it. Returns whether others are to be tried as well. */
bool pending_send(struct pending *pending, struct open *open, const struct ruleset_now *now);
uint64_t pending_next_mono_usec(const struct pending *pending);
