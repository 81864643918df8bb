// SPDX-License-Identifier: LGPL-2.1-or-later
// Commands: what is taken whole, what is refused whole, and an actuator's limits.
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/command.h"

static struct command *parse(const char *text)
{
    struct command *command = NULL;
    struct why why = { "" };
    if (command_parse(text, strlen(text), &command, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    return command;
}

static int refuse(const char *text)
{
    struct command *command = NULL;
    struct why why = { "" };
    int r = command_parse(text, strlen(text), &command, &why);
    assert_null(command);
    assert_true(strlen(why.text) > 0);
    return r;
}

static void a_command_is_its_keys_in_their_order(void **state)
{
    (void)state;
    _cleanup_(command_freep) struct command *command =
        parse("{\"led_on\": true, \"speed\": 3, \"level\": -2.5e1, \"text\": \"a\\u00e9\"}");
    assert_int_equal(command->n_items, 4);
    assert_string_equal(command->items[0].key, "led_on");
    assert_int_equal(command->items[0].value.type, VALUE_BOOL);
    assert_true(command->items[0].value.boolean);
    assert_string_equal(command->items[1].key, "speed");
    assert_int_equal(command->items[1].value.type, VALUE_NUMBER);
    assert_true(command->items[1].value.number == 3);
    assert_true(command->items[2].value.number == -25);
    assert_int_equal(command->items[3].value.type, VALUE_STRING);
    assert_string_equal(command->items[3].value.string, "a\xc3\xa9");
}

static void its_json_is_what_was_written(void **state)
{
    (void)state;
    _cleanup_(command_freep) struct command *command =
        parse("{\"led_on\": true, \"level\": 21.40, \"path\": \"a / b\"}");
    assert_string_equal(command->json, "{\"led_on\": true, \"level\": 21.40, \"path\": \"a / b\"}");
    _cleanup_(command_freep) struct command *again = parse(command->json);
    assert_string_equal(again->json, command->json);
}

static void what_is_no_command_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{}",
        "[]",
        "true",
        "{\"a\":null}",
        "{\"a\":{}}",
        "{\"a\":[1]}",
        "{\"\":1}",
        "{\"a\":NaN}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":\"x\\u0000y\"}",
        "{\"a\\u0000b\":1}",
        "{\"a\":true}{\"b\":true}",
    };
    for (size_t i = 0; i < ELEMENTS(texts); i++)
        assert_int_equal(refuse(texts[i]), -EBADMSG);
}

static void keys_of_the_envelope_are_refused_by_themselves(void **state)
{
    (void)state;
    assert_int_equal(refuse("{\"$id\":\"1\"}"), -EOPNOTSUPP);
    assert_int_equal(refuse("{\"led_on\":true,\"$expires\":null}"), -EOPNOTSUPP);
    command_free(parse("{\"a$\":1}"));
}

static void keys_strings_and_their_number_are_bounded(void **state)
{
    (void)state;
    char text[2048], filler[300];
    memset(filler, 'k', sizeof(filler));
    snprintf(text, sizeof(text), "{\"%.*s\":1}", COMMAND_MAX_KEY, filler);
    command_free(parse(text));
    snprintf(text, sizeof(text), "{\"%.*s\":1}", COMMAND_MAX_KEY + 1, filler);
    assert_int_equal(refuse(text), -EMSGSIZE);
    snprintf(text, sizeof(text), "{\"a\":\"%.*s\"}", VALUE_TEXT_SIZE - 1, filler);
    command_free(parse(text));
    snprintf(text, sizeof(text), "{\"a\":\"%.*s\"}", VALUE_TEXT_SIZE, filler);
    assert_int_equal(refuse(text), -EMSGSIZE);

    for (int n = COMMAND_MAX_ITEMS; n <= COMMAND_MAX_ITEMS + 1; n++) {
        size_t length = 0;
        for (int i = 0; i < n; i++)
            length += (size_t)snprintf(text + length, sizeof(text) - length, "%c\"k%d\":%d",
                                       i ? ',' : '{', i, i);
        snprintf(text + length, sizeof(text) - length, "}");
        if (n > COMMAND_MAX_ITEMS) {
            assert_int_equal(refuse(text), -EMSGSIZE);
        } else {
            _cleanup_(command_freep) struct command *command = parse(text);
            assert_int_equal(command->n_items, n);
        }
    }
}

static void integers_beyond_64_bits_keep_their_value(void **state)
{
    (void)state;
    _cleanup_(command_freep) struct command *command =
        parse("{\"a\":100000000000000000000000000000,\"b\":-99999999999999999999,"
              "\"c\":18446744073709551615}");
    assert_true(command->items[0].value.number == 1e29);
    assert_true(command->items[1].value.number == -1e20);
    assert_true(command->items[2].value.number == 0x1p64);
    _cleanup_(command_freep) struct command *again = parse(command->json);
    assert_true(again->items[0].value.number == 1e29);
}

static struct command_item number(double value)
{
    return (struct command_item){ "speed", { .type = VALUE_NUMBER, .number = value } };
}

static void an_actuator_takes_its_type_only(void **state)
{
    (void)state;
    struct command_item item = number(1);
    struct command_limits limits = { VALUE_BOOL, -INFINITY, INFINITY };
    struct why why = { "" };
    assert_int_equal(command_check_item(&item, &limits, &why), -EINVAL);
    assert_non_null(strstr(why.text, "speed"));
    assert_non_null(strstr(why.text, "boolean"));
    assert_non_null(strstr(why.text, "number"));
    item.value = (struct value){ .type = VALUE_BOOL, .boolean = true };
    assert_int_equal(command_check_item(&item, &limits, NULL), 0);
    limits.type = VALUE_STRING;
    assert_int_equal(command_check_item(&item, &limits, NULL), -EINVAL);
}

static void a_number_is_held_to_the_limits_and_the_limits_are_in(void **state)
{
    (void)state;
    static const struct {
        double value, min, max;
        int expected;
    } cases[] = {
        { 0, 0, 10, 0 },
        { 10, 0, 10, 0 },
        { -0.001, 0, 10, -ERANGE },
        { 10.001, 0, 10, -ERANGE },
        { 1e308, -INFINITY, INFINITY, 0 },
        { -1e308, 0, INFINITY, -ERANGE },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct command_item item = number(cases[i].value);
        struct command_limits limits = { VALUE_NUMBER, cases[i].min, cases[i].max };
        struct why why = { "" };
        assert_int_equal(command_check_item(&item, &limits, &why), cases[i].expected);
        assert_int_equal(why.text[0] != '\0', cases[i].expected != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_is_its_keys_in_their_order),
        cmocka_unit_test(its_json_is_what_was_written),
        cmocka_unit_test(what_is_no_command_is_refused),
        cmocka_unit_test(keys_of_the_envelope_are_refused_by_themselves),
        cmocka_unit_test(keys_strings_and_their_number_are_bounded),
        cmocka_unit_test(integers_beyond_64_bits_keep_their_value),
        cmocka_unit_test(an_actuator_takes_its_type_only),
        cmocka_unit_test(a_number_is_held_to_the_limits_and_the_limits_are_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
