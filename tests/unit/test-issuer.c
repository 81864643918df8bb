// SPDX-License-Identifier: LGPL-2.1-or-later
// The journal of commands on a simulated clock: once, in order, never out of date, within bounds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "random.h"
#include "server/issuer.h"
#include "util/clock.h"

#define ON     "{\"led\": true}"
#define OFF    "{\"led\": false}"
#define MINUTE (60 * USEC_PER_SEC)

enum { MAX_SENT = 4096, MAX_RECORDS = 512 };

struct sent {
    char device[32], group[32], id[64], payload[256];
};

/* Records as a store would hold them; `durable` ones survive a crash. */
struct record {
    char key[64], *value;
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

static int on_save(void *userdata, const char *key, const char *value)
{
    struct world *world = userdata;
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

static uint64_t on_sync(void *userdata)
{
    return ++((struct world *)userdata)->ticket;
}

static int on_send(void *userdata, const struct issuer_letter *letter)
{
    struct world *world = userdata;
    if (world->is_offline)
        return -ENOTCONN;
    assert_true(world->n_sent < MAX_SENT);
    struct sent *sent = &world->sent[world->n_sent++];
    snprintf(sent->device, sizeof(sent->device), "%s", letter->device ? letter->device : "");
    snprintf(sent->group, sizeof(sent->group), "%s", letter->group ? letter->group : "");
    snprintf(sent->id, sizeof(sent->id), "%s", letter->id);
    snprintf(sent->payload, sizeof(sent->payload), "%s", letter->payload);
    return 0;
}

static const struct issuer_handlers handlers = {
    .save = on_save,
    .sync = on_sync,
    .send = on_send,
};

static struct topic_slice slice(const char *id)
{
    return (struct topic_slice){ id, strlen(id) };
}

static void open_issuer(struct world *world)
{
    assert_int_equal(issuer_new(++world->seed, &handlers, world, &world->issuer), 0);
    for (size_t i = world->n_records; i > 0; i--) // in an order of the disk's own
        issuer_recall(world->issuer, world->records[i - 1].key, world->records[i - 1].value,
                      &world->now);
    issuer_recalled(world->issuer, &world->now);
    issuer_connected(world->issuer, &world->now);
}

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    world->now = (struct ruleset_now){ 1000 * USEC_PER_SEC, 1795523696 * USEC_PER_SEC };
    open_issuer(world);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    issuer_free(world->issuer);
    for (size_t i = 0; i < world->n_records; i++)
        free(world->records[i].value);
    free(world);
    return 0;
}

/* kill -9, and a new run. */
static void crash(struct world *world)
{
    issuer_free(world->issuer);
    world->ticket = 0;
    open_issuer(world);
}

static void run(struct world *world)
{
    for (unsigned i = 0; issuer_next_mono_usec(world->issuer) <= world->now.mono_usec; i++) {
        assert_true(i < 1000);
        issuer_run(world->issuer, &world->now);
    }
}

/* The disk has all. */
static void settle(struct world *world)
{
    issuer_recorded(world->issuer, world->ticket, &world->now);
    run(world);
}

static void pass(struct world *world, uint64_t usec)
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

static struct issuer_order order_for(const char *device)
{
    return (struct issuer_order){
        .device = device,
        .group = "default",
        .rule = "r",
        .qos = 1,
        .expires_usec = USEC_INFINITY,
        .lease_usec = USEC_INFINITY,
        .has_seq = true,
    };
}

static int issue(struct world *world, struct issuer_order order, const char *json)
{
    struct command *command;
    assert_int_equal(command_parse(json, strlen(json), &command, NULL), 0);
    order.command = command;
    int r = issuer_issue(world->issuer, &order, &world->now);
    command_free(command);
    return r;
}

static int issue_latest(struct world *world, const char *device, const char *json)
{
    return issue(world, order_for(device), json);
}

static int issue_ordered(struct world *world, const char *device, const char *json)
{
    struct issuer_order order = order_for(device);
    order.is_ordered = true;
    return issue(world, order, json);
}

static void announce(struct world *world, const char *device, bool online)
{
    issuer_announce(world->issuer, slice(device), online, true, &world->now);
    run(world);
}

/* As a broker has kept it. */
static void announce_again(struct world *world, const char *device, bool online)
{
    issuer_announce(world->issuer, slice(device), online, false, &world->now);
    run(world);
}

static bool reply(struct world *world, const char *device, const char *id, enum reply_status status)
{
    struct answer answer = { .status = status };
    snprintf(answer.id, sizeof(answer.id), "%s", id);
    bool r = issuer_reply(world->issuer, slice(device), &answer, &world->now);
    run(world);
    return r;
}

static const struct sent *last(const struct world *world)
{
    assert_true(world->n_sent > 0);
    return &world->sent[world->n_sent - 1];
}

static void expect_last(const struct world *world, size_t n_sent, const char *device,
                        const char *part)
{
    assert_int_equal(world->n_sent, n_sent);
    assert_string_equal(last(world)->device, device);
    if (!strstr(last(world)->payload, part))
        fail_msg("%s is not in %s", part, last(world)->payload);
}

static struct issuer_counts count(const struct world *world)
{
    struct issuer_counts counts;
    issuer_count(world->issuer, &counts);
    return counts;
}

/* --- on disk --------------------------------------------------------------------------------- */

static void command_is_on_disk_before_it_is_sent(void **state)
{
    struct world *world = *state;
    assert_int_equal(issue_latest(world, "lamp", ON), 0);
    run(world);
    assert_int_equal(world->n_records, 1);
    assert_int_equal(world->n_sent, 0);
    settle(world);
    expect_last(world, 1, "lamp", "\"led\": true}");
    assert_non_null(strstr(last(world)->payload, last(world)->id));
    assert_string_equal(last(world)->id, world->records[0].key);
}

static void reply_closes_it(void **state)
{
    struct world *world = *state;
    issue_latest(world, "lamp", ON);
    settle(world);
    assert_false(reply(world, "other", last(world)->id, REPLY_DONE)); // a forged one
    assert_false(reply(world, "lamp", "made-up", REPLY_DONE));
    assert_true(reply(world, "lamp", last(world)->id, REPLY_DONE));
    assert_false(reply(world, "lamp", last(world)->id, REPLY_DONE));
    assert_int_equal(world->n_records, 0);
    assert_int_equal(count(world).ended[ISSUER_DONE], 1);
    pass(world, 24 * 60 * MINUTE);
    assert_int_equal(world->n_sent, 1);
}

static void crash_sends_the_same_again(void **state)
{
    struct world *world = *state;
    issue_latest(world, "lamp", ON);
    settle(world);
    struct sent first = *last(world);
    crash(world);
    run(world);
    assert_int_equal(world->n_sent, 2);
    assert_string_equal(last(world)->id, first.id);
    assert_string_equal(last(world)->payload, first.payload);
    assert_true(reply(world, "lamp", first.id, REPLY_DONE));
    crash(world);
    pass(world, 60 * MINUTE);
    assert_int_equal(world->n_sent, 2);
}

static void nonsense_on_disk_is_removed(void **state)
{
    struct world *world = *state;
    on_save(world, "a", "no JSON");
    on_save(world, "b", "{\"device\": \"lamp\"}");
    on_save(world, "c",
            "{\"device\": \"la/mp\", \"rule\": \"r\", \"delivery\": \"latest\", "
            "\"number\": 1, \"command\": \"{\\\"led\\\": true}\"}");
    on_save(world, "d",
            "{\"device\": \"lamp\", \"rule\": \"r\", \"delivery\": \"latest\", "
            "\"number\": 1, \"command\": \"{}\"}");
    on_save(world, "0123456789012345678901234567890123456789", "{}");
    on_save(world, "e", // a group's without a group
            "{\"members\": 1, \"rule\": \"r\", \"delivery\": \"latest\", "
            "\"number\": 1, \"command\": \"{\\\"led\\\": true}\"}");
    on_save(world, "f/0", "lamp"); // of no group's
    crash(world);
    assert_int_equal(world->n_records, 0);
    assert_int_equal(count(world).n_open, 0);
}

/* --- sent again ------------------------------------------------------------------------------ */

static void unanswered_one_is_sent_again_with_longer_pauses(void **state)
{
    struct world *world = *state;
    issue_latest(world, "lamp", ON);
    settle(world);
    pass(world, 3 * USEC_PER_SEC);
    assert_int_equal(world->n_sent, 1);
    pass(world, 4 * USEC_PER_SEC);
    assert_int_equal(world->n_sent, 2);
    pass(world, 60 * MINUTE);
    assert_in_range(world->n_sent, 12, 25);
    assert_string_equal(world->sent[0].id, last(world)->id);
    pass(world, 24 * 60 * MINUTE);
    assert_int_equal(world->n_sent, ISSUER_MAX_TRIES);
    assert_int_equal(count(world).ended[ISSUER_UNANSWERED], 1);
    assert_int_equal(world->n_records, 0);
}

static void offline_device_gets_it_when_it_comes_back(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", false);
    issue_latest(world, "lamp", ON);
    settle(world);
    pass(world, 7 * 24 * 60 * MINUTE);
    assert_int_equal(world->n_sent, 0);
    crash(world);
    announce(world, "lamp", false); // retained
    pass(world, 60 * MINUTE);
    announce(world, "lamp", true);
    expect_last(world, 1 + 0, "lamp", "true");
    assert_true(reply(world, "lamp", last(world)->id, REPLY_DONE));
}

static void message_of_an_offline_device_says_that_it_is_back(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", false);
    issue_latest(world, "lamp", ON);
    settle(world);
    issuer_heard(world->issuer, slice("other"), &world->now);
    run(world);
    assert_int_equal(world->n_sent, 0);
    issuer_heard(world->issuer, slice("lamp"), &world->now);
    run(world);
    expect_last(world, 1, "lamp", "true");
}

static void restarted_device_is_sent_it_at_once(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", true);
    issue_latest(world, "lamp", ON);
    settle(world);
    announce(world, "lamp", true); // as it says every minute
    assert_int_equal(world->n_sent, 1);
    announce(world, "lamp", false);
    announce(world, "lamp", true);
    assert_int_equal(world->n_sent, 2);
}

static void renewed_connection_sends_what_is_open(void **state)
{
    struct world *world = *state;
    world->is_offline = true;
    issue_latest(world, "lamp", ON);
    settle(world);
    pass(world, 60 * MINUTE);
    assert_int_equal(issuer_next_mono_usec(world->issuer), USEC_INFINITY);
    world->is_offline = false;
    issuer_connected(world->issuer, &world->now);
    run(world);
    assert_int_equal(world->n_sent, 1);
    issuer_connected(world->issuer, &world->now);
    run(world);
    assert_int_equal(world->n_sent, 2);
}

/* --- latest ---------------------------------------------------------------------------------- */

static void newer_command_takes_the_place_of_the_older(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", false);
    issue_latest(world, "lamp", ON);
    issue_latest(world, "lamp", OFF);
    settle(world);
    assert_int_equal(world->n_records, 1);
    assert_int_equal(count(world).ended[ISSUER_SUPERSEDED], 1);
    announce(world, "lamp", true);
    expect_last(world, 1, "lamp", "\"led\": false}");
}

static void same_command_again_is_the_one_that_is_open(void **state)
{
    struct world *world = *state;
    assert_int_equal(issue_latest(world, "lamp", ON), 0);
    assert_int_equal(issue_latest(world, "lamp", ON), 1);
    settle(world);
    assert_int_equal(world->n_sent, 1);
    reply(world, "lamp", last(world)->id, REPLY_DONE);
    assert_int_equal(issue_latest(world, "lamp", ON), 0); // it is a new one
    settle(world);
    assert_int_equal(world->n_sent, 2);
}

/* Cut off, the device may have decided otherwise after what it had carried out. */
static void same_command_is_a_new_one_for_a_device_that_was_away(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", true);
    issue_latest(world, "lamp", ON);
    settle(world);
    struct sent first = *last(world);
    announce(world, "lamp", false);
    announce(world, "lamp", true);
    assert_int_equal(issue_latest(world, "lamp", ON), 0);
    settle(world);
    assert_string_not_equal(last(world)->id, first.id);
    assert_int_equal(count(world).ended[ISSUER_SUPERSEDED], 1);
    assert_int_equal(issue_latest(world, "lamp", ON), 1);

    issuer_connected(world->issuer, &world->now); // it is we who were away
    run(world);
    assert_int_equal(issue_latest(world, "lamp", ON), 0);
}

static void same_command_that_was_never_sent_remains_open(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", false);
    issue_latest(world, "lamp", ON);
    settle(world);
    assert_int_equal(world->n_sent, 0);
    announce(world, "lamp", true);
    assert_int_equal(issue_latest(world, "lamp", ON), 1);
    assert_int_equal(world->n_sent, 1);
}

static void newer_command_leaves_other_actuators_alone(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", false);
    issue_latest(world, "lamp", "{\"led\": true, \"fan\": 21.40, \"name\": \"a\\\"b\"}");
    issue_latest(world, "lamp", "{\"pump\": true}");
    issue_latest(world, "lamp", OFF);
    settle(world);
    announce(world, "lamp", true);
    assert_int_equal(world->n_sent, 3);
    assert_non_null(strstr(world->sent[0].payload, "{\"$id\": \"0000000000000001-2\""));
    assert_non_null(strstr(world->sent[1].payload, "\"led\": false}"));
    expect_last(world, 3, "lamp", "\"fan\": 21.4, \"name\": \"a\\\"b\"}");
    assert_null(strstr(last(world)->payload, "led"));
    crash(world);
    run(world);
    assert_int_equal(count(world).n_open, 3);
}

static void seq_never_falls_when_the_clock_is_set_back(void **state)
{
    struct world *world = *state;
    unsigned long long first = 0, second = 0;
    issue_latest(world, "lamp", ON);
    settle(world);
    assert_int_equal(sscanf(strstr(last(world)->payload, "$seq"), "$seq\": %llu", &first), 1);
    assert_int_equal(first, world->now.wall_usec / USEC_PER_MSEC);
    world->now.wall_usec -= 60 * MINUTE;
    crash(world);
    issue_latest(world, "lamp", OFF);
    settle(world);
    assert_int_equal(sscanf(strstr(last(world)->payload, "$seq"), "$seq\": %llu", &second), 1);
    assert_int_equal(second, first);
}

/* --- ordered --------------------------------------------------------------------------------- */

static void next_one_waits_for_the_reply_to_the_one_before(void **state)
{
    struct world *world = *state;
    issue_ordered(world, "arm", "{\"raise\": true}");
    issue_ordered(world, "arm", "{\"grip\": true}");
    issue_ordered(world, "arm", "{\"grip\": true}"); // not the same one: a movement of its own
    settle(world);
    pass(world, 24 * 60 * MINUTE); // it is not given up
    expect_last(world, world->n_sent, "arm", "raise");
    assert_int_equal(count(world).n_open, 3);
    size_t n_sent = world->n_sent;
    reply(world, "arm", last(world)->id, REPLY_DONE);
    expect_last(world, n_sent + 1, "arm", "grip");
    crash(world);
    run(world);
    expect_last(world, n_sent + 2, "arm", "grip");
    reply(world, "arm", last(world)->id, REPLY_FAILED);
    expect_last(world, n_sent + 3, "arm", "grip");
    reply(world, "arm", last(world)->id, REPLY_DONE);
    assert_int_equal(world->n_records, 0);
}

static void latest_one_does_not_wait_for_ordered_ones(void **state)
{
    struct world *world = *state;
    issue_ordered(world, "arm", "{\"raise\": true}");
    issue_ordered(world, "arm", "{\"led\": true}");
    issue_latest(world, "arm", OFF);
    settle(world);
    assert_int_equal(world->n_sent, 2);
    assert_int_equal(count(world).n_open, 3); // and takes no place of theirs
}

static void reply_that_comes_twice_moves_the_queue_once(void **state)
{
    struct world *world = *state;
    char id[64];
    issue_ordered(world, "arm", "{\"raise\": true}");
    issue_ordered(world, "arm", "{\"grip\": true}");
    issue_ordered(world, "arm", "{\"lower\": true}");
    settle(world);
    snprintf(id, sizeof(id), "%s", last(world)->id);
    reply(world, "arm", id, REPLY_DONE);
    reply(world, "arm", id, REPLY_DONE);
    expect_last(world, 2, "arm", "grip");
}

/* --- other servers --------------------------------------------------------------------------- */

static bool observe(struct world *world, const char *device, const char *json)
{
    struct json_object *object = json_tokener_parse(json);
    bool is_foreign = issuer_observe(world->issuer, slice(device), object, &world->now);
    json_object_put(object);
    run(world);
    return is_foreign;
}

static void what_another_server_has_said_first_is_not_said_again(void **state)
{
    struct world *world = *state;
    issue_latest(world, "lamp", ON);
    assert_true(observe(world, "lamp", "{\"$id\": \"a-1\", \"$seq\": 1, \"led\": true}"));
    settle(world);
    assert_int_equal(world->n_sent, 0);
    assert_int_equal(world->n_records, 0);
    assert_int_equal(count(world).ended[ISSUER_SUPERSEDED], 1);

    issue_latest(world, "lamp", ON);
    observe(world, "lamp", "{\"$id\": \"a-2\", \"$seq\": 1, \"led\": false}"); // older than ours
    observe(world, "lamp", "{\"$id\": \"a-3\", \"led\": true}"); // a person's: nobody repeats it
    observe(world, "other", "{\"$id\": \"a-4\", \"$seq\": 1, \"led\": true}");
    settle(world);
    expect_last(world, 1, "lamp", ON + 1);
    char own[256];
    snprintf(own, sizeof(own), "%s", last(world)->payload);
    assert_false(observe(world, "lamp", own)); // it comes back
    assert_int_equal(world->n_records, 1);
    crash(world);
    assert_false(observe(world, "lamp", own)); // also after a restart
    assert_int_equal(world->n_records, 1);
}

static void what_another_server_says_later_takes_the_place_of_the_older(void **state)
{
    struct world *world = *state;
    issue_latest(world, "lamp", ON);
    settle(world);
    expect_last(world, 1, "lamp", ON + 1);
    const char *newer = "{\"$id\": \"a-1\", \"$seq\": 1900000000000, \"led\": false}";
    announce(world, "lamp", false);
    assert_true(observe(world, "lamp", newer)); // it may not get there
    assert_int_equal(world->n_records, 1);
    announce(world, "lamp", true);
    issue_latest(world, "lamp", "{\"fan\": 1}");
    settle(world);
    issue_ordered(world, "lamp", ON);
    observe(world, "lamp", newer);
    assert_int_equal(world->n_records, 2); // what it does not set, and what is in order
}

/* --- expiry ---------------------------------------------------------------------------------- */

static void expired_one_is_never_sent(void **state)
{
    struct world *world = *state;
    struct issuer_order order = order_for("lamp");
    order.expires_usec = MINUTE;
    order.lease_usec = 10 * MINUTE;
    announce(world, "lamp", false);
    issue(world, order, ON);
    settle(world);
    pass(world, MINUTE - 1);
    assert_int_equal(count(world).n_open, 1);
    announce(world, "lamp", true);
    expect_last(world, 1, "lamp", "\"$expires\": \"2026-11-24T");
    expect_last(world, 1, "lamp", "\"$for\": \"600000ms\"");
    pass(world, 1);
    assert_int_equal(count(world).ended[ISSUER_EXPIRED], 1);
    issuer_connected(world->issuer, &world->now);
    pass(world, 60 * MINUTE);
    assert_int_equal(world->n_sent, 1);
    assert_int_equal(world->n_records, 0);
}

static void expired_one_lets_the_next_go(void **state)
{
    struct world *world = *state;
    struct issuer_order order = order_for("arm");
    order.is_ordered = true;
    order.expires_usec = MINUTE;
    issue(world, order, "{\"raise\": true}");
    issue_ordered(world, "arm", "{\"grip\": true}");
    settle(world);
    crash(world); // it expires across restarts
    pass(world, 2 * MINUTE);
    expect_last(world, world->n_sent, "arm", "grip");
}

/* --- groups ---------------------------------------------------------------------------------- */

static int issue_group(struct world *world, const char *json, const char *const *devices, size_t n)
{
    struct command *command;
    struct issuer_order order = order_for(NULL);
    order.group = "north";
    assert_int_equal(command_parse(json, strlen(json), &command, NULL), 0);
    order.command = command;
    int r = issuer_issue_group(world->issuer, &order, devices, n, &world->now);
    command_free(command);
    return r;
}

/* An online group of n devices, d0, d1, ... */
static const char *const *make_group(struct world *world, size_t n)
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

static size_t n_sent_to(const struct world *world, const char *device)
{
    size_t n = 0;
    for (size_t i = 0; i < world->n_sent; i++)
        n += strcmp(world->sent[i].device, device) == 0;
    return n;
}

static void group_is_told_once_and_each_device_replies(void **state)
{
    struct world *world = *state;
    static const char *const devices[] = { "a", "b", "c", "plain" };
    announce(world, "a", true);
    announce(world, "b", true);
    announce(world, "c", false);
    assert_int_equal(issue_group(world, ON, devices, 4), 0);
    run(world);
    assert_int_equal(world->n_records, 2); // what it says, and who is to reply
    assert_int_equal(world->n_sent, 0);
    settle(world);
    assert_int_equal(world->n_sent, 1);
    struct sent first = *last(world);
    assert_string_equal(first.group, "north");
    assert_string_equal(first.device, "");
    assert_int_equal(count(world).n_outstanding, 3);
    assert_true(reply(world, "a", first.id, REPLY_DONE));
    assert_false(reply(world, "plain", first.id, REPLY_DONE));
    assert_int_equal(count(world).n_outstanding, 2);
    pass(world, 7 * USEC_PER_SEC); // one that did not reply gets it on its own
    expect_last(world, 2, "b", "true");
    assert_string_equal(last(world)->id, first.id);
    assert_true(reply(world, "b", first.id, REPLY_DONE));
    announce(world, "c", true);
    expect_last(world, 3, "c", "true");
    assert_string_equal(last(world)->id, first.id);
    assert_true(reply(world, "c", first.id, REPLY_DONE));
    assert_int_equal(count(world).n_outstanding, 0);
    assert_int_equal(count(world).ended[ISSUER_DONE], 3);
    assert_int_equal(world->n_records, 0);
    pass(world, 60 * MINUTE);
    assert_int_equal(world->n_sent, 3);
}

static void group_of_nobody_that_replies_is_told_and_done_with(void **state)
{
    struct world *world = *state;
    static const char *const devices[] = { "plain" };
    assert_int_equal(issue_group(world, ON, devices, 1), 0);
    settle(world);
    assert_int_equal(world->n_sent, 1);
    assert_int_equal(world->n_records, 0);
}

static void crash_before_a_group_was_told_tells_it_once(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 3);
    issue_group(world, ON, devices, 3);
    crash(world);
    for (unsigned i = 0; i < 3; i++)
        announce_again(world, devices[i], true);
    pass(world, 2 * USEC_PER_SEC);
    expect_last(world, 1, "", "true");
    assert_string_equal(last(world)->group, "north");
    // The rule, which has begun anew, only says so once more.
    assert_int_equal(issue_group(world, ON, devices, 3), 1);
    settle(world);
    assert_int_equal(world->n_sent, 1);
    for (unsigned i = 0; i < 3; i++)
        assert_true(reply(world, devices[i], world->sent[0].id, REPLY_DONE));
    assert_int_equal(world->n_records, 0);
}

static void crash_leaves_those_that_have_not_replied(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 3);
    issue_group(world, ON, devices, 3);
    settle(world);
    struct sent first = *last(world);
    reply(world, "d1", first.id, REPLY_DONE);
    pass(world, 2 * USEC_PER_SEC);
    crash(world);
    announce_again(world, "d0", true);
    announce_again(world, "d1", true);
    announce_again(world, "d2", false);
    pass(world, 2 * USEC_PER_SEC);
    assert_int_equal(count(world).n_outstanding, 2);
    assert_int_equal(n_sent_to(world, ""), 1); // the group as a whole is not told again
    assert_int_equal(n_sent_to(world, "d0"), 1);
    assert_int_equal(n_sent_to(world, "d1"), 0);
    assert_string_equal(last(world)->id, first.id);
    assert_string_equal(last(world)->payload, first.payload);
    assert_true(reply(world, "d0", first.id, REPLY_DONE));
    assert_int_equal(n_sent_to(world, "d2"), 0);
    announce(world, "d2", true);
    assert_int_equal(n_sent_to(world, "d2"), 1);
    assert_true(reply(world, "d2", first.id, REPLY_DONE));
    assert_int_equal(world->n_records, 0);
    crash(world);
    pass(world, 60 * MINUTE);
    assert_int_equal(world->n_sent, 3);
}

static void rule_that_begins_anew_repeats_itself_with_the_same_id(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 3);
    issue_group(world, ON, devices, 2);
    settle(world);
    struct sent first = *last(world);
    reply(world, "d0", first.id, REPLY_DONE);
    crash(world);
    for (unsigned i = 0; i < 3; i++)
        announce_again(world, devices[i], true);
    assert_int_equal(issue_group(world, ON, devices, 3), 1); // d2 may have come meanwhile
    settle(world);
    expect_last(world, 2, "", "true");
    assert_string_equal(last(world)->id, first.id); // the others know that they have done it
    pass(world, 3 * USEC_PER_SEC);
    assert_int_equal(world->n_sent, 2);
    assert_int_equal(issue_group(world, ON, devices, 3), 0); // the rule's `refresh`
    settle(world);
    expect_last(world, 3, "", "true");
    assert_string_not_equal(last(world)->id, first.id);
}

static void lease_of_a_group_is_renewed_whoever_has_not_replied(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    struct command *command;
    struct issuer_order order = order_for(NULL);
    order.lease_usec = MINUTE;
    assert_int_equal(command_parse(ON, strlen(ON), &command, NULL), 0);
    order.command = command;
    assert_int_equal(issuer_issue_group(world->issuer, &order, devices, 2, &world->now), 0);
    settle(world);
    char id[64];
    snprintf(id, sizeof(id), "%s", last(world)->id);
    crash(world);
    make_group(world, 2);
    assert_int_equal(issuer_issue_group(world->issuer, &order, devices, 2, &world->now), 0);
    settle(world);
    assert_string_equal(last(world)->group, "default");
    assert_string_not_equal(last(world)->id, id);
    command_free(command);
}

static void replies_of_a_group_are_written_down_together(void **state)
{
    enum { N = 640, N_PARTS = 10 };
    struct world *world = *state;
    const char *const *devices = make_group(world, N);
    issue_group(world, ON, devices, N);
    settle(world);
    struct sent first = *last(world);
    assert_in_range(world->n_saved, N_PARTS + 1, N_PARTS + 3);
    world->n_saved = 0;
    for (unsigned i = 0; i < N / 2; i++)
        reply(world, devices[i], first.id, REPLY_DONE);
    assert_int_equal(world->n_saved, 0);
    pass(world, 1 * USEC_PER_SEC);
    assert_in_range(world->n_saved, N_PARTS / 2, N_PARTS + 1);
    crash(world);
    assert_int_equal(count(world).n_outstanding, N / 2);
    for (unsigned i = N / 2; i < N; i++)
        assert_true(reply(world, devices[i], first.id, REPLY_DONE));
    assert_int_equal(world->n_records, 0);
}

static void end_writes_down_what_a_group_has_replied(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    issue_group(world, ON, devices, 2);
    settle(world);
    reply(world, "d0", last(world)->id, REPLY_DONE);
    issuer_flush(world->issuer);
    crash(world);
    assert_int_equal(count(world).n_outstanding, 1);
}

static void damaged_roll_is_taken_up_as_far_as_it_goes(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 3);
    char key[96];
    issue_group(world, ON, devices, 3);
    settle(world);
    struct sent first = *last(world);
    snprintf(key, sizeof(key), "%s/0", first.id);
    on_save(world, key, "d0  no+id d0 d2");
    snprintf(key, sizeof(key), "%s/99999999999999999999", first.id);
    on_save(world, key, "d1");
    snprintf(key, sizeof(key), "%s/-1", first.id);
    on_save(world, key, "d1");
    crash(world);
    assert_int_equal(world->n_records, 2);
    assert_int_equal(count(world).n_outstanding, 2);
    assert_true(reply(world, "d0", first.id, REPLY_DONE));
    assert_false(reply(world, "d1", first.id, REPLY_DONE));
    assert_true(reply(world, "d2", first.id, REPLY_DONE));
    assert_int_equal(world->n_records, 0);
}

static void newer_command_of_a_group_takes_the_place_of_the_older(void **state)
{
    struct world *world = *state;
    static const char *const devices[] = { "a", "b" };
    announce(world, "a", false);
    announce(world, "b", false);
    issue_group(world, ON, devices, 2);
    settle(world);
    issue_latest(world, "b", "{\"fan\": 1}");
    issue_group(world, OFF, devices, 2);
    settle(world);
    assert_int_equal(count(world).n_outstanding, 2);
    assert_int_equal(count(world).ended[ISSUER_SUPERSEDED], 2);
    announce(world, "a", true);
    expect_last(world, 3, "a", "false");
    announce(world, "b", true);
    assert_int_equal(world->n_sent, 5);
    expect_last(world, 5, "b", "false");
}

static void group_that_was_not_told_yet_is_told_the_newest_alone(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    world->is_offline = true;
    issue_group(world, ON, devices, 2);
    settle(world);
    issue_group(world, OFF, devices, 2);
    settle(world);
    assert_int_equal(world->n_sent, 0);
    assert_int_equal(world->n_records, 2);
    world->is_offline = false;
    issuer_connected(world->issuer, &world->now);
    run(world);
    expect_last(world, 1, "", "false");
}

static void device_unheard_since_a_restart_is_not_sent_what_is_out_of_date(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 3);
    announce(world, "d2", false);
    issue_group(world, ON, devices, 3);
    settle(world);
    reply(world, "d0", last(world)->id, REPLY_DONE);
    reply(world, "d1", last(world)->id, REPLY_DONE);
    crash(world);
    announce_again(world, "d0", true);
    announce_again(world, "d1", true);
    announce_again(world, "d2", false);
    issue_group(world, OFF, devices, 2); // the engine has not heard of d2
    settle(world);
    announce(world, "d2", true);
    assert_int_equal(n_sent_to(world, "d2"), 1);
    expect_last(world, world->n_sent, "d2", "false");
}

static void what_an_older_command_of_a_group_sets_besides_is_still_set(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    issue_group(world, "{\"led\": true, \"fan\": 1}", devices, 2);
    settle(world);
    reply(world, "d0", last(world)->id, REPLY_DONE);
    announce(world, "d1", false);
    issue_group(world, OFF, devices, 2);
    settle(world);
    assert_int_equal(n_sent_to(world, ""), 2); // d0 has done the rest
    assert_int_equal(n_sent_to(world, "d0"), 0);
    crash(world);
    announce(world, "d1", false);
    announce(world, "d1", true);
    assert_int_equal(n_sent_to(world, "d1"), 2);
    assert_int_equal(count(world).n_outstanding, 3);
}

static void command_to_a_device_takes_the_place_of_its_groups(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    announce(world, "d1", false);
    issue_group(world, ON, devices, 2);
    settle(world);
    issue_latest(world, "d1", OFF);
    settle(world);
    crash(world); // before the group's record is written
    announce(world, "d1", false);
    announce(world, "d1", true);
    expect_last(world, world->n_sent, "d1", "false");
}

/* As when a plain device has joined the group. */
static void plain_command_takes_the_place_of_what_is_open(void **state)
{
    struct world *world = *state;
    struct command *command;
    struct issuer_order order = order_for("lamp");
    const char *const *devices = make_group(world, 2);
    announce(world, "d1", false);
    issue_group(world, "{\"led\": true, \"fan\": 1}", devices, 2);
    issue_latest(world, "lamp", ON);
    issue_latest(world, "lamp", "{\"fan\": 1}");
    issue_ordered(world, "lamp", ON);
    settle(world);
    assert_int_equal(command_parse(OFF, strlen(OFF), &command, NULL), 0);
    order.command = command;
    issuer_overrule(world->issuer, &order, &world->now);
    assert_int_equal(count(world).n_open, 2);
    order.device = "nobody";
    issuer_overrule(world->issuer, &order, &world->now);
    order.device = NULL;
    order.group = "north";
    issuer_overrule(world->issuer, &order, &world->now);
    assert_int_equal(count(world).ended[ISSUER_SUPERSEDED], 3);
    settle(world);
    announce(world, "d1", true);
    expect_last(world, world->n_sent, "d1", "\"fan\": 1}");
    assert_null(strstr(last(world)->payload, "led"));
    command_free(command);
}

static void group_does_not_get_an_expired_command(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    struct command *command;
    struct issuer_order order = order_for(NULL);
    order.expires_usec = MINUTE;
    assert_int_equal(command_parse(ON, strlen(ON), &command, NULL), 0);
    order.command = command;
    world->is_offline = true;
    assert_int_equal(issuer_issue_group(world->issuer, &order, devices, 2, &world->now), 0);
    assert_int_equal(issuer_issue_group(world->issuer, &order, NULL, 0, &world->now), 1);
    settle(world);
    pass(world, 2 * MINUTE);
    world->is_offline = false;
    issuer_connected(world->issuer, &world->now);
    pass(world, MINUTE);
    assert_int_equal(world->n_sent, 0);
    assert_int_equal(count(world).ended[ISSUER_EXPIRED], 2);
    assert_int_equal(world->n_records, 0);
    command_free(command);
}

static void group_that_does_not_reply_is_given_up(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    issue_group(world, ON, devices, 2);
    settle(world);
    reply(world, "d0", last(world)->id, REPLY_DONE);
    pass(world, 24 * 60 * MINUTE);
    assert_int_equal(world->n_sent, ISSUER_MAX_TRIES);
    assert_int_equal(count(world).ended[ISSUER_UNANSWERED], 1);
    assert_int_equal(world->n_records, 0);
}

/* --- other rules ----------------------------------------------------------------------------- */

static bool sets_no_led(void *userdata, const struct issuer_item *item)
{
    (void)userdata;
    return !strstr(item->command->json, "led");
}

static void what_no_rule_says_any_more_is_not_sent(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    announce(world, "d1", false);
    announce(world, "arm", false);
    issue_latest(world, "d1", "{\"fan\": 1}");
    issue_ordered(world, "arm", ON);
    issue_ordered(world, "arm", "{\"grip\": true}");
    issue_group(world, ON, devices, 2);
    settle(world);
    assert_int_equal(issuer_review(world->issuer, sets_no_led, NULL, &world->now), 3);
    assert_int_equal(count(world).ended[ISSUER_SUPERSEDED], 3);
    assert_int_equal(count(world).n_outstanding, 0);
    crash(world);
    assert_int_equal(count(world).n_open, 2);
    assert_int_equal(count(world).n_outstanding, 0);
    announce(world, "arm", true);
    expect_last(world, world->n_sent, "arm", "grip");
}

static bool is_not_d1(void *userdata, const struct issuer_item *item)
{
    (void)userdata;
    return !item->device || strcmp(item->device, "d1") != 0;
}

static void device_that_no_rule_is_for_any_more_leaves_its_group(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    issue_group(world, ON, devices, 2);
    settle(world);
    assert_int_equal(issuer_review(world->issuer, is_not_d1, NULL, &world->now), 1);
    assert_int_equal(count(world).n_outstanding, 1);
    assert_true(reply(world, "d0", last(world)->id, REPLY_DONE));
    assert_int_equal(world->n_records, 0);
}

/* --- bounds ---------------------------------------------------------------------------------- */

static void too_many_are_refused_and_counted(void **state)
{
    struct world *world = *state;
    for (unsigned i = 0; i < ISSUER_MAX_OPEN_DEVICE; i++)
        assert_int_equal(issue_ordered(world, "arm", "{\"grip\": true}"), 0);
    assert_int_equal(issue_ordered(world, "arm", "{\"grip\": true}"), -ENOBUFS);
    assert_int_equal(count(world).refused, 1);
    assert_int_equal(issue_ordered(world, "other", "{\"grip\": true}"), 0);
    settle(world);
    reply(world, "arm", world->sent[0].id, REPLY_DONE);
    assert_int_equal(issue_ordered(world, "arm", "{\"grip\": true}"), 0);
}

static void device_that_withdraws_is_as_one_that_never_said_anything(void **state)
{
    struct world *world = *state;
    announce(world, "lamp", true);
    assert_true(issuer_knows(world->issuer, "lamp"));
    issuer_withdraw(world->issuer, slice("lamp"));
    assert_false(issuer_knows(world->issuer, "lamp"));
    assert_false(issuer_knows(world->issuer, "lam"));
}

/* --- whatever happens ------------------------------------------------------------------------ */

enum { N_ORDERED = 40 };

/* A device with a journal of its own, that loses what it is sent, and replies. */
struct robot {
    size_t n_done, n_seen;
    unsigned done[256];
    char seen[256][64];
    unsigned led, led_of[256];
};

static bool has_seen(const struct robot *robot, const char *id)
{
    for (size_t i = 0; i < robot->n_seen; i++) {
        if (strcmp(robot->seen[i], id) == 0)
            return true;
    }
    return false;
}

static void obey(struct robot *robot, const struct sent *sent)
{
    unsigned n;
    const char *step = strstr(sent->payload, "\"step\": "),
               *led = strstr(sent->payload, "\"led\": ");
    if (has_seen(robot, sent->id))
        return;
    assert_true(robot->n_seen < ELEMENTS(robot->seen));
    snprintf(robot->seen[robot->n_seen++], sizeof(robot->seen[0]), "%s", sent->id);
    if (step && sscanf(step, "\"step\": %u", &n) == 1)
        robot->done[robot->n_done++] = n;
    else if (led && sscanf(led, "\"led\": %u", &n) == 1) {
        assert_true(n > robot->led); // never one that is out of date
        robot->led = n;
    }
}

static void once_and_in_order_whatever_happens(void **state)
{
    struct world *world = *state;
    random_begin();
    for (unsigned round = 0; round < 50; round++) {
        struct robot robot = { 0 };
        unsigned n_issued = 0, n_led = 0;
        size_t seen_sent = world->n_sent = 0;
        char text[64];
        announce(world, "arm", true);
        while (n_issued < N_ORDERED || count(world).n_open > 0) {
            unsigned what = (unsigned)random_below(10);
            if (what < 3 && n_issued < N_ORDERED) {
                snprintf(text, sizeof(text), "{\"step\": %u}", ++n_issued);
                assert_int_equal(issue_ordered(world, "arm", text), 0);
            } else if (what == 3 && n_issued < N_ORDERED) {
                snprintf(text, sizeof(text), "{\"led\": %u}", ++n_led);
                assert_int_equal(issue_latest(world, "arm", text), 0);
            } else if (what == 4) {
                crash(world);
                announce(world, "arm", random_below(2));
            } else if (what == 5) {
                announce(world, "arm", random_below(2));
            } else {
                issuer_recorded(world->issuer, world->ticket, &world->now);
                pass(world, random_below(20 * USEC_PER_SEC));
            }
            for (; seen_sent < world->n_sent; seen_sent++) {
                if (random_below(4) == 0)
                    continue; // lost on the way
                obey(&robot, &world->sent[seen_sent]);
                if (random_below(4) > 0) {
                    struct answer answer = { .status = REPLY_DONE };
                    snprintf(answer.id, sizeof(answer.id), "%s", world->sent[seen_sent].id);
                    issuer_reply(world->issuer, slice("arm"), &answer, &world->now);
                }
            }
            if (n_issued == N_ORDERED)
                announce(world, "arm", true);
            assert_true(world->n_sent < MAX_SENT);
        }
        if (robot.n_done != N_ORDERED || robot.led != n_led)
            fail_msg("round %u: %zu of %d done, led %u of %u", round, robot.n_done, N_ORDERED,
                     robot.led, n_led);
        for (unsigned i = 0; i < N_ORDERED; i++)
            assert_int_equal(robot.done[i], i + 1);
    }
}

/* Lamps with journals of their own, that lose what they are sent, and reply or not. */
static void group_has_the_newest_whatever_happens(void **state)
{
    enum { N_LAMPS = 5, N_STEPS = 20 };
    struct world *world = *state;
    static struct robot lamps[N_LAMPS];
    random_begin();
    for (unsigned round = 0; round < 50; round++) {
        const char *const *devices = make_group(world, N_LAMPS);
        unsigned n_led = 0;
        size_t seen_sent = world->n_sent = 0;
        memset(lamps, 0, sizeof(lamps));
        while (n_led < N_STEPS || count(world).n_outstanding + count(world).n_open > 0) {
            unsigned what = (unsigned)random_below(10);
            if (what < 2 && n_led < N_STEPS) {
                char text[64];
                snprintf(text, sizeof(text), "{\"led\": %u}", ++n_led);
                assert_int_equal(issue_group(world, text, devices, N_LAMPS), 0);
            } else if (what == 2) {
                crash(world);
                for (unsigned i = 0; i < N_LAMPS; i++)
                    announce(world, devices[i], random_below(2));
            } else if (what == 3) {
                announce(world, devices[random_below(N_LAMPS)], random_below(2));
            } else {
                issuer_recorded(world->issuer, world->ticket, &world->now);
                pass(world, random_below(20 * USEC_PER_SEC));
            }
            for (; seen_sent < world->n_sent; seen_sent++) {
                const struct sent *sent = &world->sent[seen_sent];
                for (unsigned i = 0; i < N_LAMPS; i++) {
                    if ((sent->device[0] && strcmp(sent->device, devices[i]) != 0) ||
                        random_below(4) == 0)
                        continue;
                    obey(&lamps[i], sent);
                    struct answer answer = { .status = REPLY_DONE };
                    snprintf(answer.id, sizeof(answer.id), "%s", sent->id);
                    if (random_below(4) > 0)
                        issuer_reply(world->issuer, slice(devices[i]), &answer, &world->now);
                }
            }
            if (n_led == N_STEPS)
                make_group(world, N_LAMPS);
            assert_true(world->n_sent < MAX_SENT);
        }
        for (unsigned i = 0; i < N_LAMPS; i++)
            assert_int_equal(lamps[i].led, n_led);
        assert_int_equal(world->n_records, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(command_is_on_disk_before_it_is_sent),
        TEST(reply_closes_it),
        TEST(crash_sends_the_same_again),
        TEST(nonsense_on_disk_is_removed),
        TEST(unanswered_one_is_sent_again_with_longer_pauses),
        TEST(offline_device_gets_it_when_it_comes_back),
        TEST(message_of_an_offline_device_says_that_it_is_back),
        TEST(restarted_device_is_sent_it_at_once),
        TEST(renewed_connection_sends_what_is_open),
        TEST(newer_command_takes_the_place_of_the_older),
        TEST(same_command_again_is_the_one_that_is_open),
        TEST(same_command_is_a_new_one_for_a_device_that_was_away),
        TEST(same_command_that_was_never_sent_remains_open),
        TEST(newer_command_leaves_other_actuators_alone),
        TEST(seq_never_falls_when_the_clock_is_set_back),
        TEST(next_one_waits_for_the_reply_to_the_one_before),
        TEST(latest_one_does_not_wait_for_ordered_ones),
        TEST(reply_that_comes_twice_moves_the_queue_once),
        TEST(what_another_server_has_said_first_is_not_said_again),
        TEST(what_another_server_says_later_takes_the_place_of_the_older),
        TEST(expired_one_is_never_sent),
        TEST(expired_one_lets_the_next_go),
        TEST(group_is_told_once_and_each_device_replies),
        TEST(group_of_nobody_that_replies_is_told_and_done_with),
        TEST(crash_before_a_group_was_told_tells_it_once),
        TEST(crash_leaves_those_that_have_not_replied),
        TEST(rule_that_begins_anew_repeats_itself_with_the_same_id),
        TEST(lease_of_a_group_is_renewed_whoever_has_not_replied),
        TEST(replies_of_a_group_are_written_down_together),
        TEST(end_writes_down_what_a_group_has_replied),
        TEST(damaged_roll_is_taken_up_as_far_as_it_goes),
        TEST(newer_command_of_a_group_takes_the_place_of_the_older),
        TEST(group_that_was_not_told_yet_is_told_the_newest_alone),
        TEST(device_unheard_since_a_restart_is_not_sent_what_is_out_of_date),
        TEST(what_an_older_command_of_a_group_sets_besides_is_still_set),
        TEST(command_to_a_device_takes_the_place_of_its_groups),
        TEST(plain_command_takes_the_place_of_what_is_open),
        TEST(group_does_not_get_an_expired_command),
        TEST(group_that_does_not_reply_is_given_up),
        TEST(what_no_rule_says_any_more_is_not_sent),
        TEST(device_that_no_rule_is_for_any_more_leaves_its_group),
        TEST(too_many_are_refused_and_counted),
        TEST(device_that_withdraws_is_as_one_that_never_said_anything),
        TEST(once_and_in_order_whatever_happens),
        TEST(group_has_the_newest_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
