// SPDX-License-Identifier: LGPL-2.1-or-later
// Commands of a group in the journal: told once, seen through with each device, over crashes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "issuer-fixture.h"

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
    assert_int_equal(count(world).ended[LETTER_DONE], 3);
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
    struct letter_order order = order_for(NULL);
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
    post_save((struct post *)world, key, "d0  no+id d0 d2");
    snprintf(key, sizeof(key), "%s/99999999999999999999", first.id);
    post_save((struct post *)world, key, "d1");
    snprintf(key, sizeof(key), "%s/-1", first.id);
    post_save((struct post *)world, key, "d1");
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
    assert_int_equal(count(world).ended[LETTER_SUPERSEDED], 2);
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
    struct letter_order order = order_for("lamp");
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
    assert_int_equal(count(world).ended[LETTER_SUPERSEDED], 3);
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
    struct letter_order order = order_for(NULL);
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
    assert_int_equal(count(world).ended[LETTER_EXPIRED], 2);
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
    assert_int_equal(world->n_sent, PENDING_MAX_TRIES);
    assert_int_equal(count(world).ended[LETTER_UNANSWERED], 1);
    assert_int_equal(world->n_records, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
