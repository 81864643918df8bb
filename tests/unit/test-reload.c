// SPDX-License-Identifier: LGPL-2.1-or-later
// A reload that fails, at each call in turn that can fail: all goes on as it was.
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>

#include "device/device.h"
#include "drivers/driver.h"
#include "failing.h"
#include "io/worker.h"
#include "server/server.h"
#include "test-config.h"
#include "util/log.h"

#define HEAD "[broker]\nhost = 127.0.0.1\nport = 1\nreconnect_min = 1h\nreconnect_max = 1h\n"

#define SENSOR(name, more) "[sensor " name "]\ndriver = sim\ninterval = 10ms\n" more
#define LAMP(more)         "[actuator lamp]\ndriver = log\n" more
#define RULE(name)         "[rule " name "]\nwhen = light > 1\nthen = {\"lamp\": true}\n"

/* A stream, a sensor in it and a lamp; nothing of that is in the other one as it is here. */
static const char old_text[] =
    HEAD SENSOR("door", "stream = alarms\n") "[stream alarms]\n" LAMP("");
static const char new_text[] = HEAD "[topics]\ntelemetry = t/{id}\nbacklog = b/{id}\n" SENSOR(
    "light", "") SENSOR("heat", "stream = slow\n")
    SENSOR("rain", "") "[stream slow]\n" LAMP("initial = true\n") "[actuator fan]\ndriver = log\n" RULE(
        "near") "where = device\n" RULE("far") "[server]\nrecord = /nowhere/recording\n";

struct house {
    sd_event *event;
    struct spool *spool;
    struct device *device;
    struct server *server;
    struct config *old, *new;
};

static void on_told(void *userdata, enum owner_event event)
{
    (void)userdata, (void)event;
}

static const struct owner owner = { on_told, NULL };

/* As the daemon does it: all that can fail, then what cannot. */
struct plan {
    struct device *device;
    struct server *server;
    struct device_plan *device_plan;
    struct server_plan *server_plan;
};

static void plan_done(struct plan *plan)
{
    device_plan_free(plan->device_plan);
    server_plan_free(plan->server_plan);
    device_free(plan->device);
    server_free(plan->server);
}

static int prepare(struct house *house, struct config *config, struct plan *plan)
{
    struct why why = { "" };
    int r = 0;
    if (config->daemon->role != ROLE_SERVER)
        r = house->device
                ? device_prepare(house->device, config, &plan->device_plan, &why)
                : device_new(house->event, house->spool, config, &owner, &plan->device, &why);
    if (r >= 0 && config->daemon->role != ROLE_DEVICE)
        r = house->server ? server_prepare(house->server, config, &plan->server_plan)
                          : server_new(house->event, house->spool, config, &owner, &plan->server);
    return r;
}

static void commit(struct house *house, struct plan *plan)
{
    if (plan->device_plan)
        device_commit(house->device, TAKE_PTR(plan->device_plan));
    if (plan->device)
        device_start(house->device = TAKE_PTR(plan->device));
    if (plan->server_plan)
        server_commit(house->server, TAKE_PTR(plan->server_plan));
    if (plan->server)
        server_start(house->server = TAKE_PTR(plan->server));
}

static struct config *load_with_drivers(const char *role, const char *text)
{
    struct config_sources sources = { .file = MAIN_FILE, .role = role };
    struct config_errors errors = { 0 };
    struct config *config = NULL;
    driver_add_to(&sources);
    put_main(text);
    int r = config_load(&sources, &config, &errors);
    for (size_t i = 0; i < errors.n_lines; i++)
        print_error("%s\n", errors.lines[i]);
    assert_int_equal(r, 0);
    return config;
}

static void open_house(struct house *house, const char *old_role, const char *new_role)
{
    _cleanup_(plan_done) struct plan plan = { 0 };
    assert_int_equal(setenv("RUNTIME_DIRECTORY", ".", 1), 0); // for the explainer's socket
    log_set_level(LOG_ERR);
    *house = (struct house){ .old = load_with_drivers(old_role, old_text),
                             .new = load_with_drivers(new_role, new_text) };
    assert_true(sd_event_new(&house->event) >= 0);
    assert_int_equal(spool_new(house->event, ".", 64 << 20, &house->spool), 0);
    assert_int_equal(prepare(house, house->old, &plan), 0);
    commit(house, &plan);
    spool_start(house->spool);
}

static void house_done(struct house *house)
{
    device_free(house->device);
    server_free(house->server);
    spool_free(house->spool);
    sd_event_unref(house->event);
    config_unref(house->old);
    config_unref(house->new);
    assert_int_equal(worker_wait_for_orphans(10 * USEC_PER_SEC), 0);
}

static size_t n_descriptors(void)
{
    size_t n = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

/* How many messages the device has made. */
static uint64_t n_queued(const struct house *house)
{
    char text[512];
    uint64_t n = 0;
    device_describe(house->device, text, sizeof(text));
    const char *at = strstr(text, " sent, ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, " sent, %" SCNu64 " queued", &n), 1);
    return n;
}

/* Its sensors are sampled and its streams take messages. */
static void expect_messages(const struct house *house, unsigned n)
{
    uint64_t until_mono_usec = clock_mono_usec() + 10 * USEC_PER_SEC;
    uint64_t wanted = n_queued(house) + n;
    while (n_queued(house) < wanted) {
        assert_true(clock_mono_usec() < until_mono_usec);
        assert_true(sd_event_run(house->event, USEC_PER_SEC) >= 0);
    }
}

/* Whether the n-th call that can fail did: then nothing has changed. */
static bool fails_at(struct house *house, size_t n, bool all_after)
{
    _cleanup_(plan_done) struct plan plan = { 0 };
    char before[512], after[512];
    size_t n_before = n_descriptors();
    if (house->device)
        device_describe(house->device, before, sizeof(before));
    failing_begin(n, all_after);
    int r = prepare(house, house->new, &plan);
    plan_done(&plan); // while they still fail
    bool failed = failing_end();
    plan = (struct plan){ 0 };
    assert_true(r == 0 || failed);
    assert_int_equal(n_descriptors(), n_before);
    if (house->device) {
        assert_string_equal(device_describe(house->device, after, sizeof(after)), before);
        expect_messages(house, 1);
    }
    return failed;
}

static void fail_everywhere(struct house *house)
{
    size_t n = 1;
    while (fails_at(house, n, false))
        n++;
    print_message("%zu calls can fail\n", n - 1);
    assert_true(n > 50); // they are found
    for (; n > 0; n -= n > 8 ? 8 : 1)
        fails_at(house, n, true);
    _cleanup_(plan_done) struct plan plan = { 0 };
    assert_int_equal(prepare(house, house->new, &plan), 0);
    commit(house, &plan);
    expect_messages(house, 10);
}

static void both_roles_stay_as_they_are(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house, "combined", "combined");
    fail_everywhere(&house);
}

static void a_server_that_cannot_begin_leaves_the_device_alone(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house, "device", "combined");
    fail_everywhere(&house);
}

static void a_device_that_cannot_begin_leaves_the_server_alone(void **state)
{
    (void)state;
    _cleanup_(house_done) struct house house;
    open_house(&house, "server", "combined");
    fail_everywhere(&house);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(both_roles_stay_as_they_are),
        in_directory(a_server_that_cannot_begin_leaves_the_device_alone),
        in_directory(a_device_that_cannot_begin_leaves_the_server_alone),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
