// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The devices that the server's commands go to: those that have announced themselves or have open
 * commands, found by their ids.
 *
 *     peers_init(); peers_find() or peers_make(); peers_release() whenever less is known of one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/topic.h"

struct open;

struct peer {
    struct peer *next;  // in the bucket
    struct open *first; // its commands, which the pending ones link (pending.h)
    size_t n_open;
    bool is_announced, is_offline;
    char id[];
};

struct peers {
    struct peer **buckets; // by hash
    size_t n_announced, n_offline;
};

/* 0 or -ENOMEM. */
int peers_init(struct peers *peers);
void peers_done(struct peers *peers);

/* The device with that id, or NULL. */
struct peer *peers_find(const struct peers *peers, struct topic_slice id);
struct peer *peers_find_id(const struct peers *peers, const char *id);
/* A new one if need be; NULL without memory. */
struct peer *peers_make(struct peers *peers, const char *id);
/* Frees peer if nothing is known of it any more. */
void peers_release(struct peers *peers, struct peer *peer);

void peers_announce(struct peers *peers, struct peer *peer, bool is_announced);
void peers_set_offline(struct peers *peers, struct peer *peer, bool is_offline);
