// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's rules: who reads what, whom they are for, and what they say for a device.
#include "server/ruleset.h"
#include "test-config.h"

#define THEN "then = {\"led\": true}\n"
#define ELSE "else = {\"led\": false}\n"

static struct ruleset *make_rules(const char *text)
{
    struct config *config = load_main(text);
    struct ruleset *rules;
    assert_int_equal(ruleset_new(config, &rules), 0);
    config_unref(config); // the rules have their own reference
    return rules;
}

/* Rules and one device. */
struct house {
    struct ruleset *rules;
    struct fleet *fleet;
    struct fleet_device *device;
};

static struct house make_house(const char *text)
{
    bool is_new;
    struct house house = { .rules = make_rules(text) };
    const struct fleet_shape shape = ruleset_shape(house.rules);
    assert_int_equal(fleet_new(&shape, &house.fleet), 0);
    assert_int_equal(
        fleet_hear(house.fleet, (struct topic_slice){ "lamp1", 5 }, &house.device, &is_new), 0);
    ruleset_welcome(house.rules, house.device);
    return house;
}

static void house_done(struct house *house)
{
    ruleset_free(house->rules);
    fleet_free(house->fleet);
}

static void set(struct house *house, const char *name, double value, uint64_t mono_usec)
{
    size_t slot = ruleset_slot(house->rules, name);
    assert_true(slot < ruleset_shape(house->rules).n_slots);
    house->device->readings[slot] = (struct expr_reading){ value, mono_usec };
}

static struct ruleset_result evaluate(struct house *house, uint64_t now_mono_usec)
{
    struct ruleset_result result;
    const struct ruleset_target target = { .device = house->device };
    const struct ruleset_now now = { now_mono_usec, 0 };
    ruleset_evaluate(house->rules, 0, &target, &now, &result);
    return result;
}

static void a_name_knows_the_rules_that_read_it(void **state)
{
    (void)state;
    _cleanup_(ruleset_freep) struct ruleset *rules =
        make_rules("[rule a]\nwhen = light < 3\nuntil = light > heat\n" THEN
                   "[rule b]\nwhen = heat < 3\n" THEN "[rule c]\nwhen = light < 5\n" THEN);
    assert_int_equal(ruleset_shape(rules).n_slots, 2);
    assert_int_equal(ruleset_slot(rules, "door"), SIZE_MAX);
    struct index_list readers = ruleset_slot_at(rules, ruleset_slot(rules, "light"))->rules;
    assert_int_equal(readers.n, 2); // `when` and `until` of one rule count once
    assert_int_equal(readers.at[0], 0);
    assert_int_equal(readers.at[1], 2);
    readers = ruleset_slot_at(rules, ruleset_slot(rules, "heat"))->rules;
    assert_int_equal(readers.n, 2);
    assert_int_equal(readers.at[0], 0);
    assert_int_equal(readers.at[1], 1);
}

static void many_names_are_all_found(void **state)
{
    (void)state;
    enum { N = 200 };
    char name[16], *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; i < N; i++)
        fprintf(out, "[rule r%d]\nwhen = s%d < 3\n" THEN, i, i);
    fclose(out);
    _cleanup_(ruleset_freep) struct ruleset *rules = make_rules(text);
    free(text);
    for (size_t i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "s%zu", i);
        const struct index_list *readers =
            &ruleset_slot_at(rules, ruleset_slot(rules, name))->rules;
        assert_int_equal(readers->n, 1);
        assert_int_equal(readers->at[0], i);
    }
}

static void rules_of_the_device_are_not_the_servers(void **state)
{
    (void)state;
    _cleanup_(ruleset_freep) struct ruleset *rules =
        make_rules("[sensor light]\ndriver = sim\n[actuator led]\ndriver = log\n"
                   "[rule a]\nwhere = device\nwhen = light < 3\n" THEN);
    assert_int_equal(ruleset_n_rules(rules), 0);
    assert_int_equal(ruleset_slot(rules, "light"), SIZE_MAX);
}

static void a_rule_is_for_the_devices_that_it_names(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = make_house(
        "[rule all]\nwhen = a < 3\n" THEN "[rule some]\ndevices = door lamp?\nwhen = a < 3\n" THEN
        "[rule others]\ndevices = lamp door*\nwhen = a < 3\n" THEN);
    assert_true(house.device->rules[0].applies);
    assert_true(house.device->rules[1].applies);
    assert_false(house.device->rules[2].applies);
}

static void what_changes_with_time_alone_is_known(void **state)
{
    (void)state;
    _cleanup_(ruleset_freep) struct ruleset *rules = make_rules(
        "[rule a]\nwhen = a < 3\n" THEN "[rule b]\nwhen = a < 3\nuntil = age(a) > 3\n" THEN
        "[rule c]\nwhen = mean(a, 1min) < 3\n" THEN);
    assert_false(ruleset_rule(rules, 0)->uses_time);
    assert_true(ruleset_rule(rules, 1)->uses_time);
    assert_true(ruleset_rule(rules, 2)->uses_time);
}

static void the_next_reading_to_go_stale_is_known(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house =
        make_house("[rule a]\nwhen = a < 3\nstale_after = 10s\n" THEN
                   "[rule b]\nwhen = a < b\nstale_after = 5s\n" THEN "[rule c]\nwhen = c < 3\n" THEN
                   "[rule d]\ndevices = another\nwhen = a < 3\nstale_after = 1s\n" THEN);
    uint64_t at = 100 * USEC_PER_SEC;
    assert_int_equal(ruleset_next_stale(house.rules, house.device, at), USEC_INFINITY);
    set(&house, "c", 1, at);
    assert_int_equal(ruleset_next_stale(house.rules, house.device, at), USEC_INFINITY);
    set(&house, "a", 1, at);
    set(&house, "b", 1, at - USEC_PER_SEC);
    assert_int_equal(ruleset_next_stale(house.rules, house.device, at), at + 4 * USEC_PER_SEC + 1);
    assert_int_equal(ruleset_next_stale(house.rules, house.device, at + 5 * USEC_PER_SEC + 1),
                     at + 10 * USEC_PER_SEC + 1);
}

/* The first of those that ask for the same one. */
static void aggregates_that_are_the_same_are_kept_once(void **state)
{
    (void)state;
    _cleanup_(ruleset_freep) struct ruleset *rules = make_rules(
        "[rule a]\nscope = group\nwhen = median(light) < 3\nuntil = mean( light ) > 3\n" THEN
        "[rule b]\nscope = group\nwhen = median((light)) < 9 and count(light < 3) > 2\n" THEN
        "[rule c]\nscope = group\ndevices = x*\nwhen = median(light) < 3\n" THEN
        "[rule d]\nscope = group\nstale_after = 1s\nwhen = median(light) < 3\n" THEN
        "[rule e]\nwhen = light < 3\n" THEN);
    assert_int_equal(ruleset_n_device_rules(rules), 1);
    assert_string_equal(ruleset_rule(rules, 0)->section->name, "e");
    assert_int_equal(ruleset_n_aggregates(rules), 4);
    const struct server_aggregate *light = ruleset_aggregate(rules, 0);
    assert_int_equal(light->n_rules, 2);
    assert_int_equal(light->rules[0], 1);
    assert_int_equal(light->rules[1], 2);
    assert_int_equal(ruleset_slot_at(rules, ruleset_slot(rules, "light"))->aggregates.n, 4);
}

static void an_outcome_has_its_command_and_changes_once(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = make_house("[rule a]\nwhen = light < 3\n" THEN ELSE);
    set(&house, "light", 2, 1000);
    struct ruleset_result result = evaluate(&house, 1000);
    assert_true(result.changed);
    assert_string_equal(result.command->json, "{\"led\": true}");
    result = evaluate(&house, 1001);
    assert_false(result.changed);
    assert_string_equal(result.command->json, "{\"led\": true}");
    set(&house, "light", 3, 1002);
    result = evaluate(&house, 1002);
    assert_true(result.changed);
    assert_string_equal(result.command->json, "{\"led\": false}");
}

static void without_else_there_is_no_command_at_the_end(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = make_house("[rule a]\nwhen = light < 3\n" THEN);
    set(&house, "light", 4, 1000);
    struct ruleset_result result = evaluate(&house, 1000);
    assert_true(result.changed);
    assert_null(result.command);
}

static void a_held_change_says_when_it_is_due(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house =
        make_house("[rule a]\nwhen = light < 3\nhold = 1s\n" THEN ELSE);
    set(&house, "light", 2, 1000);
    evaluate(&house, 1000);
    set(&house, "light", 4, 1001);
    struct ruleset_result result = evaluate(&house, 1001);
    assert_false(result.changed);
    assert_int_equal(result.retry_mono_usec, 1000 + USEC_PER_SEC);
}

static size_t count_unknown_lines(void)
{
    char line[512];
    size_t n = 0;
    FILE *file = fopen("log", "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        n += strstr(line, "light has no fresh reading") != NULL;
    fclose(file);
    return n;
}

static void unknown_is_logged_once_and_not_in_floods(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house =
        make_house("[rule a]\nwhen = light < 3\nstale_after = 1s\n" THEN);
    int saved = dup(STDERR_FILENO), log = open("log", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(saved >= 0 && log >= 0 && dup2(log, STDERR_FILENO) >= 0);
    set(&house, "light", 2, 1000);
    assert_false(evaluate(&house, 1000).unknown);
    uint64_t stale_mono_usec = 1001 + USEC_PER_SEC;
    bool unknown = evaluate(&house, stale_mono_usec).unknown;
    evaluate(&house, stale_mono_usec + 1);
    size_t n_once = count_unknown_lines();
    for (uint64_t i = 0; i < 100; i++) { // known and unknown in turn
        set(&house, "light", 2, stale_mono_usec + i);
        evaluate(&house, stale_mono_usec + i);
        set(&house, "light", 0, 0);
        evaluate(&house, stale_mono_usec + i);
    }
    size_t n_flood = count_unknown_lines();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(log);
    assert_true(unknown);
    assert_int_equal(n_once, 1);
    assert_true(n_flood <= 20);
}

static void a_rule_that_nobody_feeds_is_reported_once_after_a_minute(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house =
        make_house("[rule a]\nwhen = light < 300\n" THEN "[rule b]\nwhen = lihgt < 300\n" THEN);
    uint64_t now_mono_usec = clock_mono_usec();
    evaluate(&house, now_mono_usec);
    assert_int_equal(ruleset_report_idle(house.rules, now_mono_usec + 50 * USEC_PER_SEC), 0);
    assert_int_equal(ruleset_report_idle(house.rules, now_mono_usec + 61 * USEC_PER_SEC), 1);
    assert_int_equal(ruleset_report_idle(house.rules, now_mono_usec + 600 * USEC_PER_SEC), 0);
}

static void a_rule_without_readings_can_be_idle_too(void **state)
{
    (void)state;
    _cleanup_(ruleset_freep) struct ruleset *rules =
        make_rules("[rule a]\nwhen = hour() < 6\ndevices = nobody\n" THEN);
    assert_int_equal(ruleset_report_idle(rules, clock_mono_usec() + 61 * USEC_PER_SEC), 1);
}

static void rules_that_are_fed_are_not_reported(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = make_house("[rule a]\nwhen = light < 300\n" THEN);
    uint64_t now_mono_usec = clock_mono_usec();
    evaluate(&house, now_mono_usec);
    assert_int_equal(ruleset_report_idle(house.rules, now_mono_usec + 61 * USEC_PER_SEC), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(a_name_knows_the_rules_that_read_it),
        in_directory(many_names_are_all_found),
        in_directory(rules_of_the_device_are_not_the_servers),
        in_directory(a_rule_is_for_the_devices_that_it_names),
        in_directory(what_changes_with_time_alone_is_known),
        in_directory(the_next_reading_to_go_stale_is_known),
        in_directory(aggregates_that_are_the_same_are_kept_once),
        in_directory(an_outcome_has_its_command_and_changes_once),
        in_directory(without_else_there_is_no_command_at_the_end),
        in_directory(a_held_change_says_when_it_is_due),
        in_directory(unknown_is_logged_once_and_not_in_floods),
        in_directory(a_rule_that_nobody_feeds_is_reported_once_after_a_minute),
        in_directory(a_rule_without_readings_can_be_idle_too),
        in_directory(rules_that_are_fed_are_not_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
