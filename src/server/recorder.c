// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes a recording in a worker; see recorder.h. Owns the buffer between the main loop and the
// disk.
#include "server/recorder.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/worker.h"
#include "server/recording.h"
#include "util/clock.h"
#include "util/log.h"

enum { MAX_PENDING = 1 << 20 }; // bytes that wait for the disk

static const uint64_t delay_usec = 1 * USEC_PER_SEC; // lines are written together

/* What the worker borrows. */
struct job {
    struct worker_job worker;
    struct recorder *recorder; // main loop only
    char *path, *old_path;
    uint64_t max_size, max_age_usec;
    uint64_t begin_wall_usec; // when the file was begun, as far as is known
    char *bytes;
    size_t n_bytes;
    int result;
};

struct recorder {
    struct worker *worker;
    sd_event_source *timer;
    struct job *job;
    bool is_armed, is_failing;
    char *pending;
    size_t n_pending, n_room, n_lines; // bytes, and lines of them
    size_t n_lost;
    const char *path; // in job, which the thread reads at most
};

static void free_job(struct job *job)
{
    free(job->path);
    free(job->old_path);
    free(job->bytes);
    free(job);
}

/* --- in the worker --------------------------------------------------------------------------- */

static int write_all(int fd, const char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        ssize_t n = write(fd, bytes, n_bytes);
        if (n < 0 && errno != EINTR)
            return -errno;
        bytes += n > 0 ? n : 0;
        n_bytes -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/*
 * The line that a full disk, kill -9 or a power cut has left without its end goes; where no line
 * ends within the length of one, the file is none of ours: then it is ended.
 */
static int cut_torn_line(int fd)
{
    char bytes[4096];
    off_t end = lseek(fd, 0, SEEK_END), at = end;
    if (end < 0)
        return errno == ESPIPE ? 0 : -errno;
    while (at > 0 && end - at < RECORDING_MAX_LINE) {
        size_t n = at < (off_t)sizeof(bytes) ? (size_t)at : sizeof(bytes);
        at -= (off_t)n;
        ssize_t n_read = pread(fd, bytes, n, at);
        if (n_read != (ssize_t)n)
            return n_read < 0 ? -errno : -EIO;
        const char *last = memrchr(bytes, '\n', n);
        if (!last)
            continue;
        off_t whole = at + (last - bytes) + 1;
        return whole == end || ftruncate(fd, whole) == 0 ? 0 : -errno;
    }
    return end == 0 ? 0 : write_all(fd, "\n", 1);
}

/* Each of the two files holds half of the size, and half of the time. */
static bool is_full(const struct job *job, off_t size, uint64_t now_wall_usec)
{
    if (size == 0)
        return false;
    return (uint64_t)size + job->n_bytes > job->max_size / 2 ||
           now_wall_usec - job->begin_wall_usec > job->max_age_usec / 2;
}

/* The file to write to, after making room. */
static int open_file(struct job *job)
{
    uint64_t now_wall_usec = clock_wall_usec();
    struct stat status;
    if (stat(job->path, &status) < 0)
        status.st_size = 0;
    // One that a run before this has left begins now, as does one that began in what is the future.
    if (job->begin_wall_usec == 0 || status.st_size == 0 || job->begin_wall_usec > now_wall_usec)
        job->begin_wall_usec = now_wall_usec;
    if (is_full(job, status.st_size, now_wall_usec)) {
        if (rename(job->path, job->old_path) < 0)
            return -errno;
        job->begin_wall_usec = now_wall_usec;
    }
    if (stat(job->old_path, &status) == 0 &&
        now_wall_usec - (uint64_t)status.st_mtim.tv_sec * USEC_PER_SEC > job->max_age_usec &&
        now_wall_usec > (uint64_t)status.st_mtim.tv_sec * USEC_PER_SEC)
        unlink(job->old_path);
    int fd = open(job->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd;
}

/* Whole lines only: of those that the disk did not take, no part stays. */
static int write_lines(int fd, const struct job *job)
{
    int r = cut_torn_line(fd);
    if (r == 0)
        r = write_all(fd, job->bytes, job->n_bytes);
    if (r < 0)
        (void)cut_torn_line(fd);
    return r;
}

static void run(struct worker_job *worker_job)
{
    struct job *job = (struct job *)worker_job;
    _cleanup_(closep) int fd = open_file(job);
    job->result = fd < 0 ? fd : write_lines(fd, job);
    job->n_bytes = 0;
}

/* The recorder has been freed, maybe before the thread had its turn. */
static void on_abandoned(struct worker_job *worker_job)
{
    struct job *job = (struct job *)worker_job;
    if (job->n_bytes > 0)
        run(worker_job);
    free_job(job);
}

/* --- on the main loop ------------------------------------------------------------------------ */

static void arm(struct recorder *recorder)
{
    if (recorder->is_armed || recorder->n_pending == 0 || worker_busy(recorder->worker))
        return;
    sd_event_source_set_time_relative(recorder->timer, delay_usec);
    sd_event_source_set_enabled(recorder->timer, SD_EVENT_ONESHOT);
    recorder->is_armed = true;
}

static void on_done(struct worker_job *worker_job)
{
    struct job *job = (struct job *)worker_job;
    struct recorder *recorder = job->recorder;
    bool fails = job->result < 0;
    if (fails && !recorder->is_failing)
        log_err(LOG_FIELDS({ "FILE", job->path }),
                "cannot write the recording %s: %s; it has a gap until that works again", job->path,
                strerror(-job->result));
    else if (!fails && recorder->is_failing)
        log_notice(LOG_FIELDS({ "FILE", job->path }), "the recording %s is written again",
                   job->path);
    recorder->is_failing = fails;
    arm(recorder);
}

static void tell_lost(struct recorder *recorder)
{
    if (recorder->n_lost > 0)
        log_warning(LOG_FIELDS({ "FILE", recorder->path }),
                    "%zu messages are not in the recording %s: the disk is too slow",
                    recorder->n_lost, recorder->path);
    recorder->n_lost = 0;
}

/* Hands what waits to the worker, which is free. */
static void write_pending(struct recorder *recorder)
{
    struct job *job = recorder->job;
    tell_lost(recorder);
    free(job->bytes);
    job->bytes = TAKE_PTR(recorder->pending);
    job->n_bytes = recorder->n_pending;
    recorder->n_pending = recorder->n_room = 0;
    size_t n_lines = recorder->n_lines;
    recorder->n_lines = 0;
    if (worker_run(recorder->worker, &job->worker) < 0) // no thread
        recorder->n_lost = n_lines;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct recorder *recorder = userdata;
    recorder->is_armed = false;
    if (!worker_busy(recorder->worker))
        write_pending(recorder);
    return 0;
}

bool recorder_finish(struct recorder *recorder)
{
    if (!recorder)
        return true;
    if (worker_busy(recorder->worker))
        return false;
    if (recorder->n_pending == 0)
        return true;
    write_pending(recorder);
    return false;
}

void recorder_add(struct recorder *recorder, char *line)
{
    _cleanup_(freep) char *owned = line;
    size_t length = line ? strlen(line) : 0;
    if (length == 0 || recorder->n_pending + length > MAX_PENDING) {
        recorder->n_lost++;
        return;
    }
    if (recorder->n_pending + length > recorder->n_room) {
        size_t n_room = (recorder->n_pending + length) * 2;
        char *pending = realloc(recorder->pending, n_room);
        if (!pending) {
            recorder->n_lost++;
            return;
        }
        recorder->pending = pending;
        recorder->n_room = n_room;
    }
    memcpy(recorder->pending + recorder->n_pending, line, length);
    recorder->n_pending += length;
    recorder->n_lines++;
    arm(recorder);
}

int recorder_new(sd_event *event, const char *path, uint64_t max_size, uint64_t max_age_usec,
                 struct recorder **ret_recorder)
{
    _cleanup_(recorder_freep) struct recorder *recorder = calloc(1, sizeof(*recorder));
    if (!recorder || !(recorder->job = calloc(1, sizeof(*recorder->job))))
        return -ENOMEM;
    struct job *job = recorder->job;
    job->worker = (struct worker_job){ .run = run, .done = on_done, .abandoned = on_abandoned };
    job->recorder = recorder;
    job->max_size = max_size;
    job->max_age_usec = max_age_usec;
    job->path = strdup(path);
    if (!job->path || asprintf(&job->old_path, "%s.1", path) < 0) {
        job->old_path = NULL;
        return -ENOMEM;
    }
    recorder->path = job->path;
    int r = worker_new(event, "recorder", &recorder->worker);
    if (r >= 0)
        r = sd_event_add_time(event, &recorder->timer, CLOCK_BOOTTIME, USEC_INFINITY, delay_usec,
                              on_timer, recorder);
    if (r < 0)
        return r;
    *ret_recorder = TAKE_PTR(recorder);
    return 0;
}

void recorder_free(struct recorder *recorder)
{
    if (!recorder)
        return;
    sd_event_source_disable_unref(recorder->timer);
    if (recorder->worker && recorder->n_pending > 0 && !worker_busy(recorder->worker))
        write_pending(recorder);
    bool is_lent = recorder->worker && worker_busy(recorder->worker);
    recorder->n_lost += recorder->n_lines;
    tell_lost(recorder);
    worker_free(recorder->worker);
    if (!is_lent && recorder->job) // else the thread frees it
        free_job(recorder->job);
    free(recorder->pending);
    free(recorder);
}
