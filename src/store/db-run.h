// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The mark of a clean end: under which run the numbers go on if the next process finds it, in the
 * same boot of the machine. It is a record, cleared, and synced, before the first number is used.
 * Internal to src/store.
 */
#pragma once

#include "store/db.h"
#include "store/store.h"

/*
 * Clears the mark. *ret_run is what it says, if it says one of this boot and is off the disk for
 * good; else ret_run is left alone.
 */
void db_run_take(struct db *db, const uint8_t boot[static STORE_BOOT_SIZE],
                 uint8_t ret_run[static STORE_RUN_SIZE]);

/* Sets it, as the last transaction. If that fails, the next process has a run of its own. */
void db_run_leave(struct db *db, const uint8_t boot[static STORE_BOOT_SIZE],
                  const uint8_t run[static STORE_RUN_SIZE]);

/* Whether a record is the mark, which a salvage leaves out: it does not know all numbers. */
bool db_run_is_mark(const struct store_record *record);
