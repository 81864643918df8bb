// SPDX-License-Identifier: LGPL-2.1-or-later
// What the issuer has on disk, from one run to the next: "ID" is a command, "ID/0", "ID/1", ... are
// the devices that a group's has to reply yet, separated by spaces.
#include <string.h>

#include "server/issuer-internal.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/parse.h"

enum {
    MAX_PART_KEY = ISSUER_ID_SIZE + 24,
    MAX_PARTS = ISSUER_MAX_FOLLOWED / ISSUER_PART_DEVICES + 1, // whatever the disk says
};

/* --- writing --------------------------------------------------------------------------------- */

int roll_save_head(const struct issuer *issuer, const struct roll *roll)
{
    const struct roll_head head = { roll->is_sent, roll->n_members, roll->n_done };
    _cleanup_(freep) char *value = body_format(roll->body, NULL, &head);
    return value ? issuer->handlers->save(issuer->userdata, roll->body->id, value) : -ENOMEM;
}

static char *format_ids(const struct part *part)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (const struct open *open = part->first; open; open = open->next_in_part)
        fprintf(out, "%s%s", open == part->first ? "" : " ", open->peer->id);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

int roll_save_part(const struct issuer *issuer, struct roll *roll, size_t i)
{
    struct part *part = &roll->parts[i];
    char key[MAX_PART_KEY];
    _cleanup_(freep) char *ids = part->first ? format_ids(part) : NULL;
    if (part->first && !ids)
        return -ENOMEM;
    if (!part->first && !part->is_on_disk)
        return 0;
    snprintf(key, sizeof(key), "%s/%zu", roll->body->id, i);
    int r = issuer->handlers->save(issuer->userdata, key, ids);
    if (r < 0)
        return r;
    part->is_dirty = false;
    part->is_on_disk = part->first;
    return 0;
}

/* --- reading --------------------------------------------------------------------------------- */

static void discard(struct issuer *issuer, const char *key, const struct ruleset_now *now)
{
    if (ratelimit_pass(&issuer->troubles, now->mono_usec, NULL))
        log_warning(LOG_FIELDS({ "COMMAND", key }),
                    "the record of command %s makes no sense and is removed", key);
    (void)issuer->handlers->save(issuer->userdata, key, NULL);
}

/* What cannot be taken up for lack of memory stays on disk for another run. */
static void recall_roll(struct issuer *issuer, struct body *body, const struct roll_head *head,
                        const struct ruleset_now *now)
{
    struct roll *roll;
    if (roll_new(issuer, body, &roll) < 0)
        return;
    roll->is_recorded = roll->is_inherited = true;
    roll->is_sent = head->is_sent;
    roll->n_closed = head->n_members; // until it is known who is not
    roll->n_done = head->n_done;
    roll->try_mono_usec = now->mono_usec;
}

static void recall_open(struct issuer *issuer, struct body *body, const char *device,
                        const struct ruleset_now *now)
{
    struct peer *peer = issuer_make_peer(issuer, device);
    struct open *open = peer ? issuer_new_open(peer, body, false) : NULL;
    if (!open)
        return;
    open->was_sent = true; // by all that is known
    open->try_mono_usec = now->mono_usec;
    issuer_link(issuer, open);
}

static void free_stray(struct stray *stray)
{
    free(stray->key);
    free(stray->value);
    free(stray);
}

/* Its roll may not be known yet. */
static void recall_part(struct issuer *issuer, const char *key, const char *value)
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
    stray->next = issuer->strays;
    issuer->strays = stray;
}

void issuer_recall(struct issuer *issuer, const char *key, const char *value,
                   const struct ruleset_now *now)
{
    _cleanup_(body_unrefp) struct body *body = NULL;
    _cleanup_(freep) char *device = NULL;
    struct roll_head head;
    if (strchr(key, '/')) {
        recall_part(issuer, key, value);
        return;
    }
    if (body_parse(key, value, &body, &device, &head) < 0) {
        discard(issuer, key, now);
        return;
    }
    if (device)
        recall_open(issuer, body, device, now);
    else
        recall_roll(issuer, body, &head, now);
    if (body->number > issuer->last_number)
        issuer->last_number = body->number;
    if (body->seq > issuer->last_seq)
        issuer->last_seq = body->seq;
}

/* --- putting together ------------------------------------------------------------------------ */

static int compare_rolls(const void *a, const void *b)
{
    const struct roll *x = *(struct roll *const *)a, *y = *(struct roll *const *)b;
    return strcmp(x->body->id, y->body->id);
}

/* A new vector of all, in the order of their ids; NULL without memory. */
static struct roll **sort_rolls(const struct issuer *issuer)
{
    size_t n = 0;
    struct roll **rolls = calloc(issuer->n_rolls + 1, sizeof(struct roll *));
    for (size_t i = 0; rolls && i < ISSUER_ROLL_BUCKETS; i++) {
        for (struct roll *roll = issuer->rolls[i]; roll; roll = roll->next)
            rolls[n++] = roll;
    }
    if (n > 0)
        qsort(rolls, n, sizeof(struct roll *), compare_rolls);
    return rolls;
}

static struct roll *find_roll(struct roll *const *rolls, size_t n, const char *key, size_t n_id)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const char *id = rolls[middle]->body->id;
        int order = strncmp(id, key, n_id);
        if (order == 0 && id[n_id] == '\0')
            return rolls[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void enroll(struct issuer *issuer, struct roll *roll, char *ids, size_t i)
{
    char *state;
    for (char *id = strtok_r(ids, " ", &state); id; id = strtok_r(NULL, " ", &state)) {
        struct peer *peer = topic_valid_value(id, strlen(id)) ? issuer_make_peer(issuer, id) : NULL;
        if (peer && !roll_enroll(issuer, roll, peer, i))
            issuer_release_peer(issuer, peer);
    }
}

static void take_part(struct issuer *issuer, const struct stray *stray, struct roll *const *rolls,
                      const struct ruleset_now *now)
{
    int64_t i = -1;
    size_t n_id = strcspn(stray->key, "/");
    struct roll *roll = find_roll(rolls, issuer->n_rolls, stray->key, n_id);
    if (!roll || parse_int(stray->key + n_id + 1, &i) < 0 || i < 0 || i >= MAX_PARTS) {
        discard(issuer, stray->key, now);
        return;
    }
    struct part *part = roll_part(roll, (size_t)i);
    if (!part)
        return;
    enroll(issuer, roll, stray->value, (size_t)i);
    part->is_on_disk = true;
    part->is_dirty = false;
}

/* Once it is known who has not replied. */
static void settle(struct issuer *issuer, struct roll *roll, const struct ruleset_now *now)
{
    size_t n_open = roll->n_members, n_all = roll->n_closed;
    roll->n_members = n_all > n_open ? n_all : n_open;
    roll->n_closed = roll->n_members - n_open;
    if (roll->n_done > roll->n_closed)
        roll->n_done = roll->n_closed;
    if (roll->is_sent && n_open == 0) // it ended when that could not be written down any more
        roll_end(issuer, roll);
    else
        roll_arm(issuer, roll, now);
}

static void recall_rolls(struct issuer *issuer, const struct ruleset_now *now)
{
    size_t n_rolls = issuer->n_rolls;
    _cleanup_(freep) struct roll **rolls = sort_rolls(issuer);
    while (issuer->strays) {
        struct stray *stray = issuer->strays;
        issuer->strays = stray->next;
        if (rolls)
            take_part(issuer, stray, rolls, now);
        free_stray(stray);
    }
    for (size_t i = 0; rolls && i < n_rolls; i++)
        settle(issuer, rolls[i], now);
}

static int compare_opens(const void *a, const void *b)
{
    const struct open *x = *(struct open *const *)a, *y = *(struct open *const *)b;
    return x->body->number < y->body->number ? -1 : x->body->number > y->body->number;
}

/* In the order in which they were issued, of each device and of all. */
void issuer_recalled(struct issuer *issuer, const struct ruleset_now *now)
{
    size_t n = 0;
    recall_rolls(issuer, now);
    _cleanup_(freep) struct open **opens =
        calloc(issuer->n_open + issuer->n_followed + 1, sizeof(struct open *));
    for (struct open *open = issuer->oldest; opens && open; open = open->newer)
        opens[n++] = open;
    for (size_t i = 0; i < n; i++)
        issuer_unlink(issuer, opens[i]);
    for (size_t i = 0; i < n; i++)
        opens[i]->next = opens[i]->newer = opens[i]->older = NULL;
    if (n > 0)
        qsort(opens, n, sizeof(struct open *), compare_opens);
    for (size_t i = 0; i < n; i++)
        issuer_link(issuer, opens[i]);
    for (size_t i = 0; i < n; i++)
        issuer_arm(issuer, opens[i], now);
}
