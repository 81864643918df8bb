// SPDX-License-Identifier: LGPL-2.1-or-later
// The device's own rules: what they decide by readings and by time, and what a reload keeps.
#include "device/localrules.h"
#include "test-config.h"
#include "util/log.h"

#define HARDWARE                                                                                   \
    "[sensor light]\ndriver = sim\n"                                                               \
    "[sensor door]\ndriver = sim\n"                                                                \
    "[actuator led]\ndriver = log\n"                                                               \
    "[rule r]\nwhere = device\nthen = {\"led\": true}\n"
#define TWO_SIDED HARDWARE "when = light < 300\nelse = {\"led\": false}\n"

enum { LIGHT, DOOR };

struct house {
    sd_event *event;
    struct config *config;
    struct localrules *rules;
    unsigned n_applied;
    char last[64]; // command
};

static void on_apply(void *userdata, const char *rule, const struct command *command)
{
    struct house *house = userdata;
    assert_string_equal(rule, "r");
    house->n_applied++;
    snprintf(house->last, sizeof(house->last), "%s", command->json);
}

/* The first configuration, or a reload. */
static void configure(struct house *house, const char *text)
{
    struct config *config = load_main(text);
    struct localrules *rules;
    if (!house->event)
        assert_true(sd_event_new(&house->event) >= 0);
    assert_int_equal(localrules_new(house->event, config, house->rules, on_apply, house, &rules),
                     0);
    localrules_free(house->rules);
    config_unref(house->config);
    house->rules = rules;
    house->config = config;
}

static void house_done(struct house *house)
{
    localrules_free(house->rules);
    config_unref(house->config);
    sd_event_unref(house->event);
}

static void say(struct house *house, size_t sensor, double value)
{
    localrules_reading(house->rules, sensor, value, clock_mono_usec());
}

/* Until that many commands have been applied, or the time is over. */
static void run(struct house *house, unsigned n_applied, uint64_t limit_usec)
{
    uint64_t end_mono_usec = clock_mono_usec() + limit_usec;
    while (house->n_applied < n_applied && clock_mono_usec() < end_mono_usec)
        assert_true(sd_event_run(house->event, 10 * USEC_PER_MSEC) >= 0);
}

static void a_change_is_applied_once(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, TWO_SIDED);
    say(&house, LIGHT, 250);
    say(&house, LIGHT, 251);
    assert_int_equal(house.n_applied, 1);
    assert_string_equal(house.last, "{\"led\": true}");
    say(&house, LIGHT, 300);
    assert_int_equal(house.n_applied, 2);
    assert_string_equal(house.last, "{\"led\": false}");
}

static void send_always_applies_with_each_reading(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, TWO_SIDED "send = always\n");
    say(&house, LIGHT, 250);
    say(&house, LIGHT, 251);
    say(&house, DOOR, 1); // which the rule does not read
    assert_int_equal(house.n_applied, 2);
}

static void time_alone_does_not_repeat_send_always(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, HARDWARE "when = light < 300 and time() > 0\nsend = always\n");
    say(&house, LIGHT, 250);
    run(&house, 2, 1200 * USEC_PER_MSEC); // it is looked at every second
    assert_int_equal(house.n_applied, 1);
}

static void without_else_nothing_is_applied_at_the_end(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, HARDWARE "when = light < 300\n");
    say(&house, LIGHT, 250);
    say(&house, LIGHT, 900);
    assert_int_equal(house.n_applied, 1);
    say(&house, LIGHT, 250);
    assert_int_equal(house.n_applied, 2);
}

static void an_unknown_condition_changes_nothing(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, HARDWARE "when = light < 300 and door == 1\nelse = {\"led\": false}\n");
    say(&house, LIGHT, 250);
    assert_int_equal(house.n_applied, 0);
    say(&house, DOOR, 1);
    assert_int_equal(house.n_applied, 1);
}

static void a_rule_for_others_is_left_alone(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, TWO_SIDED "devices = there elsewhere-*\n");
    say(&house, LIGHT, 250);
    assert_int_equal(house.n_applied, 0);
    configure(&house, TWO_SIDED "devices = there h*\n");
    say(&house, LIGHT, 250);
    assert_int_equal(house.n_applied, 1);
}

static void a_held_change_needs_no_further_reading(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, TWO_SIDED "hold = 50ms\n");
    say(&house, LIGHT, 250);
    say(&house, LIGHT, 900);
    assert_int_equal(house.n_applied, 1);
    run(&house, 2, 5 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 2);
    assert_string_equal(house.last, "{\"led\": false}");
}

static void a_rule_that_reads_a_clock_needs_no_reading(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, HARDWARE "when = time() > 0\n");
    run(&house, 1, 5 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 1);
}

/* What has been written to standard error since it went to the file. */
static size_t count_lines(const char *path, const char *wanted)
{
    char line[512];
    size_t n = 0;
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        n += strstr(line, wanted) != NULL;
    fclose(file);
    return n;
}

static void a_reading_that_goes_stale_is_logged_once(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    int saved = dup(STDERR_FILENO), log = open("log", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(saved >= 0 && log >= 0 && dup2(log, STDERR_FILENO) >= 0);
    configure(&house, TWO_SIDED "stale_after = 10ms\n");
    say(&house, LIGHT, 250);
    uint64_t end_mono_usec = clock_mono_usec() + 5 * USEC_PER_SEC;
    while (count_lines("log", "light has no fresh reading") == 0 &&
           clock_mono_usec() < end_mono_usec)
        run(&house, 2, 50 * USEC_PER_MSEC);
    run(&house, 2, 1200 * USEC_PER_MSEC);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(log);
    assert_int_equal(count_lines("log", "light has no fresh reading"), 1);
    assert_int_equal(house.n_applied, 1);
}

/* --- a reload -------------------------------------------------------------------------------- */

static void a_reload_keeps_a_decision(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, TWO_SIDED);
    say(&house, LIGHT, 250);
    configure(&house, TWO_SIDED "[sensor heat]\ndriver = sim\n");
    say(&house, LIGHT, 250);
    run(&house, 2, 200 * USEC_PER_MSEC);
    assert_int_equal(house.n_applied, 1);
}

static void a_changed_rule_decides_by_the_readings_there_are(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, "[sensor heat]\ndriver = sim\n" TWO_SIDED);
    say(&house, 1, 250); // the light, which comes first in the next one
    configure(&house, HARDWARE "when = light < 200\nelse = {\"led\": false}\n");
    run(&house, 2, 5 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 2);
    assert_string_equal(house.last, "{\"led\": false}");
}

static void a_reload_does_not_forget_a_held_change(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, TWO_SIDED "hold = 300ms\n");
    say(&house, LIGHT, 250);
    say(&house, LIGHT, 900);
    configure(&house, TWO_SIDED "hold = 300ms\n");
    run(&house, 2, 5 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 2);
    assert_string_equal(house.last, "{\"led\": false}");
}

#define OFFLINE_HARDWARE                                                                           \
    "[sensor light]\ndriver = sim\n"                                                               \
    "[actuator led]\ndriver = log\ndisconnect_after = 10s\n"                                       \
    "[actuator fan]\ndriver = log\ndisconnect_after = 20s\n"                                       \
    "[rule r]\nwhere = offline\nwhen = light < 300\n"
#define OFFLINE OFFLINE_HARDWARE "then = {\"led\": true}\nelse = {\"led\": false}\n"

/* The connection has been lost for that long. */
static void lose(struct house *house, uint64_t span_usec)
{
    localrules_set_lost(house->rules, clock_mono_usec() - span_usec);
}

static void an_offline_rule_decides_only_while_the_device_is_cut_off(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, OFFLINE);
    say(&house, LIGHT, 250);
    assert_int_equal(house.n_applied, 0);
    lose(&house, 9 * USEC_PER_SEC);
    say(&house, LIGHT, 250);
    assert_false(localrules_decide(house.rules, "led"));
    assert_int_equal(house.n_applied, 0);
    lose(&house, 10 * USEC_PER_SEC); // it decides by the reading that there is
    assert_int_equal(house.n_applied, 1);
    assert_string_equal(house.last, "{\"led\": true}");
    assert_true(localrules_decide(house.rules, "led"));
    assert_false(localrules_decide(house.rules, "fan"));
    say(&house, LIGHT, 400);
    assert_int_equal(house.n_applied, 2);
    localrules_set_lost(house.rules, 0);
    say(&house, LIGHT, 250); // the server's word counts again
    assert_int_equal(house.n_applied, 2);
    assert_false(localrules_decide(house.rules, "led"));
}

static void an_offline_rule_decides_anew_in_each_outage(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, OFFLINE "hold = 1h\n");
    say(&house, LIGHT, 250);
    lose(&house, 10 * USEC_PER_SEC);
    localrules_set_lost(house.rules, 0);
    lose(&house, 10 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 2);
}

static void an_offline_rule_begins_in_its_time_without_a_reading(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, OFFLINE);
    say(&house, LIGHT, 250);
    lose(&house, 10 * USEC_PER_SEC - 200 * USEC_PER_MSEC);
    assert_int_equal(house.n_applied, 0);
    run(&house, 1, 5 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 1);
}

static void an_offline_rule_waits_for_the_slowest_of_its_actuators(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, OFFLINE_HARDWARE "then = {\"led\": true, \"fan\": true}\n");
    say(&house, LIGHT, 250);
    lose(&house, 19 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 0);
    lose(&house, 20 * USEC_PER_SEC);
    assert_int_equal(house.n_applied, 1);
}

static void an_outage_goes_on_over_a_reload(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = { 0 };
    configure(&house, OFFLINE);
    lose(&house, 20 * USEC_PER_SEC);
    configure(&house, OFFLINE "hold = 1s\n");
    say(&house, LIGHT, 250);
    assert_int_equal(house.n_applied, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(a_change_is_applied_once),
        in_directory(send_always_applies_with_each_reading),
        in_directory(time_alone_does_not_repeat_send_always),
        in_directory(without_else_nothing_is_applied_at_the_end),
        in_directory(an_unknown_condition_changes_nothing),
        in_directory(a_rule_for_others_is_left_alone),
        in_directory(a_held_change_needs_no_further_reading),
        in_directory(a_rule_that_reads_a_clock_needs_no_reading),
        in_directory(a_reading_that_goes_stale_is_logged_once),
        in_directory(a_reload_keeps_a_decision),
        in_directory(a_changed_rule_decides_by_the_readings_there_are),
        in_directory(a_reload_does_not_forget_a_held_change),
        in_directory(an_offline_rule_decides_only_while_the_device_is_cut_off),
        in_directory(an_offline_rule_decides_anew_in_each_outage),
        in_directory(an_offline_rule_begins_in_its_time_without_a_reading),
        in_directory(an_offline_rule_waits_for_the_slowest_of_its_actuators),
        in_directory(an_outage_goes_on_over_a_reload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
