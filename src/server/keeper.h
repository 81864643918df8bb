// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Series as records of the store, over a restart: what the engine hands out becomes a record, what
 * the store has comes back at the start.
 */
#pragma once

#include "outbox/outbox.h"
#include "outbox/spool.h"
#include "server/engine.h"

/* For engine_handlers.keep(). While the disk is in trouble nothing is kept. */
void keeper_keep(struct outbox *outbox, const char *id, uint64_t span_usec, const char *name,
                 const unsigned char *bytes, size_t n_bytes);

/*
 * Gives engine what the store has, of the devices that fit patterns, and removes from it what no
 * rule looks at any more. Blocks on the disk: at the start only. As spool_records().
 */
int keeper_restore(struct spool *spool, struct outbox *outbox, struct engine *engine,
                   char *const *patterns, const struct ruleset_now *now, struct why *why);
