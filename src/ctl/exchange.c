// SPDX-License-Identifier: LGPL-2.1-or-later
// One exchange with the broker; see exchange.h. Owns the loop and the client while it lasts.
#include "ctl/exchange.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <systemd/sd-id128.h>

#include "outbox/connection.h"
#include "util/clock.h"

static const uint64_t connect_limit_usec = 15 * USEC_PER_SEC;
static const uint64_t leave_limit_usec = 1 * USEC_PER_SEC;

struct run {
    const struct exchange *exchange;
    sd_event *event;
    sd_event_source *timer;
    struct link *link;
    bool was_connected;
    bool is_over;
    int result;
    bool is_published; // or there is nothing to publish
    char reasons[512]; // why there is no connection, of each host
    int mid;
};

/* Says goodbye to the broker first. */
static void finish(struct run *run, int result)
{
    if (run->is_over)
        return;
    run->is_over = true;
    run->result = result;
    sd_event_source_set_enabled(run->timer, SD_EVENT_OFF);
    link_stop(run->link, leave_limit_usec);
}

static void fail(struct run *run, const char *what, int result)
{
    fprintf(stderr, "nightlightctl: %s: %s\n", what, strerror(-result));
    finish(run, result);
}

static void limit(struct run *run, uint64_t usec)
{
    sd_event_source_set_time_relative(run->timer, usec);
    sd_event_source_set_enabled(run->timer, SD_EVENT_ONESHOT);
}

/* Once only: what a renewed connection would say again may have been taken already. */
static void publish(struct run *run)
{
    const struct exchange *exchange = run->exchange;
    if (!exchange->topic || run->is_published) {
        limit(run, exchange->wait_usec);
        run->is_published = true;
        return;
    }
    const struct mqtt_message message = {
        .topic = exchange->topic,
        .payload = exchange->payload,
        .payload_size = strlen(exchange->payload),
        .qos = 1,
    };
    int r = link_publish(run->link, &message, &run->mid);
    if (r < 0)
        fail(run, exchange->topic, r);
}

static void connected(struct run *run)
{
    run->was_connected = true;
    int r = run->exchange->filter ? link_subscribe(run->link, run->exchange->filter, 1, NULL) : 0;
    if (r < 0)
        fail(run, run->exchange->filter, r);
    else if (!run->exchange->filter)
        publish(run);
}

/* Somebody waits at a terminal: each host is tried once. One that was there is waited for. */
static void disconnected(struct run *run, const char *reason, uint64_t retry_usec)
{
    if (run->was_connected)
        return;
    size_t length = strlen(run->reasons);
    snprintf(run->reasons + length, sizeof(run->reasons) - length, "%s%s", length > 0 ? "; " : "",
             reason);
    if (retry_usec == 0) // there is another host
        return;
    fprintf(stderr, "nightlightctl: %s\n", run->reasons);
    finish(run, -ENOTCONN);
}

static void subscribed(struct run *run, int granted)
{
    if (granted < 0x80) {
        publish(run);
        return;
    }
    fprintf(stderr, "nightlightctl: the broker refuses the subscription to %s: %s\n",
            run->exchange->filter, mqtt_reason(granted));
    finish(run, -EACCES);
}

static void published(struct run *run, int mid, int reason_code)
{
    if (mid != run->mid)
        return;
    run->is_published = true;
    if (reason_code >= 0x80) {
        fprintf(stderr, "nightlightctl: the broker refuses a message on %s: %s\n",
                run->exchange->topic, mqtt_reason(reason_code));
        finish(run, -EACCES);
    } else if (!run->exchange->filter) {
        finish(run, 0);
    } else {
        limit(run, run->exchange->wait_usec);
    }
}

static void take(struct run *run, const struct mqtt_message *message)
{
    if (!run->is_over && run->exchange->take &&
        run->exchange->take(run->exchange->userdata, message))
        finish(run, 0);
}

static void on_event(void *userdata, const struct link_event *event)
{
    struct run *run = userdata;
    switch (event->news) {
    case LINK_CONNECTED:
        connected(run);
        break;
    case LINK_DISCONNECTED:
        disconnected(run, event->reason, event->retry_usec);
        break;
    case LINK_MESSAGE:
        take(run, event->message);
        break;
    case LINK_PUBLISHED:
        published(run, event->mid, event->code);
        break;
    case LINK_SUBSCRIBED:
        subscribed(run, event->code);
        break;
    case LINK_DROPPED:
        break;
    case LINK_STOPPED:
        sd_event_exit(run->event, run->result);
        break;
    }
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct run *run = userdata;
    if (run->is_published) {
        finish(run, -ETIMEDOUT);
        return 0;
    }
    char limit_text[32];
    fprintf(stderr, "nightlightctl: %s, and no more within %s\n", link_describe(run->link),
            clock_format_span(connect_limit_usec, limit_text, sizeof(limit_text)));
    finish(run, -ENOTCONN);
    return 0;
}

static void run_done(struct run *run)
{
    link_free(run->link);
    sd_event_source_disable_unref(run->timer);
    sd_event_unref(run->event);
}

int exchange_run(const struct exchange *exchange)
{
    _cleanup_(run_done) struct run run = { .exchange = exchange };
    char client_id[64];
    sd_id128_t random;
    struct link_options options = connection_options(exchange->config->broker);
    options.connector.client_id = client_id;
    int r = sd_id128_randomize(&random);
    if (r >= 0) {
        snprintf(client_id, sizeof(client_id), "nightlightctl-%016" PRIx64, random.qwords[0]);
        r = sd_event_new(&run.event);
    }
    if (r >= 0)
        r = sd_event_add_time_relative(run.event, &run.timer, CLOCK_BOOTTIME, connect_limit_usec, 1,
                                       on_timer, &run);
    if (r >= 0)
        r = link_new(run.event, &options, on_event, &run, &run.link);
    if (r < 0) {
        fprintf(stderr, "nightlightctl: %s\n", strerror(-r));
        return r;
    }
    link_start(run.link);
    return sd_event_loop(run.event);
}

/* --- topics ---------------------------------------------------------------------------------- */

static int parse(const char *text, struct topic_template **ret_template)
{
    return topic_parse(text, 1u << TOPIC_ID | 1u << TOPIC_GROUP, ret_template, NULL);
}

static int refuse(const char *name)
{
    fprintf(stderr, "nightlightctl: '%s' is no name; expected 1 to 64 of A-Z a-z 0-9 . _ : @ -\n",
            name);
    return -EINVAL;
}

int exchange_filter(const char *text, const char *id, char **ret_filter)
{
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    if (!topic_valid_value(id, strlen(id)))
        return refuse(id);
    int r = parse(text, &template);
    const struct topic_values values = { .field = { [TOPIC_ID] = id } };
    return r < 0 ? r : topic_filter(template, &values, ret_filter);
}

int exchange_topic(const char *text, const char *id, const char *group, char **ret_topic)
{
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    if (!topic_valid_value(id, strlen(id)))
        return refuse(id);
    if (!topic_valid_value(group, strlen(group)))
        return refuse(group);
    int r = parse(text, &template);
    const struct topic_values values = { .field = { [TOPIC_ID] = id, [TOPIC_GROUP] = group } };
    return r < 0 ? r : topic_expand(template, &values, ret_topic);
}
