// SPDX-License-Identifier: LGPL-2.1-or-later
// When a command is sent, and sent again.
#include "server/issuer-internal.h"
#include "util/clock.h"
#include "util/random.h"

enum { MAX_SENT_AT_ONCE = 500 }; // in one turn of the main loop

static const uint64_t first_pause_usec = 5 * USEC_PER_SEC;
static const uint64_t longest_pause_usec = 300 * USEC_PER_SEC;
static const uint64_t status_pause_usec = 1 * USEC_PER_SEC;
static const uint64_t full_pause_usec = 100 * USEC_PER_MSEC;
// What was sent before is sent again at this pace, after a burst of 500: nobody may be there.
static const uint64_t repeat_pace_usec = 20 * USEC_PER_MSEC;
static const uint64_t repeat_burst_usec = 10 * USEC_PER_SEC;  // of 500
static const uint64_t repeat_step_usec = 500 * USEC_PER_MSEC; // together, which costs less

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

void issuer_disarm(struct issuer *issuer, struct open *open)
{
    heap_remove(open->is_repeat ? &issuer->repeats : &issuer->due, &open->due);
}

void issuer_arm(struct issuer *issuer, struct open *open, const struct ruleset_now *now)
{
    uint64_t due_mono_usec = issuer_expires_mono_usec(open->body, now);
    bool is_tried = is_sendable(issuer, open) && open->try_mono_usec < due_mono_usec;
    bool is_repeat = is_tried && (open->was_sent || open->is_groups) && !open->is_urgent;
    if (is_tried)
        due_mono_usec = open->try_mono_usec;
    if (due_mono_usec == USEC_INFINITY || open->is_repeat != is_repeat)
        issuer_disarm(issuer, open);
    open->is_repeat = is_repeat;
    if (due_mono_usec != USEC_INFINITY) // without memory, with the next event
        (void)heap_put(is_repeat ? &issuer->repeats : &issuer->due, &open->due, due_mono_usec);
}

void issuer_arm_all(struct issuer *issuer, struct peer *peer, const struct ruleset_now *now)
{
    for (struct open *open = peer->first; open; open = open->next)
        issuer_arm(issuer, open, now);
}

void issuer_urge(struct issuer *issuer, struct peer *peer, const struct ruleset_now *now)
{
    uint64_t try_mono_usec = now->mono_usec - peer->n_open; // in the order of their issue
    for (struct open *open = peer->first; open; open = open->next) {
        open->is_dated = open->was_sent;
        open->n_tries = 0;
        open->is_urgent = true;
        open->try_mono_usec = try_mono_usec++;
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
    return now_mono_usec + random_jitter(&issuer->random, pause_usec);
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

/* May come from within a call of the handlers, while the disk fails: the work is issuer_run()'s. */
void issuer_recorded(struct issuer *issuer, uint64_t ticket)
{
    issuer->has_recorded |= ticket > issuer->recorded_ticket;
    issuer->recorded_ticket = ticket;
}

static void take_recorded(struct issuer *issuer, const struct ruleset_now *now)
{
    issuer->has_recorded = false;
    while (issuer->unrecorded && issuer->unrecorded->ticket <= issuer->recorded_ticket) {
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
        open->is_urgent = false;
        open->try_mono_usec = issuer_next_try(issuer, ++open->n_tries, now->mono_usec);
    } else if (r == -ENOTCONN) {
        issuer->is_connected = false; // until issuer_connected()
    } else {
        issuer->full_mono_usec = now->mono_usec + full_pause_usec;
    }
    issuer_arm(issuer, open, now);
    return r == 0;
}

/* Likewise. */
static bool run_open(struct issuer *issuer, struct open *open, const struct ruleset_now *now)
{
    if (open->body->expires_wall_usec <= now->wall_usec)
        issuer_close(issuer, open, ISSUER_EXPIRED, "nobody has answered in time", now);
    else if (!is_sendable(issuer, open) || open->try_mono_usec > now->mono_usec)
        issuer_arm(issuer, open, now); // the clock was set back
    else if (!open->body->is_ordered && open->n_tries >= ISSUER_MAX_TRIES)
        issuer_close(issuer, open, ISSUER_UNANSWERED, "it was sent often enough", now);
    else
        return try_to_send(issuer, open, now);
    return true;
}

static struct open *first_due(const struct heap *heap, const struct ruleset_now *now)
{
    struct heap_entry *first = heap_first(heap);
    return first && first->key <= now->mono_usec
               ? (struct open *)((char *)first - offsetof(struct open, due))
               : NULL;
}

/* When the allowance of repeats lets the next one go. */
static uint64_t paced_mono_usec(const struct issuer *issuer)
{
    if (issuer->pace_mono_usec <= repeat_burst_usec)
        return 0;
    uint64_t mono_usec = issuer->pace_mono_usec - repeat_burst_usec;
    return (mono_usec + repeat_step_usec - 1) / repeat_step_usec * repeat_step_usec;
}

static void run_opens(struct issuer *issuer, const struct ruleset_now *now)
{
    for (unsigned n = 0; n < MAX_SENT_AT_ONCE && now->mono_usec >= issuer->full_mono_usec; n++) {
        struct open *open = first_due(&issuer->due, now);
        if (!open && paced_mono_usec(issuer) <= now->mono_usec) {
            open = first_due(&issuer->repeats, now);
            if (issuer->pace_mono_usec < now->mono_usec)
                issuer->pace_mono_usec = now->mono_usec;
            issuer->pace_mono_usec += open ? repeat_pace_usec : 0;
        }
        if (!open || !run_open(issuer, open, now))
            return;
    }
}

void issuer_run(struct issuer *issuer, const struct ruleset_now *now)
{
    if (issuer->has_recorded)
        take_recorded(issuer, now);
    run_opens(issuer, now);
    roll_run(issuer, now);
}

static uint64_t next_in(const struct heap *heap, uint64_t not_before_mono_usec)
{
    const struct heap_entry *first = heap_first(heap);
    uint64_t mono_usec = first ? first->key : USEC_INFINITY;
    return mono_usec > not_before_mono_usec ? mono_usec : not_before_mono_usec;
}

uint64_t issuer_next_mono_usec(const struct issuer *issuer)
{
    if (issuer->has_recorded)
        return 0;
    uint64_t paced = paced_mono_usec(issuer), full = issuer->full_mono_usec;
    uint64_t next_mono_usec = next_in(&issuer->due, full);
    uint64_t repeat_mono_usec = next_in(&issuer->repeats, paced > full ? paced : full);
    uint64_t roll_mono_usec = next_in(&issuer->rolls_due, 0);
    if (repeat_mono_usec < next_mono_usec)
        next_mono_usec = repeat_mono_usec;
    return roll_mono_usec < next_mono_usec ? roll_mono_usec : next_mono_usec;
}
