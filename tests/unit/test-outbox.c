// SPDX-License-Identifier: LGPL-2.1-or-later
// The outbox in front of a client that this test plays, so that acknowledgements come when it says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "outbox/outbox.h"

enum { MAX_INFLIGHT = 3 };

static struct {
    struct outbox *outbox;
    int last_mid;
    unsigned n_published;
    char last_payload[32];
    int result;        // of mqtt_publish()
    bool acks_at_once; // as QoS 0 that is written at once
    bool answers;      // publishes more from within the acknowledgement, once
} client;

int mqtt_publish(struct mqtt *mqtt, const struct mqtt_publication *publication, int *ret_mid)
{
    (void)mqtt;
    if (client.result < 0)
        return client.result;
    client.n_published++;
    client.last_mid = client.last_mid % UINT16_MAX + 1;
    *ret_mid = client.last_mid;
    memcpy(client.last_payload, publication->payload, publication->payload_size);
    client.last_payload[publication->payload_size] = '\0';
    if (client.acks_at_once) {
        assert_true(outbox_published(client.outbox, client.last_mid, 0, NULL));
        if (client.answers) {
            client.answers = false;
            assert_int_equal(outbox_publish(client.outbox, "t", "answer", 0, false, 0), 0);
        }
    }
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    memset(&client, 0, sizeof(client));
    assert_int_equal(outbox_new(NULL, MAX_INFLIGHT, &client.outbox), 0);
    outbox_connected(client.outbox);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    outbox_free(client.outbox);
    outbox_free(NULL);
    return 0;
}

static void assert_counters(uint64_t sent, uint64_t dropped, uint64_t rejected, uint64_t queued,
                            uint64_t in_flight)
{
    struct outbox_counters counters;
    outbox_count(client.outbox, &counters);
    assert_int_equal(counters.sent, sent);
    assert_int_equal(counters.dropped, dropped);
    assert_int_equal(counters.rejected, rejected);
    assert_int_equal(counters.queued, queued);
    assert_int_equal(counters.in_flight, in_flight);
    assert_int_equal(outbox_is_empty(client.outbox), queued + in_flight == 0);
}

static int publish(const char *payload)
{
    return outbox_publish(client.outbox, "t", payload, 1, false, 0);
}

static void window_is_kept_and_order_too(void **state)
{
    (void)state;
    for (char text[] = "0"; text[0] < '6'; text[0]++)
        assert_int_equal(publish(text), 0);
    assert_int_equal(client.n_published, MAX_INFLIGHT);
    assert_string_equal(client.last_payload, "2");
    assert_counters(0, 0, 0, 3, 3);
    for (int mid = 1; mid <= 3; mid++) {
        assert_true(outbox_published(client.outbox, mid, 0, NULL));
        assert_int_equal(client.last_payload[0], '2' + mid);
    }
    assert_counters(3, 0, 0, 0, 3);
    for (int mid = 6; mid >= 4; mid--)
        assert_true(outbox_published(client.outbox, mid, 0, NULL));
    assert_counters(6, 0, 0, 0, 0);
}

static void foreign_and_repeated_acknowledgements_change_nothing(void **state)
{
    (void)state;
    assert_int_equal(publish("x"), 0);
    assert_false(outbox_published(client.outbox, 2, 0, NULL));
    assert_false(outbox_published(client.outbox, 0, 0, NULL));
    assert_false(outbox_published(client.outbox, -1, 0, NULL));
    assert_false(outbox_published(client.outbox, UINT16_MAX + 1, 0, NULL));
    assert_counters(0, 0, 0, 0, 1);
    assert_true(outbox_published(client.outbox, 1, 0, NULL));
    assert_false(outbox_published(client.outbox, 1, 0, NULL));
    assert_counters(1, 0, 0, 0, 0);
}

static void refused_message_is_no_delivery(void **state)
{
    (void)state;
    assert_int_equal(publish("x"), 0);
    assert_true(outbox_published(client.outbox, 1, 0x87, NULL));
    assert_int_equal(publish("y"), 0);
    assert_true(
        outbox_published(client.outbox, 2, 0x10, NULL)); // no matching subscribers: a success
    assert_counters(1, 0, 1, 0, 0);
}

static void disconnection_drops_and_counts_all(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(publish("x"), 0);
    outbox_disconnected(client.outbox);
    assert_counters(0, 5, 0, 0, 0);
    assert_int_equal(publish("x"), -ENOTCONN);
    assert_counters(0, 6, 0, 0, 0);
    assert_false(outbox_published(client.outbox, 1, 0, NULL)); // of the connection before
    outbox_connected(client.outbox);
    assert_int_equal(publish("x"), 0);
    assert_counters(0, 6, 0, 0, 1);
}

static void bound_on_messages_holds(void **state)
{
    (void)state;
    for (int i = 0; i < MAX_INFLIGHT + OUTBOX_MAX_MESSAGES; i++)
        assert_int_equal(publish("x"), 0);
    assert_int_equal(publish("x"), -ENOBUFS);
    assert_counters(0, 1, 0, OUTBOX_MAX_MESSAGES, MAX_INFLIGHT);
    assert_true(outbox_published(client.outbox, 1, 0, NULL));
    assert_int_equal(publish("x"), 0);
}

static void bound_on_bytes_holds(void **state)
{
    static char large[OUTBOX_MAX_BYTES];
    (void)state;
    for (int i = 0; i < MAX_INFLIGHT; i++)
        assert_int_equal(publish("x"), 0);
    memset(large, 'x', OUTBOX_MAX_BYTES - 10);
    assert_int_equal(publish(large), 0);
    assert_int_equal(publish("0123456789"), -ENOBUFS);
    assert_int_equal(publish("0"), 0);
    memset(large, 'x', OUTBOX_MAX_BYTES - 1);
    assert_int_equal(publish(large), -ENOBUFS);
    outbox_disconnected(client.outbox);
    outbox_connected(client.outbox);
    for (int i = 0; i < MAX_INFLIGHT; i++)
        assert_int_equal(publish("x"), 0);
    memset(large + OUTBOX_MAX_BYTES - 10, 0, 10);
    assert_int_equal(publish(large), 0);
    outbox_disconnected(client.outbox);
}

static void acknowledgement_within_the_call_is_counted(void **state)
{
    (void)state;
    client.acks_at_once = true;
    for (int i = 0; i < 100000; i++) // message ids wrap
        assert_int_equal(publish("x"), 0);
    assert_counters(100000, 0, 0, 0, 0);
}

static void what_an_acknowledgement_publishes_goes_out(void **state)
{
    (void)state;
    client.acks_at_once = client.answers = true;
    assert_int_equal(publish("question"), 0);
    assert_string_equal(client.last_payload, "answer");
    assert_counters(2, 0, 0, 0, 0);
}

static void message_that_the_client_will_not_take_is_dropped(void **state)
{
    (void)state;
    client.result = -EMSGSIZE;
    assert_int_equal(publish("x"), -EMSGSIZE);
    assert_counters(0, 1, 0, 0, 0);
    client.result = 0;
    for (int i = 0; i < 5; i++)
        assert_int_equal(publish("x"), 0);
    client.result = -ENOTCONN; // broken, and disconnected() not yet called
    assert_true(outbox_published(client.outbox, 1, 0, NULL));
    assert_counters(1, 3, 0, 0, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(window_is_kept_and_order_too),
        TEST(foreign_and_repeated_acknowledgements_change_nothing),
        TEST(refused_message_is_no_delivery),
        TEST(disconnection_drops_and_counts_all),
        TEST(bound_on_messages_holds),
        TEST(bound_on_bytes_holds),
        TEST(acknowledgement_within_the_call_is_counted),
        TEST(what_an_acknowledgement_publishes_goes_out),
        TEST(message_that_the_client_will_not_take_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
