// SPDX-License-Identifier: LGPL-2.1-or-later
// Worker threads: jobs go there and come back; a freed worker waits for nothing and loses nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>

#include "io/worker.h"
#include "util/clock.h"

struct job {
    struct worker_job base;
    sem_t may_return, is_running;
    bool waits; // in run(), for may_return
    bool frees_worker;
    bool saw_signals_blocked;
    char thread_name[16];
    pthread_t ran_in;
    unsigned n_done;
    sem_t *abandoned;
    struct worker *worker;
    sd_event *event; // whose loop done() ends; may be NULL
};

static void run(struct worker_job *base)
{
    struct job *job = (struct job *)base;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    job->saw_signals_blocked =
        sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGHUP) == 1;
    job->ran_in = pthread_self();
    pthread_getname_np(job->ran_in, job->thread_name, sizeof(job->thread_name));
    sem_post(&job->is_running);
    if (job->waits)
        sem_wait(&job->may_return);
}

static void done(struct worker_job *base)
{
    struct job *job = (struct job *)base;
    job->n_done++;
    assert_true(pthread_equal(pthread_self(), job->ran_in) == 0);
    if (job->frees_worker)
        worker_free(TAKE_PTR(job->worker));
    if (job->event)
        sd_event_exit(job->event, 0);
}

static void abandoned(struct worker_job *base)
{
    struct job *job = (struct job *)base;
    sem_t *told = job->abandoned;
    free(job);
    sem_post(told);
}

static struct job *job_new(sd_event *event, struct worker *worker)
{
    struct job *job = calloc(1, sizeof(*job));
    assert_non_null(job);
    job->base = (struct worker_job){ run, done, abandoned };
    job->event = event;
    job->worker = worker;
    sem_init(&job->may_return, 0, 0);
    sem_init(&job->is_running, 0, 0);
    return job;
}

static void event_unrefp(sd_event **event)
{
    sd_event_unref(*event);
}

static void job_runs_in_the_named_thread_and_comes_back(void **state)
{
    _cleanup_(event_unrefp) sd_event *event = NULL;
    struct worker *worker = NULL;
    (void)state;
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(worker_new(event, "a-name-that-is-too-long", &worker), 0);
    assert_false(worker_busy(worker));

    _cleanup_(freep) struct job *job = job_new(event, worker);
    assert_int_equal(worker_run(worker, &job->base), 0);
    assert_true(worker_busy(worker));
    assert_int_equal(worker_run(worker, &job->base), -EBUSY);
    assert_int_equal(sd_event_loop(event), 0);
    assert_int_equal(job->n_done, 1);
    assert_true(job->saw_signals_blocked);
    assert_string_equal(job->thread_name, "a-name-that-is-");
    assert_false(worker_busy(worker));
    worker_free(worker);
}

static void jobs_follow_one_another_in_one_thread(void **state)
{
    _cleanup_(event_unrefp) sd_event *event = NULL;
    struct worker *worker = NULL;
    (void)state;
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(worker_new(event, "w", &worker), 0);
    _cleanup_(freep) struct job *job = job_new(NULL, worker);
    pthread_t first = 0;
    for (unsigned i = 1; i <= 1000; i++) {
        assert_int_equal(worker_run(worker, &job->base), 0);
        while (job->n_done < i)
            assert_true(sd_event_run(event, UINT64_MAX) >= 0);
        if (i == 1)
            first = job->ran_in;
        assert_true(pthread_equal(first, job->ran_in));
    }
    worker_free(worker);
}

static void done_may_free_the_worker(void **state)
{
    _cleanup_(event_unrefp) sd_event *event = NULL;
    struct worker *worker = NULL;
    (void)state;
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(worker_new(event, "w", &worker), 0);
    _cleanup_(freep) struct job *job = job_new(event, worker);
    job->frees_worker = true;
    assert_int_equal(worker_run(worker, &job->base), 0);
    assert_int_equal(sd_event_loop(event), 0);
    assert_int_equal(job->n_done, 1);
}

static void freeing_does_not_wait_and_the_thread_cleans_up(void **state)
{
    _cleanup_(event_unrefp) sd_event *event = NULL;
    struct worker *worker = NULL;
    sem_t told;
    (void)state;
    sem_init(&told, 0, 0);
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(worker_new(event, "w", &worker), 0);
    struct job *job = job_new(event, worker);
    job->waits = true;
    job->abandoned = &told;
    assert_int_equal(worker_run(worker, &job->base), 0);
    sem_wait(&job->is_running);
    uint64_t begin_mono_usec = clock_mono_usec();
    worker_free(worker);
    assert_true(clock_mono_usec() - begin_mono_usec < 100 * USEC_PER_MSEC);
    assert_int_equal(sem_trywait(&told), -1); // still in run()
    sem_post(&job->may_return);
    sem_wait(&told);
}

static void job_that_has_run_but_was_not_fetched_is_abandoned(void **state)
{
    _cleanup_(event_unrefp) sd_event *event = NULL;
    struct worker *worker = NULL;
    sem_t told;
    (void)state;
    sem_init(&told, 0, 0);
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(worker_new(event, "w", &worker), 0);
    struct job *job = job_new(event, worker);
    job->abandoned = &told;
    assert_int_equal(worker_run(worker, &job->base), 0);
    while (sd_event_prepare(event) == 0 && sd_event_wait(event, UINT64_MAX) <= 0)
        ; // until it is ready to be fetched
    worker_free(worker);
    sem_wait(&told);
}

static void worker_without_a_job_needs_no_thread(void **state)
{
    _cleanup_(event_unrefp) sd_event *event = NULL;
    struct worker *worker = NULL;
    (void)state;
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(worker_new(event, "w", &worker), 0);
    worker_free(worker);
    worker_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(job_runs_in_the_named_thread_and_comes_back),
        cmocka_unit_test(jobs_follow_one_another_in_one_thread),
        cmocka_unit_test(done_may_free_the_worker),
        cmocka_unit_test(freeing_does_not_wait_and_the_thread_cleans_up),
        cmocka_unit_test(job_that_has_run_but_was_not_fetched_is_abandoned),
        cmocka_unit_test(worker_without_a_job_needs_no_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
