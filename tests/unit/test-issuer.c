// SPDX-License-Identifier: LGPL-2.1-or-later
// The journal of commands on a simulated clock: once, in order, never out of date, within bounds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "issuer-fixture.h"

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
    assert_int_equal(count(world).ended[LETTER_DONE], 1);
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
    post_save((struct post *)world, "a", "no JSON");
    post_save((struct post *)world, "b", "{\"device\": \"lamp\"}");
    post_save((struct post *)world, "c",
              "{\"device\": \"la/mp\", \"rule\": \"r\", \"delivery\": \"latest\", "
              "\"number\": 1, \"command\": \"{\\\"led\\\": true}\"}");
    post_save((struct post *)world, "d",
              "{\"device\": \"lamp\", \"rule\": \"r\", \"delivery\": \"latest\", "
              "\"number\": 1, \"command\": \"{}\"}");
    post_save((struct post *)world, "0123456789012345678901234567890123456789", "{}");
    post_save((struct post *)world, "e", // a group's without a group
              "{\"members\": 1, \"rule\": \"r\", \"delivery\": \"latest\", "
              "\"number\": 1, \"command\": \"{\\\"led\\\": true}\"}");
    post_save((struct post *)world, "f/0", "lamp"); // of no group's
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
    assert_int_equal(world->n_sent, PENDING_MAX_TRIES);
    assert_int_equal(count(world).ended[LETTER_UNANSWERED], 1);
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
    assert_int_equal(count(world).ended[LETTER_SUPERSEDED], 1);
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
    assert_int_equal(count(world).ended[LETTER_SUPERSEDED], 1);
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
    assert_int_equal(count(world).ended[LETTER_SUPERSEDED], 1);

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
    struct letter_order order = order_for("lamp");
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
    assert_int_equal(count(world).ended[LETTER_EXPIRED], 1);
    issuer_connected(world->issuer, &world->now);
    pass(world, 60 * MINUTE);
    assert_int_equal(world->n_sent, 1);
    assert_int_equal(world->n_records, 0);
}

static void expired_one_lets_the_next_go(void **state)
{
    struct world *world = *state;
    struct letter_order order = order_for("arm");
    order.is_ordered = true;
    order.expires_usec = MINUTE;
    issue(world, order, "{\"raise\": true}");
    issue_ordered(world, "arm", "{\"grip\": true}");
    settle(world);
    crash(world); // it expires across restarts
    pass(world, 2 * MINUTE);
    expect_last(world, world->n_sent, "arm", "grip");
}

/* --- other rules ----------------------------------------------------------------------------- */

static bool sets_no_led(const struct letter *letter, const char *device)
{
    (void)device;
    return !strstr(letter->command->json, "led");
}

static bool is_not_d1(const struct letter *letter, const char *device)
{
    (void)letter;
    return !device || strcmp(device, "d1") != 0;
}

static size_t give_up(struct world *world,
                      bool (*stands)(const struct letter *letter, const char *device))
{
    struct issuer_cursor cursor = { 0 };
    const struct letter *letter;
    const char *device;
    size_t n = 0;
    while (issuer_next(world->issuer, &cursor, &letter, &device)) {
        if (!stands(letter, device))
            n += issuer_give_up(world->issuer, &cursor, &world->now);
    }
    return n;
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
    assert_int_equal(give_up(world, sets_no_led), 3);
    assert_int_equal(count(world).ended[LETTER_SUPERSEDED], 3);
    assert_int_equal(count(world).n_outstanding, 0);
    crash(world);
    assert_int_equal(count(world).n_open, 2);
    assert_int_equal(count(world).n_outstanding, 0);
    run(world); // all that is left is sent again
    assert_int_equal(n_sent_to(world, "d1"), 1);
    announce(world, "arm", true);
    expect_last(world, world->n_sent, "arm", "grip");
}

static void device_that_no_rule_is_for_any_more_leaves_its_group(void **state)
{
    struct world *world = *state;
    const char *const *devices = make_group(world, 2);
    issue_group(world, ON, devices, 2);
    settle(world);
    assert_int_equal(give_up(world, is_not_d1), 1);
    assert_int_equal(count(world).n_outstanding, 1);
    assert_true(reply(world, "d0", last(world)->id, REPLY_DONE));
    assert_int_equal(world->n_records, 0);
}

/* --- bounds ---------------------------------------------------------------------------------- */

static void too_many_are_refused_and_counted(void **state)
{
    struct world *world = *state;
    for (unsigned i = 0; i < PENDING_MAX_DEVICE; i++)
        assert_int_equal(issue_ordered(world, "arm", "{\"grip\": true}"), 0);
    assert_int_equal(issue_ordered(world, "arm", "{\"grip\": true}"), -EDQUOT);
    assert_int_equal(count(world).refused, 1);
    assert_int_equal(issue_ordered(world, "other", "{\"grip\": true}"), 0);
    settle(world);
    reply(world, "arm", world->sent[0].id, REPLY_DONE);
    assert_int_equal(issue_ordered(world, "arm", "{\"grip\": true}"), 0);
}

/* A server that has been started anew, and nobody answers. */
static void what_was_sent_before_is_sent_again_at_a_pace(void **state)
{
    enum { N = 4000 };
    struct world *world = *state;
    char id[16];
    for (unsigned i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "d%u", i);
        assert_int_equal(issue_latest(world, id, ON), 0);
    }
    crash(world);
    world->n_sent = 0;
    pass(world, 20 * USEC_PER_SEC);
    assert_in_range(world->n_sent, 1475, 1530); // 500, and 50 a second
    announce(world, "d3999", true);             // who comes back does not wait
    expect_last(world, world->n_sent, "d3999", "true");
    assert_int_equal(issue_latest(world, "other", ON), 0); // nor does what is new
    settle(world);
    expect_last(world, world->n_sent, "other", "true");
    pass(world, 60 * USEC_PER_SEC);
    for (unsigned i = 0; i < N; i += 97) {
        snprintf(id, sizeof(id), "d%u", i);
        assert_true(n_sent_to(world, id) > 0);
    }
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
        TEST(what_no_rule_says_any_more_is_not_sent),
        TEST(device_that_no_rule_is_for_any_more_leaves_its_group),
        TEST(too_many_are_refused_and_counted),
        TEST(what_was_sent_before_is_sent_again_at_a_pace),
        TEST(device_that_withdraws_is_as_one_that_never_said_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
