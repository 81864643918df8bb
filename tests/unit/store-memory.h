// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A store in memory, and what a test may do to it beside store.h. It outlives an outbox: a test of
 * a crash makes a new outbox on the same store.
 */
#pragma once

#include "store/store.h"

/* 0 or -ENOMEM. */
int store_memory_new(struct store **ret_store);

/* Its boot is this one from now on; at first all zeros. */
void store_memory_set_boot(struct store *store, const uint8_t boot[static STORE_BOOT_SIZE]);

/* What store_get_run() says; at first all zeros. */
void store_memory_set_run(struct store *store, const uint8_t run[static STORE_RUN_SIZE]);

/* Every job fails with error (positive errno) until it is 0. */
void store_memory_set_error(struct store *store, int error);

/* Every sync alone fails while it is on. */
void store_memory_set_sync_fails(struct store *store, bool fails);

/* What has_room says. */
void store_memory_set_room(struct store *store, bool has_room);
