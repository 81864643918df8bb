// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The ids of the commands that have been carried out, each with its reply: whoever sends one again
 * gets the same reply and moves nothing. The outbox keeps a record of each, so that it shares a
 * transaction with the reply on its way to the broker.
 *
 *     journal_recall() for each record of an earlier run, journal_recalled(); then journal_find()
 *     before and journal_add() after a command.
 *
 * Bounded by age, number and bytes; the oldest go first.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "outbox/outbox.h"
#include "util/cleanup.h"

enum {
    JOURNAL_MAX_ENTRIES = 10000,
    JOURNAL_MAX_BYTES = 4 << 20, // of ids and replies
};
#define JOURNAL_MAX_AGE_USEC (7ULL * 86400 * 1000000)

struct journal;

/* The space of its records, each named by its id. */
extern const char journal_space[];

/* outbox keeps the records, borrowed. 0 or -ENOMEM. */
int journal_new(struct outbox *outbox, struct journal **ret_journal);
void journal_free(struct journal *journal);
DEFINE_CLEANUP(struct journal *, journal_free)

/* A record from an earlier run, in any order; what is none is removed. */
void journal_recall(struct journal *journal, const char *key, const char *value);
void journal_recalled(struct journal *journal);

/* The reply of that id, the journal's; NULL: not known. */
const char *journal_find(const struct journal *journal, const char *id);

/*
 * Adds an id, or gives one that is known another reply: it keeps its place and its time. Now it is
 * mono_usec and wall_usec; what this run has added ages with the former, what is left of an earlier
 * one with the latter. Without memory it is not kept: a duplicate would be carried out.
 */
void journal_add(struct journal *journal, const char *id, const char *reply, uint64_t mono_usec,
                 uint64_t wall_usec);
