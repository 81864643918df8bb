// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the files of the engine share. Nobody else includes this. */
#pragma once

#include "server/engine.h"
#include "server/reasons.h"
#include "util/heap.h"
#include "util/ratelimit.h"

enum { ENGINE_MAX_NEWCOMERS = 256 };

/* A device that came online before its first reading. */
struct newcomer {
    uint64_t hash, mono_usec;
};

struct engine {
    const struct engine_handlers *handlers;
    void *userdata;
    struct ruleset *rules;
    struct groups *groups;
    struct fleet *fleet;
    struct reasons *reasons; // of what they have decided
    struct pages *pages;     // what outlives a restart; NULL: nothing

    // Grows with each connection: a command sent before it may have been lost with the old one.
    uint32_t epoch;
    uint64_t serial;            // of the work at hand, so that each rule is evaluated once for it
    uint64_t *visited;          // by rule: serial of the last work that evaluated it
    size_t n_touched, *touched; // slots that the message at work has changed

    uint64_t forget_after_usec;
    struct heap held;              // changes
    struct heap refreshes;         // commands to be sent again
    struct heap due;               // of devices, by when one of their readings may have gone stale
    struct heap unsent;            // devices with commands that wait for room
    bool any_group_unsent;         // some group has
    size_t room;                   // for how many there is
    uint64_t room_mono_usec;       // they are not tried before
    bool any_stale;                // some device rule has a stale_after
    bool any_time, any_group_time; // some device rule changes with time alone; some group rule
    bool is_sweeping;
    size_t sweep_cursor;
    uint64_t sweep_mono_usec; // when the next portion is due
    uint64_t swept_mono_usec; // when the last sweep began
    struct ruleset_now now;   // of the work at hand

    size_t next_newcomer;
    struct newcomer newcomers[ENGINE_MAX_NEWCOMERS]; // a ring
    struct ratelimit silences, delays, quotas;
};

/* Evaluates the i-th rule and sends what follows; has_reading: a reading of it has just come. */
void engine_evaluate(struct engine *engine, const struct ruleset_target *target, size_t i,
                     const struct ruleset_now *now, bool has_reading);

void engine_evaluate_once(struct engine *engine, const struct ruleset_target *target, size_t i,
                          const struct ruleset_now *now, bool has_reading);

/* The rules that ask for an aggregate, each once for a serial; or for any, for a new serial. */
void engine_evaluate_aggregate(struct engine *engine, struct group *group, size_t aggregate,
                               const struct ruleset_now *now, bool has_reading);
void engine_evaluate_group(struct engine *engine, struct group *group,
                           const struct ruleset_now *now);

/* Sees to it that the next reading of device that goes stale is noticed. */
void engine_watch(struct engine *engine, struct fleet_device *device, uint64_t now_mono_usec);

/* Says, once until its next reading, that device does not count any more. */
void engine_log_silence(struct engine *engine, struct fleet_device *device, const char *what,
                        uint64_t now_mono_usec);

/* A new device with that id, which is none yet, whoever has to make room for it. */
int engine_make(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
                struct fleet_device **ret_device);
void engine_forget_oldest(struct engine *engine, const struct ruleset_now *now);

/* The device with that id, a new one if need be, that has been heard of now. */
int engine_hear(struct engine *engine, struct topic_slice id, const struct ruleset_now *now,
                struct fleet_device **ret_device);

/* Sees to it that the command that is in force is sent again when it is time for that. */
void engine_refresh_later(struct engine *engine, const struct ruleset_target *target, size_t i,
                          uint64_t now_mono_usec);

/* A device that came online is sent what its group was sent before. */
void engine_catch_up(struct engine *engine, struct fleet_device *device,
                     const struct ruleset_now *now);

/* What could not be sent to target, with result r, is sent when there is room. */
void engine_wait_for_room(struct engine *engine, const struct ruleset_target *target, int r,
                          const struct ruleset_now *now);

/* Whether the command of a rule's present outcome is on its way. */
bool engine_has_sent(const struct engine *engine, const struct fleet_rule *state);

void engine_free_held(struct engine *engine);
