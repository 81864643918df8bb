// SPDX-License-Identifier: LGPL-2.1-or-later
// Commands and actions with drivers, a store and a memory that fail at each call in turn, and an
// outbox that says from within its calls what is on disk: no reply is lost or comes twice.
#include "device/commander.h"

#include <stdatomic.h>

#include "device/streams.h"
#include "drivers/driver.h"
#include "failing.h"
#include "io/worker.h"
#include "test-config.h"
#include "util/log.h"

/* --- drivers whose n-th call fails ----------------------------------------------------------- */

static atomic_uint n_driver_calls, failing_driver_call;

static int drive(struct why *why)
{
    unsigned n = atomic_fetch_add(&n_driver_calls, 1) + 1;
    return n == failing_driver_call ? why_set(why, EIO, "it jams") : 0;
}

static int fake_open(const void *config, enum value_type type, void **ret_state,
                     struct actuator_start *start, struct why *why)
{
    static int state;
    (void)config, (void)type, (void)start;
    *ret_state = &state;
    return drive(why);
}

static int fake_set(void *state, const struct value *value, struct why *why)
{
    (void)state, (void)value;
    return drive(why);
}

static void fake_close(void *state)
{
    (void)state;
}

static const struct actuator_driver quick = { .base = { .name = "quick", .close = fake_close },
                                              .open = fake_open,
                                              .set = fake_set };
static const struct actuator_driver slow = {
    .base = { .name = "slow", .blocking = true, .close = fake_close },
    .open = fake_open,
    .set = fake_set,
};
static const struct config_driver fake_table[] = {
    { .name = "quick", .driver = &quick, .types = 1 << VALUE_BOOL },
    { .name = "slow", .driver = &slow, .types = 1 << VALUE_BOOL },
};

static const char text[] = "[actuator lamp]\ndriver = quick\n[actuator fan]\ndriver = slow\n"
                           "[sensor door]\ndriver = quick\n[action good]\nunit = good.service\n";

/* --- the house ------------------------------------------------------------------------------- */

enum { MAX_IDS = 16 };

static struct house {
    sd_event *event;
    struct config *config;
    struct actuators *actuators;
    struct actions *actions;
    struct journal *journal;
    struct commander *commander;
    struct ratelimit story;
    unsigned n_outbox_calls, failing_outbox_call;
    uint64_t last_ticket;
    bool is_inside;              // commander_take()
    unsigned n_replies[MAX_IDS]; // to the command "N"
} house;

/* --- in the place of the outbox, the uplink and the telemetry ----------------------------------
 */

/* As while the disk fails: whoever waits for it goes on. Whether this call works. */
static bool outbox_works(void)
{
    if (house.actions)
        actions_recorded(house.actions, house.last_ticket);
    return ++house.n_outbox_calls != house.failing_outbox_call;
}

int outbox_put_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    (void)outbox, (void)space, (void)key, (void)value;
    return outbox_works() ? 0 : -ENOMEM;
}

int outbox_add_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    return outbox_put_record(outbox, space, key, value);
}

uint64_t outbox_sync_records(struct outbox *outbox)
{
    (void)outbox;
    return ++house.last_ticket;
}

int uplink_publish(struct uplink *uplink, const struct outbox_message *message)
{
    (void)uplink;
    unsigned id;
    bool works = outbox_works();
    const char *at = strstr(message->payload, "\"$id\": \"");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"$id\": \"%u\"", &id), 1);
    assert_true(id < MAX_IDS);
    house.n_replies[id] += works;
    return works ? 0 : -ENOBUFS;
}

struct outbox *uplink_outbox(struct uplink *uplink)
{
    (void)uplink;
    return NULL;
}

void uplink_count_rejected(struct uplink *uplink, uint64_t count)
{
    (void)uplink, (void)count;
}

/* A sensor answers at once. */
void telemetry_publish_now(struct telemetry *telemetry, char *const *names)
{
    (void)telemetry, (void)names;
    actions_reading(house.actions, "door", 1);
}

/* --- what happens ---------------------------------------------------------------------------- */

static void on_told(void *userdata, enum owner_event event)
{
    (void)userdata;
    assert_int_equal(event, OWNER_RELOAD);
    actions_reloaded(house.actions, NULL);
}

static void on_rested(void *userdata)
{
    (void)userdata;
    assert_false(house.is_inside); // from the loop alone
}

static struct config *load_with_fakes(void)
{
    static const struct config_driver sensors[] = { { .name = "quick", .driver = &quick } };
    const struct config_sources sources = { .file = MAIN_FILE,
                                            .sensor_drivers = sensors,
                                            .n_sensor_drivers = ELEMENTS(sensors),
                                            .actuator_drivers = fake_table,
                                            .n_actuator_drivers = ELEMENTS(fake_table) };
    struct config_errors errors = { 0 };
    struct config *config;
    put_main(text);
    int r = config_load(&sources, &config, &errors);
    for (size_t i = 0; i < errors.n_lines; i++)
        print_error("%s\n", errors.lines[i]);
    assert_int_equal(r, 0);
    return config;
}

static void open_house(void)
{
    const uint8_t boot[GUARD_BOOT_SIZE] = { 1 };
    struct actuators_plan *plan;
    assert_int_equal(setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus", 1), 0);
    log_set_level(LOG_EMERG);
    house = (struct house){ .config = load_with_fakes() };
    n_driver_calls = failing_driver_call = 0;
    assert_true(sd_event_new(&house.event) >= 0);
    assert_int_equal(actuators_new(house.event, NULL, boot, on_rested, NULL, &house.actuators), 0);
    assert_int_equal(actuators_prepare(house.actuators, house.config, &plan, NULL), 0);
    actuators_commit(house.actuators, house.config, NULL, plan);
    assert_int_equal(journal_new(NULL, &house.journal), 0);
    const struct owner owner = { on_told, NULL };
    assert_int_equal(actions_new(house.event, NULL, &owner, &house.actions), 0);
    assert_int_equal(commander_new(NULL, house.actuators, house.journal, house.actions,
                                   &house.story, &house.commander),
                     0);
    commander_configure(house.commander, house.config, "lamp/replies");
}

static void close_house(void)
{
    actions_free(TAKE_PTR(house.actions));
    actuators_free(house.actuators);
    commander_free(house.commander);
    journal_free(house.journal);
    config_unref(house.config);
    sd_event_unref(house.event);
    assert_int_equal(worker_wait_for_orphans(10 * USEC_PER_SEC), 0);
}

static void take(const char *payload)
{
    const struct mqtt_message message = { .topic = "lamp/commands",
                                          .payload = payload,
                                          .payload_size = strlen(payload),
                                          .response_topic = "answers",
                                          .correlation = "\n\0x",
                                          .correlation_size = 3 };
    house.is_inside = true;
    commander_take(house.commander, &message);
    house.is_inside = false;
}

static const char *const commands[] = {
    "{\"$id\": \"1\", \"lamp\": true}",
    "{\"$id\": \"2\", \"lamp\": false, \"fan\": true}",
    "{\"$id\": \"3\", \"fan\": false}",
    "{\"$id\": \"4\", \"fan\": true, \"lamp\": true, \"$expires\": \"2100-01-01T00:00:00Z\"}",
    "{\"$id\": \"5\", \"$action\": \"good\"}",
    "{\"$id\": \"6\", \"$action\": \"good\"}",
    "{\"$id\": \"7\", \"$action\": \"good\"}",
    "{\"$id\": \"8\", \"$action\": \"identify\"}",
    "{\"$id\": \"9\", \"$action\": \"sample\"}",
    "{\"$id\": \"10\", \"$action\": \"reload\"}",
    "{\"$id\": \"11\", \"nothing\": true}",
};

static size_t n_unanswered(void)
{
    size_t n = 0;
    for (size_t i = 1; i <= ELEMENTS(commands); i++)
        n += house.n_replies[i] == 0;
    return n;
}

/* Until all but so many are answered, or for that long. */
static void run(size_t n_left, uint64_t limit_usec)
{
    uint64_t until_mono_usec = clock_mono_usec() + limit_usec;
    while (n_unanswered() > n_left && clock_mono_usec() < until_mono_usec) {
        assert_true(sd_event_run(house.event, 5 * USEC_PER_MSEC) >= 0);
        actions_recorded(house.actions, house.last_ticket);
    }
}

static void play(void)
{
    actuators_start(house.actuators);
    for (size_t i = 0; i < ELEMENTS(commands); i++)
        take(commands[i]);
}

/* Whatever has failed: sent once more each is answered, if it has not been. */
static void expect_all_answered(void)
{
    for (size_t i = 0; i < ELEMENTS(commands); i++) {
        if (house.n_replies[i + 1] == 0)
            take(commands[i]);
    }
    run(0, 10 * USEC_PER_SEC);
    for (size_t i = 1; i <= ELEMENTS(commands); i++) {
        if (house.n_replies[i] != 1)
            print_error("command %zu: %u replies\n", i, house.n_replies[i]);
        assert_int_equal(house.n_replies[i], 1);
    }
}

static void each_command_is_answered_once(void **state)
{
    (void)state;
    open_house();
    play();
    run(0, 10 * USEC_PER_SEC);
    for (size_t i = 1; i <= ELEMENTS(commands); i++)
        assert_int_equal(house.n_replies[i], 1);
    close_house();
}

static void a_driver_that_fails_loses_no_reply(void **state)
{
    (void)state;
    unsigned n_calls = 1;
    for (unsigned n = 1; n <= n_calls; n++) {
        open_house();
        failing_driver_call = n;
        play();
        run(0, 10 * USEC_PER_SEC);
        for (size_t i = 1; i <= ELEMENTS(commands); i++)
            assert_int_equal(house.n_replies[i], 1);
        n_calls = n_driver_calls;
        close_house();
    }
    assert_true(n_calls > 5);
}

static void an_outbox_that_fails_loses_a_reply_at_the_most(void **state)
{
    (void)state;
    unsigned n_calls = 1;
    for (unsigned n = 1; n <= n_calls; n++) {
        open_house();
        house.failing_outbox_call = n;
        play();
        run(1, 10 * USEC_PER_SEC);
        run(0, 50 * USEC_PER_MSEC); // the last may come too
        n_calls = house.n_outbox_calls;
        assert_true(n_unanswered() <= 1);
        expect_all_answered();
        close_house();
    }
    assert_true(n_calls > ELEMENTS(commands));
}

static void without_memory_nothing_is_left_hanging(void **state)
{
    (void)state;
    size_t n = 1;
    for (bool failed = true; failed; n++) {
        open_house();
        failing_begin(n, false);
        play();
        run(0, 20 * USEC_PER_MSEC);
        failed = failing_end();
        expect_all_answered();
        close_house();
    }
    print_message("%zu calls can fail\n", n - 2);
    assert_true(n > 50);
}

/* A reload takes the actuators away while a command is under way. */
static void what_is_under_way_at_an_actuator_that_goes_is_superseded(void **state)
{
    (void)state;
    struct actuators_plan *plan;
    open_house();
    actuators_start(house.actuators);
    take(commands[2]);
    take(commands[3]);
    put_main("");
    struct config *empty = load_good(NULL);
    assert_int_equal(actuators_prepare(house.actuators, empty, &plan, NULL), 0);
    actuators_commit(house.actuators, empty, NULL, plan);
    assert_int_equal(house.n_replies[3] + house.n_replies[4], 0); // not from in there
    while (house.n_replies[3] + house.n_replies[4] < 2)
        assert_true(sd_event_run(house.event, 10 * USEC_PER_SEC) > 0);
    config_unref(empty);
    close_house();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(each_command_is_answered_once),
        in_directory(a_driver_that_fails_loses_no_reply),
        in_directory(an_outbox_that_fails_loses_a_reply_at_the_most),
        in_directory(without_memory_nothing_is_left_hanging),
        in_directory(what_is_under_way_at_an_actuator_that_goes_is_superseded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
