// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Records that wait for the store, by name and in the order in which they came. A record that waits
 * is replaced by the next one of its name, so that a flood of commands waits for a slow disk as
 * what is true at its end, and not as each of its steps.
 *
 * A set of them is its first one; NULL: it is empty.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "store/store.h"

struct record;

/*
 * As outbox_put_record(), or with is_new as outbox_add_record(). 1: one more waits; 0: no more do;
 * -ENOMEM.
 */
int records_put(struct record **records, const char *space, const char *key, const char *value,
                bool is_new);

/* Puts them into a job, which borrows them. -ENOMEM. */
int records_list(struct record *records, struct store_job *job);

/* Those of a job that has failed, to be written by the next. */
void records_give_back(struct record **records, struct record **failed);

size_t records_count(const struct record *records);
void records_free(struct record **records);
