// SPDX-License-Identifier: LGPL-2.1-or-later
// A role's way to the broker. Owns the connection and the outbox, and publishes the status message;
// knows nothing of sensors and rules.
#include "outbox/uplink.h"

#include <string.h>

#include "core/json.h"
#include "outbox/connection.h"
#include "outbox/status.h"
#include "outbox/subscriptions.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"

static const uint64_t status_interval_usec = 60 * USEC_PER_SEC;
static const uint64_t status_soon_usec = 1 * USEC_PER_SEC;
// The goodbye: PUBACK for "offline", then DISCONNECT, which has this long whatever comes before.
static const uint64_t tell_limit_usec = 1 * USEC_PER_SEC;
static const uint64_t leave_limit_usec = 100 * USEC_PER_MSEC;
// What the disk has for itself before the end of a stop, and how often it is looked at.
static const uint64_t commit_share_usec = 400 * USEC_PER_MSEC;
static const uint64_t commit_look_usec = 5 * USEC_PER_MSEC;
static const struct ratelimit failure_limit = { .interval_usec = 600 * USEC_PER_SEC, .burst = 6 };
static const struct ratelimit drop_limit = { .interval_usec = 600 * USEC_PER_SEC, .burst = 3 };

enum goodbye {
    GOODBYE_NONE,
    GOODBYE_TELLING,    // "offline" is on its way, and what else is urgent
    GOODBYE_LEAVING,    // the link sends DISCONNECT
    GOODBYE_LEFT,       // it has ended
    GOODBYE_COMMITTING, // stopping: only the disk is waited for
    GOODBYE_OVER,
};

struct uplink {
    sd_event *event;
    struct config *config;
    void (*tell)(void *userdata, const struct uplink_event *event);
    void *userdata;

    struct spool_client *store;
    struct outbox *outbox; // the client's
    struct connection connection;
    struct connection next; // takes its place when the goodbye is over; link NULL: none
    sd_event_source *outbox_timer;
    sd_event_source *status_timer;
    sd_event_source *stop_timer; // the end of a goodbye
    sd_event_source *change;     // UPLINK_CHANGED is to be told

    enum goodbye goodbye;
    bool stopping;
    uint64_t stop_mono_usec; // stopping: when all of it is over
    bool status_is_soon;     // the timer runs for a change, not for its interval
    uint64_t end_mono_usec;  // of the goodbye
    uint64_t since_wall_usec;
    uint64_t lost_mono_usec; // when the connection broke, 0 while connected or before the first
    uint64_t n_rejected;
    uint64_t recorded_ticket;  // as the role was last told
    struct ratelimit failures; // to connect, as logged
    struct ratelimit drops;    // of what comes in, likewise
    struct subscriptions subscriptions;
};

struct uplink_plan {
    struct config *config;
    struct connection connection; // link NULL: the one that there is stays
    struct outbox_plan *outbox;
};

static void tell(struct uplink *uplink, struct uplink_event event)
{
    uplink->tell(uplink->userdata, &event);
}

static void tell_change(struct uplink *uplink, bool is_news)
{
    tell(uplink, (struct uplink_event){ .type = UPLINK_CHANGED, .is_news = is_news });
}

/* --- the status message ---------------------------------------------------------------------- */

static void publish_status(struct uplink *uplink, const char *status)
{
    if (!uplink->connection.status_topic || !link_is_connected(uplink->connection.link))
        return;
    const struct status_counters counters = {
        .outbox = uplink->outbox,
        .since_wall_usec = uplink->since_wall_usec,
        .n_rejected = uplink->n_rejected,
    };
    _cleanup_(json_object_putp) struct json_object *object =
        status_new(uplink->connection.config->daemon, status, &counters);
    if (!object)
        return;
    tell(uplink, (struct uplink_event){ .type = UPLINK_STATUS, .status = object });
    const char *payload = status_text(object);
    if (payload)
        outbox_publish(uplink->outbox,
                       &(struct outbox_message){ .stream = status_policy.name,
                                                 .subject = uplink->connection.status_topic,
                                                 .payload = payload,
                                                 .qos = -1 });
}

static void schedule_status(struct uplink *uplink, uint64_t delay_usec)
{
    if (!uplink->status_timer)
        return;
    sd_event_source_set_time_relative(uplink->status_timer, delay_usec);
    sd_event_source_set_enabled(uplink->status_timer, SD_EVENT_ONESHOT);
}

static int on_status_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct uplink *uplink = userdata;
    uplink->status_is_soon = false;
    if (!uplink->stopping)
        publish_status(uplink, "online");
    schedule_status(uplink, status_interval_usec);
    return 0;
}

/* --- goodbyes -------------------------------------------------------------------------------- */

static bool is_saying_goodbye(const struct uplink *uplink)
{
    return uplink->stopping || uplink->next.link;
}

static void look_again(struct uplink *uplink, uint64_t delay_usec)
{
    sd_event_source_set_time_relative(uplink->stop_timer, delay_usec);
    sd_event_source_set_enabled(uplink->stop_timer, SD_EVENT_ONESHOT);
}

/* The next step by the next turn of the loop: not from within the link's handlers. */
static void go_on_soon(struct uplink *uplink)
{
    look_again(uplink, 0);
}

static uint64_t time_until(uint64_t mono_usec)
{
    uint64_t now_mono_usec = clock_mono_usec();
    return mono_usec > now_mono_usec ? mono_usec - now_mono_usec : 0;
}

/* However silent the broker is, the disk gets its share of the time that a stop has. */
static void bound_goodbye(struct uplink *uplink)
{
    if (uplink->stopping && uplink->end_mono_usec > uplink->stop_mono_usec - commit_share_usec)
        uplink->end_mono_usec = uplink->stop_mono_usec - commit_share_usec;
}

static void say_goodbye(struct uplink *uplink)
{
    publish_status(uplink, "offline");
    outbox_close(uplink->outbox);
    uplink->goodbye = GOODBYE_TELLING;
    uplink->end_mono_usec = clock_mono_usec() + tell_limit_usec + leave_limit_usec;
    bound_goodbye(uplink);
    bool waits = link_is_connected(uplink->connection.link) && !outbox_is_quiet(uplink->outbox);
    look_again(uplink, waits ? time_until(uplink->end_mono_usec - leave_limit_usec) : 0);
}

static void leave(struct uplink *uplink)
{
    uint64_t limit_usec = time_until(uplink->end_mono_usec);
    uplink->goodbye = GOODBYE_LEAVING;
    link_stop(uplink->connection.link, limit_usec);
    if (uplink->stopping) // even if its process cannot be ended now
        look_again(uplink, limit_usec);
}

static void renew(struct uplink *uplink)
{
    connection_done(&uplink->connection);
    uplink->connection = uplink->next;
    uplink->next = (struct connection){ 0 };
    uplink->goodbye = GOODBYE_NONE;
    uplink_start(uplink);
}

static void commit(struct uplink *uplink)
{
    uplink->goodbye = GOODBYE_COMMITTING;
    outbox_disconnected(uplink->outbox);
    outbox_quiesce(uplink->outbox);
}

static void end(struct uplink *uplink)
{
    outbox_end(uplink->outbox);
    uplink->goodbye = GOODBYE_OVER;
    tell(uplink, (struct uplink_event){ .type = UPLINK_STOPPED });
}

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct uplink *uplink = userdata;
    if (uplink->goodbye == GOODBYE_TELLING) {
        leave(uplink);
        return 0;
    }
    if (!uplink->stopping && uplink->goodbye == GOODBYE_LEFT) {
        outbox_disconnected(uplink->outbox);
        renew(uplink);
    }
    if (!uplink->stopping || uplink->goodbye == GOODBYE_OVER)
        return 0;
    if (uplink->goodbye != GOODBYE_COMMITTING)
        commit(uplink);
    if (outbox_is_committed(uplink->outbox) || time_until(uplink->stop_mono_usec) == 0)
        end(uplink);
    else
        look_again(uplink, commit_look_usec);
    return 0;
}

/* --- the link's events ----------------------------------------------------------------------- */

static void connected(struct uplink *uplink, bool session_present)
{
    if (is_saying_goodbye(uplink))
        return;
    connection_tell_connected(&uplink->connection, uplink->lost_mono_usec, session_present);
    uplink->lost_mono_usec = 0;
    uplink->failures = failure_limit;
    uplink->since_wall_usec = clock_wall_usec();
    uplink->status_is_soon = false;
    unsigned window = link_window(uplink->connection.link);
    unsigned max_inflight = (unsigned)uplink->connection.config->broker->max_inflight;
    outbox_connected(uplink->outbox, uplink->connection.link,
                     max_inflight < window ? max_inflight : window);
    // Subscribes: who sees it online is heard by it.
    tell(uplink, (struct uplink_event){ .type = UPLINK_CONNECTED });
    publish_status(uplink, "online");
    schedule_status(uplink, status_interval_usec);
    tell_change(uplink, true);
}

static void disconnected(struct uplink *uplink, const struct link_event *event)
{
    outbox_disconnected(uplink->outbox);
    if (is_saying_goodbye(uplink)) {
        go_on_soon(uplink);
        return;
    }
    if (uplink->lost_mono_usec == 0)
        uplink->lost_mono_usec = clock_mono_usec();
    // Several hosts may fail in turn, each for a reason of its own.
    bool passes = ratelimit_pass(&uplink->failures, clock_mono_usec(), NULL);
    connection_tell_lost(&uplink->connection, event, passes);
    tell_change(uplink, true);
}

static void published(struct uplink *uplink, int mid, int reason_code)
{
    uint64_t tag = 0;
    outbox_published(uplink->outbox, mid, reason_code, &tag);
    if (tag > 0 && reason_code == MQTT_NO_MATCHING_SUBSCRIBERS)
        tell(uplink, (struct uplink_event){ .type = UPLINK_UNHEARD, .tag = tag });
    if (uplink->goodbye == GOODBYE_TELLING && outbox_is_quiet(uplink->outbox))
        go_on_soon(uplink);
    else
        tell_change(uplink, false);
}

static void dropped(struct uplink *uplink, const struct frame_record *record)
{
    uplink_count_rejected(uplink, record->count);
    if (ratelimit_pass(&uplink->drops, clock_mono_usec(), NULL))
        connection_tell_dropped(&uplink->connection, record);
}

static void link_stopped(struct uplink *uplink)
{
    if (uplink->goodbye != GOODBYE_LEAVING)
        return; // it was not waited for any longer
    uplink->goodbye = GOODBYE_LEFT;
    go_on_soon(uplink);
}

static void on_link_event(void *userdata, const struct link_event *event)
{
    struct uplink *uplink = userdata;
    switch (event->news) {
    case LINK_CONNECTED:
        connected(uplink, event->session_present);
        break;
    case LINK_DISCONNECTED:
        disconnected(uplink, event);
        break;
    case LINK_MESSAGE:
        if (!is_saying_goodbye(uplink))
            tell(uplink,
                 (struct uplink_event){ .type = UPLINK_MESSAGE, .message = event->message });
        break;
    case LINK_PUBLISHED:
        published(uplink, event->mid, event->code);
        break;
    case LINK_SUBSCRIBED:
        if (event->code >= MQTT_FIRST_REFUSAL)
            connection_tell_refused(&uplink->connection,
                                    subscriptions_find(&uplink->subscriptions, event->mid),
                                    event->code);
        break;
    case LINK_DROPPED:
        dropped(uplink, event->dropped);
        break;
    case LINK_STOPPED:
        link_stopped(uplink);
        break;
    }
}

/* --- the outbox ------------------------------------------------------------------------------ */

static int run_job(void *userdata, struct store_job *job)
{
    struct uplink *uplink = userdata;
    return spool_run(uplink->store, job);
}

/* Before the loop waits: whatever has called the outbox may have changed when it wants its tick. */
static int on_prepare(sd_event_source *source, void *userdata)
{
    const struct uplink *uplink = userdata;
    uint64_t asked_mono_usec;
    uint64_t wake_mono_usec = outbox_wake_mono_usec(uplink->outbox);
    if (sd_event_source_get_time(source, &asked_mono_usec) < 0 || asked_mono_usec != wake_mono_usec)
        sd_event_source_set_time(source, wake_mono_usec);
    return 0;
}

static int on_outbox_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct uplink *uplink = userdata;
    outbox_tick(uplink->outbox);
    uint64_t ticket = outbox_recorded(uplink->outbox);
    if (ticket == uplink->recorded_ticket)
        return 0;
    uplink->recorded_ticket = ticket;
    tell(uplink, (struct uplink_event){ .type = UPLINK_RECORDED, .ticket = ticket });
    return 0;
}

/* --- what changes by the role's own calls ---------------------------------------------------- */

static int on_change(sd_event_source *source, void *userdata)
{
    (void)source;
    struct uplink *uplink = userdata;
    tell_change(uplink, false);
    return 0;
}

/* By the next turn of the loop: the role is in the middle of something. */
static void tell_change_soon(struct uplink *uplink)
{
    sd_event_source_set_enabled(uplink->change, SD_EVENT_ONESHOT);
}

/* --- life ------------------------------------------------------------------------------------ */

static int make_connection(struct uplink *uplink, struct config *config,
                           const struct uplink_options *options, struct connection *ret_connection)
{
    return connection_make(uplink->event, config, &options->role, on_link_event, uplink,
                           ret_connection);
}

static int prepare_outbox(struct uplink *uplink, const struct config *config,
                          const struct uplink_options *options, struct outbox_plan **ret_plan)
{
    _cleanup_(freep) char *name = NULL;
    _cleanup_(freep) struct stream_policy *policies =
        calloc(options->n_streams + 1, sizeof(*policies));
    if (!policies || asprintf(&name, "%s%s", config->daemon->id, options->role.client_suffix) < 0) {
        name = NULL;
        return -ENOMEM;
    }
    for (size_t i = 0; i < options->n_streams; i++)
        policies[i] = options->streams[i];
    policies[options->n_streams] = status_policy;
    const struct queue_config *queue = config->queue;
    const struct outbox_options outbox_options = {
        .durability = (enum stream_durability)queue->durability,
        .commit_interval_usec = queue->commit_interval_usec,
        .max_size = queue->max_size,
        .drain_rate = (uint64_t)queue->drain_rate,
        .name = name,
        .id = config->daemon->id,
        .group = config->daemon->group,
        .topic = config->topics->telemetry,
        .late_topic = config->topics->backlog,
    };
    return outbox_prepare(uplink->outbox, &outbox_options, policies, options->n_streams + 1,
                          ret_plan);
}

static int make_sources(struct uplink *uplink)
{
    int r = sd_event_add_time_relative(uplink->event, &uplink->status_timer, CLOCK_BOOTTIME,
                                       status_interval_usec, USEC_PER_SEC, on_status_timer, uplink);
    if (r >= 0)
        r = sd_event_add_time_relative(uplink->event, &uplink->stop_timer, CLOCK_BOOTTIME,
                                       tell_limit_usec, 1, on_stop_timer, uplink);
    if (r >= 0)
        r = sd_event_add_time(uplink->event, &uplink->outbox_timer, CLOCK_BOOTTIME, USEC_INFINITY,
                              USEC_PER_MSEC, on_outbox_timer, uplink);
    if (r >= 0)
        r = sd_event_source_set_prepare(uplink->outbox_timer, on_prepare);
    if (r >= 0)
        r = sd_event_source_set_enabled(uplink->outbox_timer, SD_EVENT_ON);
    if (r >= 0)
        r = sd_event_add_defer(uplink->event, &uplink->change, on_change, uplink);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(uplink->change, SD_EVENT_OFF);
    sd_event_source_set_enabled(uplink->status_timer, SD_EVENT_OFF);
    return sd_event_source_set_enabled(uplink->stop_timer, SD_EVENT_OFF);
}

int uplink_new(sd_event *event, struct spool *spool, struct config *config,
               const struct uplink_options *options,
               void (*tell_event)(void *userdata, const struct uplink_event *event), void *userdata,
               struct uplink **ret_uplink)
{
    _cleanup_(uplink_freep) struct uplink *uplink = calloc(1, sizeof(*uplink));
    if (!uplink)
        return -ENOMEM;
    uplink->event = sd_event_ref(event);
    uplink->config = config_ref(config);
    uplink->tell = tell_event;
    uplink->userdata = userdata;
    uplink->failures = failure_limit;
    uplink->drops = drop_limit;
    struct outbox *outbox;
    struct outbox_plan *plan = NULL;
    int r = make_sources(uplink);
    if (r == 0)
        r = outbox_new(spool_boot(spool), spool_run_id(spool), run_job, uplink, &outbox);
    if (r == 0) {
        r = spool_add(spool, outbox, options->adopts, &uplink->store);
        if (r < 0)
            outbox_free(outbox);
    }
    if (r == 0) {
        uplink->outbox = outbox;
        r = make_connection(uplink, config, options, &uplink->connection);
    }
    if (r == 0)
        r = prepare_outbox(uplink, config, options, &plan);
    if (r < 0)
        return r;
    outbox_commit(uplink->outbox, plan);
    *ret_uplink = TAKE_PTR(uplink);
    return 0;
}

void uplink_free(struct uplink *uplink)
{
    if (!uplink)
        return;
    sd_event_source_disable_unref(uplink->status_timer);
    sd_event_source_disable_unref(uplink->stop_timer);
    sd_event_source_disable_unref(uplink->outbox_timer);
    sd_event_source_disable_unref(uplink->change);
    connection_done(&uplink->connection);
    connection_done(&uplink->next);
    spool_remove(uplink->store);
    subscriptions_done(&uplink->subscriptions);
    config_unref(uplink->config);
    sd_event_unref(uplink->event);
    free(uplink);
}

void uplink_start(struct uplink *uplink)
{
    link_start(uplink->connection.link);
}

int uplink_prepare(struct uplink *uplink, struct config *config,
                   const struct uplink_options *options, bool must_renew,
                   struct uplink_plan **ret_plan)
{
    _cleanup_(uplink_plan_freep) struct uplink_plan *plan = calloc(1, sizeof(*plan));
    if (!plan)
        return -ENOMEM;
    plan->config = config_ref(config);
    // A reload upon a reload: whatever was to come next, it is this now.
    bool renews =
        must_renew || uplink->next.link || connection_is_outdated(&uplink->connection, config);
    int r = renews ? make_connection(uplink, config, options, &plan->connection) : 0;
    if (r == 0)
        r = prepare_outbox(uplink, config, options, &plan->outbox);
    if (r < 0)
        return r;
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

void uplink_plan_free(struct uplink_plan *plan)
{
    if (!plan)
        return;
    connection_done(&plan->connection);
    outbox_plan_free(plan->outbox);
    config_unref(plan->config);
    free(plan);
}

void uplink_commit(struct uplink *uplink, struct uplink_plan *plan)
{
    _cleanup_(uplink_plan_freep) struct uplink_plan *owned = plan;
    bool was_renewing = uplink->next.link;
    outbox_commit(uplink->outbox, TAKE_PTR(plan->outbox));
    config_unref(uplink->config);
    uplink->config = TAKE_PTR(plan->config);
    if (!plan->connection.link)
        return;
    connection_done(&uplink->next);
    uplink->next = plan->connection;
    plan->connection = (struct connection){ 0 };
    if (!was_renewing && !uplink->stopping)
        say_goodbye(uplink);
}

void uplink_stop(struct uplink *uplink, uint64_t end_mono_usec)
{
    if (uplink->stopping)
        return;
    bool was_renewing = uplink->next.link;
    uplink->stopping = true;
    uplink->stop_mono_usec = end_mono_usec;
    if (!was_renewing) {
        say_goodbye(uplink);
        return;
    }
    bound_goodbye(uplink); // the one that has begun is this one now
    if (uplink->goodbye == GOODBYE_TELLING)
        look_again(uplink, time_until(uplink->end_mono_usec - leave_limit_usec));
    else if (uplink->goodbye == GOODBYE_LEAVING)
        look_again(uplink, time_until(uplink->end_mono_usec));
}

/* --- use ------------------------------------------------------------------------------------- */

bool uplink_is_connected(const struct uplink *uplink)
{
    return link_is_connected(uplink->connection.link) && !is_saying_goodbye(uplink);
}

int uplink_publish(struct uplink *uplink, const struct outbox_message *message)
{
    int r = outbox_publish(uplink->outbox, message);
    if (r < 0 || !link_is_connected(uplink->connection.link))
        tell_change_soon(uplink);
    return r;
}

struct outbox *uplink_outbox(struct uplink *uplink)
{
    return uplink->outbox;
}

void uplink_subscribe(struct uplink *uplink, const char *filter)
{
    int mid = 0;
    int r = link_subscribe(uplink->connection.link, filter, 1, &mid);
    subscriptions_add(&uplink->subscriptions, mid, filter);
    if (r < 0)
        log_err(LOG_FIELDS({ "TOPIC", filter }), "cannot subscribe to %s: %s", filter,
                strerror(-r));
    else
        log_debug(LOG_FIELDS({ "TOPIC", filter }), "subscribing to %s", filter);
}

void uplink_count_rejected(struct uplink *uplink, uint64_t count)
{
    uplink->n_rejected += count;
    if (!uplink->status_is_soon && link_is_connected(uplink->connection.link)) {
        uplink->status_is_soon = true;
        schedule_status(uplink, status_soon_usec);
    }
    tell_change_soon(uplink);
}

const char *uplink_describe(const struct uplink *uplink, char *out, size_t size)
{
    return status_describe(uplink->config, uplink->connection.link, uplink->outbox, out, size);
}
