// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All that a role has to send: bounded queues, one a stream, kept by the store across outages,
 * crashes and power cuts, and the window in flight. The only place that decides what is sent, when,
 * again, or given up; each sample ends in its stream's ledger.
 *
 *     outbox_new(), outbox_prepare() and outbox_commit() with the streams, outbox_publish()
 * whenever; the connection says outbox_connected(), outbox_disconnected() and outbox_published(),
 * the store outbox_stored(), the timer outbox_tick().
 *
 * It is asked when it wants a tick, with each turn of the loop: outbox_wake_mono_usec(). Nothing
 * here sleeps, and no call calls the role. Tests link a clock and a link_publish() of their own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ledger.h"
#include "core/mqtt.h"
#include "core/stream.h"
#include "io/link.h"
#include "outbox/outbox-options.h"
#include "store/store.h"
#include "util/cleanup.h"

struct outbox;
struct outbox_plan; // another configuration, prepared

struct outbox_message {
    const char *stream;  // one of outbox_prepare()'s
    const char *subject; // the sensor in its topic, or the topic itself; NULL: none
    const char *payload; // a JSON object, NUL-terminated
    uint32_t n_samples;  // how many samples are in it; counted in the ledger
    uint64_t mono_usec;  // when they were taken; 0: now
    int qos;             // -1: the stream's
    uint64_t tag;        // given back by outbox_published(); 0: none
};

struct outbox_counters {
    uint64_t sent;      // acknowledged (QoS 1 and 2) or written (QoS 0), since the start
    uint64_t dropped;   // at a bound, or not kept, since the start
    uint64_t expired;   // too old, since the start
    uint64_t rejected;  // refused by the broker for good, since the start
    uint64_t queued;    // waiting
    uint64_t in_flight; // handed over, not acknowledged
};

/*
 * boot is the id of this boot of the machine; (run, seq) is used once: see spool_run_id().
 * run_job() begins a job, and outbox_stored() is called once it is done; one at a time. It is
 * called on the main loop, also while a call of the role is at work. 0 or -ENOMEM.
 */
int outbox_new(const uint8_t boot[STORE_BOOT_SIZE], const uint8_t run[STORE_RUN_SIZE],
               int (*run_job)(void *userdata, struct store_job *job), void *userdata,
               struct outbox **ret_outbox);

/* While a job is at work it is freed by outbox_stored(), and begins none any more. */
void outbox_free(struct outbox *outbox);
DEFINE_CLEANUP(struct outbox *, outbox_free)

/*
 * Makes what other streams and options take, and touches nothing; copies them. outbox_commit() puts
 * it into force, in the same turn of the main loop, frees it and cannot fail. What waits in a
 * stream that is gone is still drained. 0, -ENOMEM or -EINVAL (a template).
 */
int outbox_prepare(const struct outbox *outbox, const struct outbox_options *options,
                   const struct stream_policy *policies, size_t n_policies,
                   struct outbox_plan **ret_plan);
void outbox_commit(struct outbox *outbox, struct outbox_plan *plan);
void outbox_plan_free(struct outbox_plan *plan);
DEFINE_CLEANUP(struct outbox_plan *, outbox_plan_free)

/* Streams that the store has and nobody may have configured: what waits in them is drained. */
void outbox_adopt(struct outbox *outbox, char *const *names);

/*
 * Takes a message. 0 if it is sent or waits; else it was dropped and counted: -ENOTCONN (keep =
 * none and not connected), -ENOBUFS (a bound was reached), -ENOMEM. -ESHUTDOWN: it is none of this
 * run's any more, and not counted.
 */
int outbox_publish(struct outbox *outbox, const struct outbox_message *message);

/* Samples of a stream that do not become messages: filtered or merged, and sampled. */
void outbox_count_samples(struct outbox *outbox, const char *stream, const struct ledger *delta);

/*
 * Writes a record, or removes it with value NULL, in the same transaction as what is published next
 * in the same turn of the main loop. space, key and value as struct store_record. 0 or -ENOMEM.
 */
int outbox_put_record(struct outbox *outbox, const char *space, const char *key, const char *value);

/*
 * Likewise, of a name that the store does not have: removed before it was written, nothing of it
 * is.
 */
int outbox_add_record(struct outbox *outbox, const char *space, const char *key, const char *value);

/*
 * The records so far are to be safe from a power cut at once, not after the commit interval.
 * Returns a ticket, never 0 and growing.
 */
uint64_t outbox_sync_records(struct outbox *outbox);

/*
 * All records up to this ticket are on disk; or in memory alone, since the disk fails, and whoever
 * waits for them goes on. It is to be looked at after outbox_tick(), which is wanted when it has
 * grown. 0: there was none.
 */
uint64_t outbox_recorded(const struct outbox *outbox);

/*
 * link takes messages by link_publish(), until outbox_disconnected(). max_inflight: how many may be
 * unacknowledged, 1..65535.
 */
void outbox_connected(struct outbox *outbox, struct link *link, unsigned max_inflight);
void outbox_disconnected(struct outbox *outbox);

/*
 * What became of a message: as the link says. Whether mid was one of ours; *ret_tag is the tag of a
 * message that has come to its end by it, else 0 (NULL: nobody asks).
 */
bool outbox_published(struct outbox *outbox, int mid, int reason_code, uint64_t *ret_tag);

/* The job that run_job() was given is done; result as store_run(). May free the outbox. */
void outbox_stored(struct outbox *outbox, int result, const struct why *why);

/* Somebody else's job has met a new store, or none: a job tells what has become of ours. */
void outbox_ask_store(struct outbox *outbox);

/* Does what is due by now. */
void outbox_tick(struct outbox *outbox);

/* When outbox_tick() is wanted, as things are; USEC_INFINITY: not at all. */
uint64_t outbox_wake_mono_usec(const struct outbox *outbox);

/* The connection is about to end: until it does, only what is urgent is sent (stream_policy). */
void outbox_close(struct outbox *outbox);

/*
 * The end: as outbox_close(), and brings to disk what is to be kept. While the disk fails that is
 * tried again at once, and not for long (disk.h). No more messages and samples are taken: with a
 * slow disk there would always be one more to write.
 */
void outbox_quiesce(struct outbox *outbox);

/* Nothing is in flight, nothing urgent waits. */
bool outbox_is_quiet(const struct outbox *outbox);

/* Whether the store knows all numbers that were used. */
bool outbox_is_sealed(const struct outbox *outbox);

/* After outbox_quiesce(): all that is to be kept is on disk, or can not be brought there. */
bool outbox_is_committed(const struct outbox *outbox);

/* Nobody waits for the disk any longer: what is lost is told in one line, once. */
void outbox_end(struct outbox *outbox);

void outbox_count(const struct outbox *outbox, struct outbox_counters *ret_counters);

/*
 * The i-th stream with its ledger since ever, and how many samples of it are in flight; false
 * beyond the last.
 */
bool outbox_ledger(const struct outbox *outbox, size_t i, const char **ret_name,
                   struct ledger *ret_ledger, uint64_t *ret_in_flight);

/* What is wrong with the disk, and how many messages are not on it, one line; NULL: nothing is. */
const char *outbox_trouble(const struct outbox *outbox);
