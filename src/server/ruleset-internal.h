// SPDX-License-Identifier: LGPL-2.1-or-later
/* What ruleset.c uses and ruleset-build.c makes. Nobody else includes this. */
#pragma once

#include "server/ruleset.h"
#include "util/ratelimit.h"

struct ruleset {
    struct config *config;
    size_t n_rules, n_device_rules, n_slots, n_aggregates, n_series;
    struct server_rule *rules;
    struct server_slot *slots;
    struct server_aggregate *aggregates;
    struct server_series *series;
    size_t n_buckets;        // a power of two, at least twice n_slots
    size_t *buckets;         // slot + 1, 0: empty; open addressing
    uint64_t idle_mono_usec; // when a rule that was never evaluated is reported; then USEC_INFINITY
    struct ratelimit unknowns; // logged: a peer can make a value unknown and known again at will
};

/* The name's bucket: the one that holds its slot, or the empty one where it belongs. */
size_t *ruleset_bucket(const struct ruleset *rules, const char *name);
