// SPDX-License-Identifier: LGPL-2.1-or-later
// A driver at work: opened when needed, opened anew after a failure, closed whatever happens.
#include <semaphore.h>

#include "device/job.h"
#include "test-config.h"

static struct {
    int open_result, read_result; // what the driver returns
    bool waits;                   // in read, for cancel or the test
    sem_t is_reading, may_return;
    unsigned n_opened, n_read, n_closed, n_cancelled, n_finished;
} driver;

static int fake_open(const void *config, void **ret_state, struct why *why)
{
    (void)config;
    if (driver.open_result < 0)
        return why_set(why, -driver.open_result, "it does not open");
    driver.n_opened++;
    *ret_state = &driver;
    return 0;
}

static int fake_read(void *state, double *ret_value, struct why *why)
{
    assert_ptr_equal(state, &driver);
    driver.n_read++;
    sem_post(&driver.is_reading);
    if (driver.waits)
        sem_wait(&driver.may_return);
    if (driver.read_result < 0)
        return why_set(why, -driver.read_result, "it fails");
    *ret_value = 7;
    return 0;
}

static void fake_close(void *state)
{
    assert_ptr_equal(state, &driver);
    driver.n_closed++;
}

static void fake_cancel(void *state)
{
    assert_ptr_equal(state, &driver);
    driver.n_cancelled++;
    sem_post(&driver.may_return);
}

static const struct sensor_driver quick_driver = { .base = { .name = "quick", .close = fake_close },
                                                   .open = fake_open,
                                                   .read = fake_read };
static const struct sensor_driver slow_driver = {
    .base = { .name = "slow", .blocking = true, .close = fake_close, .cancel = fake_cancel },
    .open = fake_open,
    .read = fake_read,
};
static const struct config_driver fake_table[] = { { .name = "quick", .driver = &quick_driver },
                                                   { .name = "slow", .driver = &slow_driver } };

static void on_finished(struct job *job)
{
    (void)job;
    driver.n_finished++;
}

static int reset(void **state)
{
    memset(&driver, 0, sizeof(driver));
    sem_init(&driver.is_reading, 0, 0);
    sem_init(&driver.may_return, 0, 0);
    return setup(state);
}

struct bench {
    sd_event *event;
    struct job *job;
};

static struct bench make_bench(bool blocking)
{
    const struct config_sources sources = { .file = MAIN_FILE,
                                            .sensor_drivers = fake_table,
                                            .n_sensor_drivers = ELEMENTS(fake_table) };
    struct config_errors errors = { 0 };
    struct config *config;
    struct bench bench;
    put_main(blocking ? "[sensor light]\ndriver = slow\n" : "[sensor light]\ndriver = quick\n");
    assert_int_equal(config_load(&sources, &config, &errors), 0);
    assert_true(sd_event_new(&bench.event) >= 0);
    assert_int_equal(job_new(bench.event, config, config_nth(config, "sensor", 0), &bench.job), 0);
    bench.job->finished = on_finished;
    config_unref(config); // the job has its own reference
    return bench;
}

static void bench_done(struct bench *bench)
{
    job_free(bench->job);
    assert_int_equal(worker_wait_for_orphans(10 * USEC_PER_SEC), 0);
    sd_event_unref(bench->event);
}

static void run_until_idle(struct bench *bench)
{
    while (job_busy(bench->job))
        assert_true(sd_event_run(bench->event, UINT64_MAX) >= 0);
}

static void a_driver_is_opened_once_for_many_calls(void **state)
{
    (void)state;
    _cleanup_(bench_done) struct bench bench = make_bench(false);
    assert_int_equal(driver.n_opened, 0);
    assert_true(job_start(bench.job));
    assert_true(bench.job->was_opened);
    assert_true(job_start(bench.job));
    assert_false(bench.job->was_opened);
    assert_int_equal(driver.n_opened, 1);
    assert_int_equal(driver.n_finished, 0); // that is for what comes later
    assert_int_equal(bench.job->result, 0);
    assert_true(bench.job->reading == 7);
}

static void after_a_failure_it_is_closed_and_opened_anew(void **state)
{
    (void)state;
    _cleanup_(bench_done) struct bench bench = make_bench(false);
    driver.read_result = -EIO;
    job_start(bench.job);
    assert_int_equal(bench.job->result, -EIO);
    assert_string_equal(bench.job->why.text, "it fails");
    driver.read_result = 0;
    job_start(bench.job);
    assert_int_equal(bench.job->result, 0);
    assert_string_equal(bench.job->why.text, "");
    assert_int_equal(driver.n_closed, 1);
    assert_int_equal(driver.n_opened, 2);
}

static void one_that_does_not_open_is_tried_again(void **state)
{
    (void)state;
    _cleanup_(bench_done) struct bench bench = make_bench(false);
    driver.open_result = -ENODEV;
    job_start(bench.job);
    assert_int_equal(bench.job->result, -ENODEV);
    assert_int_equal(driver.n_read, 0);
    assert_false(bench.job->was_opened);
    driver.open_result = 0;
    job_start(bench.job);
    assert_int_equal(bench.job->result, 0);
    assert_int_equal(driver.n_closed, 0);
}

static void a_freed_job_closes_its_driver(void **state)
{
    (void)state;
    struct bench bench = make_bench(false);
    job_start(bench.job);
    bench_done(&bench);
    assert_int_equal(driver.n_closed, 1);
}

static void a_blocking_driver_is_finished_on_the_main_loop(void **state)
{
    (void)state;
    _cleanup_(bench_done) struct bench bench = make_bench(true);
    driver.waits = true;
    assert_false(job_start(bench.job));
    sem_wait(&driver.is_reading);
    assert_true(job_busy(bench.job));
    assert_int_equal(driver.n_finished, 0);
    sem_post(&driver.may_return);
    run_until_idle(&bench);
    assert_int_equal(driver.n_finished, 1);
    assert_true(bench.job->reading == 7);
}

static void freeing_a_busy_job_cancels_and_closes_without_waiting(void **state)
{
    (void)state;
    struct bench bench = make_bench(true);
    driver.waits = true;
    job_start(bench.job);
    sem_wait(&driver.is_reading);
    bench_done(&bench);
    assert_int_equal(driver.n_cancelled, 1);
    assert_int_equal(driver.n_closed, 1);
    assert_int_equal(driver.n_finished, 0);
}

static void freeing_a_job_that_has_run_but_is_not_finished_closes_it(void **state)
{
    (void)state;
    struct bench bench = make_bench(true);
    job_start(bench.job);
    sem_wait(&driver.is_reading);
    bench_done(&bench);
    assert_int_equal(driver.n_closed, 1);
    assert_int_equal(driver.n_finished, 0);
}

static void an_idle_blocking_driver_is_closed_in_its_thread(void **state)
{
    (void)state;
    struct bench bench = make_bench(true);
    job_start(bench.job);
    run_until_idle(&bench);
    bench_done(&bench);
    assert_int_equal(driver.n_closed, 1);
    assert_int_equal(driver.n_cancelled, 0);
    assert_int_equal(driver.n_finished, 1);
}

#define with_driver(test) cmocka_unit_test_setup_teardown(test, reset, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_driver(a_driver_is_opened_once_for_many_calls),
        with_driver(after_a_failure_it_is_closed_and_opened_anew),
        with_driver(one_that_does_not_open_is_tried_again),
        with_driver(a_freed_job_closes_its_driver),
        with_driver(a_blocking_driver_is_finished_on_the_main_loop),
        with_driver(freeing_a_busy_job_cancels_and_closes_without_waiting),
        with_driver(freeing_a_job_that_has_run_but_is_not_finished_closes_it),
        with_driver(an_idle_blocking_driver_is_closed_in_its_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
