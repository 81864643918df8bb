// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a role has subscribed to, until the broker's answer: a refusal names the filter.
 *
 *     subscriptions_add() with each subscription, subscriptions_find() with each SUBACK. Plain
 * value, at first all zeros; subscriptions_done() frees what it has.
 */
#pragma once

#include <stddef.h>

enum { SUBSCRIPTIONS_MAX = 8 }; // the last ones are remembered

struct subscription {
    int mid;
    char *filter;
};

struct subscriptions {
    size_t next; // a ring
    struct subscription ring[SUBSCRIPTIONS_MAX];
};

void subscriptions_add(struct subscriptions *subscriptions, int mid, const char *filter);

/* The filter of that message id, or "a filter" where that is not known any more. */
const char *subscriptions_find(const struct subscriptions *subscriptions, int mid);

void subscriptions_done(struct subscriptions *subscriptions);
