// SPDX-License-Identifier: LGPL-2.1-or-later
// The records of an earlier run, put together; see recall.h.
#include "server/recall.h"

#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/parse.h"

// Whatever the disk says.
enum { MAX_PARTS = PENDING_MAX_FOLLOWED / ROLLS_PART_DEVICES + 1 };

/* Part of a roll. */
struct stray {
    struct stray *next;
    char *key, *value;
};

static void discard(struct recall *recall, const char *key, const struct ruleset_now *now)
{
    if (ratelimit_pass(&recall->rolls->pending->troubles, now->mono_usec, NULL))
        log_warning(LOG_FIELDS({ "COMMAND", key }),
                    "the record of command %s makes no sense and is removed", key);
    (void)post_save(recall->rolls->pending->post, key, NULL);
}

static void recall_roll(struct recall *recall, struct letter *letter,
                        const struct letter_tally *tally, const struct ruleset_now *now)
{
    struct roll *roll;
    if (rolls_new(recall->rolls, letter, &roll) < 0)
        return;
    letter->is_recorded = roll->is_inherited = true;
    roll->n_closed = tally->n_members; // until it is known who is not
    roll->tally.n_done = tally->n_done;
    roll->try_mono_usec = now->mono_usec;
}

static void recall_open(struct recall *recall, struct letter *letter, const char *device,
                        const struct ruleset_now *now)
{
    struct pending *pending = recall->rolls->pending;
    struct peer *peer = peers_make(&pending->peers, device);
    struct open *open = peer ? pending_add(peer, letter, NULL) : NULL;
    if (!open)
        return;
    open->was_sent = true; // by all that is known
    open->try_mono_usec = now->mono_usec;
    pending_link(pending, open);
}

static void free_stray(struct stray *stray)
{
    free(stray->key);
    free(stray->value);
    free(stray);
}

/* Its roll may not be known yet. */
static void recall_part(struct recall *recall, const char *key, const char *value)
{
    struct stray *stray = calloc(1, sizeof(*stray));
    if (!stray)
        return;
    stray->key = strdup(key);
    stray->value = strdup(value);
    if (!stray->key || !stray->value) {
        free_stray(stray);
        return;
    }
    stray->next = recall->strays;
    recall->strays = stray;
}

void recall_record(struct recall *recall, const char *key, const char *value,
                   const struct ruleset_now *now)
{
    struct pending *pending = recall->rolls->pending;
    _cleanup_(letter_unrefp) struct letter *letter = NULL;
    _cleanup_(freep) char *device = NULL;
    struct letter_tally tally;
    if (strchr(key, '/')) {
        recall_part(recall, key, value);
        return;
    }
    if (letter_parse(key, value, &letter, &device, &tally) < 0) {
        discard(recall, key, now);
        return;
    }
    if (device)
        recall_open(recall, letter, device, now);
    else
        recall_roll(recall, letter, &tally, now);
    if (letter->number > pending->last_number)
        pending->last_number = letter->number;
    if (letter->seq > pending->last_seq)
        pending->last_seq = letter->seq;
}

/* --- putting together ------------------------------------------------------------------------ */

static int compare_rolls(const void *a, const void *b)
{
    const struct roll *x = *(struct roll *const *)a, *y = *(struct roll *const *)b;
    return strcmp(x->letter->id, y->letter->id);
}

static int compare_id(const void *id, const void *roll)
{
    return strcmp(id, (*(struct roll *const *)roll)->letter->id);
}

/* A new vector of all, in the order of their ids; NULL without memory. */
static struct roll **sort_rolls(const struct rolls *rolls)
{
    size_t n = 0;
    struct roll **sorted = calloc(rolls->n_rolls + 1, sizeof(struct roll *));
    for (size_t i = 0; sorted && i < ROLLS_BUCKETS; i++) {
        for (struct roll *roll = rolls->buckets[i]; roll; roll = roll->next)
            sorted[n++] = roll;
    }
    if (n > 0)
        qsort(sorted, n, sizeof(struct roll *), compare_rolls);
    return sorted;
}

static void enroll(struct rolls *rolls, struct roll *roll, char *ids, size_t i)
{
    struct peers *peers = &rolls->pending->peers;
    char *state;
    for (char *id = strtok_r(ids, " ", &state); id; id = strtok_r(NULL, " ", &state)) {
        struct peer *peer = topic_valid_value(id, strlen(id)) ? peers_make(peers, id) : NULL;
        if (peer && !rolls_enroll(rolls, roll, peer, i))
            peers_release(peers, peer);
    }
}

static void take_part(struct recall *recall, const struct stray *stray, struct roll *const *sorted,
                      const struct ruleset_now *now)
{
    int64_t i = -1;
    char id[LETTER_ID_SIZE];
    size_t n_id = strcspn(stray->key, "/");
    snprintf(id, sizeof(id), "%.*s", (int)n_id, stray->key);
    struct roll *const *found =
        bsearch(id, sorted, recall->rolls->n_rolls, sizeof(struct roll *), compare_id);
    if (!found || parse_int(stray->key + n_id + 1, &i) < 0 || i < 0 || i >= MAX_PARTS) {
        discard(recall, stray->key, now);
        return;
    }
    struct roll_part *part = rolls_part(*found, (size_t)i);
    if (!part)
        return;
    enroll(recall->rolls, *found, stray->value, (size_t)i);
    part->is_on_disk = true;
    part->is_dirty = false;
}

/* Once it is known who has not replied. */
static void settle(struct rolls *rolls, struct roll *roll, const struct ruleset_now *now)
{
    struct letter_tally *tally = &roll->tally;
    size_t n_open = tally->n_members, n_all = roll->n_closed;
    tally->n_members = n_all > n_open ? n_all : n_open;
    roll->n_closed = tally->n_members - n_open;
    if (tally->n_done > roll->n_closed)
        tally->n_done = roll->n_closed;
    if (roll->letter->is_sent && n_open == 0)
        rolls_end(rolls, roll); // it ended when that could not be written down any more
    else
        rolls_arm(rolls, roll, now);
}

void recall_finish(struct recall *recall, const struct ruleset_now *now)
{
    size_t n_rolls = recall->rolls->n_rolls;
    _cleanup_(freep) struct roll **sorted = sort_rolls(recall->rolls);
    while (recall->strays) {
        struct stray *stray = recall->strays;
        recall->strays = stray->next;
        if (sorted)
            take_part(recall, stray, sorted, now);
        free_stray(stray);
    }
    for (size_t i = 0; sorted && i < n_rolls; i++)
        settle(recall->rolls, sorted[i], now);
    pending_sort(recall->rolls->pending, now);
}
