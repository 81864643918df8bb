// SPDX-License-Identifier: LGPL-2.1-or-later
// When an action begins, and how it ends: what systemd is asked for waits for the disk.
#include "device/actions.h"
#include "test-config.h"

struct house {
    sd_event *event;
    struct config *config;
    struct actions *actions;
    unsigned n_acted, n_sampled;
    unsigned last_number;
    enum reply_status last_status;
    char last_reason[128];
};

/* Who waits for an action. */
struct waiter {
    struct house *house;
    unsigned number;
};

static void on_ended(void *userdata, enum reply_status status, const char *reason,
                     const char *readings)
{
    const struct waiter *waiter = userdata;
    struct house *house = waiter->house;
    (void)readings;
    house->n_acted++;
    house->last_number = waiter->number;
    house->last_status = status;
    snprintf(house->last_reason, sizeof(house->last_reason), "%s", reason);
}

/* In the place of the telemetry, which is the house. */
void telemetry_publish_now(struct telemetry *telemetry, char *const *names)
{
    struct house *house = (struct house *)telemetry;
    assert_string_equal(names[0], "door");
    house->n_sampled++;
}

/* A reload that fails before actions_begin() has returned. */
static void on_told(void *userdata, enum owner_event event)
{
    assert_int_equal(event, OWNER_RELOAD);
    struct house *house = userdata;
    actions_reloaded(house->actions, "out of memory");
}

static void open_house(struct house *house)
{
    // There is no bus: an action that gets as far as that fails.
    assert_int_equal(setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus", 1), 0);
    *house = (struct house){ .config = load_main("[sensor door]\ndriver = sim\n"
                                                 "[action good]\nunit = good.service\n") };
    assert_true(sd_event_new(&house->event) >= 0);
    const struct owner owner = { on_told, house };
    assert_int_equal(actions_new(house->event, (struct telemetry *)house, &owner, &house->actions),
                     0);
}

static void house_done(struct house *house)
{
    actions_free(house->actions);
    config_unref(house->config);
    sd_event_unref(house->event);
}

static int begin(struct waiter *waiter, const char *command)
{
    const struct actions_waiter actions_waiter = { on_ended, waiter };
    struct house *house = waiter->house;
    _cleanup_(envelope_done) struct envelope envelope;
    struct why why = { "" };
    assert_int_equal(envelope_parse(command, strlen(command), &envelope, &why), 0);
    int r = actions_begin(house->actions, house->config, &envelope, &actions_waiter, &why);
    assert_int_equal(house->n_acted, 0); // not from in there
    return r;
}

static void wait_for_end(struct house *house)
{
    while (house->n_acted == 0)
        assert_true(sd_event_run(house->event, 10 * USEC_PER_SEC) > 0);
}

static void what_must_not_be_done_twice_waits_for_its_record(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house);
    struct waiter one = { &house, 1 }, other = { &house, 2 };
    assert_int_equal(begin(&one, "{\"$action\": \"good\"}"), ACTIONS_ONCE);
    assert_int_equal(begin(&other, "{\"$action\": \"good\"}"), ACTIONS_ONCE);
    actions_recorded(house.actions, 5); // nothing of it is among these
    actions_await(house.actions, &one, 6);
    actions_await(house.actions, &other, 7);
    actions_recorded(house.actions, 5);
    assert_int_equal(house.n_acted, 0);
    actions_recorded(house.actions, 6);
    wait_for_end(&house);
    assert_int_equal(house.last_number, 1);
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
    struct waiter waiter = { &house, 1 };
    assert_int_equal(begin(&waiter, command), ACTIONS_ONCE);
    actions_await(house.actions, &waiter, 6);
    actions_recorded(house.actions, 6);
    assert_int_equal(house.n_acted, 0); // not from in there
    wait_for_end(&house);
    assert_int_equal(house.last_status, REPLY_EXPIRED);
}

static void what_does_no_harm_twice_begins_at_once(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house);
    struct waiter waiter = { &house, 1 };
    assert_int_equal(begin(&waiter, "{\"$action\": \"sample\", \"sensors\": [\"door\"]}"), 0);
    assert_int_equal(house.n_sampled, 1);
    actions_reading(house.actions, "door", 1);
    wait_for_end(&house);
    assert_int_equal(house.last_status, REPLY_DONE);
}

static void a_reload_that_fails_at_once_ends_too(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house);
    struct waiter waiter = { &house, 1 };
    assert_int_equal(begin(&waiter, "{\"$action\": \"reload\"}"), 0);
    wait_for_end(&house);
    assert_int_equal(house.last_status, REPLY_FAILED);
    assert_string_equal(house.last_reason, "out of memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(what_must_not_be_done_twice_waits_for_its_record),
        in_directory(what_expires_before_its_record_is_there_does_not_begin),
        in_directory(what_does_no_harm_twice_begins_at_once),
        in_directory(a_reload_that_fails_at_once_ends_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
