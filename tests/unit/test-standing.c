// SPDX-License-Identifier: LGPL-2.1-or-later
// Which open commands the rules still stand for.
#include "server/standing.h"
#include "test-config.h"

static const char rules[] = "[sensor light]\ndriver = sim\n"
                            "[actuator led]\ndriver = log\n"
                            "[rule lamp]\nwhen = light < 300\ndevices = lamp*\n"
                            "then = {\"led\": true, \"fan\": 1}\nelse = {\"led\": false}\n"
                            "[rule flood]\nscope = group\nwhen = median(light) < 300\n"
                            "then = {\"led\": true}\n"
                            "[rule own]\nwhere = device\nwhen = light < 300\n"
                            "then = {\"led\": true}\n"
                            "[group north]\ndevices = n*\n"
                            "[server]\ndevices = lamp* n* arm\ngroups = north default\n";

static bool holds(const char *rule, const char *device, const char *group, const char *json)
{
    _cleanup_(config_unrefp) struct config *config = load_main(rules);
    _cleanup_(command_freep) struct command *command = NULL;
    assert_int_equal(command_parse(json, strlen(json), &command, NULL), 0);
    const struct letter letter = { .group = (char *)group,
                                   .rule = (char *)rule,
                                   .command = command };
    return standing_holds(config, false, &letter, device);
}

static void what_a_rule_says_stands(void **state)
{
    (void)state;
    assert_true(holds("lamp", "lamp1", "default", "{\"led\": true, \"fan\": 1}"));
    assert_true(holds("lamp", "lamp1", NULL, "{\"fan\": 1.0}")); // a newer one has taken the rest
    assert_true(holds("lamp", "lamp1", NULL, "{\"led\": false}"));
    assert_true(holds("flood", NULL, "north", "{\"led\": true}"));
    assert_true(holds("flood", "n1", "north", "{\"led\": true}"));
}

static void what_no_rule_says_does_not_stand(void **state)
{
    (void)state;
    assert_false(holds("gone", "lamp1", NULL, "{\"led\": true}"));
    assert_false(holds("own", "lamp1", NULL, "{\"led\": true}")); // the device's to decide now
    assert_false(holds("lamp", "lamp1", NULL, "{\"led\": true, \"fan\": 2}"));
    assert_false(holds("lamp", "lamp1", NULL, "{\"led\": false, \"fan\": 1}"));
    assert_false(holds("lamp", "lamp1", NULL, "{\"pump\": 1}"));
    assert_false(holds("flood", NULL, "north", "{\"led\": false}")); // it has no `else`
}

static void what_is_for_others_does_not_stand(void **state)
{
    (void)state;
    assert_false(holds("lamp", "arm", NULL, "{\"led\": true}"));    // none of the rule's
    assert_false(holds("flood", "x1", "north", "{\"led\": true}")); // none of the server's
    assert_false(holds("lamp", NULL, "north", "{\"led\": true}"));  // of a device each, by now
    assert_false(holds("flood", "n1", NULL, "{\"led\": true}"));
}

static void group_that_is_gone_is_told_nothing(void **state)
{
    (void)state;
    _cleanup_(config_unrefp) struct config *config =
        load_main("[rule flood]\nscope = group\nwhen = median(light) < 300\n"
                  "then = {\"led\": true}\n[server]\ngroups = south default\n");
    _cleanup_(command_freep) struct command *command = NULL;
    assert_int_equal(command_parse("{\"led\": true}", 13, &command, NULL), 0);
    char south[] = "south", rule[] = "flood", standard[] = "default", north[] = "north";
    struct letter letter = { .group = south, .rule = rule, .command = command };
    assert_false(standing_holds(config, false, &letter, NULL)); // no section and no topic names it
    assert_true(standing_holds(config, true, &letter, NULL));
    letter.group = standard;
    assert_true(standing_holds(config, false, &letter, NULL));
    letter.group = north; // another server's
    assert_false(standing_holds(config, true, &letter, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(what_a_rule_says_stands),
        in_directory(what_no_rule_says_does_not_stand),
        in_directory(what_is_for_others_does_not_stand),
        in_directory(group_that_is_gone_is_told_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
