// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's rules: those that nobody sends a reading for are named.
#include "test-config.h"

#include "server/ruleset.h"

static struct ruleset *make_rules(const char *text)
{
    struct ruleset *rules = NULL;
    put(MAIN_FILE, text);
    struct config *config = load_good("server");
    assert_int_equal(ruleset_new(config, &rules), 0);
    config_unref(config);
    return rules;
}

static void evaluate(struct ruleset *rules, size_t i, uint64_t now_mono_usec)
{
    struct expr_reading readings[2] = { { .value = 1, .mono_usec = now_mono_usec },
                                        { .value = 1, .mono_usec = now_mono_usec } };
    struct fleet_rule states[2] = { 0 };
    struct fleet_device device = { .readings = readings, .rules = states };
    struct ruleset_result result;
    ruleset_evaluate(rules, i, &device, now_mono_usec, &result);
}

static void a_rule_that_nobody_feeds_is_reported_once_after_a_minute(void **state)
{
    (void)state;
    struct ruleset *rules = make_rules("[rule a]\nwhen = light < 300\nthen = {\"led_on\": true}\n"
                                       "[rule b]\nwhen = lihgt < 300\nthen = {\"led_on\": true}\n");
    uint64_t now_mono_usec = clock_mono_usec();
    evaluate(rules, 0, now_mono_usec);
    assert_int_equal(ruleset_report_idle(rules, now_mono_usec + 50 * USEC_PER_SEC), 0);
    assert_int_equal(ruleset_report_idle(rules, now_mono_usec + 60 * USEC_PER_SEC), 1);
    assert_int_equal(ruleset_report_idle(rules, now_mono_usec + 600 * USEC_PER_SEC), 0);
    ruleset_free(rules);
}

static void a_rule_without_readings_can_be_idle_too(void **state)
{
    (void)state;
    struct ruleset *rules = make_rules("[rule a]\nwhen = hour() < 6\ndevices = nobody\n"
                                       "then = {\"led_on\": true}\n");
    assert_int_equal(ruleset_report_idle(rules, clock_mono_usec() + 60 * USEC_PER_SEC), 1);
    ruleset_free(rules);
}

static void rules_that_are_fed_are_not_reported(void **state)
{
    (void)state;
    struct ruleset *rules = make_rules("[rule a]\nwhen = light < 300\nthen = {\"led_on\": true}\n");
    uint64_t now_mono_usec = clock_mono_usec();
    evaluate(rules, 0, now_mono_usec);
    assert_int_equal(ruleset_report_idle(rules, now_mono_usec + 60 * USEC_PER_SEC), 0);
    ruleset_free(rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(a_rule_that_nobody_feeds_is_reported_once_after_a_minute),
        in_directory(a_rule_without_readings_can_be_idle_too),
        in_directory(rules_that_are_fed_are_not_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
