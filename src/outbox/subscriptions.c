// SPDX-License-Identifier: LGPL-2.1-or-later
#include "outbox/subscriptions.h"

#include <stdlib.h>
#include <string.h>

void subscriptions_add(struct subscriptions *subscriptions, int mid, const char *filter)
{
    struct subscription *subscription =
        &subscriptions->ring[subscriptions->next++ % SUBSCRIPTIONS_MAX];
    free(subscription->filter);
    *subscription = (struct subscription){ mid, strdup(filter) };
}

const char *subscriptions_find(const struct subscriptions *subscriptions, int mid)
{
    for (size_t i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        const struct subscription *subscription = &subscriptions->ring[i];
        if (subscription->filter && subscription->mid == mid)
            return subscription->filter;
    }
    return "a filter";
}

void subscriptions_done(struct subscriptions *subscriptions)
{
    for (size_t i = 0; i < SUBSCRIPTIONS_MAX; i++)
        free(subscriptions->ring[i].filter);
    *subscriptions = (struct subscriptions){ 0 };
}
