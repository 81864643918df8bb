// SPDX-License-Identifier: LGPL-2.1-or-later
// The journal of commands, whatever happens: crashes, losses, repetitions, in random order.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "issuer-fixture.h"
#include "random.h"

enum { N_ORDERED = 40 };

/* A device with a journal of its own, that loses what it is sent, and replies. */
struct robot {
    size_t n_done, n_seen;
    unsigned done[256];
    char seen[256][64];
    unsigned led, led_of[256];
};

static bool has_seen(const struct robot *robot, const char *id)
{
    for (size_t i = 0; i < robot->n_seen; i++) {
        if (strcmp(robot->seen[i], id) == 0)
            return true;
    }
    return false;
}

static void obey(struct robot *robot, const struct sent *sent)
{
    unsigned n;
    const char *step = strstr(sent->payload, "\"step\": "),
               *led = strstr(sent->payload, "\"led\": ");
    if (has_seen(robot, sent->id))
        return;
    assert_true(robot->n_seen < ELEMENTS(robot->seen));
    snprintf(robot->seen[robot->n_seen++], sizeof(robot->seen[0]), "%s", sent->id);
    if (step && sscanf(step, "\"step\": %u", &n) == 1)
        robot->done[robot->n_done++] = n;
    else if (led && sscanf(led, "\"led\": %u", &n) == 1) {
        assert_true(n > robot->led); // never one that is out of date
        robot->led = n;
    }
}

static void once_and_in_order_whatever_happens(void **state)
{
    struct world *world = *state;
    random_begin();
    for (unsigned round = 0; round < 50; round++) {
        struct robot robot = { 0 };
        unsigned n_issued = 0, n_led = 0;
        size_t seen_sent = world->n_sent = 0;
        char text[64];
        announce(world, "arm", true);
        while (n_issued < N_ORDERED || count(world).n_open > 0) {
            unsigned what = (unsigned)random_below(10);
            if (what < 3 && n_issued < N_ORDERED) {
                snprintf(text, sizeof(text), "{\"step\": %u}", ++n_issued);
                assert_int_equal(issue_ordered(world, "arm", text), 0);
            } else if (what == 3 && n_issued < N_ORDERED) {
                snprintf(text, sizeof(text), "{\"led\": %u}", ++n_led);
                assert_int_equal(issue_latest(world, "arm", text), 0);
            } else if (what == 4) {
                crash(world);
                announce(world, "arm", random_below(2));
            } else if (what == 5) {
                announce(world, "arm", random_below(2));
            } else {
                issuer_recorded(world->issuer, world->ticket);
                pass(world, random_below(20 * USEC_PER_SEC));
            }
            for (; seen_sent < world->n_sent; seen_sent++) {
                if (random_below(4) == 0)
                    continue; // lost on the way
                obey(&robot, &world->sent[seen_sent]);
                if (random_below(4) > 0) {
                    struct answer answer = { .status = REPLY_DONE };
                    snprintf(answer.id, sizeof(answer.id), "%s", world->sent[seen_sent].id);
                    issuer_reply(world->issuer, slice("arm"), &answer, &world->now);
                }
            }
            if (n_issued == N_ORDERED)
                announce(world, "arm", true);
            assert_true(world->n_sent < MAX_SENT);
        }
        if (robot.n_done != N_ORDERED || robot.led != n_led)
            fail_msg("round %u: %zu of %d done, led %u of %u", round, robot.n_done, N_ORDERED,
                     robot.led, n_led);
        for (unsigned i = 0; i < N_ORDERED; i++)
            assert_int_equal(robot.done[i], i + 1);
    }
}

/* Lamps with journals of their own, that lose what they are sent, and reply or not. */
static void group_has_the_newest_whatever_happens(void **state)
{
    enum { N_LAMPS = 5, N_STEPS = 20 };
    struct world *world = *state;
    static struct robot lamps[N_LAMPS];
    random_begin();
    for (unsigned round = 0; round < 50; round++) {
        const char *const *devices = make_group(world, N_LAMPS);
        unsigned n_led = 0;
        size_t seen_sent = world->n_sent = 0;
        memset(lamps, 0, sizeof(lamps));
        while (n_led < N_STEPS || count(world).n_outstanding + count(world).n_open > 0) {
            unsigned what = (unsigned)random_below(10);
            if (what < 2 && n_led < N_STEPS) {
                char text[64];
                snprintf(text, sizeof(text), "{\"led\": %u}", ++n_led);
                assert_int_equal(issue_group(world, text, devices, N_LAMPS), 0);
            } else if (what == 2) {
                crash(world);
                for (unsigned i = 0; i < N_LAMPS; i++)
                    announce(world, devices[i], random_below(2));
            } else if (what == 3) {
                announce(world, devices[random_below(N_LAMPS)], random_below(2));
            } else {
                issuer_recorded(world->issuer, world->ticket);
                pass(world, random_below(20 * USEC_PER_SEC));
            }
            for (; seen_sent < world->n_sent; seen_sent++) {
                const struct sent *sent = &world->sent[seen_sent];
                for (unsigned i = 0; i < N_LAMPS; i++) {
                    if ((sent->device[0] && strcmp(sent->device, devices[i]) != 0) ||
                        random_below(4) == 0)
                        continue;
                    obey(&lamps[i], sent);
                    struct answer answer = { .status = REPLY_DONE };
                    snprintf(answer.id, sizeof(answer.id), "%s", sent->id);
                    if (random_below(4) > 0)
                        issuer_reply(world->issuer, slice(devices[i]), &answer, &world->now);
                }
            }
            if (n_led == N_STEPS)
                make_group(world, N_LAMPS);
            assert_true(world->n_sent < MAX_SENT);
        }
        for (unsigned i = 0; i < N_LAMPS; i++)
            assert_int_equal(lamps[i].led, n_led);
        assert_int_equal(world->n_records, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(once_and_in_order_whatever_happens),
        TEST(group_has_the_newest_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
