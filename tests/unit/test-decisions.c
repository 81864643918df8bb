// SPDX-License-Identifier: LGPL-2.1-or-later
// What ordered rules have decided, from one run to the next.
#include "server/decisions.h"
#include "test-config.h"

/* In the place of the outbox: the last record that was written. */
static char key[64], value[64];
static unsigned n_saved;

int outbox_put_record(struct outbox *outbox, const char *space, const char *put_key,
                      const char *put_value)
{
    (void)outbox;
    assert_string_equal(space, decisions_space);
    snprintf(key, sizeof(key), "%s", put_key);
    snprintf(value, sizeof(value), "%s", put_value ? put_value : "removed");
    n_saved++;
    return 0;
}

/* Returns whether it was written down. */
static bool decide(struct decisions *decisions, const struct config_section *rule,
                   const char *device, enum rule_outcome outcome)
{
    unsigned n = n_saved;
    decisions_put(decisions, rule, device, outcome);
    return n_saved > n;
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
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    const struct config_section *rule = config_nth(config, "rule", 0);
    struct decisions *decisions;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_int_equal(decisions_find(decisions, rule, "arm"), RULE_UNDECIDED);
    assert_true(decide(decisions, rule, "arm", RULE_THEN));
    assert_false(decide(decisions, rule, "arm", RULE_THEN)); // it is on disk already
    assert_string_equal(key, "raise/arm");
    assert_true(decide(decisions, rule, "arm", RULE_ELSE));
    assert_int_equal(decisions_find(decisions, rule, "arm"), RULE_ELSE);
    assert_int_equal(decisions_find(decisions, rule, "leg"), RULE_UNDECIDED);

    struct decisions *next;
    assert_int_equal(decisions_new(&next), 0);
    decisions_recall(next, key, value);
    assert_int_equal(decisions_find(next, rule, "arm"), RULE_ELSE);
    decisions_free(next);
    decisions_free(decisions);
}

static void a_rule_that_says_something_else_decides_anew(void **state)
{
    (void)state;
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(config_unrefp) struct config *other = load_rule("false");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_true(decide(decisions, config_nth(config, "rule", 0), "arm", RULE_THEN));
    assert_int_equal(decisions_find(decisions, config_nth(other, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void nonsense_is_removed_or_means_nothing(void **state)
{
    (void)state;
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    n_saved = 0;
    decisions_recall(decisions, "raise", "then {}");
    assert_string_equal(key, "raise");
    assert_string_equal(value, "removed");
    decisions_recall(decisions, "raise/arm", "perhaps");
    assert_int_equal(n_saved, 1);
    assert_int_equal(decisions_find(decisions, config_nth(config, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void decision_that_was_not_carried_out_is_taken_anew(void **state)
{
    (void)state;
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_true(decide(decisions, config_nth(config, "rule", 0), "arm", RULE_THEN));
    n_saved = 0;
    decisions_forget(decisions, "raise", "leg");
    assert_int_equal(n_saved, 0);
    decisions_forget(decisions, "raise", "arm");
    assert_string_equal(key, "raise/arm");
    assert_string_equal(value, "removed");
    assert_int_equal(decisions_find(decisions, config_nth(config, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void one_makes_room_for_another(void **state)
{
    (void)state;
    char name[32];
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    const struct config_section *rule = config_nth(config, "rule", 0);
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_true(decide(decisions, rule, "oldest", RULE_THEN));
    n_saved = 0;
    for (unsigned i = 1; i < DECISIONS_MAX; i++) {
        snprintf(name, sizeof(name), "r/%u", i);
        decisions_recall(decisions, name, "then {}");
    }
    assert_int_equal(n_saved, 0);
    decisions_recall(decisions, "r/one-more", "then {}");
    assert_string_equal(key, "r/one-more");
    assert_string_equal(value, "removed");
    assert_true(decide(decisions, rule, "newest", RULE_THEN));
    assert_int_equal(n_saved, 3);
    assert_int_equal(decisions_find(decisions, rule, "oldest"), RULE_UNDECIDED);
    assert_int_equal(decisions_find(decisions, rule, "newest"), RULE_THEN);
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
