// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An outbox whose world this is: a broker that notes what it is sent, a store in memory that works
 * when it is told to, and clocks that stand still.
 *
 *     world_init(), world_configure(), outbox_publish() ... world_settle() lets the store work
 * until it has nothing to do; world_ack() acknowledges what is in flight, world_crash() makes a new
 * outbox on what the store has.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "outbox-configure.h"
#include "store-memory.h"
#include "util/clock.h"

enum { MAX_SENT = 16384, MAX_STREAMS = 8 };

struct sent {
    char topic[32], payload[128];
    char time[32], seq[24], boot[40]; // user properties; "": none
    int mid, qos;
    bool retain, acked;
};

struct world {
    struct outbox *outbox;
    struct store_memory *store;
    struct store_job *job; // on its way
    uint64_t mono_usec, wall_usec;
    bool clock_is_right;
    unsigned n_jobs, n_puts, n_syncs;
    uint8_t boot[STORE_BOOT_SIZE], run[STORE_RUN_SIZE];

    struct outbox_options options;
    struct stream_policy policies[MAX_STREAMS];
    size_t n_policies;

    int last_mid;
    int publish_result;
    bool acks_all;            // what is sent, when it settles
    size_t n_sent, n_settled; // all before are acknowledged, or will never be
    struct sent *sent;
    uint64_t recorded_ticket;
    unsigned depth; // calls that a role has not returned from
    void (*on_recorded)(struct world *world, uint64_t ticket); // NULL: nobody waits
};

static struct world *the_world; // whose time it is, and whose broker

/* --- in the place of util/clock.c and io/link.c ---------------------------------------------- */

uint64_t clock_mono_usec(void)
{
    return the_world->mono_usec;
}

uint64_t clock_wall_usec(void)
{
    return the_world->wall_usec;
}

bool clock_is_right(void)
{
    return the_world->clock_is_right;
}

uint64_t clock_from_monotonic(uint64_t monotonic_nsec)
{
    return monotonic_nsec / 1000;
}

static void world_note_property(struct sent *sent, const struct mqtt_user_property *property)
{
    if (strcmp(property->name, "time") == 0)
        snprintf(sent->time, sizeof(sent->time), "%s", property->value);
    else if (strcmp(property->name, "seq") == 0)
        snprintf(sent->seq, sizeof(sent->seq), "%s", property->value);
    else if (strcmp(property->name, "boot") == 0)
        snprintf(sent->boot, sizeof(sent->boot), "%s", property->value);
    else
        fail_msg("unknown property %s", property->name);
}

int link_publish(struct link *link, const struct mqtt_message *message, int *ret_mid)
{
    struct world *world = (struct world *)link;
    if (world->publish_result < 0)
        return world->publish_result;
    assert_true(world->n_sent < MAX_SENT);
    struct sent *sent = &world->sent[world->n_sent++];
    *sent = (struct sent){ .qos = message->qos, .retain = message->retain };
    snprintf(sent->topic, sizeof(sent->topic), "%s", message->topic);
    snprintf(sent->payload, sizeof(sent->payload), "%.*s", (int)message->payload_size,
             message->payload);
    for (size_t i = 0; i < message->n_properties; i++)
        world_note_property(sent, &message->properties[i]);
    world->last_mid = world->last_mid % UINT16_MAX + 1;
    sent->mid = *ret_mid = world->last_mid;
    return 0;
}

static int world_run(void *userdata, struct store_job *job)
{
    struct world *world = userdata;
    assert_null(world->job);
    world->job = job;
    return 0;
}

/* --- the store ------------------------------------------------------------------------------- */

/* One job is done. */
static inline void world_work(struct world *world)
{
    struct why why = { "" };
    struct store_job *job = world->job;
    assert_non_null(job);
    world->job = NULL;
    world->n_jobs++;
    world->n_puts += job->n_puts;
    world->n_syncs += job->sync;
    int r = store_memory_run(world->store, job, &why);
    outbox_stored(world->outbox, r, &why);
}

/* Acknowledges the oldest that is in flight; false: nothing is. */
static inline bool world_ack(struct world *world, int reason_code)
{
    while (world->n_settled < world->n_sent) {
        struct sent *sent = &world->sent[world->n_settled++];
        if (sent->acked || sent->mid == 0)
            continue;
        sent->acked = true;
        assert_true(outbox_published(world->outbox, sent->mid, reason_code, NULL));
        return true;
    }
    return false;
}

static inline void world_settle(struct world *world)
{
    for (unsigned i = 0; world->job || (world->acks_all && world_ack(world, 0)); i++) {
        assert_true(i < 10000); // else it turns for ever
        if (world->job)
            world_work(world);
    }
}

/* --- time ------------------------------------------------------------------------------------ */

/* As the loop does when the time has come that the outbox has asked for. */
static inline void world_tick(struct world *world)
{
    outbox_tick(world->outbox);
    uint64_t ticket = outbox_recorded(world->outbox);
    if (ticket == world->recorded_ticket)
        return;
    world->recorded_ticket = ticket;
    if (world->on_recorded)
        world->on_recorded(world, ticket);
}

/* Time passes, and whatever the outbox wants to do meanwhile it does in time. */
static inline void world_pass(struct world *world, uint64_t usec)
{
    uint64_t end_mono_usec = world->mono_usec + usec;
    uint64_t wake_mono_usec;
    for (unsigned i = 0; (wake_mono_usec = outbox_wake_mono_usec(world->outbox)) <= end_mono_usec;
         i++) {
        assert_true(i < 1000000);
        uint64_t step_usec =
            wake_mono_usec > world->mono_usec ? wake_mono_usec - world->mono_usec : 0;
        world->mono_usec += step_usec;
        world->wall_usec += step_usec;
        world_tick(world);
        world_settle(world);
    }
    world->wall_usec += end_mono_usec - world->mono_usec;
    world->mono_usec = end_mono_usec;
}

/* --- messages -------------------------------------------------------------------------------- */

static inline int world_send(struct world *world, const char *stream, const char *payload)
{
    return outbox_publish(world->outbox,
                          &(struct outbox_message){
                              .stream = stream, .payload = payload, .n_samples = 1, .qos = -1 });
}

/* {"n": from}, ... {"n": to} */
static inline void world_send_numbers(struct world *world, const char *stream, unsigned from,
                                      unsigned to)
{
    char payload[32];
    for (unsigned n = from; n <= to; n++) {
        snprintf(payload, sizeof(payload), "{\"n\": %u}", n);
        world_send(world, stream, payload);
        world_settle(world);
    }
}

static inline void world_ack_all(struct world *world)
{
    world_settle(world);
    while (world_ack(world, 0))
        world_settle(world);
}

static inline void world_connect(struct world *world, unsigned window)
{
    outbox_connected(world->outbox, (struct link *)world, window);
    world_settle(world);
}

/* What was in flight is not acknowledged any more. */
static inline void world_disconnect(struct world *world)
{
    outbox_disconnected(world->outbox);
    world->n_settled = world->n_sent;
    world_settle(world);
}

static inline uint64_t world_number(const struct sent *sent)
{
    unsigned long long n = 0;
    assert_int_equal(sscanf(sent->payload, "{\"n\": %llu", &n), 1);
    return n;
}

/* --- the ledger ------------------------------------------------------------------------------ */

static inline struct ledger world_ledger(const struct world *world, const char *stream,
                                         uint64_t *ret_in_flight)
{
    const char *name;
    struct ledger ledger;
    for (size_t i = 0; outbox_ledger(world->outbox, i, &name, &ledger, ret_in_flight); i++) {
        if (strcmp(name, stream) == 0)
            return ledger;
    }
    fail_msg("no stream %s", stream);
    return (struct ledger){ 0 };
}

#define ASSERT_LEDGER(world, stream, member, n)                                                    \
    do {                                                                                           \
        uint64_t in_flight_;                                                                       \
        assert_int_equal(world_ledger(world, stream, &in_flight_).member, n);                      \
    } while (0)

static inline uint64_t world_waiting(const struct world *world, const char *stream)
{
    uint64_t in_flight;
    struct ledger ledger = world_ledger(world, stream, &in_flight);
    return ledger_waiting(&ledger);
}

/* --- life ------------------------------------------------------------------------------------ */

static inline void world_configure(struct world *world)
{
    assert_int_equal(
        outbox_configure(world->outbox, &world->options, world->policies, world->n_policies), 0);
    world_settle(world);
}

/* A stream with the defaults of the configuration. */
static inline struct stream_policy *world_stream(struct world *world, const char *name)
{
    struct stream_policy *policy = &world->policies[world->n_policies++];
    *policy = (struct stream_policy){ .name = name,
                                      .topic = "{stream}",
                                      .qos = 1,
                                      .max_age_usec = USEC_INFINITY,
                                      .max_messages = UINT64_MAX };
    return policy;
}

static inline void world_init(struct world *world)
{
    *world = (struct world){
        .mono_usec = 1000 * USEC_PER_SEC,
        .wall_usec = 1790000000 * USEC_PER_SEC,
        .clock_is_right = true,
        .boot = { 1 },
        .run = { 1 },
        .options = { .commit_interval_usec = USEC_PER_SEC,
                     .max_size = 64 << 20,
                     .name = "test",
                     .id = "test",
                     .topic = "{stream}",
                     .late_topic = "{stream}/late" },
    };
    the_world = world;
    world->sent = calloc(MAX_SENT, sizeof(*world->sent));
    assert_non_null(world->sent);
    assert_int_equal(store_memory_new(&world->store), 0);
    store_memory_set_boot(world->store, world->boot);
    assert_int_equal(outbox_new(world->boot, world->run, world_run, world, &world->outbox), 0);
    world_stream(world, "telemetry");
}

static inline void world_new_outbox(struct world *world)
{
    world->n_settled = world->n_sent;
    assert_int_equal(outbox_new(world->boot, world->run, world_run, world, &world->outbox), 0);
    world_configure(world);
}

/* kill -9: what is not in the store is gone; a job that was on its way may or may not be done. */
static inline void world_crash(struct world *world, bool job_is_done)
{
    struct store_job *job = world->job;
    world->job = NULL;
    world->run[1]++;
    outbox_free(world->outbox);
    if (job && job_is_done)
        store_memory_run(world->store, job, NULL);
    if (job)
        outbox_stored(world->outbox, -ECANCELED, NULL);
    world_new_outbox(world);
}

/* The machine has been switched off and on. */
static inline void world_reboot(struct world *world, uint64_t wall_usec)
{
    world->boot[0]++;
    world->mono_usec = 10 * USEC_PER_SEC;
    world->wall_usec = wall_usec;
    store_memory_set_boot(world->store, world->boot);
    world_crash(world, false);
}

static inline void world_done(struct world *world)
{
    outbox_free(world->outbox);
    if (world->job)
        outbox_stored(world->outbox, -ECANCELED, NULL);
    store_memory_free(world->store);
    free(world->sent);
}
