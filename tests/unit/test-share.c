// SPDX-License-Identifier: LGPL-2.1-or-later
// Servers that share a fleet: some engines on one simulated clock, and a broker between them that
// deals readings out and brings every command to all of them.
#include "random.h"
#include "server/engine.h"
#include "test-config.h"

#define SHARE "[server]\nshare = plant\n"
#define LAMP                                                                                       \
    "[rule lamp]\nwhen = light < 300\nuntil = light > 320\nthen = {\"led\": true}\n"               \
    "else = {\"led\": false}\n"

enum { MAX_SERVERS = 3, MAX_SENT = 4096 };

static const uint64_t trip_usec = 2 * USEC_PER_MSEC; // of a command, by the broker to a server

struct sent {
    char device[16];
    bool on;
    size_t server;
    uint64_t mono_usec;
};

struct world;

struct server {
    struct world *world;
    struct engine *engine; // NULL: killed
    size_t n_seen;         // of world->sent
};

struct world {
    struct config *config;
    struct ruleset_now now;
    size_t n_servers, n_sent;
    bool is_plain; // commands have no $id
    struct server servers[MAX_SERVERS];
    struct sent sent[MAX_SENT];
};

static int on_send(void *userdata, const struct ruleset_target *target,
                   const struct server_rule *rule, const struct command *command)
{
    struct server *server = userdata;
    struct world *world = server->world;
    (void)rule;
    assert_true(world->n_sent < MAX_SENT);
    struct sent *sent = &world->sent[world->n_sent++];
    snprintf(sent->device, sizeof(sent->device), "%s", ruleset_target_name(target));
    sent->on = strstr(command->json, "true");
    sent->server = (size_t)(server - world->servers);
    sent->mono_usec = world->now.mono_usec;
    return 0;
}

static const struct decider_handlers handlers = { .send = on_send };

static void set_clock(struct world *world, uint64_t mono_usec)
{
    if (mono_usec <= world->now.mono_usec)
        return;
    world->now.wall_usec += mono_usec - world->now.mono_usec;
    world->now.mono_usec = mono_usec;
}

static void start(struct world *world, size_t i)
{
    struct server *server = &world->servers[i];
    *server = (struct server){ .world = world, .n_seen = world->n_sent };
    assert_int_equal(engine_new(world->config, &handlers, server, &server->engine), 0);
    engine_reconnected(server->engine);
}

static void kill_server(struct world *world, size_t i)
{
    engine_free(world->servers[i].engine);
    world->servers[i].engine = NULL;
}

static void world_done(struct world *world)
{
    for (size_t i = 0; i < world->n_servers; i++)
        kill_server(world, i);
    config_unref(world->config);
}

static struct topic_slice slice(const char *text)
{
    return (struct topic_slice){ text, text ? strlen(text) : 0 };
}

/* The next command comes to a server: its own as well. */
static void observe(struct world *world, struct server *server)
{
    const struct sent *sent = &world->sent[server->n_seen++];
    struct json_object *object = json_object_new_object();
    json_object_object_add(object, "led", json_object_new_boolean(sent->on));
    bool is_foreign = !world->is_plain && sent->server != (size_t)(server - world->servers);
    engine_observe(server->engine, slice(sent->device), object, is_foreign, &world->now);
    json_object_put(object);
}

/* When something happens at a server next. */
static uint64_t next_of(const struct world *world, const struct server *server)
{
    if (!server->engine)
        return USEC_INFINITY;
    uint64_t next_mono_usec = engine_next_mono_usec(server->engine);
    if (server->n_seen < world->n_sent &&
        world->sent[server->n_seen].mono_usec + trip_usec < next_mono_usec)
        next_mono_usec = world->sent[server->n_seen].mono_usec + trip_usec;
    return next_mono_usec;
}

static void pass(struct world *world, uint64_t usec)
{
    uint64_t until_mono_usec = world->now.mono_usec + usec;
    for (;;) {
        struct server *next = &world->servers[0];
        for (size_t i = 1; i < world->n_servers; i++) {
            if (next_of(world, &world->servers[i]) < next_of(world, next))
                next = &world->servers[i];
        }
        if (next_of(world, next) > until_mono_usec)
            break;
        set_clock(world, next_of(world, next));
        if (next->n_seen < world->n_sent &&
            world->sent[next->n_seen].mono_usec + trip_usec <= world->now.mono_usec)
            observe(world, next);
        else
            engine_run(next->engine, &world->now);
    }
    set_clock(world, until_mono_usec);
}

static void world_init(struct world *world, size_t n_servers, const char *text)
{
    *world = (struct world){
        .config = load_main(text),
        .now = { 1000 * USEC_PER_SEC, 1790000000 * USEC_PER_SEC },
        .n_servers = n_servers,
    };
    for (size_t i = 0; i < n_servers; i++) {
        start(world, i);
        pass(world, 300 * USEC_PER_MSEC); // else all would look at the clock at the same time
    }
}

static void say(struct world *world, size_t i, const char *id, const char *json)
{
    struct json_object *object = json_tokener_parse(json);
    assert_int_equal(
        engine_take(world->servers[i].engine, slice(id), slice(NULL), object, 0, &world->now), 0);
    json_object_put(object);
}

static void expect_sent(const struct world *world, size_t n, size_t server, bool on)
{
    assert_int_equal(world->n_sent, n);
    assert_int_equal(world->sent[n - 1].server, server);
    assert_int_equal(world->sent[n - 1].on, on);
}

/* --- time ------------------------------------------------------------------------------------ */

static void time_alone_is_for_the_server_with_the_newest_reading(void **state)
{
    (void)state;
    static struct world world;
    for (int is_plain = 0; is_plain <= 1; is_plain++) {
        world_init(&world, 2,
                   SHARE "[rule lamp]\nwhen = light < 300 and time() > 0\nthen = {\"led\": true}\n"
                         "else = {\"led\": false}\n");
        world.is_plain = is_plain;
        say(&world, 0, "a", "{\"light\": 100}");
        pass(&world, USEC_PER_SEC);
        say(&world, 1, "a", "{\"light\": 900}");
        expect_sent(&world, 2, 1, false);
        pass(&world, 3600 * USEC_PER_SEC); // the first does not say again what it saw an hour ago
        expect_sent(&world, 2, 1, false);
        say(&world, 0, "a", "{\"light\": 100}");
        pass(&world, 60 * USEC_PER_SEC);
        expect_sent(&world, 3, 0, true);
        world_done(&world);
    }
}

static void what_comes_with_time_is_said_once(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, 3,
               SHARE "[rule lamp]\nwhen = light < 300 and time() > 1790000600\n"
                     "then = {\"led\": true}\nelse = {\"led\": false}\n");
    for (size_t i = 0; i < 3; i++) {
        say(&world, i, "a", "{\"light\": 100}");
        pass(&world, 1300 * USEC_PER_MSEC);
    }
    expect_sent(&world, 1, 0, false);
    pass(&world, 3600 * USEC_PER_SEC);
    assert_int_equal(world.n_sent, 2);
    assert_true(world.sent[1].on);
    world_done(&world);
}

/* --- leases ---------------------------------------------------------------------------------- */

/* The longest time without a command, from the one that was sent as the n-th. */
static uint64_t longest_gap(const struct world *world, size_t n)
{
    uint64_t longest_usec = world->now.mono_usec - world->sent[world->n_sent - 1].mono_usec;
    for (size_t i = n; i < world->n_sent; i++) {
        uint64_t gap_usec = world->sent[i].mono_usec - world->sent[i - 1].mono_usec;
        longest_usec = gap_usec > longest_usec ? gap_usec : longest_usec;
    }
    return longest_usec;
}

static void a_lease_is_renewed_by_one_and_taken_over_when_it_is_killed(void **state)
{
    (void)state;
    static struct world world;
    const uint64_t lease_usec = 30 * USEC_PER_SEC;
    for (unsigned round = 0; round < 40; round++) {
        world_init(&world, 3, SHARE LAMP "for = 30s\n");
        say(&world, 0, "a", "{\"light\": 100}");
        pass(&world, USEC_PER_SEC);
        for (unsigned i = 0; i < 60; i++) { // the others hear of it as well
            say(&world, 1 + i % 2, "a", "{\"light\": 110}");
            pass(&world, 5 * USEC_PER_SEC);
        }
        size_t n = world.n_sent;
        assert_in_range(n, 30, 31); // every 10 s, by one
        assert_int_equal(world.sent[n - 1].server, 0);
        pass(&world, round * USEC_PER_SEC / 4);
        kill_server(&world, 0);
        for (unsigned i = 0; i < 60; i++) {
            say(&world, 1 + i % 2, "a", "{\"light\": 110}");
            pass(&world, 5 * USEC_PER_SEC);
        }
        assert_true(longest_gap(&world, n) < lease_usec);
        assert_in_range(world.n_sent, n + 26, n + 31); // by one again
        world_done(&world);
    }
}

static void a_lease_runs_out_when_nobody_has_readings(void **state)
{
    (void)state;
    static struct world world;
    world_init(&world, 2, SHARE LAMP "for = 30s\nstale_after = 10s\n");
    say(&world, 0, "a", "{\"light\": 100}");
    pass(&world, 5 * USEC_PER_SEC);
    say(&world, 1, "a", "{\"light\": 100}");
    pass(&world, 3600 * USEC_PER_SEC);
    assert_true(longest_gap(&world, 1) > 3560 * USEC_PER_SEC);
    world_done(&world);
}

/* --- all together ---------------------------------------------------------------------------- */

/*
 * Readings that are further apart than a command's trip: each change is commanded once, whoever
 * sees it, and whoever is killed. A server that begins anew may say what holds once more.
 */
static void a_change_is_commanded_once_whoever_is_killed(void **state)
{
    (void)state;
    static struct world world;
    for (unsigned round = 0; round < 200; round++) {
        char id[8], json[32];
        bool on[8] = { 0 }, known[8] = { 0 };
        size_t n_expected = 0, n_servers = 2 + round % 2, n_alive = n_servers;
        world_init(&world, n_servers, SHARE LAMP);
        world.is_plain = round % 4 < 2;
        for (unsigned step = 0; step < 300; step++) {
            size_t lamp = random_below(8), server = random_below(n_servers);
            unsigned light = (unsigned)random_below(620);
            if (n_alive > 1 && random_below(100) == 0) {
                size_t victim = random_below(n_servers);
                n_alive -= world.servers[victim].engine != NULL;
                kill_server(&world, victim);
            }
            while (!world.servers[server].engine)
                server = (server + 1) % n_servers;
            snprintf(id, sizeof(id), "l%zu", lamp);
            snprintf(json, sizeof(json), "{\"light\": %u}", light);
            bool wanted = light < 300 ? true : light > 320 ? false : on[lamp];
            bool changes = known[lamp] ? wanted != on[lamp] : light < 300 || light > 320;
            say(&world, server, id, json);
            n_expected += changes;
            known[lamp] |= changes;
            on[lamp] = wanted;
            assert_int_equal(world.n_sent, n_expected);
            if (changes)
                expect_sent(&world, n_expected, server, wanted);
            pass(&world, trip_usec + random_below(1000000));
        }
        world_done(&world);
    }
}

int main(void)
{
    random_begin();
    const struct CMUnitTest tests[] = {
        in_directory(time_alone_is_for_the_server_with_the_newest_reading),
        in_directory(what_comes_with_time_is_said_once),
        in_directory(a_lease_is_renewed_by_one_and_taken_over_when_it_is_killed),
        in_directory(a_lease_runs_out_when_nobody_has_readings),
        in_directory(a_change_is_commanded_once_whoever_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
