// SPDX-License-Identifier: LGPL-2.1-or-later
// The server's work on a simulated clock: groups, lateness, silence, and what is sent when.
#include "random.h"
#include "server/engine.h"
#include "test-config.h"

#define THEN       "then = {\"led\": true}\n"
#define ELSE       "else = {\"led\": false}\n"
#define GROUP_RULE "[rule r]\nscope = group\n"

enum { MAX_SENT = 4096 };

struct sent {
    char to[80]; // "north/" for a group, "lamp1" for a device
    bool on;
};

struct world {
    struct engine *engine;
    struct ruleset_now now;
    size_t n_sent;
    bool is_offline; // nothing can be sent
    bool assures;    // what is sent will reach its device
    bool is_full;    // there is no room for more
    size_t n_refused;
    struct sent sent[MAX_SENT];
};

static int on_send(void *userdata, const struct ruleset_target *target,
                   const struct server_rule *rule, const struct command *command)
{
    struct world *world = userdata;
    (void)rule;
    if (world->is_offline)
        return -ENOTCONN;
    if (world->is_full) {
        world->n_refused++;
        return -ENOBUFS;
    }
    assert_true(world->n_sent < MAX_SENT);
    struct sent *sent = &world->sent[world->n_sent++];
    snprintf(sent->to, sizeof(sent->to), "%s%s", ruleset_target_name(target),
             target->group ? "/" : "");
    sent->on = strstr(command->json, "true");
    return world->assures ? 1 : 0;
}

static const struct decider_handlers handlers = { .send = on_send };

/* In the place of the outbox: what ordered rules have decided. */
static size_t n_decided;
static char last_decision[64];

int outbox_put_record(struct outbox *outbox, const char *space, const char *key, const char *value)
{
    (void)outbox, (void)key;
    assert_string_equal(space, decisions_space);
    n_decided++;
    snprintf(last_decision, sizeof(last_decision), "%s", value);
    return 0;
}

static void world_init(struct world *world, const char *text)
{
    struct config *config = load_main(text);
    *world = (struct world){ .now = { 1000 * USEC_PER_SEC, 1790000000 * USEC_PER_SEC } };
    assert_int_equal(engine_new(config, &handlers, world, &world->engine), 0);
    engine_reconnected(world->engine);
    config_unref(config);
}

static void world_done(struct world *world)
{
    engine_free(world->engine);
}

static struct topic_slice slice(const char *text)
{
    return (struct topic_slice){ text, text ? strlen(text) : 0 };
}

/* Steps the clock; the engine is called when it asks to be. */
static void pass(struct world *world, uint64_t usec)
{
    uint64_t until_mono_usec = world->now.mono_usec + usec;
    while (engine_next_mono_usec(world->engine) <= until_mono_usec) {
        uint64_t next_mono_usec = engine_next_mono_usec(world->engine);
        if (next_mono_usec > world->now.mono_usec) {
            world->now.wall_usec += next_mono_usec - world->now.mono_usec;
            world->now.mono_usec = next_mono_usec;
        }
        engine_run(world->engine, &world->now);
    }
    world->now.wall_usec += until_mono_usec - world->now.mono_usec;
    world->now.mono_usec = until_mono_usec;
}

static void say_at(struct world *world, const char *id, const char *group, const char *json,
                   uint64_t age_usec)
{
    struct json_object *object = json_tokener_parse(json);
    assert_non_null(object);
    assert_int_equal(engine_take(world->engine, slice(id), slice(group), object,
                                 world->now.wall_usec - age_usec, &world->now),
                     0);
    json_object_put(object);
}

static void say(struct world *world, const char *id, const char *group, const char *json)
{
    say_at(world, id, group, json, 0);
}

static void expect_sent(struct world *world, size_t n, const char *to, bool on)
{
    assert_int_equal(world->n_sent, n);
    if (n == 0)
        return;
    assert_string_equal(world->sent[n - 1].to, to);
    assert_int_equal(world->sent[n - 1].on, on);
}

/* --- groups ---------------------------------------------------------------------------------- */

static void one_decision_is_sent_once_to_the_group(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = median(light) < 300\nmin_devices = 3\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 100}");
    say(&world, "b", "north", "{\"light\": 100}");
    say(&world, "x", "south", "{\"light\": 100}");
    expect_sent(&world, 0, NULL, false); // two are too few
    say(&world, "c", "north", "{\"light\": 900}");
    expect_sent(&world, 1, "north/", true);
    say(&world, "c", "north", "{\"light\": 100}");
    say(&world, "a", "north", "{\"light\": 1000}"); // a bird on one sensor
    expect_sent(&world, 1, "north/", true);
    say(&world, "b", "north", "{\"light\": 1000}");
    expect_sent(&world, 2, "north/", false);
    world_done(&world);
}

static void groups_come_from_the_topic_the_configuration_or_the_default(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[group north]\ndevices = n-*\n[group first]\ndevices = n-1 f-*\n" GROUP_RULE
                       "when = max(light) < 300\n" THEN ELSE);
    say(&world, "n-1", "east", "{\"light\": 1}");
    expect_sent(&world, 1, "east/", true);
    say(&world, "n-2", NULL, "{\"light\": 1}");
    expect_sent(&world, 2, "north/", true);
    say(&world, "f-2", NULL, "{\"light\": 1}");
    expect_sent(&world, 3, "first/", true);
    say(&world, "other", NULL, "{\"light\": 1}");
    expect_sent(&world, 4, "default/", true);
    say(&world, "n-2", "bad name", "{\"light\": 1000}"); // no name: as it was
    expect_sent(&world, 5, "north/", false);
    world_done(&world);
}

static void a_device_that_changes_its_group_counts_in_the_new_one(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = count(light) >= 2\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 1}");
    say(&world, "b", "south", "{\"light\": 1}");
    expect_sent(&world, 2, "south/", false);
    say(&world, "b", "north", "{\"light\": 1}");
    expect_sent(&world, 3, "north/", true);
    world_done(&world);
}

static void only_the_groups_of_this_server_are_decided_for(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[server]\ngroups = n*\n" GROUP_RULE "when = max(light) < 300\n" THEN ELSE);
    say(&world, "a", "south", "{\"light\": 1}");
    expect_sent(&world, 0, NULL, false);
    say(&world, "b", "north", "{\"light\": 1}");
    expect_sent(&world, 1, "north/", true);
    world_done(&world);
}

static void a_silent_device_drops_out(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = max(light) < 300\nstale_after = 10s\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 900}");
    expect_sent(&world, 1, "north/", false);
    pass(&world, 5 * USEC_PER_SEC);
    say(&world, "b", "north", "{\"light\": 100}");
    pass(&world, 5 * USEC_PER_SEC);
    expect_sent(&world, 1, "north/", false); // exactly 10 s is not older
    pass(&world, 1);
    expect_sent(&world, 2, "north/", true);
    pass(&world, 60 * USEC_PER_SEC); // all are silent: not known, nothing changes
    expect_sent(&world, 2, "north/", true);
    say(&world, "a", "north", "{\"light\": 900}");
    expect_sent(&world, 3, "north/", false);
    world_done(&world);
}

static void an_offline_device_drops_out_at_once(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = max(light) < 300\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 900}");
    say(&world, "b", "north", "{\"light\": 100}");
    expect_sent(&world, 1, "north/", false);
    engine_presence(world.engine, slice("a"), false, true, &world.now);
    expect_sent(&world, 2, "north/", true);
    say(&world, "b", "north", "{\"light\": 200}");
    expect_sent(&world, 2, "north/", true);
    say(&world, "a", "north", "{\"light\": 900}");
    expect_sent(&world, 3, "north/", false);
    world_done(&world);
}

static void a_device_that_comes_online_gets_what_its_group_was_sent(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = min(light) < 300\n" THEN ELSE);
    engine_presence(world.engine, slice("a"), true, true, &world.now);
    say(&world, "a", "north", "{\"light\": 100}");
    expect_sent(&world, 1, "north/", true);
    say(&world, "plain", "north", "{\"light\": 100}"); // was there all along, for all we know
    expect_sent(&world, 1, "north/", true);
    pass(&world, USEC_PER_SEC);
    engine_presence(world.engine, slice("new"), true, true, &world.now);
    say(&world, "new", "north", "{\"light\": 100}");
    expect_sent(&world, 2, "new", true);
    say(&world, "new", "north", "{\"light\": 100}");
    engine_presence(world.engine, slice("a"), false, true, &world.now);
    engine_presence(world.engine, slice("a"), true, true, &world.now);
    expect_sent(&world, 2, "new", true);
    say(&world, "a", "north", "{\"light\": 100}");
    expect_sent(&world, 3, "a", true);
    world_done(&world);
}

static void what_could_not_be_sent_to_a_group_is_sent_with_the_next_reading(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = min(light) < 300\n" THEN ELSE);
    world.is_offline = true;
    say(&world, "a", "north", "{\"light\": 100}");
    world.is_offline = false;
    say(&world, "b", "north", "{\"light\": 400}");
    expect_sent(&world, 1, "north/", true);
    engine_reconnected(world.engine);
    say(&world, "b", "north", "{\"light\": 400}");
    expect_sent(&world, 2, "north/", true);
    say(&world, "b", "north", "{\"light\": 400}");
    expect_sent(&world, 2, "north/", true);
    world_done(&world);
}

static void a_groups_change_is_held_and_then_made(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = min(light) < 300\nhold = 10s\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 100}");
    say(&world, "a", "north", "{\"light\": 900}");
    expect_sent(&world, 1, "north/", true);
    pass(&world, 10 * USEC_PER_SEC);
    expect_sent(&world, 2, "north/", false);
    world_done(&world);
}

/* --- late ------------------------------------------------------------------------------------ */

static void an_older_reading_never_replaces_a_newer_one(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[rule r]\nstale_after = 1h\nwhen = light < 300\n" THEN ELSE);
    say(&world, "a", NULL, "{\"light\": 900}");
    expect_sent(&world, 1, "a", false);
    say_at(&world, "a", NULL, "{\"light\": 100}", 60 * USEC_PER_SEC);
    expect_sent(&world, 1, "a", false);
    say(&world, "a", NULL, "{\"light\": 100}");
    expect_sent(&world, 2, "a", true);
    world_done(&world);
}

static void a_late_reading_is_nothing_for_a_plain_rule_to_act_on(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[rule r]\nwhen = light < 300 and hour() >= 0\n" THEN ELSE
                       "[rule g]\nscope = group\nwhen = min(light) < 300\n" THEN ELSE);
    say_at(&world, "a", "north", "{\"light\": 100}", 60 * USEC_PER_SEC);
    pass(&world, 5 * USEC_PER_SEC);
    expect_sent(&world, 0, NULL, false);
    say_at(&world, "a", "north", "{\"light\": 100}", 2 * USEC_PER_SEC); // is fresh enough
    expect_sent(&world, 2, "north/", true);
    world_done(&world);
}

static void the_age_of_a_late_reading_is_its_true_one(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[rule r]\nwhen = age(light) > 100\n" THEN ELSE
                       "[rule s]\nwhen = light > 0\nstale_after = 100s\nthen = {\"fan\": true}\n");
    say_at(&world, "a", NULL, "{\"light\": 100}", 90 * USEC_PER_SEC);
    expect_sent(&world, 2, "a", true); // r: off, s: on
    pass(&world, 20 * USEC_PER_SEC);
    expect_sent(&world, 3, "a", true); // r: on
    say_at(&world, "a", NULL, "{\"light\": 100}", 3600 * USEC_PER_SEC);
    pass(&world, 20 * USEC_PER_SEC);
    expect_sent(&world, 3, "a", true);
    world_done(&world);
}

static void a_time_to_come_is_now(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[rule r]\nwhen = light < 300\n" THEN ELSE);
    struct json_object *object = json_tokener_parse("{\"light\": 100}");
    engine_take(world.engine, slice("a"), slice(NULL), object,
                world.now.wall_usec + 86400 * USEC_PER_SEC, &world.now);
    json_object_put(object);
    expect_sent(&world, 1, "a", true);
    say(&world, "a", NULL, "{\"light\": 900}"); // is not older
    expect_sent(&world, 2, "a", false);
    world_done(&world);
}

/* --- over time ------------------------------------------------------------------------------- */

static void a_window_sees_late_readings_and_lets_old_ones_go(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[rule r]\nwhen = max(light, 1min) > 500\n" THEN ELSE);
    say(&world, "a", NULL, "{\"light\": 100}");
    expect_sent(&world, 1, "a", false);
    say_at(&world, "a", NULL, "{\"light\": 900}", 50 * USEC_PER_SEC);
    expect_sent(&world, 2, "a", true);
    pass(&world, 12 * USEC_PER_SEC); // by itself
    expect_sent(&world, 3, "a", false);
    world_done(&world);
}

static void a_group_can_look_at_windows(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world,
               GROUP_RULE "when = median(mean(light, 1min)) < 300\nmin_devices = 2\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 100}");
    say(&world, "b", "north", "{\"light\": 100}");
    expect_sent(&world, 1, "north/", true);
    pass(&world, USEC_PER_SEC);
    say(&world, "a", "north", "{\"light\": 1000}"); // a mean of 550, a median of 325
    expect_sent(&world, 2, "north/", false);
    world_done(&world);
}

/* The mean of the last minute is known for a minute, but the device has fallen silent. */
static void a_window_of_a_silent_device_does_not_count(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world,
               GROUP_RULE "when = max(mean(light, 1min)) > 500\nstale_after = 10s\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 900}");
    pass(&world, 5 * USEC_PER_SEC);
    say(&world, "b", "north", "{\"light\": 100}");
    expect_sent(&world, 1, "north/", true);
    pass(&world, 6 * USEC_PER_SEC);
    expect_sent(&world, 2, "north/", false);
    world_done(&world);
}

/* --- what outlives the engine ---------------------------------------------------------------- */

#define WINDOW_RULE "[rule r]\nwhen = max(light, 1h) > 500\n" THEN ELSE
#define LATCH_RULE  "[rule l]\nwhen = light < 300\nuntil = light > 320\n" THEN ELSE

static char *const everyone[] = { (char *)"*", NULL };

/* The store: by number of the page. */
struct disk {
    char *pages[64];
    size_t n_written, n_removed;
};

static void disk_done(struct disk *disk)
{
    for (size_t i = 0; i < ELEMENTS(disk->pages); i++)
        free(disk->pages[i]);
}

static void keep_world(struct world *world, const char *text, uint64_t max_bytes)
{
    world_init(world, text);
    assert_int_equal(engine_keep(world->engine, max_bytes), 0);
}

/* Returns for how many devices. */
static size_t write_down(struct world *world, struct disk *disk, bool all)
{
    char key[PAGES_KEY_SIZE], *value;
    size_t n, n_all = 0;
    while (pages_next(engine_pages(world->engine), &world->now,
                      all ? UINT64_MAX : world->now.mono_usec, key, &value, &n) == 1) {
        size_t number = strtoul(key, NULL, 10);
        assert_true(number < ELEMENTS(disk->pages));
        free(disk->pages[number]);
        disk->pages[number] = value;
        *(value ? &disk->n_written : &disk->n_removed) += 1;
        n_all += n;
    }
    return n_all;
}

static void read_back(struct world *world, const struct disk *disk, char *const *patterns)
{
    for (size_t i = 0; i < ELEMENTS(disk->pages); i++) {
        char key[PAGES_KEY_SIZE];
        snprintf(key, sizeof(key), "%zu", i);
        if (disk->pages[i])
            assert_int_equal(
                engine_restore(world->engine, key, disk->pages[i], patterns, &world->now), 0);
    }
    engine_restored(world->engine, &world->now);
}

static void a_series_outlives_a_restart(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    keep_world(&world, WINDOW_RULE, SIZE_MAX);
    say(&world, "a", NULL, "{\"light\": 900}");
    say(&world, "a", NULL, "{\"light\": 100}");
    assert_int_equal(write_down(&world, &disk, false), 0);
    pass(&world, 151 * USEC_PER_SEC); // not with each reading
    assert_true(pages_next_mono_usec(engine_pages(world.engine)) <= world.now.mono_usec);
    assert_int_equal(write_down(&world, &disk, false), 1);
    assert_int_equal(write_down(&world, &disk, true), 0); // nothing has changed
    world_done(&world);

    keep_world(&world, WINDOW_RULE, SIZE_MAX);
    read_back(&world, &disk, everyone);
    assert_int_equal(engine_n_devices(world.engine), 1);
    assert_int_equal(pages_n_unkept(engine_pages(world.engine)), 0);
    say(&world, "a", NULL, "{\"light\": 100}");
    expect_sent(&world, 1, "a", true);
    world_done(&world);

    keep_world(&world, "[rule r]\nwhen = max(light, 2h) > 500\n" THEN ELSE, SIZE_MAX);
    read_back(&world, &disk, everyone); // of another span
    say(&world, "a", NULL, "{\"light\": 100}");
    expect_sent(&world, 1, "a", false);
    world_done(&world);
    disk_done(&disk);
}

/* Between the two conditions of a latch only what was decided before says what holds. */
static void what_changes_all_the_time_is_written_all_the_same(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    unsigned last_sec = 0;
    keep_world(&world, WINDOW_RULE, SIZE_MAX);
    for (unsigned sec = 1; sec <= 900; sec++) {
        say(&world, "a", NULL, "{\"light\": 100}");
        pass(&world, USEC_PER_SEC);
        if (write_down(&world, &disk, false) == 0)
            continue;
        assert_true(sec - last_sec > 100 && sec - last_sec <= 160); // seldom, and in time
        last_sec = sec;
    }
    assert_true(last_sec > 700);
    world_done(&world);
    disk_done(&disk);
}

static void a_decision_outlives_a_restart(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    keep_world(&world, LATCH_RULE, SIZE_MAX);
    say(&world, "a", NULL, "{\"light\": 100}");
    say(&world, "b", NULL, "{\"light\": 400}");
    assert_int_equal(write_down(&world, &disk, true), 2);
    world_done(&world);

    keep_world(&world, LATCH_RULE, SIZE_MAX);
    read_back(&world, &disk, everyone);
    say(&world, "a", NULL, "{\"light\": 310}");
    expect_sent(&world, 1, "a", true); // once more: it may have been lost
    say(&world, "b", NULL, "{\"light\": 310}");
    expect_sent(&world, 2, "b", false);
    say(&world, "a", NULL, "{\"light\": 330}");
    expect_sent(&world, 3, "a", false);
    world_done(&world);

    keep_world(&world, "[rule l]\nwhen = light < 300\nuntil = light > 320\nthen = {\"up\": 1}\n",
               SIZE_MAX); // it says something else, and decides anew
    read_back(&world, &disk, everyone);
    say(&world, "a", NULL, "{\"light\": 310}");
    assert_int_equal(world.n_sent, 0);
    world_done(&world);
    disk_done(&disk);
}

static void a_groups_decision_outlives_a_restart(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    static const char text[] =
        GROUP_RULE "when = mean(light) < 300\nuntil = mean(light) > 320\n" THEN ELSE;
    keep_world(&world, text, SIZE_MAX);
    say(&world, "a", "north", "{\"light\": 100}");
    expect_sent(&world, 1, "north/", true);
    write_down(&world, &disk, true);
    world_done(&world);
    keep_world(&world, text, SIZE_MAX);
    read_back(&world, &disk, everyone);
    say(&world, "a", "north", "{\"light\": 310}");
    expect_sent(&world, 1, "north/", true);
    world_done(&world);
    disk_done(&disk);
}

static void what_is_not_ours_any_more_is_not_taken_back(void **state)
{
    (void)state;
    static struct world world;
    static char *const lamps[] = { (char *)"lamp*", NULL };
    struct disk disk = { 0 };
    keep_world(&world, LATCH_RULE, SIZE_MAX);
    say(&world, "lamp1", NULL, "{\"light\": 100}");
    say(&world, "pump1", NULL, "{\"light\": 100}");
    assert_int_equal(write_down(&world, &disk, true), 2);
    world_done(&world);
    keep_world(&world, LATCH_RULE, SIZE_MAX);
    read_back(&world, &disk, lamps);
    assert_int_equal(engine_n_devices(world.engine), 1);
    assert_int_equal(write_down(&world, &disk, true), 1); // without it
    assert_null(strstr(disk.pages[0], "pump1"));
    assert_int_equal(engine_restore(world.engine, "1", "{}", everyone, &world.now), -EBADMSG);
    assert_int_equal(engine_restore(world.engine, "-1", disk.pages[0], everyone, &world.now),
                     -EBADMSG);
    world_done(&world);
    disk_done(&disk);
}

static void a_series_outlives_a_change_of_the_rules(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    keep_world(&world, WINDOW_RULE, SIZE_MAX);
    for (int i = 0; i < 40; i++) {
        char id[8];
        snprintf(id, sizeof(id), "%c%d", i == 0 ? 'a' : 'b', i);
        say(&world, id, NULL, "{\"light\": 900}");
    }
    assert_int_equal(write_down(&world, &disk, true), 40);
    struct engine *old = world.engine;
    struct config *config =
        load_main("[rule s]\nwhen = heat > max(light, 1h)\n" THEN ELSE "[rule t]\nwhen = "
                  "mean(light, 1min) < 3\n" THEN);
    assert_int_equal(engine_new(config, &handlers, &world, &world.engine), 0);
    assert_int_equal(engine_keep(world.engine, SIZE_MAX), 0);
    config_unref(config);
    static char *const some[] = { (char *)"a*", NULL };
    engine_inherit(world.engine, old, some, &world.now);
    engine_free(old);
    world.n_sent = 0;
    say(&world, "a0", NULL, "{\"heat\": 901}");
    expect_sent(&world, 1, "a0", true);
    assert_int_equal(write_down(&world, &disk, true), 1); // in the place of all
    assert_int_equal(disk.n_removed, 2);
    world_done(&world);
    disk_done(&disk);
}

static void what_is_forgotten_is_not_kept(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    keep_world(&world, "[server]\nforget_after = 1h\n" WINDOW_RULE, SIZE_MAX);
    say(&world, "a", NULL, "{\"light\": 900}");
    assert_int_equal(write_down(&world, &disk, true), 1);
    pass(&world, 3600 * USEC_PER_SEC);
    assert_int_equal(write_down(&world, &disk, true), 0);
    assert_int_equal(disk.n_removed, 1);
    world_done(&world);
    disk_done(&disk);
}

/* It is not heard for the time that the server stands still, and that counts. */
static void who_is_silent_for_long_is_forgotten_after_a_restart(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    static const char text[] = "[server]\nforget_after = 1d\n" WINDOW_RULE;
    keep_world(&world, text, SIZE_MAX);
    say(&world, "a", NULL, "{\"light\": 900}");
    write_down(&world, &disk, true);
    world_done(&world);
    keep_world(&world, text, SIZE_MAX);
    world.now.mono_usec += 20 * 3600 * USEC_PER_SEC;
    world.now.wall_usec += 20 * 3600 * USEC_PER_SEC;
    read_back(&world, &disk, everyone);
    pass(&world, 4 * 3600 * USEC_PER_SEC);
    assert_int_equal(engine_n_devices(world.engine), 1);
    pass(&world, 3600 * USEC_PER_SEC); // it may have been heard for an hour since that was written
    assert_int_equal(engine_n_devices(world.engine), 0);
    world_done(&world);
    disk_done(&disk);
}

static void what_there_is_no_room_for_is_counted(void **state)
{
    (void)state;
    static struct world world;
    struct disk disk = { 0 };
    keep_world(&world, WINDOW_RULE, 3000);
    for (int i = 0; i < 40; i++) {
        char id[8];
        snprintf(id, sizeof(id), "b%d", i);
        say(&world, id, NULL, "{\"light\": 900}");
    }
    write_down(&world, &disk, true);
    size_t n_bytes = 0, n_on_disk = 0;
    for (size_t i = 0; i < ELEMENTS(disk.pages); i++)
        n_bytes += disk.pages[i] ? strlen(disk.pages[i]) : 0;
    assert_true(n_bytes <= 3000 && n_bytes > 0);
    for (size_t i = 0; i < ELEMENTS(disk.pages); i++) {
        for (const char *at = disk.pages[i]; at && (at = strstr(at, "\"id\"")); at++)
            n_on_disk++;
    }
    assert_int_equal(pages_n_left_out(engine_pages(world.engine)), 40 - n_on_disk);
    world_done(&world);
    disk_done(&disk);
}

static void what_there_is_no_room_for_is_sent_when_there_is(void **state)
{
    (void)state;
    static struct world world;
    char id[8];
    world_init(&world, LATCH_RULE GROUP_RULE "when = mean(dark) > 1\n" THEN ELSE);
    world.is_full = true;
    for (int i = 0; i < 5; i++) {
        snprintf(id, sizeof(id), "d%d", i);
        say(&world, id, "north", "{\"light\": 100}");
    }
    say(&world, "d0", "north", "{\"light\": 110}");
    say(&world, "d0", "north", "{\"light\": 400}"); // otherwise by now
    say(&world, "d1", "north", "{\"dark\": 2}");
    size_t n_refused = world.n_refused;
    pass(&world, 60 * USEC_PER_SEC);
    assert_int_equal(world.n_refused, n_refused); // it is not asked in vain
    assert_int_equal(world.n_sent, 0);

    world.is_full = false;
    engine_make_room(world.engine, 2);
    pass(&world, 2 * USEC_PER_SEC);
    assert_int_equal(world.n_sent, 2);
    assert_true(engine_waits_for_room(world.engine));
    engine_make_room(world.engine, 100);
    pass(&world, 2 * USEC_PER_SEC);
    assert_int_equal(world.n_sent, 6); // each device once, and the group
    assert_false(engine_waits_for_room(world.engine));
    size_t n_off = 0;
    for (size_t i = 0; i < world.n_sent; i++) {
        n_off += !world.sent[i].on;
        assert_true(world.sent[i].on || strcmp(world.sent[i].to, "d0") == 0);
    }
    assert_int_equal(n_off, 1);
    world_done(&world);
}

static void the_newcomer_to_a_full_fleet_takes_the_oldests_place(void **state)
{
    (void)state;
    static struct world world;
    char id[16];
    keep_world(&world, "", SIZE_MAX);
    for (int i = 0; i <= FLEET_MAX_DEVICES; i++) {
        snprintf(id, sizeof(id), "b%d", i);
        say(&world, id, NULL, "{}");
    }
    assert_int_equal(engine_n_devices(world.engine), FLEET_MAX_DEVICES);
    assert_false(engine_presence(world.engine, slice("b0"), true, false, &world.now));
    assert_true(engine_presence(world.engine, slice("b1"), true, false, &world.now));
    world_done(&world);
}

/* --- the fleet ------------------------------------------------------------------------------- */

static void who_is_silent_for_long_is_forgotten(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world,
               "[server]\nforget_after = 1h\n" GROUP_RULE "when = max(light) < 300\n" THEN ELSE);
    say(&world, "a", "north", "{\"light\": 900}");
    pass(&world, 1800 * USEC_PER_SEC);
    say(&world, "b", "north", "{\"light\": 100}");
    expect_sent(&world, 1, "north/", false);
    pass(&world, 1800 * USEC_PER_SEC - 1);
    assert_int_equal(engine_n_devices(world.engine), 2);
    pass(&world, 1);
    assert_int_equal(engine_n_devices(world.engine), 1);
    expect_sent(&world, 2, "north/", true); // of those that are left
    pass(&world, 3600 * USEC_PER_SEC);
    assert_int_equal(engine_n_devices(world.engine), 0);
    world_done(&world);
}

static void observe(struct world *world, const char *id, const char *json)
{
    struct json_object *object = json_tokener_parse(json);
    engine_observe(world->engine, slice(id), object, false, &world->now);
    json_object_put(object);
}

static void what_another_server_has_decided_is_not_said_again(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[rule r]\nwhen = light < 300\nuntil = light > 320\n"
                       "then = {\"led\": true, \"level\": 3, \"name\": \"x\"}\n"
                       "else = {\"led\": false}\n");
    observe(&world, "a", "{\"$id\": \"7\", \"name\": \"x\", \"level\": 3.0, \"led\": true}");
    say(&world, "a", NULL, "{\"light\": 200}");
    expect_sent(&world, 0, NULL, false);
    observe(&world, "a", "{\"led\": true}"); // somebody else's
    observe(&world, "a", "{\"led\": false, \"level\": 3}");
    say(&world, "a", NULL, "{\"light\": 310}");
    expect_sent(&world, 0, NULL, false);
    say(&world, "a", NULL, "{\"light\": 400}");
    expect_sent(&world, 1, "a", false);
    observe(&world, "a", "{\"led\": false}"); // our own comes back
    say(&world, "a", NULL, "{\"light\": 400}");
    expect_sent(&world, 1, "a", false);
    world_done(&world);
}

/* --- against a naive computation ------------------------------------------------------------- */

enum { N_DEVICES = 40, N_GROUPS = 2 };
#define STALE (20 * USEC_PER_SEC)

struct model {
    double value;
    uint64_t mono_usec; // 0: nothing is known
    bool out;           // offline since its last reading
    int group;          // -1: not heard of
};

static int by_number(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

/* 1, 0 or -1: what "median(v) < 0 or count(v > 60) >= 3", of at least 3, says. */
static int naive(const struct model *models, int group, uint64_t now_mono_usec)
{
    double values[N_DEVICES];
    size_t n = 0, n_high = 0;
    for (size_t i = 0; i < N_DEVICES; i++) {
        const struct model *model = &models[i];
        if (model->group != group || model->mono_usec == 0 || model->out ||
            now_mono_usec - model->mono_usec > STALE)
            continue;
        values[n++] = model->value;
        n_high += model->value > 60;
    }
    if (n < 3)
        return -1;
    qsort(values, n, sizeof(values[0]), by_number);
    double median = n % 2 ? values[n / 2] : values[n / 2 - 1] / 2 + values[n / 2] / 2;
    return median < 0 || n_high >= 3;
}

static void groups_agree_with_a_naive_computation(void **state)
{
    (void)state;
    static struct world world;
    struct model models[N_DEVICES];
    int decided[N_GROUPS] = { -1, -1 };
    for (size_t i = 0; i < N_DEVICES; i++)
        models[i] = (struct model){ .group = -1 };
    world_init(&world, GROUP_RULE "when = median(v) < 0 or count(v > 60) >= 3\nmin_devices = 3\n"
                                  "stale_after = 20s\n" THEN ELSE);
    random_begin();
    for (size_t step = 0; step < 20000; step++) {
        size_t i = random_below(random_below(100) == 0 ? N_DEVICES : 15); // some are mostly silent
        struct model *model = &models[i];
        char id[16], json[32];
        snprintf(id, sizeof(id), "d%zu", i);
        switch (random_below(20)) {
        case 0:
            if (model->group >= 0)
                engine_presence(world.engine, slice(id), false, true, &world.now);
            model->out = true;
            break;
        case 1:
            pass(&world, random_below(4 * USEC_PER_SEC));
            break;
        default: {
            uint64_t age_usec = random_below(4) == 0 ? random_below(2 * STALE) : 0;
            double value = (double)random_below(200) - 100;
            if (random_below(50) == 0)
                model->group = (int)random_below(N_GROUPS); // it moves
            if (model->group < 0)
                model->group = (int)(i % N_GROUPS);
            snprintf(json, sizeof(json), "{\"v\": %g}", value);
            say_at(&world, id, model->group == 0 ? "g0" : "g1", json, age_usec);
            model->out = false;
            if (world.now.mono_usec - age_usec >= model->mono_usec) {
                model->value = value;
                model->mono_usec = world.now.mono_usec - age_usec;
            }
            pass(&world, random_below(200 * USEC_PER_MSEC));
        }
        }
        // A group looks again when one of its own says something, or falls silent.
        for (int g = 0; g < N_GROUPS; g++) {
            snprintf(id, sizeof(id), "g%d/", g);
            for (size_t k = 0; k < world.n_sent; k++) {
                if (strcmp(world.sent[k].to, id) == 0)
                    decided[g] = world.sent[k].on;
            }
            int expected = naive(models, g, world.now.mono_usec);
            if (model->group == g && expected >= 0 && decided[g] != expected)
                fail_msg("step %zu: group %d is %d, expected %d", step, g, decided[g], expected);
        }
        if (world.n_sent > MAX_SENT / 2)
            world.n_sent = 0;
    }
    world_done(&world);
}

/* --- seen through, again, once --------------------------------------------------------------- */

static void presence(struct world *world, const char *id, bool online)
{
    engine_presence(world->engine, slice(id), online, true, &world->now);
}

static void what_will_reach_its_device_is_not_sent_for_a_new_connection(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, "[rule r]\nwhen = light < 300\n" THEN ELSE);
    world.assures = true;
    say(&world, "a", NULL, "{\"light\": 1}");
    engine_reconnected(world.engine);
    say(&world, "a", NULL, "{\"light\": 1}");
    expect_sent(&world, 1, "a", true);
    presence(&world, "a", true); // it may have been restarted
    say(&world, "a", NULL, "{\"light\": 1}");
    expect_sent(&world, 2, "a", true);
    world_done(&world);
}

static void a_command_is_refreshed_while_its_readings_are_known(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world,
               "[rule r]\nwhen = light < 300\nstale_after = 55min\nrefresh = 10min\n" THEN ELSE);
    say(&world, "a", NULL, "{\"light\": 1}");
    pass(&world, 10 * 60 * USEC_PER_SEC);
    expect_sent(&world, 2, "a", true);
    say(&world, "a", NULL, "{\"light\": 1000}");
    expect_sent(&world, 3, "a", false);
    pass(&world, 59 * 60 * USEC_PER_SEC);
    expect_sent(&world, 8, "a", false);
    pass(&world, 60 * 60 * USEC_PER_SEC); // the reading is stale
    expect_sent(&world, 8, "a", false);
    say(&world, "a", NULL, "{\"light\": 1000}");
    expect_sent(&world, 9, "a", false);
    pass(&world, 10 * 60 * USEC_PER_SEC);
    expect_sent(&world, 10, "a", false);
    world_done(&world);
}

static void a_lease_is_renewed_in_time_also_for_a_group(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, GROUP_RULE "when = max(light) < 300\nstale_after = 2h\nfor = 30min\n" THEN);
    world.assures = true;
    say(&world, "a", "north", "{\"light\": 1}");
    pass(&world, 30 * 60 * USEC_PER_SEC);
    expect_sent(&world, 4, "north/", true);
    say(&world, "a", "north", "{\"light\": 1000}"); // there is nothing to say: it runs out
    pass(&world, 60 * 60 * USEC_PER_SEC);
    expect_sent(&world, 4, "north/", true);
    world_done(&world);
}

static void an_ordered_decision_is_not_taken_again_in_another_run(void **state)
{
    (void)state;
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    n_decided = 0;
    assert_int_equal(decisions_new(&decisions), 0);
    static struct world world;
    static const char rule[] = "[rule r]\nwhen = light < 300\ndelivery = ordered\n" THEN;
    world_init(&world, rule);
    engine_remember(world.engine, decisions);
    world.assures = true;
    say(&world, "a", NULL, "{\"light\": 1}");
    presence(&world, "a", true);
    engine_reconnected(world.engine);
    say(&world, "a", NULL, "{\"light\": 1}");
    expect_sent(&world, 1, "a", true);
    assert_int_equal(n_decided, 1);
    assert_string_equal(last_decision, "then {\"led\": true}");
    world_done(&world);

    world_init(&world, rule);
    engine_remember(world.engine, decisions);
    world.assures = true;
    say(&world, "a", NULL, "{\"light\": 1}");
    expect_sent(&world, 0, NULL, false);
    say(&world, "a", NULL, "{\"light\": 1000}"); // nothing is said, but it is known
    assert_string_equal(last_decision, "else ");
    say(&world, "a", NULL, "{\"light\": 1}");
    expect_sent(&world, 1, "a", true);
    assert_string_equal(last_decision, "then {\"led\": true}");
    world_done(&world);
}

static void an_ordered_command_that_could_not_be_issued_is_not_written_down(void **state)
{
    (void)state;
    static struct world world;
    _cleanup_(decisions_freep) struct decisions *decisions = NULL;
    n_decided = 0;
    assert_int_equal(decisions_new(&decisions), 0);
    world_init(&world, "[rule r]\nwhen = light < 300\ndelivery = ordered\n" THEN);
    engine_remember(world.engine, decisions);
    world.assures = true;
    world.is_offline = true;
    say(&world, "a", NULL, "{\"light\": 1}");
    assert_int_equal(n_decided, 0);
    world.is_offline = false;
    say(&world, "a", NULL, "{\"light\": 1}");
    expect_sent(&world, 1, "a", true);
    assert_int_equal(n_decided, 1);
    world_done(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(one_decision_is_sent_once_to_the_group),
        in_directory(groups_come_from_the_topic_the_configuration_or_the_default),
        in_directory(a_device_that_changes_its_group_counts_in_the_new_one),
        in_directory(only_the_groups_of_this_server_are_decided_for),
        in_directory(a_silent_device_drops_out),
        in_directory(an_offline_device_drops_out_at_once),
        in_directory(a_device_that_comes_online_gets_what_its_group_was_sent),
        in_directory(what_could_not_be_sent_to_a_group_is_sent_with_the_next_reading),
        in_directory(a_groups_change_is_held_and_then_made),
        in_directory(an_older_reading_never_replaces_a_newer_one),
        in_directory(a_late_reading_is_nothing_for_a_plain_rule_to_act_on),
        in_directory(the_age_of_a_late_reading_is_its_true_one),
        in_directory(a_time_to_come_is_now),
        in_directory(a_window_sees_late_readings_and_lets_old_ones_go),
        in_directory(a_group_can_look_at_windows),
        in_directory(a_window_of_a_silent_device_does_not_count),
        in_directory(a_series_outlives_a_restart),
        in_directory(what_changes_all_the_time_is_written_all_the_same),
        in_directory(a_decision_outlives_a_restart),
        in_directory(a_groups_decision_outlives_a_restart),
        in_directory(what_is_not_ours_any_more_is_not_taken_back),
        in_directory(who_is_silent_for_long_is_forgotten_after_a_restart),
        in_directory(what_there_is_no_room_for_is_counted),
        in_directory(what_there_is_no_room_for_is_sent_when_there_is),
        in_directory(the_newcomer_to_a_full_fleet_takes_the_oldests_place),
        in_directory(a_series_outlives_a_change_of_the_rules),
        in_directory(what_is_forgotten_is_not_kept),
        in_directory(who_is_silent_for_long_is_forgotten),
        in_directory(what_another_server_has_decided_is_not_said_again),
        in_directory(what_will_reach_its_device_is_not_sent_for_a_new_connection),
        in_directory(a_command_is_refreshed_while_its_readings_are_known),
        in_directory(a_lease_is_renewed_in_time_also_for_a_group),
        in_directory(an_ordered_decision_is_not_taken_again_in_another_run),
        in_directory(an_ordered_command_that_could_not_be_issued_is_not_written_down),
        in_directory(groups_agree_with_a_naive_computation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
