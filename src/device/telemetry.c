// SPDX-License-Identifier: LGPL-2.1-or-later
// When sensors are sampled and what goes into a message. Owns the sensors and their timer; the
// broker is somebody else's.
#include "device/telemetry.h"

#include <assert.h>
#include <string.h>

#include "core/json.h"
#include "core/value.h"
#include "device/sensor.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"
#include "util/strings.h"

// How long a message waits for the sensors that are due with it but slower to answer.
static const uint64_t patience_usec = 1 * USEC_PER_SEC;

struct stream {
    const char *name;            // in config
    bool has_topics;             // each of its sensors has one of its own
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
    bool failed;                // as the owner was last told
};

/* A configuration. */
struct telemetry_plan {
    struct config *config;
    size_t n_streams, n_sources;
    struct stream *streams;
    struct source *sources; // until it is in force those that go on as they are have no sensor
};

struct telemetry {
    sd_event *event;
    sd_event_source *timer;
    struct uplink *uplink;
    struct ratelimit *story;
    struct owner owner;
    void (*reading)(void *userdata, size_t i, double value, uint64_t mono_usec);
    void *userdata;
    uint64_t start_mono_usec; // of the rhythm
    struct telemetry_plan now;
};

/* --- messages -------------------------------------------------------------------------------- */

static void publish(struct telemetry *telemetry, const struct stream *stream, const char *sensor,
                    const char *payload, uint32_t n_samples, uint64_t mono_usec)
{
    int r = uplink_publish(telemetry->uplink, &(struct outbox_message){ .stream = stream->name,
                                                                        .subject = sensor,
                                                                        .payload = payload,
                                                                        .n_samples = n_samples,
                                                                        .mono_usec = mono_usec,
                                                                        .qos = -1 });
    if (!ratelimit_pass(telemetry->story, clock_mono_usec(), NULL))
        return;
    log_info(
        LOG_FIELDS({ "DEVICE", telemetry->now.config->daemon->id }, { "STREAM", stream->name }),
        "telemetry %s%s", payload,
        r < 0                                    ? " (dropped)"
        : uplink_is_connected(telemetry->uplink) ? ""
                                                 : " (not connected: queued)");
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
                source->stream->has_topics ? sensor_name(source->sensor) : NULL, payload, 1,
                mono_usec);
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
        outbox_count_samples(uplink_outbox(telemetry->uplink), source->stream->name, &delta);
    return publishes;
}

/* One message of all that is due and has answered; what is still being sampled follows by itself.
 */
static void publish_due(struct telemetry *telemetry, struct stream *stream)
{
    uint64_t now_mono_usec = clock_mono_usec();
    char *payload = NULL;
    size_t size, n_members = 0;
    FILE *out = open_memstream(&payload, &size);
    if (!out)
        return; // they stay due
    stream->deadline_mono_usec = 0;
    fputc('{', out);
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        struct source *source = &telemetry->now.sources[i];
        double value;
        if (source->stream != stream || !source->due || sensor_is_sampling(source->sensor))
            continue;
        source->due = false;
        if (!take(telemetry, source, now_mono_usec, &value))
            continue;
        if (stream->has_topics) {
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
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        const struct source *source = &telemetry->now.sources[i];
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
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        const struct source *source = &telemetry->now.sources[i];
        next_mono_usec = earlier(next_mono_usec, source->wanted ? 0 : source->sample_mono_usec);
        next_mono_usec = earlier(next_mono_usec, source->publish_mono_usec);
        accuracy_usec = earlier(accuracy_usec, sensor_sample_interval(source->sensor) / 50);
    }
    for (size_t i = 0; i < telemetry->now.n_streams; i++) {
        if (telemetry->now.streams[i].deadline_mono_usec > clock_mono_usec())
            next_mono_usec = earlier(next_mono_usec, telemetry->now.streams[i].deadline_mono_usec);
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
    telemetry->owner.told(telemetry->owner.userdata, OWNER_CHANGED);
}

static struct source *find_source(struct telemetry *telemetry, const struct sensor *sensor)
{
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        if (telemetry->now.sources[i].sensor == sensor)
            return &telemetry->now.sources[i];
    }
    return NULL;
}

/* A sample has ended, or an edge has come. */
static void take_news(struct telemetry *telemetry, struct source *source,
                      const struct sensor_news *news)
{
    if (news->has_reading)
        telemetry->reading(telemetry->userdata, (size_t)(source - telemetry->now.sources),
                           news->reading, news->mono_usec);
    if (news->has_reading && news->is_edge)
        publish_one(telemetry, source, news->reading, news->mono_usec);
    tell_changed(telemetry, source);
    if (news->is_edge)
        return;
    source->tried = true;
    uint64_t retry_mono_usec = sensor_retry_mono_usec(source->sensor);
    if (retry_mono_usec > 0 && retry_mono_usec < source->sample_mono_usec)
        source->sample_mono_usec = retry_mono_usec; // its interval may be an hour
}

static void on_heard(void *userdata, struct sensor *sensor, const struct sensor_news *news)
{
    struct telemetry *telemetry = userdata;
    struct source *source = find_source(telemetry, sensor);
    assert(source);
    take_news(telemetry, source, news);
    if (news->is_edge)
        return;
    if (source->due)
        check_stream(telemetry, source->stream, clock_mono_usec());
    arm_timer(telemetry); // and not for a deadline that has been kept
}

static void start_sample(struct telemetry *telemetry, struct source *source, uint64_t now_mono_usec)
{
    struct sensor_news news;
    source->sample_mono_usec = sampling_next(telemetry->start_mono_usec,
                                             sensor_sample_interval(source->sensor), now_mono_usec);
    if (sensor_sample(source->sensor, now_mono_usec, &news))
        take_news(telemetry, source, &news);
    tell_changed(telemetry, source); // it may be stuck
}

/* Starts what is due by now and what is wanted, and makes the messages. */
static void tick(struct telemetry *telemetry)
{
    uint64_t now_mono_usec = clock_mono_usec();
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        struct source *source = &telemetry->now.sources[i];
        if (source->wanted) // what was published before may never have arrived
            sensor_forget_published(source->sensor);
        if (source->wanted || now_mono_usec >= source->publish_mono_usec)
            set_due(source, now_mono_usec);
        source->publish_mono_usec = sampling_next(telemetry->start_mono_usec,
                                                  sensor_interval(source->sensor), now_mono_usec);
    }
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        struct source *source = &telemetry->now.sources[i];
        if (source->wanted || now_mono_usec >= source->sample_mono_usec)
            start_sample(telemetry, source, now_mono_usec);
        source->wanted = false;
    }
    for (size_t i = 0; i < telemetry->now.n_streams; i++)
        check_stream(telemetry, &telemetry->now.streams[i], now_mono_usec);
    arm_timer(telemetry);
}

static int on_timer(sd_event_source *timer, uint64_t usec, void *userdata)
{
    (void)timer, (void)usec;
    tick(userdata);
    return 0;
}

/* --- configuration --------------------------------------------------------------------------- */

static struct stream *find_stream(struct stream *streams, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(streams[i].name, name) == 0)
            return &streams[i];
    }
    return NULL;
}

/* The one that goes on as it is under the new configuration; NULL if there is none. */
static struct source *find_equal(struct telemetry *telemetry, const struct config_section *section)
{
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        struct source *source = &telemetry->now.sources[i];
        if (source->sensor && config_section_equal(sensor_section(source->sensor), section))
            return source;
    }
    return NULL;
}

static int plan_streams(struct telemetry_plan *plan)
{
    plan->n_streams = config_count(plan->config, "stream");
    plan->streams = calloc(plan->n_streams + 1, sizeof(*plan->streams));
    if (!plan->streams)
        return -ENOMEM;
    for (size_t i = 0; i < plan->n_streams; i++) {
        const struct config_section *section = config_nth(plan->config, "stream", i);
        const char *own = config_stream(section)->topic;
        const char *topic = own ? own : plan->config->topics->telemetry;
        plan->streams[i] =
            (struct stream){ .name = section->name, .has_topics = strstr(topic, "{sensor}") };
    }
    return 0;
}

static int plan_sources(struct telemetry *telemetry, struct telemetry_plan *plan, struct why *why)
{
    size_t n = config_count(plan->config, "sensor");
    plan->sources = calloc(n + 1, sizeof(*plan->sources));
    if (!plan->sources)
        return -ENOMEM;
    plan->n_sources = n;
    for (size_t i = 0; i < n; i++) {
        const struct config_section *section = config_nth(plan->config, "sensor", i);
        if (find_equal(telemetry, section))
            continue;
        int r = sensor_new(telemetry->event, plan->config, section, on_heard, telemetry,
                           &plan->sources[i].sensor);
        if (r < 0)
            return why_set(why, -r, "sensor %s: %s", section->name, strerror(-r));
    }
    return 0;
}

int telemetry_prepare(struct telemetry *telemetry, struct config *config,
                      struct telemetry_plan **ret_plan, struct why *why)
{
    _cleanup_(telemetry_plan_freep) struct telemetry_plan *plan = calloc(1, sizeof(*plan));
    if (!plan)
        return -ENOMEM;
    plan->config = config_ref(config);
    int r = plan_streams(plan);
    if (r == 0)
        r = plan_sources(telemetry, plan, why);
    if (r < 0)
        return r;
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

static void plan_done(struct telemetry_plan *plan)
{
    for (size_t i = 0; i < plan->n_sources; i++)
        sensor_free(plan->sources[i].sensor);
    free(plan->sources);
    free(plan->streams);
    config_unref(plan->config);
}

void telemetry_plan_free(struct telemetry_plan *plan)
{
    if (plan)
        plan_done(plan);
    free(plan);
}

/* The sensors that go on move over to the plan. */
static void take_sensors(struct telemetry *telemetry, struct telemetry_plan *plan)
{
    uint64_t now_mono_usec = clock_mono_usec();
    for (size_t i = 0; i < plan->n_sources; i++) {
        struct source *source = &plan->sources[i];
        const struct config_section *section = config_nth(plan->config, "sensor", i);
        source->sample_mono_usec = now_mono_usec; // a new one is opened and read at once
        if (!source->sensor) {
            struct source *old = find_equal(telemetry, section);
            *source = *old;
            old->sensor = NULL;
        }
        source->stream =
            find_stream(plan->streams, plan->n_streams, config_sensor(section)->stream);
        source->publish_mono_usec = sampling_next(telemetry->start_mono_usec,
                                                  sensor_interval(source->sensor), now_mono_usec);
        if (source->due)
            set_due(source, now_mono_usec);
    }
}

void telemetry_commit(struct telemetry *telemetry, struct telemetry_plan *plan)
{
    take_sensors(telemetry, plan);
    plan_done(&telemetry->now);
    telemetry->now = *plan;
    free(plan);
    arm_timer(telemetry);
}

/* --- life and use ---------------------------------------------------------------------------- */

int telemetry_new(sd_event *event, struct uplink *uplink, struct ratelimit *story,
                  const struct owner *owner,
                  void (*reading)(void *userdata, size_t i, double value, uint64_t mono_usec),
                  void *userdata, struct telemetry **ret_telemetry)
{
    _cleanup_(telemetry_freep) struct telemetry *telemetry = calloc(1, sizeof(*telemetry));
    if (!telemetry)
        return -ENOMEM;
    telemetry->event = sd_event_ref(event);
    telemetry->uplink = uplink;
    telemetry->story = story;
    telemetry->owner = *owner;
    telemetry->reading = reading;
    telemetry->userdata = userdata;
    telemetry->start_mono_usec = clock_mono_usec();
    int r = sd_event_add_time(event, &telemetry->timer, CLOCK_BOOTTIME, USEC_INFINITY, 0, on_timer,
                              telemetry);
    if (r < 0)
        return r;
    *ret_telemetry = TAKE_PTR(telemetry);
    return 0;
}

void telemetry_free(struct telemetry *telemetry)
{
    if (!telemetry)
        return;
    sd_event_source_disable_unref(telemetry->timer);
    plan_done(&telemetry->now);
    sd_event_unref(telemetry->event);
    free(telemetry);
}

void telemetry_publish_now(struct telemetry *telemetry, char *const *names)
{
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        struct source *source = &telemetry->now.sources[i];
        source->wanted |= !names || strings_match_any(names, sensor_name(source->sensor));
    }
    arm_timer(telemetry);
}

void telemetry_node_changed(struct telemetry *telemetry, const char *name)
{
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        struct source *source = &telemetry->now.sources[i];
        if (sensor_node_changed(source->sensor, name))
            source->sample_mono_usec = 0; // with the next turn of the loop
    }
    arm_timer(telemetry);
}

bool telemetry_is_settled(const struct telemetry *telemetry)
{
    for (size_t i = 0; i < telemetry->now.n_sources; i++) {
        if (!telemetry->now.sources[i].tried)
            return false;
    }
    return true;
}

size_t telemetry_n_sensors(const struct telemetry *telemetry)
{
    return telemetry->now.n_sources;
}

size_t telemetry_n_failed(const struct telemetry *telemetry)
{
    size_t n = 0;
    for (size_t i = 0; i < telemetry->now.n_sources; i++)
        n += sensor_has_failed(telemetry->now.sources[i].sensor);
    return n;
}
