// SPDX-License-Identifier: LGPL-2.1-or-later
// An outbox is prepared and committed at once.
#pragma once

#include "outbox/outbox.h"

static inline int outbox_configure(struct outbox *outbox, const struct outbox_options *options,
                                   const struct stream_policy *policies, size_t n_policies)
{
    struct outbox_plan *plan;
    int r = outbox_prepare(outbox, options, policies, n_policies, &plan);
    if (r == 0)
        outbox_commit(outbox, plan);
    return r;
}
