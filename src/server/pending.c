// SPDX-License-Identifier: LGPL-2.1-or-later
// The open commands of all devices, and when each is sent; see pending.h. Logs what becomes of
// them.
#include "server/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/random.h"

static const uint64_t first_pause_usec = 5 * USEC_PER_SEC;
static const uint64_t longest_pause_usec = 300 * USEC_PER_SEC;
static const uint64_t status_pause_usec = 1 * USEC_PER_SEC;
static const uint64_t full_pause_usec = 100 * USEC_PER_MSEC;
// What was sent before is sent again at this pace, after a burst of 500: nobody may be there.
static const uint64_t repeat_pace_usec = 20 * USEC_PER_MSEC;
static const uint64_t repeat_burst_usec = 10 * USEC_PER_SEC;  // of 500
static const uint64_t repeat_step_usec = 500 * USEC_PER_MSEC; // together, which costs less

static const struct ratelimit trouble_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

int pending_publish(struct pending *pending, const struct letter *letter, const char *device)
{
    int r = post_send(pending->post, letter, device);
    if (r == -ENOTCONN)
        pending->is_connected = false; // until pending_connected()
    return r;
}

/* --- the order in which they were issued ----------------------------------------------------- */

struct open *pending_add(struct peer *peer, struct letter *letter, struct roll *roll)
{
    struct open *open = calloc(1, sizeof(*open));
    if (!open)
        return NULL;
    open->peer = peer;
    open->letter = letter;
    open->roll = roll;
    letter->n_refs++;
    return open;
}

void pending_link(struct pending *pending, struct open *open)
{
    struct open **place = &open->peer->first;
    while (*place)
        place = &(*place)->next;
    *place = open;
    open->next = NULL;
    TAILQ_INSERT_TAIL(&pending->opens, open, all);
    if (!pending->unrecorded && open->ticket > pending->recorded_ticket)
        pending->unrecorded = open;
    open->peer->n_open++;
    if (open->roll) {
        pending->n_followed++;
    } else {
        pending->n_own++;
        pending->n_bytes += strlen(open->letter->payload);
    }
}

static void unlink_open(struct pending *pending, struct open *open)
{
    struct open **place = &open->peer->first;
    while (*place != open)
        place = &(*place)->next;
    *place = open->next;
    if (pending->unrecorded == open)
        pending->unrecorded = TAILQ_NEXT(open, all);
    TAILQ_REMOVE(&pending->opens, open, all);
    open->peer->n_open--;
    if (open->roll) {
        pending->n_followed--;
    } else {
        pending->n_own--;
        pending->n_bytes -= strlen(open->letter->payload);
    }
}

static int compare_opens(const void *a, const void *b)
{
    const struct open *x = *(struct open *const *)a, *y = *(struct open *const *)b;
    return x->letter->number < y->letter->number ? -1 : x->letter->number > y->letter->number;
}

void pending_sort(struct pending *pending, const struct ruleset_now *now)
{
    size_t n = 0;
    _cleanup_(freep) struct open **opens =
        calloc(pending->n_own + pending->n_followed + 1, sizeof(struct open *));
    if (!opens)
        return;
    for (struct open *open = TAILQ_FIRST(&pending->opens); open; open = TAILQ_NEXT(open, all))
        opens[n++] = open;
    for (size_t i = 0; i < n; i++)
        unlink_open(pending, opens[i]);
    if (n > 0)
        qsort(opens, n, sizeof(struct open *), compare_opens);
    for (size_t i = 0; i < n; i++)
        pending_link(pending, opens[i]);
    for (size_t i = 0; i < n; i++)
        pending_arm(pending, opens[i], now);
}

/* --- when each is looked at ------------------------------------------------------------------ */

static bool is_its_turn(const struct open *open)
{
    const struct open *first = open->peer->first;
    while (open->letter->is_ordered && !first->letter->is_ordered)
        first = first->next;
    return !open->letter->is_ordered || first == open;
}

/* But for its time. */
static bool is_free(const struct pending *pending, const struct open *open)
{
    const struct letter *letter = open->letter;
    bool is_recorded = open->roll ? letter->is_sent && letter->is_recorded
                                  : open->ticket <= pending->recorded_ticket;
    return pending->is_connected && !open->peer->is_offline && is_recorded && is_its_turn(open);
}

bool pending_is_sendable(const struct pending *pending, const struct open *open,
                         const struct ruleset_now *now)
{
    return is_free(pending, open) && open->try_mono_usec <= now->mono_usec;
}

static void disarm(struct pending *pending, struct open *open)
{
    heap_remove(open->is_repeat ? &pending->repeats : &pending->due, &open->due);
}

void pending_arm(struct pending *pending, struct open *open, const struct ruleset_now *now)
{
    uint64_t due_mono_usec = letter_expires_mono_usec(open->letter, now);
    bool is_tried = is_free(pending, open) && open->try_mono_usec < due_mono_usec;
    bool is_repeat = is_tried && (open->was_sent || open->roll) && !open->is_urgent;
    if (is_tried)
        due_mono_usec = open->try_mono_usec;
    if (due_mono_usec == USEC_INFINITY || open->is_repeat != is_repeat)
        disarm(pending, open);
    open->is_repeat = is_repeat;
    if (due_mono_usec != USEC_INFINITY) // without memory, with the next event
        (void)heap_put(is_repeat ? &pending->repeats : &pending->due, &open->due, due_mono_usec);
}

void pending_arm_all(struct pending *pending, struct peer *peer, const struct ruleset_now *now)
{
    for (struct open *open = peer->first; open; open = open->next)
        pending_arm(pending, open, now);
}

void pending_urge(struct pending *pending, struct peer *peer, const struct ruleset_now *now)
{
    uint64_t try_mono_usec = now->mono_usec - peer->n_open; // in the order of their issue
    for (struct open *open = peer->first; open; open = open->next) {
        open->is_dated = open->was_sent;
        open->n_tries = 0;
        open->is_urgent = true;
        open->try_mono_usec = try_mono_usec++;
        pending_arm(pending, open, now);
    }
}

uint64_t pending_next_try(struct pending *pending, unsigned n_tries, uint64_t now_mono_usec)
{
    uint64_t pause_usec = first_pause_usec;
    for (unsigned i = 1; i < n_tries && pause_usec < longest_pause_usec; i++)
        pause_usec *= 2;
    if (pause_usec > longest_pause_usec)
        pause_usec = longest_pause_usec;
    return now_mono_usec + random_jitter(&pending->random, pause_usec);
}

/* --- opening and ending ---------------------------------------------------------------------- */

int pending_make_letter(struct pending *pending, const struct letter_order *order,
                        const struct ruleset_now *now, struct letter **ret_letter)
{
    uint64_t seq = 0;
    if (order->has_seq && !order->is_ordered) { // of one order with what other senders number
        seq = now->wall_usec / USEC_PER_MSEC;
        if (seq < pending->last_seq)
            seq = pending->last_seq;
    }
    int r =
        letter_new(order, pending->seed, pending->last_number + 1, seq, now->wall_usec, ret_letter);
    if (r < 0)
        return r;
    pending->last_number++;
    if (seq > 0)
        pending->last_seq = seq;
    return 0;
}

int pending_refuse(struct pending *pending, const struct letter_order *order, int error,
                   const struct ruleset_now *now)
{
    unsigned n_suppressed;
    pending->n_refused++;
    if (ratelimit_pass(&pending->refusals, now->mono_usec, &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMANDS_FULL), { "DEVICE", order->device },
                               { "GROUP", order->group }, { "RULE", order->rule }),
                    "rule %s: command %s to %s%s is not issued yet: too many wait for their reply; "
                    "it is when there is room%s",
                    order->rule, order->command->json, order->device ? "" : "group ",
                    order->device ? order->device : order->group,
                    n_suppressed ? " (and others before it)" : "");
    return error;
}

static void free_open(struct pending *pending, struct open *open)
{
    disarm(pending, open);
    letter_unref(open->letter);
    free(open);
}

int pending_open(struct pending *pending, struct peer *peer, const struct letter_order *order,
                 const struct ruleset_now *now)
{
    _cleanup_(letter_unrefp) struct letter *letter = NULL;
    int r = pending_make_letter(pending, order, now, &letter);
    if (r < 0)
        return r;
    struct open *open = pending_add(peer, letter, NULL);
    _cleanup_(freep) char *record = open ? letter_format(letter, peer->id, NULL) : NULL;
    r = record ? post_save(pending->post, letter->id, record) : -ENOMEM;
    if (r < 0) {
        if (open)
            free_open(pending, open);
        return r;
    }
    open->ticket = post_sync(pending->post);
    open->try_mono_usec = now->mono_usec;
    pending_link(pending, open);
    pending_arm(pending, open, now);
    return 0;
}

/* What went as it should is told at debug only: the device, or the group as a whole, tells it. */
static void tell_end(struct pending *pending, const struct open *open, enum letter_end end,
                     const char *reason, const struct ruleset_now *now)
{
    const struct letter *letter = open->letter;
    unsigned n_suppressed = 0;
    bool is_trouble = end != LETTER_DONE && end != LETTER_SUPERSEDED;
    if (is_trouble && !ratelimit_pass(&pending->troubles, now->mono_usec, &n_suppressed))
        return;
    log_at(is_trouble ? LOG_WARNING : LOG_DEBUG,
           LOG_FIELDS(LOG_ID(is_trouble ? LOG_ID_COMMAND_LOST : NULL), { "DEVICE", open->peer->id },
                      { "RULE", letter->rule }, { "COMMAND", letter->id }),
           "rule %s: command %s to %s: %s%s%s%s", letter->rule, letter->command->json,
           open->peer->id, letter_end_names[end], reason[0] ? ": " : "", reason,
           n_suppressed ? " (and others before it)" : "");
}

void pending_end(struct pending *pending, struct open *open, enum letter_end end,
                 const char *reason, const struct ruleset_now *now)
{
    struct peer *peer = open->peer;
    pending->ended[end]++;
    tell_end(pending, open, end, reason, now);
    if (!open->roll) // without memory it is sent once more after a restart
        (void)post_save(pending->post, open->letter->id, NULL);
    unlink_open(pending, open);
    free_open(pending, open);
    pending_arm_all(pending, peer, now); // one of them may have waited for this
    peers_release(&pending->peers, peer);
}

/* --- the world ------------------------------------------------------------------------------- */

void pending_connected(struct pending *pending, const struct ruleset_now *now)
{
    pending->is_connected = true;
    for (struct open *open = TAILQ_FIRST(&pending->opens); open; open = TAILQ_NEXT(open, all)) {
        open->is_dated = open->was_sent;
        open->try_mono_usec = now->mono_usec;        // it, or its reply, may be lost
        if (open->roll && !open->peer->is_announced) // its status comes before that
            open->try_mono_usec += status_pause_usec;
        pending_arm(pending, open, now);
    }
}

void pending_recorded(struct pending *pending, uint64_t ticket)
{
    pending->has_recorded |= ticket > pending->recorded_ticket;
    pending->recorded_ticket = ticket;
}

void pending_take_recorded(struct pending *pending, const struct ruleset_now *now)
{
    pending->has_recorded = false;
    while (pending->unrecorded && pending->unrecorded->ticket <= pending->recorded_ticket) {
        pending_arm(pending, pending->unrecorded, now);
        pending->unrecorded = TAILQ_NEXT(pending->unrecorded, all);
    }
}

/* --- what is due ----------------------------------------------------------------------------- */

bool pending_send(struct pending *pending, struct open *open, const struct ruleset_now *now)
{
    int r = pending_publish(pending, open->letter, open->peer->id);
    if (r == 0) {
        open->was_sent = true;
        open->is_urgent = false;
        open->try_mono_usec = pending_next_try(pending, ++open->n_tries, now->mono_usec);
    } else if (r != -ENOTCONN) {
        pending->full_mono_usec = now->mono_usec + full_pause_usec;
    }
    pending_arm(pending, open, now);
    return r == 0;
}

static struct open *first_due(const struct heap *heap, const struct ruleset_now *now)
{
    struct heap_entry *first = heap_first(heap);
    return first && first->key <= now->mono_usec
               ? (struct open *)((char *)first - offsetof(struct open, due))
               : NULL;
}

/* When the allowance of repeats lets the next one go. */
static uint64_t paced_mono_usec(const struct pending *pending)
{
    if (pending->pace_mono_usec <= repeat_burst_usec)
        return 0;
    uint64_t mono_usec = pending->pace_mono_usec - repeat_burst_usec;
    return (mono_usec + repeat_step_usec - 1) / repeat_step_usec * repeat_step_usec;
}

struct open *pending_due(struct pending *pending, const struct ruleset_now *now)
{
    if (now->mono_usec < pending->full_mono_usec)
        return NULL;
    struct open *open = first_due(&pending->due, now);
    if (open || paced_mono_usec(pending) > now->mono_usec)
        return open;
    open = first_due(&pending->repeats, now);
    if (pending->pace_mono_usec < now->mono_usec)
        pending->pace_mono_usec = now->mono_usec;
    pending->pace_mono_usec += open ? repeat_pace_usec : 0;
    return open;
}

static uint64_t next_in(const struct heap *heap, uint64_t not_before_mono_usec)
{
    const struct heap_entry *first = heap_first(heap);
    uint64_t mono_usec = first ? first->key : USEC_INFINITY;
    return mono_usec > not_before_mono_usec ? mono_usec : not_before_mono_usec;
}

uint64_t pending_next_mono_usec(const struct pending *pending)
{
    if (pending->has_recorded)
        return 0;
    uint64_t paced = paced_mono_usec(pending), full = pending->full_mono_usec;
    uint64_t next_mono_usec = next_in(&pending->due, full);
    uint64_t repeat_mono_usec = next_in(&pending->repeats, paced > full ? paced : full);
    return repeat_mono_usec < next_mono_usec ? repeat_mono_usec : next_mono_usec;
}

/* --- life ------------------------------------------------------------------------------------ */

int pending_init(struct pending *pending, uint64_t seed, struct post *post)
{
    TAILQ_INIT(&pending->opens);
    pending->post = post;
    pending->seed = pending->random = seed;
    pending->troubles = pending->refusals = trouble_limit;
    return peers_init(&pending->peers);
}

void pending_done(struct pending *pending)
{
    struct open *open;
    while ((open = TAILQ_FIRST(&pending->opens))) {
        TAILQ_REMOVE(&pending->opens, open, all);
        free_open(pending, open);
    }
    heap_done(&pending->due);
    heap_done(&pending->repeats);
    peers_done(&pending->peers);
}
