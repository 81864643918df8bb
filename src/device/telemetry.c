// SPDX-License-Identifier: LGPL-2.1-or-later
// When sensors are sampled and what goes into a message. Owns the sensors and their timer; the
// broker is somebody else's.
#include "device/telemetry.h"

#include <assert.h>
#include <string.h>

#include "core/json.h"
#include "core/topic.h"
#include "core/value.h"
#include "device/sensor.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strings.h"

// How long a message waits for the sensors that are due with it but slower to answer.
static const uint64_t patience_usec = 1 * USEC_PER_SEC;

struct stream {
    const char *name; // in config
    struct topic_template *topic;
    uint64_t deadline_mono_usec; // until when due sensors are waited for; 0: nothing is due
};

struct source { // a sensor and its place in the rhythm
    struct sensor *sensor;
    struct stream *stream;
    uint64_t sample_mono_usec;  // next
    uint64_t publish_mono_usec; // next
    bool wanted;                // now, besides its rhythm
    bool due;                   // its interval has ended, its message has not been made
    bool tried;                 // sampled at least once
    bool failed;                // as last told by changed()
};

struct telemetry {
    sd_event *event;
    sd_event_source *timer;
    const struct telemetry_handlers *handlers;
    void *userdata;
    struct config *config;
    uint64_t start_mono_usec; // of the rhythm
    bool ticking;             // sensors are being started: messages are made when all have been
    size_t n_sources;
    struct source *sources;
    size_t n_streams;
    struct stream *streams;
};

/* --- messages -------------------------------------------------------------------------------- */

static void publish(struct telemetry *telemetry, const struct stream *stream, const char *sensor,
                    const char *payload, uint32_t n_samples, uint64_t mono_usec)
{
    telemetry->handlers->publish(telemetry->userdata, stream->name, sensor, payload, n_samples,
                                 mono_usec);
}

static void write_member(FILE *out, const struct sensor *sensor, double value)
{
    char key[512], number[352];
    const struct sensor_config *config = config_sensor(sensor_section(sensor));
    json_quote(sensor_name(sensor), key, sizeof(key));
    value_format_number(value, config->sampling.decimals, number, sizeof(number));
    fprintf(out, "%s: %s", key, number);
}

static void publish_one(struct telemetry *telemetry, const struct source *source, double value,
                        uint64_t mono_usec)
{
    char *payload = NULL;
    size_t size;
    FILE *out = open_memstream(&payload, &size);
    if (!out)
        return;
    fputc('{', out);
    write_member(out, source->sensor, value);
    fputc('}', out);
    if (fclose(out) == 0)
        publish(telemetry, source->stream,
                topic_has(source->stream->topic, TOPIC_SENSOR) ? sensor_name(source->sensor) : NULL,
                payload, 1, mono_usec);
    free(payload);
}

/* The end of a sensor's interval: whether there is a value to publish. All it gathered is counted.
 */
static bool take(struct telemetry *telemetry, struct source *source, uint64_t now_mono_usec,
                 double *ret_value)
{
    uint64_t n_values;
    bool publishes = sensor_take(source->sensor, now_mono_usec, ret_value, &n_values) > 0;
    struct ledger delta = { .sampled = n_values };
    if (publishes)
        delta.sampled = delta.ended[LEDGER_MERGED] = n_values - 1; // the message counts the one
    else
        delta.ended[LEDGER_FILTERED] = n_values;
    if (delta.sampled > 0)
        telemetry->handlers->counted(telemetry->userdata, source->stream->name, &delta);
    return publishes;
}

/* One message of all that is due and has answered; what is still being sampled follows by itself.
 */
static void publish_due(struct telemetry *telemetry, struct stream *stream)
{
    uint64_t now_mono_usec = clock_mono_usec();
    bool each = topic_has(stream->topic, TOPIC_SENSOR);
    char *payload = NULL;
    size_t size, n_members = 0;
    FILE *out = open_memstream(&payload, &size);
    if (!out)
        return; // they stay due
    stream->deadline_mono_usec = 0;
    fputc('{', out);
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        struct source *source = &telemetry->sources[i];
        double value;
        if (source->stream != stream || !source->due || sensor_is_sampling(source->sensor))
            continue;
        source->due = false;
        if (!take(telemetry, source, now_mono_usec, &value))
            continue;
        if (each) {
            publish_one(telemetry, source, value, now_mono_usec);
            continue;
        }
        fputs(n_members++ > 0 ? ", " : "", out);
        write_member(out, source->sensor, value);
    }
    fputc('}', out);
    if (fclose(out) == 0 && n_members > 0)
        publish(telemetry, stream, NULL, payload, (uint32_t)n_members, now_mono_usec);
    free(payload);
}

/* Publishes a stream's message when all that are due have answered, or waited for long enough. */
static void check_stream(struct telemetry *telemetry, struct stream *stream, uint64_t now_mono_usec)
{
    bool ready = false, waiting = false;
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        const struct source *source = &telemetry->sources[i];
        if (source->stream != stream || !source->due)
            continue;
        if (!sensor_is_sampling(source->sensor))
            ready = true;
        else if (!sensor_has_failed(source->sensor)) // nobody waits for one that is stuck
            waiting = true;
    }
    if (ready && (!waiting || now_mono_usec >= stream->deadline_mono_usec)) {
        publish_due(telemetry, stream);
        ready = false;
    }
    if (!ready && !waiting)
        stream->deadline_mono_usec = 0;
}

/* --- the rhythm ------------------------------------------------------------------------------ */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void arm_timer(struct telemetry *telemetry)
{
    uint64_t next_mono_usec = USEC_INFINITY, accuracy_usec = 50 * USEC_PER_MSEC;
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        const struct source *source = &telemetry->sources[i];
        next_mono_usec = earlier(next_mono_usec, source->sample_mono_usec);
        next_mono_usec = earlier(next_mono_usec, source->publish_mono_usec);
        accuracy_usec = earlier(accuracy_usec, sensor_sample_interval(source->sensor) / 50);
    }
    for (size_t i = 0; i < telemetry->n_streams; i++) {
        if (telemetry->streams[i].deadline_mono_usec > clock_mono_usec())
            next_mono_usec = earlier(next_mono_usec, telemetry->streams[i].deadline_mono_usec);
    }
    if (next_mono_usec == USEC_INFINITY) {
        sd_event_source_set_enabled(telemetry->timer, SD_EVENT_OFF);
        return;
    }
    sd_event_source_set_time_accuracy(
        telemetry->timer, accuracy_usec > USEC_PER_MSEC ? accuracy_usec : USEC_PER_MSEC);
    sd_event_source_set_time(telemetry->timer, next_mono_usec);
    sd_event_source_set_enabled(telemetry->timer, SD_EVENT_ONESHOT);
}

static void set_due(struct source *source, uint64_t now_mono_usec)
{
    source->due = true;
    uint64_t wait_usec = earlier(patience_usec, sensor_interval(source->sensor) / 2);
    if (source->stream->deadline_mono_usec == 0)
        source->stream->deadline_mono_usec = now_mono_usec + wait_usec;
}

static void tell_changed(struct telemetry *telemetry, struct source *source)
{
    bool failed = sensor_has_failed(source->sensor);
    if (failed == source->failed)
        return;
    source->failed = failed;
    telemetry->handlers->changed(telemetry->userdata);
}

static void start_sample(struct telemetry *telemetry, struct source *source, uint64_t now_mono_usec)
{
    source->sample_mono_usec = sampling_next(telemetry->start_mono_usec,
                                             sensor_sample_interval(source->sensor), now_mono_usec);
    sensor_sample(source->sensor, now_mono_usec);
    tell_changed(telemetry, source); // it may be stuck
}

/* Starts what is due by now and what is wanted, and makes the messages. */
static void tick(struct telemetry *telemetry)
{
    uint64_t now_mono_usec = clock_mono_usec();
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        struct source *source = &telemetry->sources[i];
        if (source->wanted) // what was published before may never have arrived
            sensor_forget_published(source->sensor);
        if (source->wanted || now_mono_usec >= source->publish_mono_usec)
            set_due(source, now_mono_usec);
        source->publish_mono_usec = sampling_next(telemetry->start_mono_usec,
                                                  sensor_interval(source->sensor), now_mono_usec);
    }
    telemetry->ticking = true;
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        struct source *source = &telemetry->sources[i];
        if (source->wanted || now_mono_usec >= source->sample_mono_usec)
            start_sample(telemetry, source, now_mono_usec);
        source->wanted = false;
    }
    telemetry->ticking = false;
    for (size_t i = 0; i < telemetry->n_streams; i++)
        check_stream(telemetry, &telemetry->streams[i], now_mono_usec);
    arm_timer(telemetry);
}

static int on_timer(sd_event_source *timer, uint64_t usec, void *userdata)
{
    (void)timer, (void)usec;
    tick(userdata);
    return 0;
}

/* --- the sensors' handlers ------------------------------------------------------------------- */

static struct source *find_source(struct telemetry *telemetry, const struct sensor *sensor)
{
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        if (telemetry->sources[i].sensor == sensor)
            return &telemetry->sources[i];
    }
    return NULL;
}

static void on_reading(void *userdata, struct sensor *sensor, double value, bool edge,
                       uint64_t mono_usec)
{
    struct telemetry *telemetry = userdata;
    struct source *source = find_source(telemetry, sensor);
    assert(source);
    telemetry->handlers->reading(telemetry->userdata, (size_t)(source - telemetry->sources), value,
                                 mono_usec);
    if (edge)
        publish_one(telemetry, source, value, mono_usec);
}

static void on_sampled(void *userdata, struct sensor *sensor)
{
    struct telemetry *telemetry = userdata;
    struct source *source = find_source(telemetry, sensor);
    assert(source);
    source->tried = true;
    tell_changed(telemetry, source);
    uint64_t retry_mono_usec = sensor_retry_mono_usec(sensor);
    if (retry_mono_usec > 0 && retry_mono_usec < source->sample_mono_usec)
        source->sample_mono_usec = retry_mono_usec; // its interval may be an hour
    if (telemetry->ticking)
        return;
    if (source->due)
        check_stream(telemetry, source->stream, clock_mono_usec());
    arm_timer(telemetry); // and not for a deadline that has been kept
}

static const struct sensor_handlers sensor_handlers = { on_reading, on_sampled };

/* --- configuration --------------------------------------------------------------------------- */

static void free_streams(struct stream *streams, size_t n)
{
    for (size_t i = 0; i < n; i++)
        topic_free(streams[i].topic);
    free(streams);
}

static int make_streams(const struct config *config, struct stream **ret_streams, size_t *ret_n)
{
    size_t n = config_count(config, "stream");
    struct stream *streams = calloc(n + 1, sizeof(*streams));
    if (!streams)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct config_section *section = config_nth(config, "stream", i);
        const struct stream_config *stream = config_stream(section);
        const char *topic = stream->topic ? stream->topic : config->topics->telemetry;
        streams[i] = (struct stream){ .name = section->name };
        int r = topic_parse(topic, (1u << TOPIC_FIELDS) - 1, &streams[i].topic, NULL);
        if (r < 0) {
            free_streams(streams, n);
            return r;
        }
    }
    *ret_streams = streams;
    *ret_n = n;
    return 0;
}

static struct stream *find_stream(struct stream *streams, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(streams[i].name, name) == 0)
            return &streams[i];
    }
    return NULL;
}

static void free_sources(struct source *sources, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sensor_free(sources[i].sensor);
    free(sources);
}

/* The one that goes on as it is under the new configuration; NULL if there is none. */
static struct source *find_equal(struct telemetry *telemetry, const struct config_section *section)
{
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        struct source *source = &telemetry->sources[i];
        if (source->sensor && config_section_equal(sensor_section(source->sensor), section))
            return source;
    }
    return NULL;
}

/* Sources for every sensor of config, still without those that go on as they are. */
static int make_sources(struct telemetry *telemetry, struct config *config,
                        struct source **ret_sources, size_t *ret_n)
{
    size_t n = config_count(config, "sensor");
    struct source *sources = calloc(n + 1, sizeof(*sources));
    if (!sources)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct config_section *section = config_nth(config, "sensor", i);
        if (find_equal(telemetry, section))
            continue;
        int r = sensor_new(telemetry->event, config, section, &sensor_handlers, telemetry,
                           &sources[i].sensor);
        if (r < 0) {
            free_sources(sources, n);
            return r;
        }
    }
    *ret_sources = sources;
    *ret_n = n;
    return 0;
}

int telemetry_configure(struct telemetry *telemetry, struct config *config)
{
    struct stream *streams = NULL;
    struct source *sources = NULL;
    size_t n_streams = 0, n_sources = 0;
    int r = make_streams(config, &streams, &n_streams);
    if (r < 0)
        return r;
    r = make_sources(telemetry, config, &sources, &n_sources);
    if (r < 0) {
        free_streams(streams, n_streams);
        return r;
    }
    // From here on nothing fails.
    uint64_t now_mono_usec = clock_mono_usec();
    for (size_t i = 0; i < n_sources; i++) {
        struct source *source = &sources[i];
        const struct config_section *section = config_nth(config, "sensor", i);
        source->sample_mono_usec = now_mono_usec; // a new one is opened and read at once
        if (!source->sensor) {
            struct source *old = find_equal(telemetry, section);
            *source = *old;
            old->sensor = NULL;
        }
        source->stream = find_stream(streams, n_streams, config_sensor(section)->stream);
        source->publish_mono_usec = sampling_next(telemetry->start_mono_usec,
                                                  sensor_interval(source->sensor), now_mono_usec);
        if (source->due)
            set_due(source, now_mono_usec);
    }
    free_sources(telemetry->sources, telemetry->n_sources);
    free_streams(telemetry->streams, telemetry->n_streams);
    config_unref(telemetry->config);
    telemetry->sources = sources;
    telemetry->n_sources = n_sources;
    telemetry->streams = streams;
    telemetry->n_streams = n_streams;
    telemetry->config = config_ref(config);
    arm_timer(telemetry);
    return 0;
}

/* --- life and use ---------------------------------------------------------------------------- */

int telemetry_new(sd_event *event, const struct telemetry_handlers *handlers, void *userdata,
                  struct telemetry **ret_telemetry)
{
    _cleanup_(telemetry_freep) struct telemetry *telemetry = calloc(1, sizeof(*telemetry));
    if (!telemetry)
        return -ENOMEM;
    telemetry->event = sd_event_ref(event);
    telemetry->handlers = handlers;
    telemetry->userdata = userdata;
    telemetry->start_mono_usec = clock_mono_usec();
    int r = sd_event_add_time(event, &telemetry->timer, CLOCK_BOOTTIME, 0, 0, on_timer, telemetry);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(telemetry->timer, SD_EVENT_OFF);
    *ret_telemetry = TAKE_PTR(telemetry);
    return 0;
}

void telemetry_free(struct telemetry *telemetry)
{
    if (!telemetry)
        return;
    sd_event_source_disable_unref(telemetry->timer);
    free_sources(telemetry->sources, telemetry->n_sources);
    free_streams(telemetry->streams, telemetry->n_streams);
    config_unref(telemetry->config);
    sd_event_unref(telemetry->event);
    free(telemetry);
}

void telemetry_publish_now(struct telemetry *telemetry, char *const *names)
{
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        struct source *source = &telemetry->sources[i];
        source->wanted = !names || strings_match_any(names, sensor_name(source->sensor));
    }
    tick(telemetry);
}

void telemetry_node_changed(struct telemetry *telemetry, const char *name)
{
    uint64_t now_mono_usec = clock_mono_usec();
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        struct source *source = &telemetry->sources[i];
        if (sensor_node_changed(source->sensor, name))
            start_sample(telemetry, source, now_mono_usec);
    }
    arm_timer(telemetry);
}

bool telemetry_is_settled(const struct telemetry *telemetry)
{
    for (size_t i = 0; i < telemetry->n_sources; i++) {
        if (!telemetry->sources[i].tried)
            return false;
    }
    return true;
}

size_t telemetry_n_sensors(const struct telemetry *telemetry)
{
    return telemetry->n_sources;
}

size_t telemetry_n_failed(const struct telemetry *telemetry)
{
    size_t n = 0;
    for (size_t i = 0; i < telemetry->n_sources; i++)
        n += sensor_has_failed(telemetry->sources[i].sensor);
    return n;
}
