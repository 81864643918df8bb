// SPDX-License-Identifier: LGPL-2.1-or-later
// When a command is sent, and sent again.
#include "server/issuer-internal.h"
#include "util/clock.h"

enum { MAX_SENT_AT_ONCE = 500 }; // in one turn of the main loop

static const uint64_t first_pause_usec = 5 * USEC_PER_SEC;
static const uint64_t longest_pause_usec = 300 * USEC_PER_SEC;
static const uint64_t status_pause_usec = 1 * USEC_PER_SEC;
static const uint64_t full_pause_usec = 1 * USEC_PER_SEC;

static bool is_its_turn(const struct open *open)
{
    const struct open *first = open->peer->first;
    while (open->body->is_ordered && !first->body->is_ordered)
        first = first->next;
    return !open->body->is_ordered || first == open;
}

static bool is_sendable(const struct issuer *issuer, const struct open *open)
{
    bool is_recorded =
        open->is_groups ? roll_is_out(open->body->roll) : open->ticket <= issuer->recorded_ticket;
    return issuer->is_connected && !open->peer->is_offline && is_recorded && is_its_turn(open);
}

uint64_t issuer_expires_mono_usec(const struct body *body, const struct ruleset_now *now)
{
    if (body->expires_wall_usec == USEC_INFINITY)
        return USEC_INFINITY;
    uint64_t left_usec =
        body->expires_wall_usec > now->wall_usec ? body->expires_wall_usec - now->wall_usec : 0;
    return now->mono_usec + left_usec;
}

void issuer_arm(struct issuer *issuer, struct open *open, const struct ruleset_now *now)
{
    uint64_t due_mono_usec = issuer_expires_mono_usec(open->body, now);
    if (is_sendable(issuer, open) && open->try_mono_usec < due_mono_usec)
        due_mono_usec = open->try_mono_usec;
    if (due_mono_usec == USEC_INFINITY)
        heap_remove(&issuer->due, &open->due);
    else
        (void)heap_put(&issuer->due, &open->due, due_mono_usec); // else with the next event
}

void issuer_arm_all(struct issuer *issuer, struct peer *peer, const struct ruleset_now *now)
{
    for (struct open *open = peer->first; open; open = open->next)
        issuer_arm(issuer, open, now);
}

void issuer_urge(struct issuer *issuer, struct peer *peer, const struct ruleset_now *now)
{
    for (struct open *open = peer->first; open; open = open->next) {
        open->is_dated = open->was_sent;
        open->n_tries = 0;
        open->try_mono_usec = now->mono_usec;
        issuer_arm(issuer, open, now);
    }
}

uint64_t issuer_next_try(struct issuer *issuer, unsigned n_tries, uint64_t now_mono_usec)
{
    uint64_t pause_usec = first_pause_usec;
    for (unsigned i = 1; i < n_tries && pause_usec < longest_pause_usec; i++)
        pause_usec *= 2;
    if (pause_usec > longest_pause_usec)
        pause_usec = longest_pause_usec;
    // A quarter up or down, so that a fleet does not speak as one.
    issuer->random = issuer->random * 6364136223846793005 + 1442695040888963407;
    return now_mono_usec + pause_usec / 4 * 3 + (issuer->random >> 33) % (pause_usec / 2);
}

void issuer_connected(struct issuer *issuer, const struct ruleset_now *now)
{
    issuer->is_connected = true;
    for (struct open *open = issuer->oldest; open; open = open->newer) {
        open->is_dated = open->was_sent;
        open->try_mono_usec = now->mono_usec;             // it, or its reply, may be lost
        if (open->is_groups && !open->peer->is_announced) // its status comes before that
            open->try_mono_usec += status_pause_usec;
        issuer_arm(issuer, open, now);
    }
    roll_connected(issuer, now);
}

void issuer_recorded(struct issuer *issuer, uint64_t ticket, const struct ruleset_now *now)
{
    issuer->recorded_ticket = ticket;
    while (issuer->unrecorded && issuer->unrecorded->ticket <= ticket) {
        issuer_arm(issuer, issuer->unrecorded, now);
        issuer->unrecorded = issuer->unrecorded->newer;
    }
    roll_recorded(issuer, now);
}

/* Returns whether others are to be tried as well. */
static bool try_to_send(struct issuer *issuer, struct open *open, const struct ruleset_now *now)
{
    const struct issuer_letter letter = {
        .device = open->peer->id,
        .group = open->body->group,
        .id = open->body->id,
        .rule = open->body->rule,
        .payload = open->body->payload,
        .qos = open->body->qos,
    };
    int r = issuer->handlers->send(issuer->userdata, &letter);
    if (r == 0) {
        open->was_sent = true;
        open->try_mono_usec = issuer_next_try(issuer, ++open->n_tries, now->mono_usec);
    } else if (r == -ENOTCONN) {
        issuer->is_connected = false; // until issuer_connected()
    } else {
        open->try_mono_usec = now->mono_usec + full_pause_usec;
    }
    issuer_arm(issuer, open, now);
    return r == 0;
}

static void run_opens(struct issuer *issuer, const struct ruleset_now *now)
{
    struct heap_entry *first;
    for (unsigned n = 0; n < MAX_SENT_AT_ONCE; n++) {
        first = heap_first(&issuer->due);
        if (!first || first->key > now->mono_usec)
            return;
        struct open *open = (struct open *)((char *)first - offsetof(struct open, due));
        if (open->body->expires_wall_usec <= now->wall_usec)
            issuer_close(issuer, open, ISSUER_EXPIRED, "nobody has answered in time", now);
        else if (!is_sendable(issuer, open) || open->try_mono_usec > now->mono_usec)
            issuer_arm(issuer, open, now); // the clock was set back
        else if (!open->body->is_ordered && open->n_tries >= ISSUER_MAX_TRIES)
            issuer_close(issuer, open, ISSUER_UNANSWERED, "it was sent often enough", now);
        else if (!try_to_send(issuer, open, now))
            return;
    }
}

void issuer_run(struct issuer *issuer, const struct ruleset_now *now)
{
    run_opens(issuer, now);
    roll_run(issuer, now);
}

uint64_t issuer_next_mono_usec(const struct issuer *issuer)
{
    const struct heap_entry *first = heap_first(&issuer->due);
    const struct heap_entry *roll = heap_first(&issuer->rolls_due);
    if (!first || (roll && roll->key < first->key))
        first = roll;
    return first ? first->key : USEC_INFINITY;
}
