// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * `nightlightctl rules explain` and the server that it asks: {"explain": "RULE", "for": "NAME"},
 * answered by {"text": "..."} or {"error": "..."}, over io/inquiry.h. Readings are all that there
 * is to be asked for.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "server/engine.h"
#include "util/cleanup.h"

struct explainer;

/* That it cannot be asked is logged; rules work without. 0 or -ENOMEM. */
int explainer_new(sd_event *event, struct explainer **ret_explainer);
void explainer_free(struct explainer *explainer);
DEFINE_CLEANUP(struct explainer *, explainer_free)

/* The engine to be asked about, borrowed until the next one, or until explainer is freed. */
void explainer_configure(struct explainer *explainer, const struct engine *engine);

/* The answer to a question of size bytes; a new string, or NULL for none. */
char *explainer_answer(const struct engine *engine, const char *question, size_t size,
                       const struct ruleset_now *now);

/*
 * Asks the server that runs on this machine; name may be NULL. Blocks. *ret_text is a new string:
 * 0: what account_tell() said; 1: why it had nothing to say. Else errors as inquiry_ask(), -EBADMSG
 * for an answer that is none; with why.
 */
int explainer_ask(const char *rule, const char *name, uint64_t wait_usec, char **ret_text,
                  struct why *why);
