// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's journal of commands; see issuer.h. Says what is opened and closed, and why.
#include "server/issuer.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "server/recall.h"
#include "server/rolls.h"
#include "util/clock.h"

enum { MAX_SENT_AT_ONCE = 500 }; // in one turn of the main loop

struct issuer {
    struct pending pending;
    struct rolls rolls;
    struct recall recall;
};

static void close_open(struct issuer *issuer, struct open *open, enum letter_end end,
                       const char *reason, const struct ruleset_now *now)
{
    if (open->roll)
        rolls_close(&issuer->rolls, open, end, reason, now);
    else
        pending_end(&issuer->pending, open, end, reason, now);
}

size_t issuer_room(const struct issuer *issuer)
{
    const struct pending *pending = &issuer->pending;
    return pending->n_bytes >= PENDING_MAX_BYTES || pending->n_own >= PENDING_MAX
               ? 0
               : PENDING_MAX - pending->n_own;
}

bool issuer_is_idle(const struct issuer *issuer)
{
    return TAILQ_EMPTY(&issuer->pending.opens) && issuer->rolls.n_rolls == 0;
}

/* --- what is newer, for a device ------------------------------------------------------------- */

/*
 * Closes the `latest` commands of peer with a number below before whose place by takes, and issues
 * anew what they set beside it. peer may be freed with its last one.
 */
static void supersede(struct issuer *issuer, struct peer *peer, const struct command *by,
                      uint64_t before, const struct ruleset_now *now)
{
    struct open *next;
    for (struct open *open = peer->first; open; open = next) {
        const struct letter *old = open->letter;
        next = open->next;
        if (old->number >= before || old->is_ordered || !letter_overlaps(old, by))
            continue;
        _cleanup_(command_freep) struct command *rest = NULL;
        if (letter_remainder(old, by, &rest) == 0) {
            const struct letter_order order = letter_reorder(old, peer->id, rest, now);
            // Without memory the rule says it again in time.
            (void)pending_open(&issuer->pending, peer, &order, now);
        }
        close_open(issuer, open, LETTER_SUPERSEDED, "by a newer one", now);
    }
}

/* Whether that is what peer was told last, and has not replied to. */
static bool is_still_open(const struct peer *peer, const struct letter_order *order)
{
    for (const struct open *open = peer->first; open; open = open->next) {
        if (letter_repeats(open->letter, order) && !open->is_dated)
            return true;
    }
    return false;
}

int issuer_issue(struct issuer *issuer, const struct letter_order *order,
                 const struct ruleset_now *now)
{
    struct pending *pending = &issuer->pending;
    struct peer *peer = peers_make(&pending->peers, order->device);
    if (!peer)
        return -ENOMEM;
    if (is_still_open(peer, order))
        return 1;
    int r = 0;
    if (issuer_room(issuer) == 0)
        r = pending_refuse(pending, order, -ENOBUFS, now);
    else if (peer->n_open >= PENDING_MAX_DEVICE)
        r = pending_refuse(pending, order, -EDQUOT, now);
    else
        r = pending_open(pending, peer, order, now);
    if (r < 0) {
        peers_release(&pending->peers, peer);
        return r;
    }
    if (!order->is_ordered)
        supersede(issuer, peer, order->command, pending->last_number, now);
    return 0;
}

/* --- what is newer, for a group -------------------------------------------------------------- */

/* Those of from that have not replied; none that is not there any more. */
static void enroll_rest(struct issuer *issuer, struct roll *roll, const struct roll *from)
{
    for (size_t i = 0; i < from->n_parts; i++) {
        for (struct open *open = from->parts[i].first; open; open = open->next_in_part) {
            if (open->peer->is_announced)
                rolls_enroll_next(&issuer->rolls, roll, open->peer);
        }
    }
}

/* What an older command sets beside the newer one goes to those that have not done it. */
static void reissue(struct issuer *issuer, struct roll *old, const struct command *newer,
                    const struct ruleset_now *now)
{
    _cleanup_(command_freep) struct command *rest = NULL;
    _cleanup_(letter_unrefp) struct letter *letter = NULL;
    struct roll *roll;
    if (letter_remainder(old->letter, newer, &rest) < 0)
        return;
    const struct letter_order order = letter_reorder(old->letter, NULL, rest, now);
    if (pending_make_letter(&issuer->pending, &order, now, &letter) < 0 ||
        rolls_new(&issuer->rolls, letter, &roll) < 0)
        return; // without memory the rule says it again in time
    letter->is_sent = old->letter->is_sent;
    enroll_rest(issuer, roll, old);
    if (rolls_record(&issuer->rolls, roll) < 0 || (letter->is_sent && roll->tally.n_members == 0))
        rolls_dissolve(&issuer->rolls, roll, LETTER_SUPERSEDED, "", now);
    else
        rolls_arm(&issuer->rolls, roll, now);
}

static bool is_replaced(const struct roll *old, const char *group, const struct command *by,
                        uint64_t before)
{
    return old->letter->number < before && strcmp(old->letter->group, group) == 0 &&
           letter_overlaps(old->letter, by);
}

static void supersede_rolls(struct issuer *issuer, const char *group, const struct command *by,
                            uint64_t before, const struct ruleset_now *now)
{
    struct roll *next;
    for (struct roll *old = *rolls_bucket(&issuer->rolls, group); old; old = next) {
        next = old->next;
        if (!is_replaced(old, group, by, before))
            continue;
        reissue(issuer, old, by, now);
        rolls_dissolve(&issuer->rolls, old, LETTER_SUPERSEDED, "by a newer one", now);
    }
}

/* What the group, and each of its devices, has been sent before. */
static void supersede_group(struct issuer *issuer, const struct roll *roll,
                            const struct ruleset_now *now)
{
    const struct letter *by = roll->letter;
    supersede_rolls(issuer, by->group, by->command, by->number, now);
    for (size_t i = 0; i < roll->n_parts; i++) {
        for (struct open *open = roll->parts[i].first; open; open = open->next_in_part)
            supersede(issuer, open->peer, by->command, by->number, now);
    }
}

void issuer_overrule(struct issuer *issuer, const struct letter_order *order,
                     const struct ruleset_now *now)
{
    uint64_t before = issuer->pending.last_number + 1;
    if (!order->device) {
        supersede_rolls(issuer, order->group, order->command, before, now);
        return;
    }
    struct peer *peer = peers_find_id(&issuer->pending.peers, order->device);
    if (peer)
        supersede(issuer, peer, order->command, before, now);
}

/* Those that are to reply: the group's, and who has not replied to what this one replaces. */
static void enroll_all(struct issuer *issuer, struct roll *roll, const char *const *devices,
                       size_t n_devices)
{
    const struct letter *letter = roll->letter;
    for (size_t i = 0; i < n_devices; i++) {
        struct peer *peer = peers_find_id(&issuer->pending.peers, devices[i]);
        if (peer && peer->is_announced)
            rolls_enroll_next(&issuer->rolls, roll, peer);
    }
    for (struct roll *old = *rolls_bucket(&issuer->rolls, letter->group); old; old = old->next) {
        if (is_replaced(old, letter->group, letter->command, letter->number))
            enroll_rest(issuer, roll, old);
    }
}

/*
 * Whether the group need not be told something new: it has not been told yet, or a rule that has
 * begun anew only says what its group has been told. Then the group is told the same once more: who
 * has come to it meanwhile does it, the others know by the $id that they have.
 */
static bool is_told_already(struct issuer *issuer, const struct letter_order *order,
                            const struct ruleset_now *now)
{
    struct roll *roll = *rolls_bucket(&issuer->rolls, order->group);
    while (roll &&
           (strcmp(roll->letter->group, order->group) != 0 || !letter_repeats(roll->letter, order)))
        roll = roll->next;
    bool is_sent = roll && roll->letter->is_sent;
    if (!roll || (is_sent && (!roll->is_inherited || order->lease_usec != USEC_INFINITY)))
        return false; // a lease would not be renewed by it
    roll->is_inherited = false;
    if (is_sent && !roll->is_fresh) {
        roll->letter->is_sent = false;
        roll->try_mono_usec = now->mono_usec;
        rolls_arm(&issuer->rolls, roll, now);
    }
    return true;
}

int issuer_issue_group(struct issuer *issuer, const struct letter_order *order,
                       const char *const *devices, size_t n_devices, const struct ruleset_now *now)
{
    _cleanup_(letter_unrefp) struct letter *letter = NULL;
    struct pending *pending = &issuer->pending;
    struct rolls *rolls = &issuer->rolls;
    struct roll *roll = NULL;
    if (is_told_already(issuer, order, now))
        return 1;
    if (rolls->n_rolls >= PENDING_MAX || pending->n_bytes >= PENDING_MAX_BYTES)
        return pending_refuse(pending, order, -ENOBUFS, now);
    int r = pending_make_letter(pending, order, now, &letter);
    if (r == 0)
        r = rolls_new(rolls, letter, &roll);
    if (r < 0)
        return r;
    assert(roll);
    enroll_all(issuer, roll, devices, n_devices);
    r = rolls_record(rolls, roll);
    if (r < 0) {
        rolls_dissolve(rolls, roll, LETTER_SUPERSEDED, "", now);
        return r;
    }
    supersede_group(issuer, roll, now);
    roll->try_mono_usec = now->mono_usec;
    rolls_arm(rolls, roll, now);
    return 0;
}

/* --- other rules ----------------------------------------------------------------------------- */

static const char unwanted[] = "no rule says so any more";

bool issuer_next(struct issuer *issuer, struct issuer_cursor *cursor,
                 const struct letter **ret_letter, const char **ret_device)
{
    cursor->roll = cursor->next_roll;
    while (!cursor->in_opens && !cursor->roll && cursor->n_buckets < ROLLS_BUCKETS)
        cursor->roll = issuer->rolls.buckets[cursor->n_buckets++];
    if (cursor->roll) {
        cursor->next_roll = cursor->roll->next;
        cursor->roll->is_inherited = true; // what it says they may say again
        cursor->roll->is_fresh = false;
        *ret_letter = cursor->roll->letter;
        *ret_device = NULL;
        return true;
    }
    cursor->open = cursor->in_opens ? cursor->next_open : TAILQ_FIRST(&issuer->pending.opens);
    cursor->in_opens = true;
    if (!cursor->open)
        return false;
    cursor->next_open = TAILQ_NEXT(cursor->open, all);
    *ret_letter = cursor->open->letter;
    *ret_device = cursor->open->peer->id;
    return true;
}

size_t issuer_give_up(struct issuer *issuer, const struct issuer_cursor *cursor,
                      const struct ruleset_now *now)
{
    if (cursor->roll)
        return rolls_dissolve(&issuer->rolls, cursor->roll, LETTER_SUPERSEDED, unwanted, now);
    close_open(issuer, cursor->open, LETTER_SUPERSEDED, unwanted, now);
    return 1;
}

/* --- what devices say ------------------------------------------------------------------------ */

void issuer_announce(struct issuer *issuer, struct topic_slice id, bool is_online, bool is_news,
                     const struct ruleset_now *now)
{
    char text[65];
    struct peers *peers = &issuer->pending.peers;
    snprintf(text, sizeof(text), "%.*s", (int)id.length, id.bytes);
    struct peer *peer = peers_find(peers, id);
    if (!peer && peers->n_announced < ISSUER_MAX_DEVICES)
        peer = peers_make(peers, text);
    if (!peer)
        return; // it is served as one that has not
    bool is_back = is_online && (peer->is_offline || (!peer->is_announced && is_news));
    peers_announce(peers, peer, true);
    peers_set_offline(peers, peer, !is_online);
    if (is_back)
        pending_urge(&issuer->pending, peer, now);
    else
        pending_arm_all(&issuer->pending, peer, now);
}

void issuer_withdraw(struct issuer *issuer, struct topic_slice id)
{
    struct peers *peers = &issuer->pending.peers;
    struct peer *peer = peers_find(peers, id);
    if (!peer)
        return;
    peers_announce(peers, peer, false);
    peers_release(peers, peer);
}

bool issuer_knows(const struct issuer *issuer, const char *id)
{
    const struct peer *peer = peers_find_id(&issuer->pending.peers, id);
    return peer && peer->is_announced;
}

void issuer_heard(struct issuer *issuer, struct topic_slice id, const struct ruleset_now *now)
{
    struct peers *peers = &issuer->pending.peers;
    if (peers->n_offline == 0) // all messages come along here
        return;
    struct peer *peer = peers_find(peers, id);
    if (!peer || !peer->is_offline)
        return;
    peers_set_offline(peers, peer, false);
    pending_urge(&issuer->pending, peer, now);
}

/* The open command of peer, which may be NULL, with that id; or NULL. */
static struct open *find_open(const struct peer *peer, const char *id)
{
    struct open *open = peer ? peer->first : NULL;
    while (open && strcmp(open->letter->id, id) != 0)
        open = open->next;
    return open;
}

bool issuer_reply(struct issuer *issuer, struct topic_slice id, const struct answer *answer,
                  const struct ruleset_now *now)
{
    struct open *open = find_open(peers_find(&issuer->pending.peers, id), answer->id);
    if (!open)
        return false;
    close_open(issuer, open, (enum letter_end)answer->status, answer->reason, now);
    return true;
}

/* --- what other servers say ------------------------------------------------------------------ */

/* Of this run; those of an earlier one are open, or over. */
static bool is_of_this_run(const struct issuer *issuer, const char *id)
{
    char prefix[24];
    int length = snprintf(prefix, sizeof(prefix), "%016" PRIx64 "-", issuer->pending.seed);
    return strncmp(id, prefix, (size_t)length) == 0;
}

/*
 * Whether a command need not be sent, now that another server's of seq is on its way: one that says
 * the same, or, being newer, sets all that it sets, so that its device would refuse it.
 */
static bool is_settled(const struct open *open, struct json_object *command, uint64_t seq)
{
    const struct letter *letter = open->letter;
    if (open->roll || letter->is_ordered)
        return false; // in order, all count
    return (open->n_tries == 0 && command_is_said_by(letter->command, command)) ||
           (letter->seq > 0 && letter->seq < seq &&
            command_is_covered_by(letter->command, command));
}

bool issuer_observe(struct issuer *issuer, struct topic_slice device, struct json_object *command,
                    const struct ruleset_now *now)
{
    struct json_object *seq;
    const char *id = json_text_of(command, "$id");
    struct peer *peer = peers_find(&issuer->pending.peers, device);
    if (!id || is_of_this_run(issuer, id) || find_open(peer, id))
        return false;
    // A server's has a $seq, and that server sees it through. One to a device that is offline, or
    // a person's, may come to nothing.
    if (!peer || peer->is_offline || !json_object_object_get_ex(command, "$seq", &seq) ||
        !json_object_is_type(seq, json_type_int))
        return true;
    struct open *next;
    for (struct open *open = peer->first; open; open = next) {
        next = open->next;
        if (is_settled(open, command, json_object_get_uint64(seq)))
            close_open(issuer, open, LETTER_SUPERSEDED, "by another server's", now);
    }
    return true;
}

/* --- what is due ----------------------------------------------------------------------------- */

void issuer_connected(struct issuer *issuer, const struct ruleset_now *now)
{
    pending_connected(&issuer->pending, now);
    rolls_connected(&issuer->rolls, now);
}

void issuer_recorded(struct issuer *issuer, uint64_t ticket)
{
    pending_recorded(&issuer->pending, ticket);
}

/* Returns whether others are to be tried as well. */
static bool run_open(struct issuer *issuer, struct open *open, const struct ruleset_now *now)
{
    struct pending *pending = &issuer->pending;
    const struct letter *letter = open->letter;
    if (letter->expires_wall_usec <= now->wall_usec)
        close_open(issuer, open, LETTER_EXPIRED, "nobody has answered in time", now);
    else if (!pending_is_sendable(pending, open, now))
        pending_arm(pending, open, now); // the clock was set back
    else if (!letter->is_ordered && open->n_tries >= PENDING_MAX_TRIES)
        close_open(issuer, open, LETTER_UNANSWERED, "it was sent often enough", now);
    else
        return pending_send(pending, open, now);
    return true;
}

void issuer_run(struct issuer *issuer, const struct ruleset_now *now)
{
    struct open *open;
    if (issuer->pending.has_recorded) {
        pending_take_recorded(&issuer->pending, now);
        rolls_take_recorded(&issuer->rolls, now);
    }
    for (unsigned n = 0; n < MAX_SENT_AT_ONCE; n++) {
        open = pending_due(&issuer->pending, now);
        if (!open || !run_open(issuer, open, now))
            break;
    }
    rolls_run(&issuer->rolls, now);
}

uint64_t issuer_next_mono_usec(const struct issuer *issuer)
{
    uint64_t next_mono_usec = pending_next_mono_usec(&issuer->pending);
    uint64_t roll_mono_usec = rolls_next_mono_usec(&issuer->rolls);
    return roll_mono_usec < next_mono_usec ? roll_mono_usec : next_mono_usec;
}

void issuer_flush(struct issuer *issuer)
{
    rolls_flush(&issuer->rolls);
}

/* --- life ------------------------------------------------------------------------------------ */

void issuer_count(const struct issuer *issuer, struct issuer_counts *ret_counts)
{
    struct issuer_counts counts = {
        .refused = issuer->pending.n_refused,
        .n_open = issuer->pending.n_own,
        .n_outstanding = issuer->pending.n_followed,
    };
    memcpy(counts.ended, issuer->pending.ended, sizeof(counts.ended));
    *ret_counts = counts;
}

void issuer_recall(struct issuer *issuer, const char *key, const char *value,
                   const struct ruleset_now *now)
{
    recall_record(&issuer->recall, key, value, now);
}

void issuer_recalled(struct issuer *issuer, const struct ruleset_now *now)
{
    recall_finish(&issuer->recall, now);
}

int issuer_new(uint64_t seed, struct post *post, struct issuer **ret_issuer)
{
    _cleanup_(issuer_freep) struct issuer *issuer = calloc(1, sizeof(*issuer));
    if (!issuer)
        return -ENOMEM;
    issuer->rolls.pending = &issuer->pending;
    issuer->recall.rolls = &issuer->rolls;
    int r = pending_init(&issuer->pending, seed, post);
    if (r < 0)
        return r;
    *ret_issuer = TAKE_PTR(issuer);
    return 0;
}

void issuer_free(struct issuer *issuer)
{
    if (!issuer)
        return;
    pending_done(&issuer->pending);
    rolls_done(&issuer->rolls);
    free(issuer);
}
