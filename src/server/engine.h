// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The server's work without a broker and a clock: takes readings in, keeps the fleet and its
 * groups, evaluates the rules that a message or the time concerns, and hands out the commands that
 * follow. The server role feeds it with messages, `nightlightctl rules test` with a recording.
 */
#pragma once

#include <json-c/json.h>

#include "config/config.h"
#include "server/fleet.h"
#include "server/groups.h"
#include "server/pages.h"
#include "server/ruleset.h"
#include "util/cleanup.h"
#include "util/why.h"

struct engine;

struct engine_handlers {
    // Sends a rule's command to target. 0; 1: it will reach it, also when the connection breaks;
    // -ENOBUFS: there is no room, or -EDQUOT: not for that device: it is handed out again when
    // there is (engine_make_room()); else -errno: with the next reading. May call engine_explain().
    int (*send)(void *userdata, const struct ruleset_target *target, const struct server_rule *rule,
                const struct command *command);
    // What a rule with delivery = ordered had decided for a device in an earlier run, so that it is
    // not carried out anew; RULE_UNDECIDED: nothing. May be NULL.
    enum rule_outcome (*recall)(void *userdata, const char *device, const struct server_rule *rule);
    // Such a rule has decided, and its command, if there is one, has been sent. May be
    // NULL.
    void (*decided)(void *userdata, const char *device, const struct server_rule *rule,
                    enum rule_outcome outcome);
};

/* A reading that came so long after its time is none to act on but by a rule's stale_after. */
#define ENGINE_LATE_USEC (30 * 1000000ULL)

/* config is referenced. 0 or -ENOMEM. */
int engine_new(struct config *config, const struct engine_handlers *handlers, void *userdata,
               struct engine **ret_engine);
void engine_free(struct engine *engine);
DEFINE_CLEANUP(struct engine *, engine_free)

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

/* As pages_next_mono_usec() and pages_next(); all: also what is not due yet. */
uint64_t engine_keep_mono_usec(const struct engine *engine);
int engine_next_record(struct engine *engine, const struct ruleset_now *now, bool all,
                       char key[static PAGES_KEY_SIZE], char **ret_value, size_t *ret_n_devices);
/* As pages_n_unkept() and pages_n_left_out(). */
size_t engine_n_unkept(const struct engine *engine);
size_t engine_n_left_out(const struct engine *engine);

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

/* --- why ------------------------------------------------------------------------------------- */

/* What a rule looks at, for target, at the work at hand. Returns out. */
const char *engine_explain(const struct engine *engine, const struct ruleset_target *target,
                           const struct server_rule *rule, char *out, size_t size);

/*
 * A decision as a line for a person, without a line feed; command NULL: it sends nothing. A new
 * string, NULL without memory.
 */
char *engine_format_decision(uint64_t wall_usec, bool is_group, const char *name,
                             const struct server_rule *rule, const struct command *command,
                             const char *why);

/*
 * What the rule of that name decided last, for the device or group of that name (NULL: for
 * anybody), and by which readings: one or two lines, a new string. -ENOENT: there is no such rule,
 * or nothing of that name that it is for; -ENODATA: it has decided nothing; -ENOMEM.
 */
int engine_tell(const struct engine *engine, const char *rule, const char *name,
                const struct ruleset_now *now, char **ret_text, struct why *why);
