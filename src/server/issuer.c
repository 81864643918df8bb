// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's journal of commands; see issuer.h. Owns the open ones and logs what becomes of them.
#include "server/issuer.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "server/issuer-internal.h"
#include "util/clock.h"
#include "util/log.h"

const char *const issuer_end_names[ISSUER_ENDS] = {
    [ISSUER_DONE] = "done",
    [ISSUER_REJECTED] = "rejected",
    [ISSUER_FAILED] = "failed",
    [ISSUER_EXPIRED] = "expired",
    [ISSUER_SUPERSEDED] = "superseded",
    [ISSUER_UNANSWERED] = "unanswered",
};

static const struct ratelimit trouble_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

/* --- closing --------------------------------------------------------------------------------- */

/* What went as it should is told at debug only: the device, or the group as a whole, tells it. */
static void tell_end(struct issuer *issuer, const struct open *open, enum issuer_end end,
                     const char *reason, const struct ruleset_now *now)
{
    unsigned n_suppressed = 0;
    bool is_trouble = end != ISSUER_DONE && end != ISSUER_SUPERSEDED;
    if (is_trouble && !ratelimit_pass(&issuer->troubles, now->mono_usec, &n_suppressed))
        return;
    log_at(is_trouble ? LOG_WARNING : LOG_DEBUG,
           LOG_FIELDS(LOG_ID(is_trouble ? LOG_ID_COMMAND_LOST : NULL), { "DEVICE", open->peer->id },
                      { "RULE", open->body->rule }, { "COMMAND", open->body->id }),
           "rule %s: command %s to %s: %s%s%s%s", open->body->rule, open->body->command->json,
           open->peer->id, issuer_end_names[end], reason[0] ? ": " : "", reason,
           n_suppressed ? " (and others before it)" : "");
}

static void tell_group(const struct body *body)
{
    log_info(LOG_FIELDS({ "GROUP", body->group }, { "RULE", body->rule }, { "COMMAND", body->id }),
             "rule %s: command %s to group %s: %zu of %zu devices have done it", body->rule,
             body->command->json, body->group, body->n_done, body->n_members);
}

static void unlink_open(struct issuer *issuer, struct open *open)
{
    struct open **place = &open->peer->first;
    while (*place != open)
        place = &(*place)->next;
    *place = open->next;
    *(open->older ? &open->older->newer : &issuer->oldest) = open->newer;
    *(open->newer ? &open->newer->older : &issuer->newest) = open->older;
    if (issuer->unrecorded == open)
        issuer->unrecorded = open->newer;
    open->peer->n_open--;
    if (open->is_groups) {
        issuer->n_followed--;
    } else {
        issuer->n_open--;
        issuer->n_bytes -= strlen(open->body->payload);
    }
}

static void free_open(struct issuer *issuer, struct open *open)
{
    heap_remove(&issuer->due, &open->due);
    if (open->is_groups && ++open->body->n_closed == open->body->n_members)
        tell_group(open->body);
    body_unref(open->body);
    free(open);
}

void issuer_close(struct issuer *issuer, struct open *open, enum issuer_end end, const char *reason,
                  const struct ruleset_now *now)
{
    struct peer *peer = open->peer;
    issuer->ended[end]++;
    open->body->n_done += end == ISSUER_DONE;
    tell_end(issuer, open, end, reason, now);
    if (!open->is_groups) // without memory it is sent once more after a restart
        (void)issuer->handlers->save(issuer->userdata, open->body->id, NULL);
    unlink_open(issuer, open);
    free_open(issuer, open);
    issuer_arm_all(issuer, peer, now); // one of them may have waited for this
    issuer_release_peer(issuer, peer);
}

/* --- opening --------------------------------------------------------------------------------- */

/* Takes a reference to body. */
static struct open *new_open(struct peer *peer, struct body *body, bool is_groups)
{
    struct open *open = calloc(1, sizeof(*open));
    if (!open)
        return NULL;
    open->peer = peer;
    open->body = body;
    open->is_groups = is_groups;
    body->n_refs++;
    return open;
}

static void link_open(struct issuer *issuer, struct open *open)
{
    struct open **place = &open->peer->first;
    while (*place)
        place = &(*place)->next;
    *place = open;
    open->older = issuer->newest;
    *(issuer->newest ? &issuer->newest->newer : &issuer->oldest) = open;
    issuer->newest = open;
    if (!issuer->unrecorded && open->ticket > issuer->recorded_ticket)
        issuer->unrecorded = open;
    open->peer->n_open++;
    if (open->is_groups) {
        issuer->n_followed++;
    } else {
        issuer->n_open++;
        issuer->n_bytes += strlen(open->body->payload);
    }
}

/* Writes it down; it waits until that is on disk. */
static int record(struct issuer *issuer, struct open *open)
{
    _cleanup_(freep) char *value = body_format(open->body, open->peer->id);
    int r = value ? issuer->handlers->save(issuer->userdata, open->body->id, value) : -ENOMEM;
    if (r == 0)
        open->ticket = issuer->handlers->sync(issuer->userdata);
    return r;
}

static int make_body(struct issuer *issuer, const struct issuer_order *order,
                     const struct ruleset_now *now, struct body **ret_body)
{
    uint64_t seq = 0;
    if (order->has_seq && !order->is_ordered) { // of one order with what other senders number
        seq = now->wall_usec / USEC_PER_MSEC;
        if (seq < issuer->last_seq)
            seq = issuer->last_seq;
    }
    int r = body_new(order, issuer->seed, issuer->last_number + 1, seq, now->wall_usec, ret_body);
    if (r < 0)
        return r;
    issuer->last_number++;
    if (seq > 0)
        issuer->last_seq = seq;
    return 0;
}

static bool is_full(const struct issuer *issuer, const struct peer *peer)
{
    return issuer->n_open >= ISSUER_MAX_OPEN || issuer->n_bytes >= ISSUER_MAX_BYTES ||
           peer->n_open >= ISSUER_MAX_OPEN_DEVICE;
}

static int refuse(struct issuer *issuer, const struct issuer_order *order,
                  const struct ruleset_now *now)
{
    unsigned n_suppressed;
    issuer->n_refused++;
    if (ratelimit_pass(&issuer->refusals, now->mono_usec, &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMANDS_FULL), { "DEVICE", order->device },
                               { "RULE", order->rule }),
                    "rule %s: command %s to %s is not issued: too many wait for their reply; it "
                    "is tried again with the next reading%s",
                    order->rule, order->command->json, order->device,
                    n_suppressed ? " (and others before it)" : "");
    return -ENOBUFS;
}

static int open_new(struct issuer *issuer, struct peer *peer, const struct issuer_order *order,
                    const struct ruleset_now *now)
{
    _cleanup_(body_unrefp) struct body *body = NULL;
    int r = make_body(issuer, order, now, &body);
    if (r < 0)
        return r;
    struct open *open = new_open(peer, body, false);
    if (!open)
        return -ENOMEM;
    r = record(issuer, open);
    if (r < 0) {
        free_open(issuer, open);
        return r;
    }
    open->try_mono_usec = now->mono_usec;
    link_open(issuer, open);
    issuer_arm(issuer, open, now);
    return 0;
}

/* --- what is newer --------------------------------------------------------------------------- */

/* What an older command sets beside the newer one is still to be set. */
static void reissue(struct issuer *issuer, struct peer *peer, const struct body *old,
                    const struct command *newer, const struct ruleset_now *now)
{
    _cleanup_(command_freep) struct command *rest = NULL;
    if (body_remainder(old, newer, &rest) < 0)
        return;
    const struct issuer_order order = {
        .device = peer->id,
        .group = old->group,
        .rule = old->rule,
        .command = rest,
        .qos = old->qos,
        .expires_usec = old->expires_wall_usec == USEC_INFINITY ? USEC_INFINITY
                        : old->expires_wall_usec > now->wall_usec
                            ? old->expires_wall_usec - now->wall_usec
                            : 0,
        .lease_usec = old->lease_usec,
        .has_seq = old->seq > 0,
    };
    (void)open_new(issuer, peer, &order, now); // without memory the rule says it again in time
}

/*
 * Closes the `latest` commands of peer up to last that are older than what has just come. The peer
 * has another open one, so that it stays.
 */
static void supersede(struct issuer *issuer, struct peer *peer, const struct body *by,
                      const struct ruleset_now *now)
{
    struct open *next;
    for (struct open *open = peer->first; open; open = next) {
        next = open->next;
        if (open->body == by || open->body->number > by->number || open->body->is_ordered ||
            !body_overlaps(open->body, by->command))
            continue;
        open->body->n_refs++;
        _cleanup_(body_unrefp) struct body *old = open->body;
        issuer_close(issuer, open, ISSUER_SUPERSEDED, "by a newer one", now);
        reissue(issuer, peer, old, by->command, now);
    }
}

/* Whether that is what peer was told last, and has not replied to. */
static bool is_still_open(const struct peer *peer, const struct issuer_order *order)
{
    for (const struct open *open = peer->first; open && !order->is_ordered; open = open->next) {
        if (!open->body->is_ordered && strcmp(open->body->rule, order->rule) == 0 &&
            strcmp(open->body->command->json, order->command->json) == 0)
            return true;
    }
    return false;
}

int issuer_issue(struct issuer *issuer, const struct issuer_order *order,
                 const struct ruleset_now *now)
{
    struct peer *peer = issuer_make_peer(issuer, order->device);
    if (!peer)
        return -ENOMEM;
    if (is_still_open(peer, order))
        return 1;
    int r = is_full(issuer, peer) ? refuse(issuer, order, now) : open_new(issuer, peer, order, now);
    if (r < 0) {
        issuer_release_peer(issuer, peer);
        return r;
    }
    if (!order->is_ordered)
        supersede(issuer, peer, issuer->newest->body, now);
    return 0;
}

/* --- groups ---------------------------------------------------------------------------------- */

static void follow(struct issuer *issuer, struct peer *peer, struct body *body,
                   const struct ruleset_now *now)
{
    struct open *open = NULL;
    if (issuer->n_followed < ISSUER_MAX_FOLLOWED && peer->n_open < ISSUER_MAX_OPEN_DEVICE)
        open = new_open(peer, body, true);
    if (!open)
        return;
    open->n_tries = 1;
    open->try_mono_usec = issuer_next_try(issuer, 1, now->mono_usec);
    link_open(issuer, open);
    issuer_arm(issuer, open, now);
    body->n_members++;
    supersede(issuer, peer, body, now);
}

int issuer_issue_group(struct issuer *issuer, const struct issuer_order *order,
                       const char *const *devices, size_t n_devices, const struct ruleset_now *now)
{
    _cleanup_(body_unrefp) struct body *body = NULL;
    int r = make_body(issuer, order, now, &body);
    if (r < 0)
        return r;
    const struct issuer_letter letter = {
        .group = order->group,
        .id = body->id,
        .rule = order->rule,
        .payload = body->payload,
        .qos = order->qos,
    };
    r = issuer->handlers->send(issuer->userdata, &letter);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n_devices; i++) {
        struct peer *peer =
            issuer_peer(issuer, (struct topic_slice){ devices[i], strlen(devices[i]) });
        if (peer && peer->is_announced)
            follow(issuer, peer, body, now);
    }
    return 0;
}

/* --- an earlier run -------------------------------------------------------------------------- */

void issuer_recall(struct issuer *issuer, const char *key, const char *value,
                   const struct ruleset_now *now)
{
    _cleanup_(body_unrefp) struct body *body = NULL;
    _cleanup_(freep) char *device = NULL;
    if (body_parse(key, value, &body, &device) < 0) {
        if (ratelimit_pass(&issuer->troubles, now->mono_usec, NULL))
            log_warning(LOG_FIELDS({ "COMMAND", key }),
                        "the record of command %s makes no sense and is removed", key);
        (void)issuer->handlers->save(issuer->userdata, key, NULL);
        return;
    }
    struct peer *peer = issuer_make_peer(issuer, device);
    struct open *open = peer ? new_open(peer, body, false) : NULL;
    if (!open) // it stays on disk for another run
        return;
    open->try_mono_usec = now->mono_usec;
    if (body->number > issuer->last_number)
        issuer->last_number = body->number;
    if (body->seq > issuer->last_seq)
        issuer->last_seq = body->seq;
    link_open(issuer, open);
}

static int compare(const void *a, const void *b)
{
    const struct open *x = *(struct open *const *)a, *y = *(struct open *const *)b;
    return x->body->number < y->body->number ? -1 : x->body->number > y->body->number;
}

/* In the order in which they were issued, of each device and of all. */
void issuer_recalled(struct issuer *issuer, const struct ruleset_now *now)
{
    size_t n = 0;
    _cleanup_(freep) struct open **opens = calloc(issuer->n_open + 1, sizeof(struct open *));
    for (struct open *open = issuer->oldest; opens && open; open = open->newer)
        opens[n++] = open;
    for (size_t i = 0; i < n; i++)
        unlink_open(issuer, opens[i]);
    for (size_t i = 0; i < n; i++)
        opens[i]->next = opens[i]->newer = opens[i]->older = NULL;
    if (n > 0)
        qsort(opens, n, sizeof(struct open *), compare);
    for (size_t i = 0; i < n; i++)
        link_open(issuer, opens[i]);
    for (size_t i = 0; i < n; i++)
        issuer_arm(issuer, opens[i], now);
}

/* --- life ------------------------------------------------------------------------------------ */

void issuer_count(const struct issuer *issuer, struct issuer_counts *ret_counts)
{
    struct issuer_counts counts = {
        .refused = issuer->n_refused,
        .n_open = issuer->n_open,
        .n_outstanding = issuer->n_followed,
    };
    memcpy(counts.ended, issuer->ended, sizeof(counts.ended));
    *ret_counts = counts;
}

int issuer_new(uint64_t seed, const struct issuer_handlers *handlers, void *userdata,
               struct issuer **ret_issuer)
{
    _cleanup_(issuer_freep) struct issuer *issuer = calloc(1, sizeof(*issuer));
    if (!issuer)
        return -ENOMEM;
    issuer->handlers = handlers;
    issuer->userdata = userdata;
    issuer->seed = issuer->random = seed;
    issuer->troubles = issuer->refusals = trouble_limit;
    issuer->peers = calloc(ISSUER_BUCKETS, sizeof(struct peer *));
    if (!issuer->peers)
        return -ENOMEM;
    *ret_issuer = TAKE_PTR(issuer);
    return 0;
}

void issuer_free(struct issuer *issuer)
{
    if (!issuer)
        return;
    while (issuer->oldest) {
        struct open *open = issuer->oldest;
        issuer->oldest = open->newer;
        heap_remove(&issuer->due, &open->due);
        body_unref(open->body);
        free(open);
    }
    heap_done(&issuer->due);
    issuer_free_peers(issuer);
    free(issuer);
}
