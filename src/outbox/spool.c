// SPDX-License-Identifier: LGPL-2.1-or-later
// The store, its thread and whose turn it is. Owns no message and decides nothing about them.
#include "outbox/spool.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "io/worker.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"
#include "util/strings.h"

// A job that takes longer is worth a word.
static const uint64_t stall_usec = 10 * USEC_PER_SEC;
// A store without jobs is looked at: whether its file is still there. With the accuracy, a minute.
static const uint64_t look_usec = 50 * USEC_PER_SEC, look_accuracy_usec = 10 * USEC_PER_SEC;

/* What the thread works on; it outlives the spool when the disk hangs. */
struct task {
    struct worker_job base; // first
    struct spool *spool;    // the main loop's; gone when the task was abandoned
    struct store *store;
    struct spool_client *client; // NULL: a look
    struct store_job *job;
    struct store_job look;
    uint64_t generation; // of the client's last job
    int result;
    struct why why;
    char **names; // of all streams, when the generation has changed
};

struct spool_client {
    struct spool *spool;
    struct spool_client *next;
    struct outbox *outbox;
    struct store_job *job; // waits, or is at work
    bool adopts;
    bool is_removed; // the outbox has been freed, but for its job
    bool is_sealed;  // no number was used that the store does not know
    uint64_t generation;
};

struct spool {
    struct store *store;
    struct worker *worker;
    struct spool_client *clients;
    struct task *busy;       // at work in the thread
    uint64_t busy_mono_usec; // since when, or when one was last
    sd_event_source *stall_timer, *look_timer;
    bool is_stalled;
    bool has_mishap; // the file was damaged, removed or replaced
    void (*tell)(void *userdata, enum spool_event event); // NULL: nobody listens
    void *userdata;
    bool has_thread;
    bool must_pause; // before the next job
    bool is_paused;  // it is being told
    uint8_t boot[STORE_BOOT_SIZE], run_id[STORE_RUN_SIZE];
    bool is_unclean; // an outbox has gone without a word of the numbers that it has used
};

/* --- in the thread --------------------------------------------------------------------------- */

static void perform(struct task *task)
{
    task->why = (struct why){ "" };
    task->result = store_run(task->store, task->job, &task->why);
    if (task->result == 0 && task->client && task->job->generation != task->generation)
        store_names(task->store, &task->names); // without them, what is left over waits
}

static void run_task(struct worker_job *base)
{
    perform((struct task *)base);
}

/* Nobody waits any more: the outbox was freed before the spool, but for this job. */
static void abandon_task(struct worker_job *base)
{
    struct task *task = (struct task *)base;
    if (task->client)
        outbox_stored(task->client->outbox, -ECANCELED, NULL);
    strings_free(task->names);
    store_free(task->store);
    free(task->client);
    free(task);
}

/* --- turns ----------------------------------------------------------------------------------- */

static void remove_now(struct spool_client *client)
{
    struct spool_client **at = &client->spool->clients;
    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    client->spool->is_unclean |= !client->is_sealed;
    free(client);
}

static void tell(struct spool *spool, enum spool_event event)
{
    if (spool->tell)
        spool->tell(spool->userdata, event);
}

static void tell_mishap(struct spool *spool, const struct store_job *job)
{
    if (!job->mishap.text[0])
        return;
    log_err(LOG_FIELDS(LOG_ID(LOG_ID_STORE_DAMAGED)), "%s", job->mishap.text);
    spool->has_mishap = true;
    tell(spool, SPOOL_NEWS);
}

/* Outboxes that do not know yet what a job of another, or a look, has found. */
static void wake_others(struct spool *spool, uint64_t generation, bool has_failed)
{
    spool->is_paused = true; // what they bring up waits
    for (struct spool_client *client = spool->clients; client; client = client->next)
        if (!client->job && client->generation > 0 &&
            (has_failed || client->generation != generation))
            outbox_ask_store(client->outbox);
    spool->is_paused = false;
}

static void hand_back(struct task *task)
{
    struct spool_client *client = task->client;
    uint64_t generation = task->result == 0 ? task->job->generation : client->generation;
    client->job = NULL;
    client->generation = generation;
    bool is_removed = client->is_removed;
    outbox_stored(client->outbox, task->result, &task->why);
    if (is_removed)
        remove_now(client);
    else if (client->adopts && task->names)
        outbox_adopt(client->outbox, task->names);
    strings_free(task->names);
    task->names = NULL;
}

static void next_turn(struct spool *spool);

static void take_pause(struct spool *spool)
{
    if (!spool->must_pause || spool->busy)
        return;
    spool->is_paused = true;
    spool->must_pause = false;
    tell(spool, SPOOL_PAUSES);
    spool->is_paused = false;
}

/* --- a disk that hangs ----------------------------------------------------------------------- */

static void set_stalled(struct spool *spool, bool is_stalled)
{
    if (spool->is_stalled == is_stalled)
        return;
    spool->is_stalled = is_stalled;
    if (is_stalled)
        log_err(
            LOG_FIELDS(LOG_ID(LOG_ID_STORE_FAILED)),
            "the disk of the queue has not answered for %d s; messages are kept in memory, up to "
            "%d, until it does",
            (int)(stall_usec / USEC_PER_SEC), OUTBOX_MAX_MESSAGES);
    else
        log_notice(LOG_FIELDS(LOG_ID(LOG_ID_STORE_BACK)), "the disk of the queue answers again");
    tell(spool, SPOOL_NEWS);
}

static int on_stall_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    set_stalled(userdata, true);
    return 0;
}

static void begin_task(struct spool *spool, struct task *task)
{
    spool->busy = task;
    spool->busy_mono_usec = clock_mono_usec();
    sd_event_source_set_time_relative(spool->stall_timer, stall_usec);
    sd_event_source_set_enabled(spool->stall_timer, SD_EVENT_ONESHOT);
}

static void finish_task(struct worker_job *base)
{
    struct task *task = (struct task *)base;
    struct spool *spool = task->spool;
    bool has_failed = task->result < 0;
    uint64_t generation = task->job->generation;
    spool->busy = NULL;
    sd_event_source_set_enabled(spool->stall_timer, SD_EVENT_OFF);
    set_stalled(spool, false);
    tell_mishap(spool, task->job);
    if (task->client)
        hand_back(task);
    if (!has_failed || !task->client)
        wake_others(spool, generation, has_failed);
    free(task);
    take_pause(spool);
    next_turn(spool);
}

void spool_pause(struct spool *spool)
{
    spool->must_pause = true;
    take_pause(spool);
    next_turn(spool);
}

void spool_forget_pause(struct spool *spool)
{
    spool->must_pause = false;
    next_turn(spool);
}

static const struct worker_job task_base = {
    .run = run_task,
    .done = finish_task,
    .abandoned = abandon_task,
};

static struct task make_task(struct spool_client *client)
{
    return (struct task){
        .base = task_base,
        .spool = client->spool,
        .store = client->spool->store,
        .client = client,
        .job = client->job,
        .generation = client->generation,
    };
}

/* An empty job, which tells whether the file is still there: of no outbox. */
static void begin_look(struct spool *spool)
{
    struct task *task = malloc(sizeof(*task));
    if (!task)
        return; // the next look will do
    *task = (struct task){ .base = task_base, .spool = spool, .store = spool->store };
    task->job = &task->look;
    if (worker_run(spool->worker, &task->base) < 0)
        free(task);
    else
        begin_task(spool, task);
}

static void arm_look(struct spool *spool, uint64_t delay_usec)
{
    sd_event_source_set_time_relative(spool->look_timer, delay_usec);
    sd_event_source_set_enabled(spool->look_timer, SD_EVENT_ONESHOT);
}

static int on_look_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct spool *spool = userdata;
    uint64_t idle_usec = clock_mono_usec() - spool->busy_mono_usec;
    if (idle_usec >= look_usec && !spool->busy && !spool->must_pause && !spool->is_paused)
        begin_look(spool);
    arm_look(spool, idle_usec < look_usec ? look_usec - idle_usec : look_usec);
    return 0;
}

/* The client that waits goes to the end of the line with its job. */
static struct spool_client *take_turn(struct spool *spool)
{
    struct spool_client **at = &spool->clients;
    while (*at && !(*at)->job)
        at = &(*at)->next;
    struct spool_client *client = *at;
    if (!client)
        return NULL;
    *at = client->next;
    while (*at)
        at = &(*at)->next;
    *at = client;
    client->next = NULL;
    return client;
}

static void next_turn(struct spool *spool)
{
    if (spool->busy || spool->must_pause || spool->is_paused)
        return;
    struct spool_client *client = take_turn(spool);
    if (!client)
        return;
    struct task *task = malloc(sizeof(*task));
    int r = task ? 0 : -ENOMEM;
    if (task) {
        *task = make_task(client);
        r = worker_run(spool->worker, &task->base);
    }
    if (r < 0) {
        free(task);
        struct task failed = make_task(client);
        failed.result = r;
        hand_back(&failed);
        return;
    }
    begin_task(spool, task);
}

int spool_run(struct spool_client *client, struct store_job *job)
{
    if (client->job)
        return -EBUSY;
    client->job = job;
    if (client->spool->has_thread) {
        next_turn(client->spool);
        return 0;
    }
    struct task task = make_task(client);
    perform(&task);
    tell_mishap(client->spool, job);
    hand_back(&task);
    return 0;
}

/* --- clients --------------------------------------------------------------------------------- */

int spool_add(struct spool *spool, struct outbox *outbox, bool adopts,
              struct spool_client **ret_client)
{
    struct spool_client *client = calloc(1, sizeof(*client));
    if (!client)
        return -ENOMEM;
    client->spool = spool;
    client->outbox = outbox;
    client->adopts = adopts;
    client->next = spool->clients;
    spool->clients = client;
    *ret_client = client;
    return 0;
}

void spool_remove(struct spool_client *client)
{
    if (!client)
        return;
    struct spool *spool = client->spool;
    bool has_job = client->job;
    client->is_removed = true;
    client->is_sealed = outbox_is_sealed(client->outbox);
    outbox_free(client->outbox); // with a job, only once that is back
    if (!has_job)
        remove_now(client);
    else if (!spool->busy || spool->busy->client != client) { // it has not had its turn
        struct task task = make_task(client);
        task.result = -ECANCELED;
        hand_back(&task);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

/* Opens it, so that records can be read. If that fails, the first job of an outbox tells. */
static int say_hello(struct spool *spool)
{
    struct store_job job = { 0 };
    int r = store_run(spool->store, &job, NULL);
    tell_mishap(spool, &job);
    store_get_run(spool->store, spool->run_id);
    return r == -ENOMEM ? r : 0;
}

static int make_timers(sd_event *event, struct spool *spool)
{
    int r = sd_event_add_time(event, &spool->stall_timer, CLOCK_BOOTTIME, 0, 2 * USEC_PER_SEC,
                              on_stall_timer, spool);
    if (r >= 0)
        r = sd_event_source_set_enabled(spool->stall_timer, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_add_time(event, &spool->look_timer, CLOCK_BOOTTIME, 0, look_accuracy_usec,
                              on_look_timer, spool);
    return r < 0 ? r : sd_event_source_set_enabled(spool->look_timer, SD_EVENT_OFF);
}

int spool_new(sd_event *event, const char *directory, uint64_t max_size, struct spool **ret_spool)
{
    _cleanup_(spool_freep) struct spool *spool = calloc(1, sizeof(*spool));
    sd_id128_t boot = { 0 };
    if (!spool)
        return -ENOMEM;
    if (sd_id128_get_boot(&boot) < 0)
        sd_id128_randomize(&boot); // a container without /proc: each run is a boot of its own
    memcpy(spool->boot, boot.bytes, STORE_BOOT_SIZE);
    mkdir(directory, 0700); // if it fails, opening tells
    struct store_options options = { .directory = directory, .max_size = max_size };
    memcpy(options.boot, spool->boot, STORE_BOOT_SIZE);
    int r = store_new(&options, &spool->store);
    if (r == 0)
        r = worker_new(event, "store", &spool->worker);
    if (r == 0)
        r = make_timers(event, spool);
    if (r == 0)
        r = say_hello(spool);
    if (r < 0)
        return r;
    *ret_spool = TAKE_PTR(spool);
    return 0;
}

/* The clients have been removed; one whose job is at work is the thread's from now on. */
void spool_free(struct spool *spool)
{
    if (!spool)
        return;
    bool is_lent = spool->busy;
    assert(!spool->clients || (is_lent && !spool->clients->next));
    KILL_POINT("close");
    sd_event_source_disable_unref(spool->stall_timer);
    sd_event_source_disable_unref(spool->look_timer);
    worker_free(spool->worker);
    if (!is_lent && spool->store && !spool->is_unclean)
        store_end(spool->store);
    if (!is_lent)
        store_free(spool->store);
    KILL_POINT("closed");
    free(spool);
}

void spool_start(struct spool *spool)
{
    spool->has_thread = true;
    arm_look(spool, look_usec);
}

bool spool_is_stalled(const struct spool *spool)
{
    return spool->is_stalled;
}

bool spool_has_mishap(const struct spool *spool)
{
    return spool->has_mishap;
}

void spool_listen(struct spool *spool, void (*tell_event)(void *userdata, enum spool_event event),
                  void *userdata)
{
    spool->tell = tell_event;
    spool->userdata = userdata;
}

const uint8_t *spool_boot(const struct spool *spool)
{
    return spool->boot;
}

const uint8_t *spool_run_id(const struct spool *spool)
{
    return spool->run_id;
}

int spool_records(struct spool *spool, const char *space,
                  void (*visit)(void *userdata, const char *key, const char *value), void *userdata,
                  struct why *why)
{
    if (spool->busy)
        return why_set(why, EBUSY, "the store is at work");
    return store_records(spool->store, space, visit, userdata, why);
}
