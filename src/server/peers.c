// SPDX-License-Identifier: LGPL-2.1-or-later
// The devices by their ids; see peers.h.
#include "server/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/fleet.h"

enum { N_BUCKETS = 1 << 16 }; // a pointer each; what is not touched costs no memory

int peers_init(struct peers *peers)
{
    peers->buckets = calloc(N_BUCKETS, sizeof(struct peer *));
    return peers->buckets ? 0 : -ENOMEM;
}

void peers_done(struct peers *peers)
{
    for (size_t i = 0; peers->buckets && i < N_BUCKETS; i++) {
        while (peers->buckets[i]) {
            struct peer *peer = peers->buckets[i];
            peers->buckets[i] = peer->next;
            free(peer);
        }
    }
    free(peers->buckets);
}

static struct peer **bucket_of(const struct peers *peers, struct topic_slice id)
{
    return &peers->buckets[fleet_hash(id) % N_BUCKETS];
}

static struct topic_slice slice_of(const char *id)
{
    return (struct topic_slice){ id, strlen(id) };
}

struct peer *peers_find(const struct peers *peers, struct topic_slice id)
{
    struct peer *peer = *bucket_of(peers, id);
    while (peer && (strncmp(peer->id, id.bytes, id.length) != 0 || peer->id[id.length] != '\0'))
        peer = peer->next;
    return peer;
}

struct peer *peers_find_id(const struct peers *peers, const char *id)
{
    return peers_find(peers, slice_of(id));
}

struct peer *peers_make(struct peers *peers, const char *id)
{
    struct peer **bucket = bucket_of(peers, slice_of(id));
    struct peer *peer = peers_find_id(peers, id);
    if (peer)
        return peer;
    peer = calloc(1, sizeof(*peer) + strlen(id) + 1);
    if (!peer)
        return NULL;
    memcpy(peer->id, id, strlen(id) + 1);
    peer->next = *bucket;
    *bucket = peer;
    return peer;
}

void peers_release(struct peers *peers, struct peer *peer)
{
    struct peer **place = bucket_of(peers, slice_of(peer->id));
    if (peer->is_announced || peer->first)
        return;
    while (*place != peer)
        place = &(*place)->next;
    *place = peer->next;
    peers->n_offline -= peer->is_offline;
    free(peer);
}

void peers_announce(struct peers *peers, struct peer *peer, bool is_announced)
{
    peers->n_announced -= peer->is_announced;
    peers->n_announced += is_announced;
    peer->is_announced = is_announced;
}

void peers_set_offline(struct peers *peers, struct peer *peer, bool is_offline)
{
    peers->n_offline -= peer->is_offline;
    peers->n_offline += is_offline;
    peer->is_offline = is_offline;
}
