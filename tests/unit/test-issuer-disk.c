// SPDX-License-Identifier: LGPL-2.1-or-later
// The journal of commands on the outbox, as server/dispatch.c puts them together, while the disk
// fails at every call in turn: nothing is freed while it is at work, and every command arrives.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "outbox-configure.h"
#include "server/issuer.h"
#include "util/clock.h"

enum { N_DEVICES = 4, N_STEPS = 40, MAX_SENT = 1024 };

struct sent {
    char device[16]; // "": the group
    char id[LETTER_ID_SIZE];
};

struct world {
    struct outbox *outbox;
    struct issuer *issuer;
    struct store_job *job;
    struct ruleset_now now;
    bool is_connected;
    int last_mid;
    unsigned n_jobs, fail_first, fail_end; // jobs that fail
    size_t n_sent, n_replied;
    struct sent sent[MAX_SENT];
};

/* --- what the outbox has around it ----------------------------------------------------------- */

static struct world *the_world; // whose time it is

uint64_t clock_mono_usec(void)
{
    return the_world->now.mono_usec;
}

uint64_t clock_wall_usec(void)
{
    return the_world->now.wall_usec;
}

bool clock_is_right(void)
{
    return true;
}

int link_publish(struct link *link, const struct mqtt_message *message, int *ret_mid)
{
    struct world *world = (struct world *)link;
    (void)message;
    *ret_mid = ++world->last_mid;
    return 0;
}

static int on_run(void *userdata, struct store_job *job)
{
    ((struct world *)userdata)->job = job;
    return 0;
}

/* --- in the place of the server's way out ----------------------------------------------------- */

int post_save(struct post *post, const char *key, const char *value)
{
    return outbox_put_record(((struct world *)post)->outbox, "issued", key, value);
}

uint64_t post_sync(struct post *post)
{
    return outbox_sync_records(((struct world *)post)->outbox);
}

int post_send(struct post *post, const struct letter *letter, const char *device)
{
    struct world *world = (struct world *)post;
    if (!world->is_connected)
        return -ENOTCONN;
    assert_true(world->n_sent < MAX_SENT);
    struct sent *sent = &world->sent[world->n_sent++];
    snprintf(sent->device, sizeof(sent->device), "%s", device ? device : "");
    snprintf(sent->id, sizeof(sent->id), "%s", letter->id);
    return outbox_publish(world->outbox, &(struct outbox_message){ .stream = "$commands",
                                                                   .subject = "t",
                                                                   .payload = letter->payload,
                                                                   .qos = letter->qos });
}

/* --- a world --------------------------------------------------------------------------------- */

static void work(struct world *world)
{
    struct why why = { "disk I/O error" };
    if (!world->job)
        return;
    bool fails = world->n_jobs >= world->fail_first && world->n_jobs < world->fail_end;
    world->n_jobs++;
    world->job = NULL;
    outbox_stored(world->outbox, fails ? -EIO : 0, &why);
}

static void begin(struct world *world, unsigned fail_first, unsigned fail_end)
{
    const uint8_t boot[STORE_BOOT_SIZE] = { 1 }, run[STORE_RUN_SIZE] = { 1 };
    const struct stream_policy policy = {
        .name = "$commands",
        .keep = STREAM_KEEP_NONE,
        .time = STREAM_TIME_NEVER,
        .is_volatile = true,
        .subject_is_topic = true,
        .max_age_usec = USEC_INFINITY,
        .max_messages = UINT64_MAX,
    };
    const struct outbox_options options = {
        .durability = STREAM_BATCHED,
        .commit_interval_usec = USEC_PER_SEC,
        .max_size = 64 << 20,
        .name = "server1",
    };
    *world = (struct world){
        .now = { 1000 * USEC_PER_SEC, 1790000000 * USEC_PER_SEC },
        .fail_first = fail_first,
        .fail_end = fail_end,
    };
    the_world = world;
    assert_int_equal(outbox_new(boot, run, on_run, world, &world->outbox), 0);
    assert_int_equal(outbox_configure(world->outbox, &options, &policy, 1), 0);
    assert_int_equal(issuer_new(42, (struct post *)world, &world->issuer), 0);
}

static void end(struct world *world)
{
    outbox_free(world->outbox);
    if (world->job)
        outbox_stored(world->outbox, -ECANCELED, NULL);
    issuer_free(world->issuer);
}

static struct topic_slice slice(const char *id)
{
    return (struct topic_slice){ id, strlen(id) };
}

static void issue(struct world *world, const char *device, bool is_ordered, int value)
{
    char text[32];
    struct command *command;
    static const char *const ids[N_DEVICES] = { "d0", "d1", "d2", "d3" };
    snprintf(text, sizeof(text), "{\"led\": %d}", value);
    assert_int_equal(command_parse(text, strlen(text), &command, NULL), 0);
    const struct letter_order order = {
        .device = device,
        .group = "hall",
        .rule = "r",
        .command = command,
        .is_ordered = is_ordered,
        .qos = 1,
        .expires_usec = USEC_INFINITY,
        .lease_usec = USEC_INFINITY,
        .has_seq = true,
    };
    // The last of the group has not announced itself.
    int r = device ? issuer_issue(world->issuer, &order, &world->now)
                   : issuer_issue_group(world->issuer, &order, ids, N_DEVICES, &world->now);
    assert_true(r >= 0);
    command_free(command);
}

static void answer(struct world *world, const char *device, const char *id)
{
    struct answer reply = { .status = REPLY_DONE };
    snprintf(reply.id, sizeof(reply.id), "%s", id);
    issuer_reply(world->issuer, slice(device), &reply, &world->now);
}

/* Every device replies to all that it was sent. */
static void answer_all(struct world *world)
{
    for (; world->n_replied < world->n_sent; world->n_replied++) {
        const struct sent sent = world->sent[world->n_replied];
        for (int i = 0; i < N_DEVICES; i++) {
            const char id[] = { 'd', (char)('0' + i), '\0' };
            if (!sent.device[0] || strcmp(sent.device, id) == 0)
                answer(world, id, sent.id);
        }
    }
}

/* As the loop does. */
static void tick(struct world *world)
{
    outbox_tick(world->outbox);
    issuer_recorded(world->issuer, outbox_recorded(world->outbox));
}

static void turn(struct world *world, uint64_t usec)
{
    world->now.mono_usec += usec;
    world->now.wall_usec += usec;
    tick(world);
    issuer_run(world->issuer, &world->now);
}

static void step(struct world *world, int n)
{
    const char id[] = { 'd', (char)('0' + n % N_DEVICES), '\0' };
    if (n % 11 == 3) {
        outbox_connected(world->outbox, (struct link *)world, 100);
        world->is_connected = true;
        issuer_connected(world->issuer, &world->now);
    } else if (n % 11 == 10) {
        outbox_disconnected(world->outbox);
        world->is_connected = false;
    }
    if (n % 7 == 2)
        issue(world, NULL, false, n);
    else if (n % 3 == 0)
        issue(world, id, n % 2, n);
    if (n % 5 == 4)
        issuer_announce(world->issuer, slice(id), n % 2, true, &world->now);
    if (n % 4 == 1)
        answer_all(world);
    if (n % 2)
        work(world);
    turn(world, n % 3 ? 0 : 3 * USEC_PER_SEC);
}

static void play(unsigned fail_first, unsigned fail_end)
{
    static struct world world;
    struct issuer_counts counts;
    begin(&world, fail_first, fail_end);
    for (int i = 0; i + 1 < N_DEVICES; i++)
        issuer_announce(world.issuer, slice((const char[]){ 'd', (char)('0' + i), '\0' }), true,
                        true, &world.now);
    for (int n = 0; n < N_STEPS; n++)
        step(&world, n);
    world.is_connected = true; // and then all is well
    outbox_connected(world.outbox, (struct link *)&world, 100);
    issuer_connected(world.issuer, &world.now);
    for (int n = 0; n < 200; n++) {
        for (int i = 0; i + 1 < N_DEVICES; i++)
            issuer_heard(world.issuer, slice((const char[]){ 'd', (char)('0' + i), '\0' }),
                         &world.now);
        work(&world);
        turn(&world, USEC_PER_SEC);
        answer_all(&world);
    }
    issuer_count(world.issuer, &counts);
    assert_int_equal(counts.n_open, 0);
    assert_int_equal(counts.n_outstanding, 0);
    end(&world);
}

static void a_disk_that_fails_once_harms_nothing(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 30; n++)
        play(n, n + 1);
}

static void a_disk_that_fails_for_a_while_harms_nothing(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 30; n++)
        play(n, n + 6);
}

/* A group of devices that reply to nothing: its command ends as soon as it is sent. */
static void a_command_that_ends_while_it_is_sent_is_freed_once(void **state)
{
    (void)state;
    static struct world world;
    begin(&world, 0, 100);
    issue(&world, NULL, false, 1);
    tick(&world);
    work(&world);
    tick(&world);
    world.now.mono_usec += 100 * USEC_PER_MSEC;
    outbox_connected(world.outbox, (struct link *)&world, 100);
    world.is_connected = true;
    issuer_connected(world.issuer, &world.now);
    issuer_announce(world.issuer, slice("d1"), true, true, &world.now);
    issue(&world, "d1", false, 2); // a ticket that the outbox has not told yet
    issuer_run(world.issuer, &world.now);
    assert_true(world.n_sent > 0);
    end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_that_fails_once_harms_nothing),
        cmocka_unit_test(a_disk_that_fails_for_a_while_harms_nothing),
        cmocka_unit_test(a_command_that_ends_while_it_is_sent_is_freed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
