// SPDX-License-Identifier: LGPL-2.1-or-later
// One sensor. Owns its driver's state (through a job), its failures and its samples.
#include "device/sensor.h"

#include <assert.h>
#include <string.h>
#include <sys/epoll.h>

#include "device/job.h"
#include "drivers/driver.h"
#include "util/clock.h"
#include "util/log.h"

static const uint64_t stuck_min_usec = 10 * USEC_PER_SEC;
static const uint64_t backoff_first_usec = 10 * USEC_PER_SEC;
static const uint64_t backoff_max_usec = 60 * USEC_PER_SEC;

struct sensor {
    const struct sensor_driver *driver;
    const struct sensor_config *config;
    void (*heard)(void *userdata, struct sensor *sensor, const struct sensor_news *news);
    void *userdata;
    sd_event *event;
    struct job *job;
    sd_event_source *edge_source; // watches the driver's descriptor
    struct sampling sampling;

    bool sampling_now;
    uint64_t sample_begin_mono_usec;
    bool failed;
    uint64_t failed_mono_usec; // since when
    uint64_t backoff_usec;     // distance to the next attempt, 0 after a success
    uint64_t retry_mono_usec;  // not before
};

static void unwatch(struct sensor *sensor)
{
    sensor->edge_source = sd_event_source_disable_unref(sensor->edge_source);
}

static void mark_failed(struct sensor *sensor, const char *reason, int error)
{
    uint64_t now_mono_usec = clock_mono_usec();
    if (!sensor->failed) {
        sensor->failed = true;
        sensor->failed_mono_usec = now_mono_usec;
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_SENSOR_FAILED), { "SENSOR", sensor_name(sensor) }),
                    "sensor %s: %s; the others go on, and it is tried again", sensor_name(sensor),
                    reason[0] ? reason : strerror(-error));
    }
}

static void mark_good(struct sensor *sensor)
{
    char span[32];
    sensor->backoff_usec = 0;
    sensor->retry_mono_usec = 0;
    if (!sensor->failed)
        return;
    sensor->failed = false;
    log_notice(LOG_FIELDS(LOG_ID(LOG_ID_SENSOR_BACK), { "SENSOR", sensor_name(sensor) }),
               "sensor %s is back after %s", sensor_name(sensor),
               clock_format_span(clock_mono_usec() - sensor->failed_mono_usec, span, sizeof(span)));
}

/* The next attempt: an interval or 10 s later, then twice that, up to ten intervals or a minute. */
static void back_off(struct sensor *sensor)
{
    uint64_t interval_usec = sensor_sample_interval(sensor);
    uint64_t first_usec = interval_usec < backoff_first_usec ? interval_usec : backoff_first_usec;
    uint64_t limit_usec =
        interval_usec * 10 < backoff_max_usec ? interval_usec * 10 : backoff_max_usec;
    sensor->backoff_usec = clock_back_off(sensor->backoff_usec, first_usec, limit_usec);
    sensor->retry_mono_usec = clock_mono_usec() + sensor->backoff_usec;
}

/* What comes of a raw value: a reading, or a failure. */
static struct sensor_news take_raw(struct sensor *sensor, double raw, bool is_edge,
                                   uint64_t mono_usec)
{
    struct sensor_news news = { .is_edge = is_edge, .mono_usec = mono_usec };
    struct why why = { "" };
    int r = sampling_scale(&sensor->config->sampling, raw, &news.reading, &why);
    if (r >= 0)
        r = sampling_add(&sensor->sampling, &sensor->config->sampling, news.reading);
    if (r < 0) { // no back-off: only looking again tells when it is in its range again
        mark_failed(sensor, why.text, r);
        return news;
    }
    mark_good(sensor);
    news.has_reading = true;
    return news;
}

/* --- edges ----------------------------------------------------------------------------------- */

static int on_edge_ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    (void)source, (void)fd, (void)events;
    struct sensor *sensor = userdata;
    struct sensor_edge edges[SENSOR_MAX_EDGES];
    struct sensor_news news = { .has_reading = false };
    struct why why = { "" };
    int n = sensor->driver->dispatch(sensor->job->state, edges, &why);
    for (int i = 0; i < n; i++) {
        news = take_raw(sensor, edges[i].value, true, edges[i].mono_usec);
        sensor->heard(sensor->userdata, sensor, &news);
    }
    if (n < 0) {
        unwatch(sensor);
        sensor->job->broken = true;
        mark_failed(sensor, why.text, n);
        back_off(sensor);
        sensor->heard(sensor->userdata, sensor, &news);
    }
    return 0;
}

static void watch(struct sensor *sensor)
{
    int fd = sensor->driver->fd ? sensor->driver->fd(sensor->job->state) : -EBADF;
    if (fd < 0)
        return;
    int r =
        sd_event_add_io(sensor->event, &sensor->edge_source, fd, EPOLLIN, on_edge_ready, sensor);
    if (r < 0)
        log_err(LOG_FIELDS({ "SENSOR", sensor_name(sensor) }),
                "sensor %s: cannot watch for edges (%s); it is only read at its interval",
                sensor_name(sensor), strerror(-r));
}

/* --- samples --------------------------------------------------------------------------------- */

static struct sensor_news take_result(struct sensor *sensor)
{
    const struct job *job = sensor->job;
    sensor->sampling_now = false;
    if (job->was_opened && job->state)
        watch(sensor);
    if (job->result >= 0)
        return take_raw(sensor, job->reading, false, sensor->sample_begin_mono_usec);
    unwatch(sensor);
    mark_failed(sensor, job->why.text, job->result);
    back_off(sensor);
    return (struct sensor_news){ .has_reading = false };
}

static void on_finished(struct job *job)
{
    struct sensor *sensor = job->owner;
    const struct sensor_news news = take_result(sensor);
    sensor->heard(sensor->userdata, sensor, &news);
}

bool sensor_sample(struct sensor *sensor, uint64_t now_mono_usec, struct sensor_news *ret_news)
{
    if (sensor->sampling_now) {
        uint64_t since_usec = now_mono_usec - sensor->sample_begin_mono_usec;
        if (since_usec >= stuck_min_usec && since_usec >= 2 * sensor_sample_interval(sensor))
            mark_failed(sensor, "stuck: its driver has not answered for over 10 s", -ETIMEDOUT);
        return false;
    }
    *ret_news = (struct sensor_news){ .has_reading = false };
    if (now_mono_usec < sensor->retry_mono_usec)
        return true;
    if (sensor->job->broken)
        unwatch(sensor); // the job closes the descriptor before it reads
    sensor->sampling_now = true;
    sensor->sample_begin_mono_usec = now_mono_usec;
    if (!job_start(sensor->job))
        return false;
    *ret_news = take_result(sensor);
    return true;
}

uint64_t sensor_retry_mono_usec(const struct sensor *sensor)
{
    return sensor->retry_mono_usec;
}

bool sensor_node_changed(struct sensor *sensor, const char *name)
{
    if (!driver_has_node(&sensor->driver->base, name))
        return false;
    sensor->retry_mono_usec = 0;
    return true;
}

bool sensor_is_sampling(const struct sensor *sensor)
{
    return sensor->sampling_now;
}

void sensor_forget_published(struct sensor *sensor)
{
    sensor->sampling.published = false;
}

int sensor_take(struct sensor *sensor, uint64_t now_mono_usec, double *ret_value,
                uint64_t *ret_n_values)
{
    *ret_n_values = sensor->sampling.n_values;
    return sampling_take(&sensor->sampling, &sensor->config->sampling, now_mono_usec, ret_value);
}

/* --- life ------------------------------------------------------------------------------------ */

int sensor_new(sd_event *event, struct config *config, const struct config_section *section,
               void (*heard)(void *userdata, struct sensor *sensor, const struct sensor_news *news),
               void *userdata, struct sensor **ret_sensor)
{
    _cleanup_(sensor_freep) struct sensor *sensor = calloc(1, sizeof(*sensor));
    if (!sensor)
        return -ENOMEM;
    sensor->driver = section->driver;
    sensor->config = config_sensor(section);
    sensor->heard = heard;
    sensor->userdata = userdata;
    sensor->event = sd_event_ref(event);
    int r = job_new(event, config, section, &sensor->job);
    if (r < 0)
        return r;
    sensor->job->finished = on_finished;
    sensor->job->owner = sensor;
    *ret_sensor = TAKE_PTR(sensor);
    return 0;
}

void sensor_free(struct sensor *sensor)
{
    if (!sensor)
        return;
    unwatch(sensor);
    job_free(sensor->job);
    sampling_done(&sensor->sampling);
    sd_event_unref(sensor->event);
    free(sensor);
}

const struct config_section *sensor_section(const struct sensor *sensor)
{
    return sensor->job->section;
}

const char *sensor_name(const struct sensor *sensor)
{
    return sensor->job->section->name;
}

bool sensor_has_failed(const struct sensor *sensor)
{
    return sensor->failed;
}

uint64_t sensor_interval(const struct sensor *sensor)
{
    return sensor->config->interval_usec;
}

uint64_t sensor_sample_interval(const struct sensor *sensor)
{
    uint64_t usec = sensor->config->sample_interval_usec;
    return usec == USEC_INFINITY ? sensor->config->interval_usec : usec;
}
