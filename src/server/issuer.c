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

void issuer_unlink(struct issuer *issuer, struct open *open)
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
    issuer_disarm(issuer, open);
    body_unref(open->body);
    free(open);
}

void issuer_close(struct issuer *issuer, struct open *open, enum issuer_end end, const char *reason,
                  const struct ruleset_now *now)
{
    struct peer *peer = open->peer;
    issuer->ended[end]++;
    tell_end(issuer, open, end, reason, now);
    if (open->is_groups)
        roll_strike(issuer, open, end, now);
    else // without memory it is sent once more after a restart
        (void)issuer->handlers->save(issuer->userdata, open->body->id, NULL);
    issuer_unlink(issuer, open);
    free_open(issuer, open);
    issuer_arm_all(issuer, peer, now); // one of them may have waited for this
    issuer_release_peer(issuer, peer);
}

/* --- opening --------------------------------------------------------------------------------- */

struct open *issuer_new_open(struct peer *peer, struct body *body, bool is_groups)
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

void issuer_link(struct issuer *issuer, struct open *open)
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
    _cleanup_(freep) char *value = body_format(open->body, open->peer->id, NULL);
    int r = value ? issuer->handlers->save(issuer->userdata, open->body->id, value) : -ENOMEM;
    if (r == 0)
        open->ticket = issuer->handlers->sync(issuer->userdata);
    return r;
}

int issuer_make_body(struct issuer *issuer, const struct issuer_order *order,
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

size_t issuer_room(const struct issuer *issuer)
{
    return issuer->n_bytes >= ISSUER_MAX_BYTES || issuer->n_open >= ISSUER_MAX_OPEN
               ? 0
               : ISSUER_MAX_OPEN - issuer->n_open;
}

int issuer_refuse(struct issuer *issuer, const struct issuer_order *order, int error,
                  const struct ruleset_now *now)
{
    unsigned n_suppressed;
    issuer->n_refused++;
    if (ratelimit_pass(&issuer->refusals, now->mono_usec, &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMANDS_FULL), { "DEVICE", order->device },
                               { "GROUP", order->group }, { "RULE", order->rule }),
                    "rule %s: command %s to %s%s is not issued yet: too many wait for their reply; "
                    "it is when there is room%s",
                    order->rule, order->command->json, order->device ? "" : "group ",
                    order->device ? order->device : order->group,
                    n_suppressed ? " (and others before it)" : "");
    return error;
}

static int open_new(struct issuer *issuer, struct peer *peer, const struct issuer_order *order,
                    const struct ruleset_now *now)
{
    _cleanup_(body_unrefp) struct body *body = NULL;
    int r = issuer_make_body(issuer, order, now, &body);
    if (r < 0)
        return r;
    struct open *open = issuer_new_open(peer, body, false);
    if (!open)
        return -ENOMEM;
    r = record(issuer, open);
    if (r < 0) {
        free_open(issuer, open);
        return r;
    }
    open->try_mono_usec = now->mono_usec;
    issuer_link(issuer, open);
    issuer_arm(issuer, open, now);
    return 0;
}

/* --- what is newer --------------------------------------------------------------------------- */

struct issuer_order issuer_order_rest(const char *device, const struct body *old,
                                      const struct command *rest, const struct ruleset_now *now)
{
    return (struct issuer_order){
        .device = device,
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
}

/* What an older command sets beside the newer one is still to be set. */
static void reissue(struct issuer *issuer, struct peer *peer, const struct body *old,
                    const struct command *newer, const struct ruleset_now *now)
{
    _cleanup_(command_freep) struct command *rest = NULL;
    if (body_remainder(old, newer, &rest) < 0)
        return;
    const struct issuer_order order = issuer_order_rest(peer->id, old, rest, now);
    (void)open_new(issuer, peer, &order, now); // without memory the rule says it again in time
}

void issuer_supersede(struct issuer *issuer, struct peer *peer, const struct command *by,
                      uint64_t before, const struct ruleset_now *now)
{
    struct open *next;
    for (struct open *open = peer->first; open; open = next) {
        next = open->next;
        if (open->body->number >= before || open->body->is_ordered ||
            !body_overlaps(open->body, by))
            continue;
        reissue(issuer, peer, open->body, by, now);
        issuer_close(issuer, open, ISSUER_SUPERSEDED, "by a newer one", now);
    }
}

bool issuer_is_idle(const struct issuer *issuer)
{
    return !issuer->oldest && issuer->n_rolls == 0;
}

void issuer_overrule(struct issuer *issuer, const struct issuer_order *order,
                     const struct ruleset_now *now)
{
    uint64_t before = issuer->last_number + 1;
    if (!order->device) {
        roll_supersede(issuer, order->group, order->command, before, now);
        return;
    }
    struct peer *peer =
        issuer_peer(issuer, (struct topic_slice){ order->device, strlen(order->device) });
    if (peer)
        issuer_supersede(issuer, peer, order->command, before, now);
}

bool issuer_repeats(const struct body *body, const struct issuer_order *order)
{
    return !body->is_ordered && !order->is_ordered && strcmp(body->rule, order->rule) == 0 &&
           strcmp(body->command->json, order->command->json) == 0;
}

/* Whether that is what peer was told last, and has not replied to. */
static bool is_still_open(const struct peer *peer, const struct issuer_order *order)
{
    for (const struct open *open = peer->first; open; open = open->next) {
        if (issuer_repeats(open->body, order) && !open->is_dated)
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
    int r = 0;
    if (issuer_room(issuer) == 0)
        r = issuer_refuse(issuer, order, -ENOBUFS, now);
    else if (peer->n_open >= ISSUER_MAX_OPEN_DEVICE)
        r = issuer_refuse(issuer, order, -EDQUOT, now);
    else
        r = open_new(issuer, peer, order, now);
    if (r < 0) {
        issuer_release_peer(issuer, peer);
        return r;
    }
    if (!order->is_ordered)
        issuer_supersede(issuer, peer, order->command, issuer->last_number, now);
    return 0;
}

/* --- other rules ----------------------------------------------------------------------------- */

static const char unwanted[] = "no rule says so any more";

static struct issuer_item make_item(const struct body *body, const char *device)
{
    return (struct issuer_item){
        .device = device,
        .group = body->group,
        .rule = body->rule,
        .command = body->command,
        .is_ordered = body->is_ordered,
    };
}

bool issuer_next(struct issuer *issuer, struct issuer_cursor *cursor, struct issuer_item *ret_item)
{
    cursor->roll = cursor->next_roll;
    while (!cursor->in_opens && !cursor->roll && cursor->n_buckets < ISSUER_ROLL_BUCKETS)
        cursor->roll = issuer->rolls[cursor->n_buckets++];
    if (cursor->roll) {
        cursor->next_roll = cursor->roll->next;
        roll_begin_anew(cursor->roll);
        *ret_item = make_item(cursor->roll->body, NULL);
        return true;
    }
    cursor->open = cursor->in_opens ? cursor->next_open : issuer->oldest;
    cursor->in_opens = true;
    if (!cursor->open)
        return false;
    cursor->next_open = cursor->open->newer;
    *ret_item = make_item(cursor->open->body, cursor->open->peer->id);
    return true;
}

size_t issuer_give_up(struct issuer *issuer, const struct issuer_cursor *cursor,
                      const struct ruleset_now *now)
{
    if (cursor->roll)
        return roll_dissolve(issuer, cursor->roll, ISSUER_SUPERSEDED, unwanted, now);
    issuer_close(issuer, cursor->open, ISSUER_SUPERSEDED, unwanted, now);
    return 1;
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
        free_open(issuer, open);
    }
    heap_done(&issuer->due);
    heap_done(&issuer->repeats);
    roll_free_all(issuer);
    issuer_free_peers(issuer);
    free(issuer);
}
