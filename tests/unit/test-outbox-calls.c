// SPDX-License-Identifier: LGPL-2.1-or-later
// No call of the outbox calls back who made it, whichever call finds the disk failing; and those
// who wait for the disk, as the two roles glue them to the outbox, stand a disk that never works.
#include "outbox-fixture.h"

#include <systemd/sd-event.h>

#include "device/actions.h"
#include "device/telemetry.h"
#include "server/issuer.h"
#include "test-config.h"

static struct world world;

static void begin_world(void)
{
    world_init(&world);
    struct stream_policy *commands = world_stream(&world, "$commands");
    commands->is_volatile = commands->subject_is_topic = true;
    commands->time = STREAM_TIME_NEVER;
    struct stream_policy *replies = world_stream(&world, "$replies");
    replies->is_strict = replies->subject_is_topic = true;
    replies->time = STREAM_TIME_NEVER;
}

/* --- a disk that fails at each call ---------------------------------------------------------- */

static const int errors[] = { EIO, ENOSPC, EROFS };

static unsigned n_runs, first_failing, n_failing;

/* The store has done its job, or failed, before the call that began it returns. */
static void work(void)
{
    unsigned i = n_runs++;
    bool fails = i >= first_failing && i - first_failing < n_failing;
    store_memory_set_error(world.store, fails ? errors[i % ELEMENTS(errors)] : 0);
    world_work(&world);
}

static void check(void)
{
    const char *name;
    struct ledger ledger;
    uint64_t in_flight, n_samples = 0;
    struct outbox_counters counters;
    for (size_t i = 0; outbox_ledger(world.outbox, i, &name, &ledger, &in_flight); i++)
        n_samples += ledger_waiting(&ledger);
    outbox_count(world.outbox, &counters);
    assert_int_equal(n_samples, counters.queued + counters.in_flight);
}

#define CALL(call)                                                                                 \
    do {                                                                                           \
        world.depth++;                                                                             \
        (void)(call);                                                                              \
        world.depth--;                                                                             \
        check();                                                                                   \
    } while (0)

/* All that a role calls, with a disk that is at work or has failed in between. */
static void play(void)
{
    static const struct outbox_message telemetry = {
        .stream = "telemetry", .payload = "{\"a\": 1}", .n_samples = 1, .qos = -1
    };
    static const struct outbox_message command = {
        .stream = "$commands", .subject = "a/commands", .payload = "{}", .n_samples = 1, .qos = 1
    };
    static const struct outbox_message reply = {
        .stream = "$replies", .subject = "a/replies", .payload = "{}", .n_samples = 1, .qos = -1
    };
    const struct ledger filtered = { .sampled = 1, .ended[LEDGER_FILTERED] = 1 };
    for (unsigned round = 0; round < 3; round++) {
        CALL(outbox_put_record(world.outbox, "issued", "a", "1"));
        CALL(outbox_sync_records(world.outbox));
        CALL(outbox_publish(world.outbox, &telemetry));
        CALL(outbox_publish(world.outbox, &reply));
        CALL(outbox_add_record(world.outbox, "command", "b", "1"));
        CALL(outbox_sync_records(world.outbox));
        CALL(outbox_count_samples(world.outbox, "telemetry", &filtered));
        if (world.job)
            work();
        CALL(outbox_publish(world.outbox, &command));
        CALL(outbox_configure(world.outbox, &world.options, world.policies, world.n_policies));
        world_tick(&world);
        CALL(outbox_sync_records(world.outbox));
        if (world.job)
            work();
        CALL(outbox_publish(world.outbox, &telemetry));
        if (round != 1)
            CALL(outbox_connected(world.outbox, (struct link *)&world, 10));
        CALL(outbox_publish(world.outbox, &reply));
        while (world_ack(&world, 0))
            check();
        if (world.job)
            work();
        CALL(outbox_disconnected(world.outbox));
        world.n_settled = world.n_sent;
        world_pass(&world, 100 * USEC_PER_MSEC);
    }
}

static void whichever_call_of_the_store_fails_no_role_is_called_while_at_work(void **state)
{
    (void)state;
    for (first_failing = 0; first_failing < 12; first_failing++) {
        for (n_failing = 1; n_failing < 16; n_failing *= 2) {
            n_runs = 0;
            begin_world();
            assert_int_equal(
                outbox_configure(world.outbox, &world.options, world.policies, world.n_policies),
                0);
            play();
            uint64_t ticket = outbox_sync_records(world.outbox);
            store_memory_set_error(world.store, 0);
            world_settle(&world);
            world_pass(&world, 40 * USEC_PER_SEC);
            assert_int_equal(world.recorded_ticket, ticket);
            check();
            world_connect(&world, 100);
            world_ack_all(&world);
            world_pass(&world, 40 * USEC_PER_SEC);
            assert_int_equal(world_waiting(&world, "telemetry"), 0);
            assert_int_equal(world_waiting(&world, "$replies"), 0);
            world_done(&world);
        }
    }
}

/* --- the server's commands ------------------------------------------------------------------- */

static struct issuer *issuer;
static unsigned n_letters;

static struct ruleset_now now(void)
{
    return (struct ruleset_now){ world.mono_usec, world.wall_usec };
}

/* In the place of the server's way out. */
int post_save(struct post *post, const char *key, const char *value)
{
    (void)post;
    return outbox_put_record(world.outbox, "issued", key, value);
}

uint64_t post_sync(struct post *post)
{
    (void)post;
    return outbox_sync_records(world.outbox);
}

int post_send(struct post *post, const struct letter *letter, const char *device)
{
    (void)post, (void)device;
    n_letters++;
    return outbox_publish(world.outbox, &(struct outbox_message){ .stream = "$commands",
                                                                  .subject = "a/commands",
                                                                  .payload = letter->payload,
                                                                  .qos = letter->qos });
}

static void letters_recorded(struct world *of, uint64_t ticket)
{
    (void)of;
    const struct ruleset_now at = now();
    issuer_recorded(issuer, ticket);
    issuer_run(issuer, &at);
}

/* The group's command is sent, and with it done with, while another waits for the disk. */
static void command_to_a_group_that_nobody_replies_to_stands_a_disk_that_fails(void **state)
{
    (void)state;
    begin_world();
    world.on_recorded = letters_recorded;
    world_configure(&world);
    n_letters = 0;
    assert_int_equal(issuer_new(42, NULL, &issuer), 0);
    store_memory_set_error(world.store, EIO);
    _cleanup_(command_freep) struct command *command = NULL;
    assert_int_equal(command_parse("{\"led\": true}", 13, &command, NULL), 0);
    struct letter_order order = { .group = "hall",
                                  .rule = "flood",
                                  .command = command,
                                  .qos = 1,
                                  .expires_usec = USEC_INFINITY,
                                  .lease_usec = USEC_INFINITY,
                                  .has_seq = true };
    struct ruleset_now at = now();
    assert_int_equal(issuer_issue_group(issuer, &order, NULL, 0, &at), 0);
    world_pass(&world, 100 * USEC_PER_MSEC);
    world_connect(&world, 100);
    at = now();
    issuer_connected(issuer, &at);
    issuer_announce(issuer, (struct topic_slice){ "lamp1", 5 }, true, true, &at);
    order.device = "lamp1";
    order.group = NULL;
    assert_int_equal(issuer_issue(issuer, &order, &at), 0);
    issuer_run(issuer, &at);
    world_pass(&world, USEC_PER_SEC);
    assert_int_equal(n_letters, 2);
    issuer_free(issuer);
    world_done(&world);
}

/* --- a device's actions ---------------------------------------------------------------------- */

static struct actions *actions;
static unsigned n_acted;

/* In the place of device/telemetry.c, whose uplink has the real link: no action here samples. */
void telemetry_publish_now(struct telemetry *telemetry, char *const *names)
{
    (void)telemetry, (void)names;
    fail();
}

static void acted(void *userdata, enum reply_status status, const char *reason,
                  const char *readings)
{
    (void)userdata, (void)status, (void)reason, (void)readings;
    n_acted++;
    outbox_put_record(world.outbox, "command", "x", "done");
    outbox_publish(world.outbox,
                   &(struct outbox_message){
                       .stream = "$replies", .subject = "a/replies", .payload = "{}", .qos = -1 });
}

static void no_reload(void *userdata, enum owner_event event)
{
    (void)userdata, (void)event;
}

static void actions_were_recorded(struct world *of, uint64_t ticket)
{
    (void)of;
    actions_recorded(actions, ticket);
}

static void begin_action(struct config *config, struct actions_waiter *waiter)
{
    *waiter = (struct actions_waiter){ .ended = acted, .userdata = waiter };
    struct envelope envelope = { .action = "backup", .expires_wall_usec = 1 };
    struct why why;
    assert_int_equal(actions_begin(actions, config, &envelope, waiter, &why), ACTIONS_ONCE);
    outbox_put_record(world.outbox, "command", "x", "begun");
    actions_await(actions, waiter, outbox_sync_records(world.outbox));
}

static void actions_that_end_at_once_stand_a_disk_that_fails(void **state)
{
    (void)state;
    struct actions_waiter waiters[3];
    sd_event *event;
    begin_world();
    world.on_recorded = actions_were_recorded;
    world_configure(&world);
    n_acted = 0;
    _cleanup_(config_unrefp) struct config *config = load_main("[action backup]\nunit = b.service");
    assert_true(sd_event_new(&event) >= 0);
    assert_int_equal(actions_new(event, NULL, &(struct owner){ no_reload, NULL }, &actions), 0);
    begin_action(config, &waiters[0]);
    begin_action(config, &waiters[1]);
    world_tick(&world);
    assert_non_null(world.job);
    begin_action(config, &waiters[2]);
    store_memory_set_error(world.store, EIO);
    world_pass(&world, 0); // and the store has failed in between
    world_settle(&world);
    world_pass(&world, USEC_PER_SEC);
    while (sd_event_run(event, 0) > 0) // they hear of it from the loop
        continue;
    assert_int_equal(n_acted, 3);
    actions_free(actions);
    sd_event_unref(event);
    world_done(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whichever_call_of_the_store_fails_no_role_is_called_while_at_work),
        cmocka_unit_test(command_to_a_group_that_nobody_replies_to_stands_a_disk_that_fails),
        in_directory(actions_that_end_at_once_stand_a_disk_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
