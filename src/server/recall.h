// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Takes up the commands that an earlier run has left open. "ID" is a command; "ID/0", "ID/1", ...
 * are the devices that have to reply to a group's yet, separated by spaces.
 *
 *     recall_record() for each record, in any order, then recall_finish().
 */
#pragma once

#include "server/rolls.h"

struct stray;

struct recall {
    struct rolls *rolls;  // borrowed
    struct stray *strays; // parts of rolls, until recall_finish()
};

/* What makes no sense is removed; what there is no memory for stays on disk for another run. */
void recall_record(struct recall *recall, const char *key, const char *value,
                   const struct ruleset_now *now);
void recall_finish(struct recall *recall, const struct ruleset_now *now);
