// SPDX-License-Identifier: LGPL-2.1-or-later
// What ordered rules have decided, from one run to the next.
#include "server/decisions.h"
#include "test-config.h"

struct disk {
    char key[128], value[128];
    size_t n_saved, n_removed;
};

static void on_save(void *userdata, const char *key, const char *value)
{
    struct disk *disk = userdata;
    disk->n_saved += value != NULL;
    disk->n_removed += value == NULL;
    snprintf(disk->key, sizeof(disk->key), "%s", key);
    snprintf(disk->value, sizeof(disk->value), "%s", value ? value : "");
}

static struct config *load_rule(const char *then)
{
    char text[256];
    snprintf(text, sizeof(text),
             "[rule raise]\nwhen = a > 1\ndelivery = ordered\nthen = {\"up\": %s}\n", then);
    return load_main(text);
}

static void a_decision_is_known_in_the_next_run(void **state)
{
    (void)state;
    struct disk disk = { 0 };
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    const struct config_section *rule = config_nth(config, "rule", 0);
    struct decisions *decisions;
    assert_int_equal(decisions_new(on_save, &disk, &decisions), 0);
    assert_int_equal(decisions_find(decisions, rule, "arm"), RULE_UNDECIDED);
    decisions_put(decisions, rule, "arm", RULE_THEN);
    decisions_put(decisions, rule, "arm", RULE_THEN); // it is on disk already
    assert_int_equal(disk.n_saved, 1);
    assert_string_equal(disk.key, "raise/arm");
    decisions_put(decisions, rule, "arm", RULE_ELSE);
    assert_int_equal(decisions_find(decisions, rule, "arm"), RULE_ELSE);
    assert_int_equal(decisions_find(decisions, rule, "leg"), RULE_UNDECIDED);
    decisions_free(decisions);

    assert_int_equal(decisions_new(on_save, &disk, &decisions), 0);
    decisions_recall(decisions, disk.key, disk.value);
    assert_int_equal(decisions_find(decisions, rule, "arm"), RULE_ELSE);
    decisions_free(decisions);
}

static void a_rule_that_says_something_else_decides_anew(void **state)
{
    (void)state;
    struct disk disk = { 0 };
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(config_unrefp) struct config *other = load_rule("false");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(on_save, &disk, &decisions), 0);
    decisions_put(decisions, config_nth(config, "rule", 0), "arm", RULE_THEN);
    assert_int_equal(decisions_find(decisions, config_nth(other, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void nonsense_is_removed_or_means_nothing(void **state)
{
    (void)state;
    struct disk disk = { 0 };
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(on_save, &disk, &decisions), 0);
    decisions_recall(decisions, "raise", "then {}");
    assert_int_equal(disk.n_removed, 1);
    decisions_recall(decisions, "raise/arm", "perhaps");
    assert_int_equal(decisions_find(decisions, config_nth(config, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void decision_that_was_not_carried_out_is_taken_anew(void **state)
{
    (void)state;
    struct disk disk = { 0 };
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(on_save, &disk, &decisions), 0);
    decisions_put(decisions, config_nth(config, "rule", 0), "arm", RULE_THEN);
    decisions_forget(decisions, "raise", "leg");
    assert_int_equal(disk.n_removed, 0);
    decisions_forget(decisions, "raise", "arm");
    assert_int_equal(disk.n_removed, 1);
    assert_string_equal(disk.key, "raise/arm");
    assert_int_equal(decisions_find(decisions, config_nth(config, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void one_makes_room_for_another(void **state)
{
    (void)state;
    struct disk disk = { 0 };
    char key[32];
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(on_save, &disk, &decisions), 0);
    for (unsigned i = 0; i < DECISIONS_MAX + 1000; i++) {
        snprintf(key, sizeof(key), "r/%u", i);
        decisions_recall(decisions, key, "then {}");
    }
    assert_int_equal(disk.n_removed, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(a_decision_is_known_in_the_next_run),
        in_directory(a_rule_that_says_something_else_decides_anew),
        in_directory(nonsense_is_removed_or_means_nothing),
        in_directory(decision_that_was_not_carried_out_is_taken_anew),
        in_directory(one_makes_room_for_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
