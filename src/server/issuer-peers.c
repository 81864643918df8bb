// SPDX-License-Identifier: LGPL-2.1-or-later
// The devices that the issuer knows, and what they say of themselves.
#include <string.h>

#include "server/issuer-internal.h"

static struct peer **bucket_of(const struct issuer *issuer, struct topic_slice id)
{
    return &issuer->peers[fleet_hash(id) % ISSUER_BUCKETS];
}

static struct topic_slice slice_of(const char *id)
{
    return (struct topic_slice){ id, strlen(id) };
}

struct peer *issuer_peer(const struct issuer *issuer, struct topic_slice id)
{
    struct peer *peer = *bucket_of(issuer, id);
    while (peer && (strncmp(peer->id, id.bytes, id.length) != 0 || peer->id[id.length] != '\0'))
        peer = peer->next;
    return peer;
}

struct peer *issuer_make_peer(struct issuer *issuer, const char *id)
{
    struct peer **bucket = bucket_of(issuer, slice_of(id));
    struct peer *peer = issuer_peer(issuer, slice_of(id));
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

void issuer_release_peer(struct issuer *issuer, struct peer *peer)
{
    struct peer **place = bucket_of(issuer, slice_of(peer->id));
    if (peer->is_announced || peer->first)
        return;
    while (*place != peer)
        place = &(*place)->next;
    *place = peer->next;
    issuer->n_offline -= peer->is_offline;
    free(peer);
}

void issuer_free_peers(struct issuer *issuer)
{
    for (size_t i = 0; issuer->peers && i < ISSUER_BUCKETS; i++) {
        while (issuer->peers[i]) {
            struct peer *peer = issuer->peers[i];
            issuer->peers[i] = peer->next;
            free(peer);
        }
    }
    free(issuer->peers);
}

/* --- what they say --------------------------------------------------------------------------- */

static void set_offline(struct issuer *issuer, struct peer *peer, bool is_offline)
{
    if (peer->is_offline == is_offline)
        return;
    peer->is_offline = is_offline;
    if (is_offline)
        issuer->n_offline++;
    else
        issuer->n_offline--;
}

void issuer_announce(struct issuer *issuer, struct topic_slice id, bool is_online, bool is_news,
                     const struct ruleset_now *now)
{
    char text[65];
    snprintf(text, sizeof(text), "%.*s", (int)id.length, id.bytes);
    struct peer *peer = issuer_peer(issuer, id);
    if (!peer && issuer->n_announced < ISSUER_MAX_DEVICES)
        peer = issuer_make_peer(issuer, text);
    if (!peer)
        return; // it is served as one that has not
    bool is_back = is_online && (peer->is_offline || (!peer->is_announced && is_news));
    issuer->n_announced += !peer->is_announced;
    peer->is_announced = true;
    set_offline(issuer, peer, !is_online);
    if (is_back)
        issuer_urge(issuer, peer, now);
    else
        issuer_arm_all(issuer, peer, now);
}

void issuer_withdraw(struct issuer *issuer, struct topic_slice id)
{
    struct peer *peer = issuer_peer(issuer, id);
    if (!peer || !peer->is_announced)
        return;
    issuer->n_announced--;
    peer->is_announced = false;
    issuer_release_peer(issuer, peer);
}

bool issuer_knows(const struct issuer *issuer, const char *id)
{
    const struct peer *peer = issuer_peer(issuer, slice_of(id));
    return peer && peer->is_announced;
}

void issuer_heard(struct issuer *issuer, struct topic_slice id, const struct ruleset_now *now)
{
    if (issuer->n_offline == 0) // all messages come along here
        return;
    struct peer *peer = issuer_peer(issuer, id);
    if (!peer || !peer->is_offline)
        return;
    set_offline(issuer, peer, false);
    issuer_urge(issuer, peer, now);
}

bool issuer_reply(struct issuer *issuer, struct topic_slice id, const struct answer *answer,
                  const struct ruleset_now *now)
{
    struct peer *peer = issuer_peer(issuer, id);
    struct open *open = peer ? peer->first : NULL;
    while (open && strcmp(open->body->id, answer->id) != 0)
        open = open->next;
    if (!open)
        return false;
    issuer_close(issuer, open, (enum issuer_end)answer->status, answer->reason, now);
    return true;
}
