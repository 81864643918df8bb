// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A store in memory: does a job as store.h says, and fails as a test says. It outlives an outbox: a
 * test of a crash makes a new outbox on the same store.
 */
#pragma once

#include "store/store.h"

struct store_memory;

/* 0 or -ENOMEM. */
int store_memory_new(struct store_memory **ret_store);
void store_memory_free(struct store_memory *store);

/* As store_run(), store_names() and store_records(). */
int store_memory_run(struct store_memory *store, struct store_job *job, struct why *why);
int store_memory_names(struct store_memory *store, char ***ret_names);
int store_memory_records(struct store_memory *store, const char *space,
                         void (*visit)(void *userdata, const char *key, const char *value),
                         void *userdata, struct why *why);

/* Its boot is this one from now on; at first all zeros. */
void store_memory_set_boot(struct store_memory *store, const uint8_t boot[static STORE_BOOT_SIZE]);

/* Every job fails with error (positive errno) until it is 0. */
void store_memory_set_error(struct store_memory *store, int error);

/* Every sync alone fails while it is on. */
void store_memory_set_sync_fails(struct store_memory *store, bool fails);

/* What has_room says. */
void store_memory_set_room(struct store_memory *store, bool has_room);
