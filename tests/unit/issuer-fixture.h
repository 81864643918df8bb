// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An issuer whose world this is: a disk that holds its records, devices that are sent letters, and
 * a clock that stands still.
 *
 *     TEST() makes one for each test. issue_...(), announce(), reply(); settle() lets the disk have
 * all, pass() lets time go by, crash() makes a new issuer on what the disk has.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "server/issuer.h"
#include "util/clock.h"

#define ON     "{\"led\": true}"
#define OFF    "{\"led\": false}"
#define MINUTE (60 * USEC_PER_SEC)

enum { MAX_SENT = 8192, MAX_RECORDS = 4096 };

struct sent {
    char device[32], group[32], id[64], payload[256];
};

/* As a store would hold it. */
struct record {
    char key[96], *value;
};

struct world {
    struct issuer *issuer;
    struct ruleset_now now;
    bool is_offline; // nothing can be sent
    uint64_t seed, ticket;
    size_t n_records, n_sent, n_saved;
    struct record records[MAX_RECORDS];
    struct sent sent[MAX_SENT];
};

int post_save(struct post *post, const char *key, const char *value)
{
    struct world *world = (struct world *)post;
    size_t i = 0;
    world->n_saved++;
    while (i < world->n_records && strcmp(world->records[i].key, key) != 0)
        i++;
    if (i < world->n_records)
        free(world->records[i].value);
    if (!value) {
        if (i < world->n_records)
            world->records[i] = world->records[--world->n_records];
        return 0;
    }
    assert_true(i < MAX_RECORDS);
    snprintf(world->records[i].key, sizeof(world->records[i].key), "%s", key);
    world->records[i].value = strdup(value);
    world->n_records += i == world->n_records;
    return 0;
}

uint64_t post_sync(struct post *post)
{
    return ++((struct world *)post)->ticket;
}

int post_send(struct post *post, const struct letter *letter, const char *device)
{
    struct world *world = (struct world *)post;
    if (world->is_offline)
        return -ENOTCONN;
    assert_true(world->n_sent < MAX_SENT);
    struct sent *sent = &world->sent[world->n_sent++];
    snprintf(sent->device, sizeof(sent->device), "%s", device ? device : "");
    snprintf(sent->group, sizeof(sent->group), "%s", letter->group ? letter->group : "");
    snprintf(sent->id, sizeof(sent->id), "%s", letter->id);
    snprintf(sent->payload, sizeof(sent->payload), "%s", letter->payload);
    return 0;
}

static inline struct topic_slice slice(const char *id)
{
    return (struct topic_slice){ id, strlen(id) };
}

static inline void open_issuer(struct world *world)
{
    assert_int_equal(issuer_new(++world->seed, (struct post *)world, &world->issuer), 0);
    for (size_t i = world->n_records; i > 0; i--) // in an order of the disk's own
        issuer_recall(world->issuer, world->records[i - 1].key, world->records[i - 1].value,
                      &world->now);
    issuer_recalled(world->issuer, &world->now);
    issuer_connected(world->issuer, &world->now);
}

static inline int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    world->now = (struct ruleset_now){ 1000 * USEC_PER_SEC, 1795523696 * USEC_PER_SEC };
    open_issuer(world);
    *state = world;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *world = *state;
    issuer_free(world->issuer);
    for (size_t i = 0; i < world->n_records; i++)
        free(world->records[i].value);
    free(world);
    return 0;
}

/* kill -9, and a new run. */
static inline void crash(struct world *world)
{
    issuer_free(world->issuer);
    world->ticket = 0;
    open_issuer(world);
}

static inline void run(struct world *world)
{
    for (unsigned i = 0; issuer_next_mono_usec(world->issuer) <= world->now.mono_usec; i++) {
        assert_true(i < 1000);
        issuer_run(world->issuer, &world->now);
    }
}

/* The disk has all. */
static inline void settle(struct world *world)
{
    issuer_recorded(world->issuer, world->ticket);
    run(world);
}

static inline void pass(struct world *world, uint64_t usec)
{
    uint64_t until_mono_usec = world->now.mono_usec + usec;
    uint64_t next_mono_usec;
    while ((next_mono_usec = issuer_next_mono_usec(world->issuer)) <= until_mono_usec) {
        if (next_mono_usec > world->now.mono_usec) {
            world->now.wall_usec += next_mono_usec - world->now.mono_usec;
            world->now.mono_usec = next_mono_usec;
        }
        issuer_run(world->issuer, &world->now);
    }
    world->now.wall_usec += until_mono_usec - world->now.mono_usec;
    world->now.mono_usec = until_mono_usec;
}

static inline struct letter_order order_for(const char *device)
{
    return (struct letter_order){
        .device = device,
        .group = "default",
        .rule = "r",
        .qos = 1,
        .expires_usec = USEC_INFINITY,
        .lease_usec = USEC_INFINITY,
        .has_seq = true,
    };
}

static inline int issue(struct world *world, struct letter_order order, const char *json)
{
    struct command *command;
    assert_int_equal(command_parse(json, strlen(json), &command, NULL), 0);
    order.command = command;
    int r = issuer_issue(world->issuer, &order, &world->now);
    command_free(command);
    return r;
}

static inline int issue_latest(struct world *world, const char *device, const char *json)
{
    return issue(world, order_for(device), json);
}

static inline int issue_ordered(struct world *world, const char *device, const char *json)
{
    struct letter_order order = order_for(device);
    order.is_ordered = true;
    return issue(world, order, json);
}

static inline void announce(struct world *world, const char *device, bool online)
{
    issuer_announce(world->issuer, slice(device), online, true, &world->now);
    run(world);
}

/* As a broker has kept it. */
static inline void announce_again(struct world *world, const char *device, bool online)
{
    issuer_announce(world->issuer, slice(device), online, false, &world->now);
    run(world);
}

static inline bool reply(struct world *world, const char *device, const char *id,
                         enum reply_status status)
{
    struct answer answer = { .status = status };
    snprintf(answer.id, sizeof(answer.id), "%s", id);
    bool r = issuer_reply(world->issuer, slice(device), &answer, &world->now);
    run(world);
    return r;
}

static inline const struct sent *last(const struct world *world)
{
    assert_true(world->n_sent > 0);
    return &world->sent[world->n_sent - 1];
}

static inline void expect_last(const struct world *world, size_t n_sent, const char *device,
                               const char *part)
{
    assert_int_equal(world->n_sent, n_sent);
    assert_string_equal(last(world)->device, device);
    if (!strstr(last(world)->payload, part))
        fail_msg("%s is not in %s", part, last(world)->payload);
}

static inline struct issuer_counts count(const struct world *world)
{
    struct issuer_counts counts;
    issuer_count(world->issuer, &counts);
    return counts;
}

static inline int issue_group(struct world *world, const char *json, const char *const *devices,
                              size_t n)
{
    struct command *command;
    struct letter_order order = order_for(NULL);
    order.group = "north";
    assert_int_equal(command_parse(json, strlen(json), &command, NULL), 0);
    order.command = command;
    int r = issuer_issue_group(world->issuer, &order, devices, n, &world->now);
    command_free(command);
    return r;
}

/* An online group of n devices, d0, d1, ... */
static inline const char *const *make_group(struct world *world, size_t n)
{
    static char names[1000][8];
    static const char *ids[1000];
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "d%zu", i);
        ids[i] = names[i];
        announce(world, ids[i], true);
    }
    return ids;
}

static inline size_t n_sent_to(const struct world *world, const char *device)
{
    size_t n = 0;
    for (size_t i = 0; i < world->n_sent; i++)
        n += strcmp(world->sent[i].device, device) == 0;
    return n;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
