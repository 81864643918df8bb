// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The streams of a device's outbox: those of the configuration, and those for what the device
 * itself says.
 */
#pragma once

#include <stddef.h>

#include "config/config.h"
#include "core/stream.h"

extern const char streams_state[];    // what the actuators are
extern const char streams_replies[];  // what became of commands, kept until it has arrived
extern const char streams_refusals[]; // what became of commands that nobody has to keep

/* A policy for each; a new array. NULL without memory. Names are config's or those above. */
struct stream_policy *streams_make(const struct config *config, size_t *ret_n);
