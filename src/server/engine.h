// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The server's work without a broker and a clock: takes readings in, keeps the fleet and its
 * groups, evaluates the rules that a message or the time concerns, and hands out the commands that
 * follow. The server role feeds it with messages, `nightlightctl rules test` with a recording.
 */
#pragma once

#include <json-c/json.h>

#include "config/config.h"
#include "server/account.h"
#include "server/decider.h"
#include "server/pages.h"
#include "util/cleanup.h"

struct engine;

/* A reading that came so long after its time is none to act on but by a rule's stale_after. */
#define ENGINE_LATE_USEC (30 * 1000000ULL)

/* config is referenced. 0 or -ENOMEM. */
int engine_new(struct config *config, const struct decider_handlers *handlers, void *userdata,
               struct engine **ret_engine);
void engine_free(struct engine *engine);
DEFINE_CLEANUP(struct engine *, engine_free)

/* As decider_remember(); before the first device is heard of. */
void engine_remember(struct engine *engine, struct decisions *decisions);

size_t engine_n_devices(const struct engine *engine);

/*
 * Takes in the readings of a device, and sends what the rules say to them. group is what the topic
 * names (bytes NULL: nothing). taken_wall_usec is when they were taken, 0: now. -ENOMEM.
 */
int engine_take(struct engine *engine, struct topic_slice id, struct topic_slice group,
                struct json_object *readings, uint64_t taken_wall_usec,
                const struct ruleset_now *now);

/*
 * A device says that it is online or not. is_news: just now. One that comes online gets its
 * commands, its group's too, with its next reading. Returns whether it is known and was otherwise.
 */
bool engine_presence(struct engine *engine, struct topic_slice id, bool online, bool is_news,
                     const struct ruleset_now *now);

/*
 * A command to a device was seen on its topic: a rule that says just that has decided so, here or
 * on another server that shares the fleet, and need not say it again. If it has decided otherwise
 * than here, it does so by a newer reading: time alone decides nothing here until the next one. It
 * renews its leases; when it stops doing so, this server does. is_foreign: this one is not known to
 * have sent it.
 */
void engine_observe(struct engine *engine, struct topic_slice id, struct json_object *command,
                    bool is_foreign, const struct ruleset_now *now);

/* What was sent before may be lost: every command is sent again with the next reading. */
void engine_reconnected(struct engine *engine);

/* The tag of commands to a target, and: nobody was there to take one. */
uint64_t engine_tag(const struct ruleset_target *target);
void engine_unheard(struct engine *engine, uint64_t tag);

/* From now on n of those commands that wait for room may be handed out, in engine_run(). */
void engine_make_room(struct engine *engine, size_t n);
/* Whether some do. */
bool engine_waits_for_room(const struct engine *engine);

/*
 * Does what is due with time alone, in small portions. engine_next_mono_usec() is when to call it
 * next; USEC_INFINITY: never. It may become earlier with every other call here.
 */
void engine_run(struct engine *engine, const struct ruleset_now *now);
uint64_t engine_next_mono_usec(const struct engine *engine);

/* --- what outlives the engine ---------------------------------------------------------------- */

/*
 * What is known of the fleet is to be kept over a restart, in records of together at most max_bytes
 * (server/pages.h). 0 or -ENOMEM.
 */
int engine_keep(struct engine *engine, uint64_t max_bytes);

/* What has changed and is to be written; NULL: nothing is kept. */
struct pages *engine_pages(const struct engine *engine);

/*
 * Takes such a record back, of the devices that fit patterns; after the last one
 * engine_restored(). -EBADMSG: it is none; -ENOMEM.
 */
int engine_restore(struct engine *engine, const char *key, const char *value, char *const *patterns,
                   const struct ruleset_now *now);
void engine_restored(struct engine *engine, const struct ruleset_now *now);

/*
 * Takes a series as early versions have kept it. -ENOENT: no rule looks at such a series any more;
 * -EBADMSG: it is damaged; -ENOMEM.
 */
int engine_restore_series(struct engine *engine, struct topic_slice id, uint64_t span_usec,
                          const char *name, const unsigned char *bytes, size_t n_bytes,
                          const struct ruleset_now *now);

/*
 * Takes over the devices of an engine that is about to be replaced, those that fit patterns, and
 * their series. What rules have decided is not known any more: they are others.
 */
void engine_inherit(struct engine *engine, struct engine *old, char *const *patterns,
                    const struct ruleset_now *now);

/* What account_tell() and its kind tell of. */
struct account_scope engine_scope(const struct engine *engine);
