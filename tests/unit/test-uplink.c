// SPDX-License-Identifier: LGPL-2.1-or-later
// A role's uplink, never connected, with a disk that cannot be written: who is told what, and when.
#include "outbox/uplink.h"
#include "test-config.h"

struct role {
    sd_event *event;
    struct config *config;
    struct spool *spool;
    struct uplink *uplink;
    unsigned depth; // calls that the role has not returned from
    unsigned n_changed;
    uint64_t recorded_ticket;
};

static void on_event(void *userdata, const struct uplink_event *event)
{
    struct role *role = userdata;
    assert_int_equal(role->depth, 0);
    role->n_changed += event->type == UPLINK_CHANGED;
    if (event->type == UPLINK_RECORDED)
        role->recorded_ticket = event->ticket;
}

#define CALL(role, call)                                                                           \
    do {                                                                                           \
        (role)->depth++;                                                                           \
        (void)(call);                                                                              \
        (role)->depth--;                                                                           \
    } while (0)

static const struct stream_policy replies = {
    .name = "$replies",
    .is_strict = true,
    .subject_is_topic = true,
    .qos = 1,
    .max_age_usec = USEC_INFINITY,
    .max_messages = 1000,
};

static void open_role(struct role *role, bool has_thread)
{
    const struct uplink_options options = { .role = { .client_suffix = "" },
                                            .streams = &replies,
                                            .n_streams = 1 };
    *role = (struct role){ .config = load_main("") };
    put("file", "no directory");
    assert_true(sd_event_new(&role->event) >= 0);
    assert_int_equal(spool_new(role->event, "file/state", 64 << 20, &role->spool), 0);
    if (has_thread)
        spool_start(role->spool);
    assert_int_equal(
        uplink_new(role->event, role->spool, role->config, &options, on_event, role, &role->uplink),
        0);
}

static void role_done(struct role *role)
{
    uplink_free(role->uplink);
    spool_free(role->spool);
    sd_event_unref(role->event);
    config_unref(role->config);
}

static void run_until_recorded(struct role *role, uint64_t ticket)
{
    while (role->recorded_ticket < ticket)
        assert_true(sd_event_run(role->event, 10 * USEC_PER_SEC) > 0);
}

static void nobody_is_called_back_while_at_work(bool has_thread)
{
    struct role role;
    uint64_t ticket = 0;
    const struct outbox_message reply = {
        .stream = "$replies", .subject = "a/replies", .payload = "{}", .qos = -1
    };
    open_role(&role, has_thread);
    for (unsigned i = 0; i < 20; i++) {
        CALL(&role, outbox_put_record(uplink_outbox(role.uplink), "command", "a", "1"));
        CALL(&role, ticket = outbox_sync_records(uplink_outbox(role.uplink)));
        CALL(&role, uplink_publish(role.uplink, &reply));
        CALL(&role, uplink_count_rejected(role.uplink, 1));
        if (i % 3 == 0)
            run_until_recorded(&role, ticket);
    }
    run_until_recorded(&role, ticket);
    assert_true(role.n_changed > 0);
    role_done(&role);
}

static void no_call_calls_back(void **state)
{
    (void)state;
    nobody_is_called_back_while_at_work(true);
}

static void nor_does_one_before_the_disk_has_its_thread(void **state)
{
    (void)state;
    nobody_is_called_back_while_at_work(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(no_call_calls_back),
        in_directory(nor_does_one_before_the_disk_has_its_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
