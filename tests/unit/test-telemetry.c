// SPDX-License-Identifier: LGPL-2.1-or-later
// What goes into a message: all of a stream that is due together, or what is asked for.
#include "device/telemetry.h"
#include "drivers/driver.h"
#include "test-config.h"

/* A sensor that answers at once. */
static int fake_open(const void *config, void **ret_state, struct why *why)
{
    static int state;
    (void)config, (void)why;
    *ret_state = &state;
    return 0;
}

static int fake_read(void *state, double *ret_value, struct why *why)
{
    (void)state, (void)why;
    *ret_value = 7;
    return 0;
}

static void fake_close(void *state)
{
    (void)state;
}

static const struct sensor_driver fake_driver = {
    .base = { .name = "fake", .close = fake_close },
    .open = fake_open,
    .read = fake_read,
};

static const struct config_driver fake_table[] = { { .name = "fake", .driver = &fake_driver } };

struct house {
    sd_event *event;
    struct config *config;
    struct telemetry *telemetry;
    struct ratelimit story;
    unsigned n_published, n_readings;
    char streams[64], last[128]; // of messages: a stream each, and the payload
};

static void on_reading(void *userdata, size_t i, double value, uint64_t mono_usec)
{
    struct house *house = userdata;
    (void)i, (void)mono_usec;
    assert_true(value == 7);
    house->n_readings++;
}

static void on_told(void *userdata, enum owner_event event)
{
    (void)userdata;
    assert_int_equal(event, OWNER_CHANGED);
}

/* In the place of the uplink, which is the house. */
int uplink_publish(struct uplink *uplink, const struct outbox_message *message)
{
    struct house *house = (struct house *)uplink;
    house->n_published++;
    size_t length = strlen(house->streams);
    snprintf(house->streams + length, sizeof(house->streams) - length, " %s", message->stream);
    snprintf(house->last, sizeof(house->last), "%s", message->payload);
    return 0;
}

bool uplink_is_connected(const struct uplink *uplink)
{
    (void)uplink;
    return true;
}

struct outbox *uplink_outbox(struct uplink *uplink)
{
    (void)uplink;
    return NULL;
}

void outbox_count_samples(struct outbox *outbox, const char *stream, const struct ledger *delta)
{
    (void)outbox, (void)stream, (void)delta;
}

/* With sensors that are due in an hour, and nothing published yet. */
static struct house open_house(const char *text)
{
    const struct config_sources sources = { .file = MAIN_FILE,
                                            .sensor_drivers = fake_table,
                                            .n_sensor_drivers = ELEMENTS(fake_table) };
    struct config_errors errors = { 0 };
    struct house house = { 0 };
    put_main(text);
    assert_int_equal(config_load(&sources, &house.config, &errors), 0);
    assert_true(sd_event_new(&house.event) >= 0);
    return house;
}

/* Behind open_house(): the handlers' house stays where it is. */
static void configure(struct house *house)
{
    struct telemetry_plan *plan;
    const struct owner owner = { on_told, house };
    assert_int_equal(telemetry_new(house->event, (struct uplink *)house, &house->story, &owner,
                                   on_reading, house, &house->telemetry),
                     0);
    assert_int_equal(telemetry_prepare(house->telemetry, house->config, &plan, NULL), 0);
    telemetry_commit(house->telemetry, plan);
}

static void house_done(struct house *house)
{
    telemetry_free(house->telemetry);
    config_unref(house->config);
    sd_event_unref(house->event);
}

static void ask(struct house *house, char *const *names)
{
    house->n_published = house->n_readings = 0;
    house->streams[0] = house->last[0] = '\0';
    telemetry_publish_now(house->telemetry, names);
    assert_int_equal(house->n_readings, 0); // nobody is called from in there
    while (sd_event_run(house->event, 0) > 0)
        continue;
}

#define SENSOR(name) "[sensor " name "]\ndriver = fake\ninterval = 1h\n"

static void all_that_is_due_is_one_message(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house = open_house(SENSOR("light") SENSOR("door"));
    configure(&house);
    ask(&house, NULL);
    assert_string_equal(house.last, "{\"light\": 7, \"door\": 7}");
    assert_int_equal(house.n_published, 1);
}

static void only_what_is_asked_for_is_sampled_and_published(void **state)
{
    (void)state;
    char *door[] = { (char[]){ "door" }, NULL };
    _cleanup_(house_done) struct house house =
        open_house(SENSOR("light") SENSOR("door") SENSOR("far") "stream = other\n[stream other]\n");
    configure(&house);
    ask(&house, NULL); // a new sensor is due at once
    assert_int_equal(house.n_readings, 3);
    assert_string_equal(house.streams, " telemetry other");
    ask(&house, door);
    assert_int_equal(house.n_readings, 1);
    assert_int_equal(house.n_published, 1);
    assert_string_equal(house.last, "{\"door\": 7}");
    ask(&house, NULL); // and it is not remembered
    assert_int_equal(house.n_readings, 3);
}

static void what_is_asked_for_is_published_also_if_it_has_not_changed(void **state)
{
    (void)state;
    char *door[] = { (char[]){ "door" }, NULL };
    _cleanup_(house_done) struct house house = open_house(SENSOR("door") "deadband = 100\n");
    configure(&house);
    for (int i = 0; i < 3; i++) {
        ask(&house, door);
        assert_string_equal(house.last, "{\"door\": 7}");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(all_that_is_due_is_one_message),
        in_directory(only_what_is_asked_for_is_sampled_and_published),
        in_directory(what_is_asked_for_is_published_also_if_it_has_not_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
