// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a test may do to a store in memory, beside store.h. It outlives an outbox: a test of a crash
 * makes a new outbox on the same store.
 */
#pragma once

#include "store/store.h"

/* Its boot is this one from now on; at first all zeros. */
void store_memory_set_boot(struct store *store, const uint8_t boot[static STORE_BOOT_SIZE]);

/* Every job fails with error (positive errno) until it is 0. */
void store_memory_set_error(struct store *store, int error);

/* Every sync alone fails while it is on. */
void store_memory_set_sync_fails(struct store *store, bool fails);

/* What has_room says. */
void store_memory_set_room(struct store *store, bool has_room);
