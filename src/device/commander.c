// SPDX-License-Identifier: LGPL-2.1-or-later
// Owns the commands that have been begun and not yet answered.
#include "device/commander.h"

#include <string.h>

#include "core/json.h"
#include "device/address.h"
#include "device/streams.h"
#include "util/clock.h"
#include "util/killpoint.h"
#include "util/log.h"

struct item {
    struct wish wish; // first
    struct pending *pending;
    char key[COMMAND_MAX_KEY + 1];
};

/* A command, or an action, from when it is taken until it is answered. */
struct pending {
    struct commander *commander;
    struct pending *next;
    char id[ENVELOPE_MAX_ID + 1];
    struct address to;
    uint64_t expires_wall_usec;
    struct why why; // the first thing that went wrong
    size_t n_open;  // items whose wish has not ended
    size_t n_items;
    struct item items[];
};

struct commander {
    struct uplink *uplink;
    struct actuators *actuators;
    struct journal *journal;
    struct actions *actions;
    struct ratelimit *story;
    struct ratelimit refusals; // warnings
    struct config *config;
    const char *replies_topic;
    struct pending *pending;
    size_t n_pending;
};

static const struct ratelimit refusal_limit = { .interval_usec = 60 * USEC_PER_SEC, .burst = 10 };

static bool wants_reply(const char *id, const struct address *to)
{
    return id[0] || to->topic;
}

/* --- answers --------------------------------------------------------------------------------- */

/* What the actuators of a command are now, as a new JSON object. */
static char *state_of(const struct commander *commander, const struct pending *pending)
{
    char *text = NULL, value[VALUE_TEXT_SIZE * 6 + 3], key[COMMAND_MAX_KEY * 6 + 3];
    size_t size, n = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputc('{', out);
    for (size_t i = 0; i < pending->n_items; i++) {
        const char *name = pending->items[i].key;
        const struct actuator *actuator = actuators_find(commander->actuators, name);
        if (!actuator) // unknown, or gone with a reload
            continue;
        fprintf(out, "%s%s: %s", n++ > 0 ? ", " : "", json_quote(name, key, sizeof(key)),
                value_format_json(actuator_now(actuator), value, sizeof(value)));
    }
    fputc('}', out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

/* A reply as a new string; NULL without memory. */
static char *make_reply(const struct commander *commander, const struct pending *pending,
                        enum reply_status status, const char *reason, const char *readings)
{
    _cleanup_(freep) char *state = state_of(commander, pending);
    const struct reply reply = {
        .id = pending->id,
        .status = status,
        .reason = reason,
        .state = state ? state : "{}",
        .readings = readings,
        .wall_usec = clock_wall_usec(),
    };
    return reply_format(&reply);
}

static void write_down(struct commander *commander, const struct pending *pending,
                       const char *reply)
{
    if (pending->id[0])
        journal_add(commander->journal, pending->id, reply, clock_mono_usec(), clock_wall_usec());
}

/* is_final: it is in the journal, in the same turn of the main loop. */
static void send_reply(struct commander *commander, const struct address *to, const char *payload,
                       bool is_final)
{
    _cleanup_(freep) char *subject = address_subject(to, commander->replies_topic);
    if (subject)
        uplink_publish(
            commander->uplink,
            &(struct outbox_message){ .stream = is_final ? streams_replies : streams_refusals,
                                      .subject = subject,
                                      .payload = payload,
                                      .qos = -1 });
}

/*
 * Answers, and writes down that it was carried out, or never will be. What was rejected is not
 * written down: nothing of it has happened, and by the next time the configuration may know it.
 */
static void answer(struct commander *commander, const struct pending *pending,
                   enum reply_status status, const char *reason, const char *readings)
{
    if (!wants_reply(pending->id, &pending->to))
        return;
    _cleanup_(freep) char *text = make_reply(commander, pending, status, reason, readings);
    if (!text)
        return;
    KILL_POINT("carried-out");
    if (status != REPLY_REJECTED)
        write_down(commander, pending, text);
    send_reply(commander, &pending->to, text, status != REPLY_REJECTED);
}

/* The reply that the next run has for it, should this one not see its end. */
static void write_down_begun(struct commander *commander, const struct pending *pending)
{
    _cleanup_(freep) char *text =
        make_reply(commander, pending, REPLY_FAILED,
                   "the daemon ended before the action did; it is not begun again", NULL);
    if (text)
        write_down(commander, pending, text);
    KILL_POINT("action-begun");
    actions_await(commander->actions, pending,
                  outbox_sync_records(uplink_outbox(commander->uplink)));
}

static void reject(struct commander *commander, const struct pending *pending,
                   const struct mqtt_message *message, const char *reason)
{
    unsigned n_suppressed;
    uplink_count_rejected(commander->uplink, 1);
    if (ratelimit_pass(&commander->refusals, clock_mono_usec(), &n_suppressed))
        log_warning(LOG_FIELDS(LOG_ID(LOG_ID_COMMAND_REJECTED), { "TOPIC", message->topic },
                               { "COMMAND", pending->id[0] ? pending->id : NULL }),
                    "command on %s rejected, nothing is changed: %s%s", message->topic, reason,
                    n_suppressed ? " (and others before it)" : "");
    answer(commander, pending, REPLY_REJECTED, reason, NULL);
}

static void tell_accepted(const struct commander *commander, const struct mqtt_message *message,
                          const char *id)
{
    if (ratelimit_pass(commander->story, clock_mono_usec(), NULL))
        log_info(LOG_FIELDS({ "DEVICE", commander->config->daemon->id },
                            { "TOPIC", message->topic }, { "COMMAND", id[0] ? id : NULL }),
                 "command %.*s", (int)message->payload_size, message->payload);
}

/* --- commands under way ---------------------------------------------------------------------- */

static void pending_free(struct pending *pending)
{
    address_done(&pending->to);
    free(pending);
}
DEFINE_CLEANUP(struct pending *, pending_free)

static void on_ended(struct wish *wish);

static struct pending *new_pending(struct commander *commander, const struct envelope *envelope,
                                   const struct mqtt_message *message)
{
    size_t n = envelope->command ? envelope->command->n_items : 0;
    struct pending *pending = calloc(1, sizeof(*pending) + n * sizeof(pending->items[0]));
    if (!pending)
        return NULL;
    pending->commander = commander;
    memcpy(pending->id, envelope->id, sizeof(pending->id));
    pending->to = address_of(message);
    pending->expires_wall_usec = envelope->expires_wall_usec;
    pending->n_items = n;
    for (size_t i = 0; i < n; i++) {
        struct item *item = &pending->items[i];
        item->wish = (struct wish){ .ended = on_ended,
                                    .expires_wall_usec = pending->expires_wall_usec,
                                    .why = &pending->why };
        item->pending = pending;
        memcpy(item->key, envelope->command->items[i].key, sizeof(item->key));
    }
    return pending;
}

static void keep(struct commander *commander, struct pending *pending)
{
    pending->next = commander->pending;
    commander->pending = pending;
    commander->n_pending++;
}

static bool has_expired(const struct pending *pending)
{
    return clock_wall_usec() > pending->expires_wall_usec;
}

static void forget(struct commander *commander, const struct pending *pending)
{
    struct pending **place = &commander->pending;
    while (*place != pending)
        place = &(*place)->next;
    *place = pending->next;
    commander->n_pending--;
}

static bool any(const struct pending *pending, enum wish_outcome outcome)
{
    for (size_t i = 0; i < pending->n_items; i++) {
        if (pending->items[i].wish.outcome == outcome)
            return true;
    }
    return false;
}

/* The clock's word is all there is: whoever relies on it is told what it is worth. */
static const char *clock_remark(const struct pending *pending)
{
    return pending->expires_wall_usec == USEC_INFINITY || clock_is_right()
               ? ""
               : "by a clock that is not known to be right";
}

static void conclude(struct commander *commander, const struct pending *pending)
{
    if (any(pending, WISH_EXPIRED))
        answer(commander, pending, REPLY_EXPIRED, "$expires passed before it was its turn", NULL);
    else if (any(pending, WISH_FAILED))
        answer(commander, pending, REPLY_FAILED, pending->why.text, NULL);
    else if (any(pending, WISH_SUPERSEDED))
        answer(commander, pending, REPLY_SUPERSEDED, "a newer command came before it was its turn",
               NULL);
    else
        answer(commander, pending, REPLY_DONE, clock_remark(pending), NULL);
}

/* The last of a command's wishes ends it. */
static void on_ended(struct wish *wish)
{
    struct pending *pending = ((struct item *)wish)->pending;
    if (--pending->n_open > 0)
        return;
    forget(pending->commander, pending);
    conclude(pending->commander, pending);
    pending_free(pending);
}

/* An action has come to its end. */
static void on_acted(void *userdata, enum reply_status status, const char *reason,
                     const char *readings)
{
    struct pending *pending = userdata;
    forget(pending->commander, pending);
    answer(pending->commander, pending, status, reason, readings);
    pending_free(pending);
}

static bool is_under_way(const struct commander *commander, const char *id)
{
    for (const struct pending *pending = commander->pending; pending; pending = pending->next) {
        if (strcmp(pending->id, id) == 0)
            return true;
    }
    return false;
}

/* --- taking one ------------------------------------------------------------------------------ */

/* Every key is checked before the first actuator moves. */
static int check_command(const struct commander *commander, const struct envelope *envelope,
                         struct why *why)
{
    for (size_t i = 0; i < envelope->command->n_items; i++) {
        const struct command_item *item = &envelope->command->items[i];
        const struct actuator *actuator = actuators_find(commander->actuators, item->key);
        if (!actuator)
            return why_set(why, ENOENT, "there is no actuator '%s'", item->key);
        const struct actuator_config *config = config_actuator(actuator_section(actuator));
        int r = command_check_item(item, &config->limits, why);
        if (r < 0)
            return r;
        if (envelope->lease_usec > 0 && config->safe.type == VALUE_NONE)
            return why_set(why, EINVAL, "'%s' has no safe state to fall back to after $for",
                           item->key);
    }
    return 0;
}

static bool is_out_of_date(const struct commander *commander, const struct envelope *envelope)
{
    for (size_t i = 0; envelope->seq > 0 && i < envelope->command->n_items; i++) {
        const struct actuator *actuator =
            actuators_find(commander->actuators, envelope->command->items[i].key);
        if (actuators_seq(commander->actuators, actuator) > envelope->seq)
            return true;
    }
    return false;
}

/* Takes over pending. */
static void carry_out(struct commander *commander, const struct envelope *envelope,
                      struct pending *pending)
{
    _cleanup_(pending_freep) struct pending *owned = pending;
    const struct command *command = envelope->command;
    if (is_out_of_date(commander, envelope)) {
        answer(commander, pending, REPLY_SUPERSEDED, "one with a higher $seq came before it", NULL);
        return;
    }
    bool is_awaited = wants_reply(pending->id, &pending->to) || // or it is not to be done too late
                      pending->expires_wall_usec != USEC_INFINITY;
    for (size_t i = 0; i < command->n_items; i++)
        actuators_set(commander->actuators,
                      actuators_find(commander->actuators, command->items[i].key),
                      &command->items[i].value, envelope->lease_usec, envelope->seq,
                      is_awaited ? &pending->items[i].wish : NULL);
    if (!is_awaited)
        return;
    pending->n_open = pending->n_items;
    keep(commander, TAKE_PTR(owned));
}

/* Takes over pending, unless it fails. */
static int begin_action(struct commander *commander, const struct envelope *envelope,
                        struct pending *pending, struct why *why)
{
    const struct actions_waiter waiter = { on_acted, pending };
    int r = actions_begin(commander->actions, commander->config, envelope, &waiter, why);
    if (r < 0)
        return r;
    keep(commander, pending);
    if (r == ACTIONS_ONCE)
        write_down_begun(commander, pending);
    return 0;
}

/* Whether this is one that was taken before; then it is answered, unless the answer is to come. */
static bool is_known(struct commander *commander, const struct pending *pending)
{
    if (!pending->id[0])
        return false;
    if (is_under_way(commander, pending->id)) // what the journal may have is for the next run
        return true;
    const char *known = journal_find(commander->journal, pending->id);
    if (known)
        send_reply(commander, &pending->to, known, true);
    return known;
}

static int check(struct commander *commander, const struct envelope *envelope, struct why *why)
{
    if (commander->n_pending >= COMMANDER_MAX_PENDING)
        return why_set(why, EBUSY, "%d commands are under way already", COMMANDER_MAX_PENDING);
    return envelope->command ? check_command(commander, envelope, why) : 0;
}

void commander_take(struct commander *commander, const struct mqtt_message *message)
{
    _cleanup_(envelope_done) struct envelope envelope;
    struct why why = { "" };
    int r = envelope_parse(message->payload, message->payload_size, &envelope, &why);
    _cleanup_(pending_freep) struct pending *pending = new_pending(commander, &envelope, message);
    if (!pending || is_known(commander, pending))
        return; // without memory as if it had never come
    if (r == 0)
        r = check(commander, &envelope, &why);
    if (r == 0 && has_expired(pending)) {
        answer(commander, pending, REPLY_EXPIRED, clock_remark(pending), NULL);
        return;
    }
    if (r == 0)
        tell_accepted(commander, message, envelope.id);
    if (r == 0 && envelope.command) {
        carry_out(commander, &envelope, TAKE_PTR(pending));
        return;
    }
    if (r == 0)
        r = begin_action(commander, &envelope, pending, &why);
    if (r < 0)
        reject(commander, pending, message, why.text);
    else
        (void)TAKE_PTR(pending);
}

/* --- life ------------------------------------------------------------------------------------ */

int commander_new(struct uplink *uplink, struct actuators *actuators, struct journal *journal,
                  struct actions *actions, struct ratelimit *story,
                  struct commander **ret_commander)
{
    struct commander *commander = calloc(1, sizeof(*commander));
    if (!commander)
        return -ENOMEM;
    *commander = (struct commander){
        .uplink = uplink,
        .actuators = actuators,
        .journal = journal,
        .actions = actions,
        .story = story,
        .refusals = refusal_limit,
    };
    *ret_commander = commander;
    return 0;
}

void commander_configure(struct commander *commander, struct config *config,
                         const char *replies_topic)
{
    commander->config = config;
    commander->replies_topic = replies_topic;
}

void commander_free(struct commander *commander)
{
    if (!commander)
        return;
    while (commander->pending) {
        struct pending *pending = commander->pending;
        commander->pending = pending->next;
        pending_free(pending);
    }
    free(commander);
}
