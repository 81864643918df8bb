// SPDX-License-Identifier: LGPL-2.1-or-later
// What ordered rules have decided, from one run to the next.
#include "server/decisions.h"
#include "test-config.h"

/* Returns whether there is something to write: then it is key and value. */
static bool decide(struct decisions *decisions, const struct config_section *rule,
                   const char *device, enum rule_outcome outcome, const char **key,
                   const char **value)
{
    int r = decisions_put(decisions, rule, device, outcome, key, value);
    assert_true(r >= 0);
    return r > 0;
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
    const char *key = NULL, *value = NULL;
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    const struct config_section *rule = config_nth(config, "rule", 0);
    struct decisions *decisions;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_int_equal(decisions_find(decisions, rule, "arm"), RULE_UNDECIDED);
    assert_true(decide(decisions, rule, "arm", RULE_THEN, &key, &value));
    assert_false(decide(decisions, rule, "arm", RULE_THEN, &key, &value)); // it is on disk already
    assert_string_equal(key, "raise/arm");
    assert_true(decide(decisions, rule, "arm", RULE_ELSE, &key, &value));
    assert_int_equal(decisions_find(decisions, rule, "arm"), RULE_ELSE);
    assert_int_equal(decisions_find(decisions, rule, "leg"), RULE_UNDECIDED);

    struct decisions *next;
    assert_int_equal(decisions_new(&next), 0);
    assert_int_equal(decisions_recall(next, key, value), 0);
    assert_int_equal(decisions_find(next, rule, "arm"), RULE_ELSE);
    decisions_free(next);
    decisions_free(decisions);
}

static void a_rule_that_says_something_else_decides_anew(void **state)
{
    (void)state;
    const char *key = NULL, *value = NULL;
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(config_unrefp) struct config *other = load_rule("false");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_true(decide(decisions, config_nth(config, "rule", 0), "arm", RULE_THEN, &key, &value));
    assert_int_equal(decisions_find(decisions, config_nth(other, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void nonsense_is_removed_or_means_nothing(void **state)
{
    (void)state;
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_int_equal(decisions_recall(decisions, "raise", "then {}"), -EBADMSG);
    assert_int_equal(decisions_recall(decisions, "raise/arm", "perhaps"), 0);
    assert_int_equal(decisions_find(decisions, config_nth(config, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void decision_that_was_not_carried_out_is_taken_anew(void **state)
{
    (void)state;
    const char *key = NULL, *value = NULL;
    _cleanup_(config_unrefp) struct config *config = load_rule("true");
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    assert_true(decide(decisions, config_nth(config, "rule", 0), "arm", RULE_THEN, &key, &value));
    assert_null(decisions_forget(decisions, "raise", "leg"));
    _cleanup_(freep) char *gone = decisions_forget(decisions, "raise", "arm");
    assert_string_equal(gone, "raise/arm");
    assert_int_equal(decisions_find(decisions, config_nth(config, "rule", 0), "arm"),
                     RULE_UNDECIDED);
}

static void one_makes_room_for_another(void **state)
{
    (void)state;
    char key[32];
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    assert_int_equal(decisions_new(&decisions), 0);
    for (unsigned i = 0; i < DECISIONS_MAX; i++) {
        assert_null(decisions_make_room(decisions));
        snprintf(key, sizeof(key), "r/%u", i);
        assert_int_equal(decisions_recall(decisions, key, "then {}"), 0);
    }
    assert_int_equal(decisions_recall(decisions, "r/one-more", "then {}"), -ENOBUFS);
    _cleanup_(freep) char *gone = decisions_make_room(decisions);
    assert_string_equal(gone, "r/0");
    assert_int_equal(decisions_recall(decisions, "r/one-more", "then {}"), 0);
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
