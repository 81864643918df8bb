// SPDX-License-Identifier: LGPL-2.1-or-later
// When an action begins, and how it ends: what systemd is asked for waits for the disk.
#include "device/actions.h"
#include "test-config.h"

struct house {
    sd_event *event;
    struct config *config;
    struct actions *actions;
    unsigned n_acted, n_sampled;
    uint64_t last_token;
    enum reply_status last_status;
    char last_reason[128];
};

static void on_acted(void *userdata, uint64_t token, enum reply_status status, const char *reason,
                     const char *readings)
{
    struct house *house = userdata;
    (void)readings;
    house->n_acted++;
    house->last_token = token;
    house->last_status = status;
    snprintf(house->last_reason, sizeof(house->last_reason), "%s", reason);
}

static void on_sample(void *userdata, char *const *names)
{
    struct house *house = userdata;
    assert_string_equal(names[0], "door");
    house->n_sampled++;
}

static void on_reload(void *userdata)
{
    (void)userdata;
}

static const struct actions_handlers handlers = { on_acted, on_sample, on_reload };

static void open_house(struct house *house)
{
    // There is no bus: an action that gets as far as that fails.
    assert_int_equal(setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus", 1), 0);
    *house = (struct house){ .config = load_main("[sensor door]\ndriver = sim\n"
                                                 "[action good]\nunit = good.service\n") };
    assert_true(sd_event_new(&house->event) >= 0);
    assert_int_equal(actions_new(house->event, &handlers, house, &house->actions), 0);
}

static void house_done(struct house *house)
{
    actions_free(house->actions);
    config_unref(house->config);
    sd_event_unref(house->event);
}

static int begin(struct house *house, const char *command, uint64_t token)
{
    _cleanup_(envelope_done) struct envelope envelope;
    struct why why = { "" };
    assert_int_equal(envelope_parse(command, strlen(command), &envelope, &why), 0);
    return actions_begin(house->actions, house->config, &envelope, token, &why);
}

static void what_must_not_be_done_twice_waits_for_its_record(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house);
    assert_int_equal(begin(&house, "{\"$action\": \"good\"}", 1), ACTIONS_ONCE);
    assert_int_equal(begin(&house, "{\"$action\": \"good\"}", 2), ACTIONS_ONCE);
    actions_recorded(house.actions, 5); // nothing of it is among these
    actions_await(house.actions, 1, 6);
    actions_await(house.actions, 2, 7);
    actions_recorded(house.actions, 5);
    assert_int_equal(house.n_acted, 0);
    actions_recorded(house.actions, 6);
    while (house.n_acted == 0)
        assert_true(sd_event_run(house.event, 10 * USEC_PER_SEC) > 0);
    assert_int_equal(house.last_token, 1);
    assert_int_equal(house.last_status, REPLY_FAILED);
    assert_non_null(strstr(house.last_reason, "bus"));
    actions_recorded(house.actions, 6);
    assert_int_equal(house.n_acted, 1);
}

static void what_expires_before_its_record_is_there_does_not_begin(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house);
    const char *command = "{\"$action\": \"good\", \"$expires\": \"2024-02-03T04:05:06Z\"}";
    assert_int_equal(begin(&house, command, 1), ACTIONS_ONCE);
    actions_await(house.actions, 1, 6);
    actions_recorded(house.actions, 6);
    assert_int_equal(house.n_acted, 1);
    assert_int_equal(house.last_status, REPLY_EXPIRED);
}

static void what_does_no_harm_twice_begins_at_once(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house);
    assert_int_equal(begin(&house, "{\"$action\": \"sample\", \"sensors\": [\"door\"]}", 1), 0);
    assert_int_equal(house.n_sampled, 1);
    actions_reading(house.actions, "door", 1);
    while (house.n_acted == 0)
        assert_true(sd_event_run(house.event, 10 * USEC_PER_SEC) > 0);
    assert_int_equal(house.last_status, REPLY_DONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(what_must_not_be_done_twice_waits_for_its_record),
        in_directory(what_expires_before_its_record_is_there_does_not_begin),
        in_directory(what_does_no_harm_twice_begins_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
