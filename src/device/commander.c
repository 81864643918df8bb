// SPDX-License-Identifier: LGPL-2.1-or-later
// Owns the commands that have been begun and not yet answered.
#include "device/commander.h"

#include <string.h>

#include "core/json.h"
#include "core/topic.h"
#include "util/clock.h"
#include "util/killpoint.h"

struct item {
    char key[COMMAND_MAX_KEY + 1];
    uint64_t ticket;
    enum actuator_outcome outcome;
};

/* A command, or an action, from when it is taken until it is answered. */
struct pending {
    struct pending *next;
    char id[ENVELOPE_MAX_ID + 1];
    struct commander_address to;
    uint64_t expires_wall_usec;
    uint64_t token; // of an action; 0: a command
    bool expired;   // an actuator did not get its turn in time
    struct why why; // the first thing that went wrong
    size_t n_items;
    struct item items[];
};

struct commander {
    struct actuators *actuators;
    struct journal *journal;
    const struct commander_handlers *handlers;
    void *userdata;
    struct pending *pending;
    size_t n_pending;
    uint64_t last_token;
};

static void address_done(struct commander_address *address)
{
    free(address->topic);
    free(address->correlation);
}

static bool is_topic(const char *text)
{
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    return topic_parse(text, 0, &template, NULL) == 0;
}

static struct commander_address address_of(const struct mqtt_message *message)
{
    struct commander_address address = { 0 };
    if (!message->response_topic || !is_topic(message->response_topic) ||
        message->correlation_size > COMMANDER_MAX_CORRELATION)
        return address;
    address.topic = strdup(message->response_topic);
    if (message->correlation_size == 0 || !address.topic)
        return address;
    address.correlation = malloc(message->correlation_size);
    if (!address.correlation)
        return address;
    address.correlation_size = message->correlation_size;
    memcpy(address.correlation, message->correlation, message->correlation_size);
    return address;
}

static bool wants_reply(const char *id, const struct commander_address *to)
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
    commander->handlers->reply(commander->userdata, &pending->to, text, status != REPLY_REJECTED);
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
    commander->handlers->begun(commander->userdata, pending->token);
}

static void reject(struct commander *commander, const struct pending *pending,
                   const struct mqtt_message *message, const char *reason)
{
    commander->handlers->rejected(commander->userdata, message, pending->id, reason);
    answer(commander, pending, REPLY_REJECTED, reason, NULL);
}

/* --- commands under way ---------------------------------------------------------------------- */

static void pending_free(struct pending *pending)
{
    address_done(&pending->to);
    free(pending);
}
DEFINE_CLEANUP(struct pending *, pending_free)

static struct pending *new_pending(const struct envelope *envelope,
                                   const struct mqtt_message *message)
{
    size_t n = envelope->command ? envelope->command->n_items : 0;
    struct pending *pending = calloc(1, sizeof(*pending) + n * sizeof(pending->items[0]));
    if (!pending)
        return NULL;
    memcpy(pending->id, envelope->id, sizeof(pending->id));
    pending->to = address_of(message);
    pending->expires_wall_usec = envelope->expires_wall_usec;
    pending->n_items = n;
    for (size_t i = 0; i < n; i++)
        memcpy(pending->items[i].key, envelope->command->items[i].key,
               sizeof(pending->items[i].key));
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

static void look(struct commander *commander, struct pending *pending, struct item *item)
{
    struct actuator *actuator = actuators_find(commander->actuators, item->key);
    if (!actuator) { // a reload took it away
        item->outcome = ACTUATOR_SUPERSEDED;
        return;
    }
    item->outcome = actuator_outcome(actuator, item->ticket);
    bool waits = item->outcome == ACTUATOR_PENDING && !actuator_is_moving(actuator);
    if (waits && has_expired(pending)) {
        pending->expired = true;
        item->outcome = ACTUATOR_SUPERSEDED;
        actuators_drop(commander->actuators, actuator, item->ticket);
    }
    if (item->outcome != ACTUATOR_FAILED)
        return;
    if (!pending->why.text[0])
        why_set(&pending->why, EIO, "%s: %s", item->key, actuator_failure(actuator));
    if (pending->expires_wall_usec != USEC_INFINITY) // it would be tried again when it is too late
        actuators_drop(commander->actuators, actuator, item->ticket);
}

static bool any(const struct pending *pending, enum actuator_outcome outcome)
{
    for (size_t i = 0; i < pending->n_items; i++) {
        if (pending->items[i].outcome == outcome)
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
    if (pending->expired)
        answer(commander, pending, REPLY_EXPIRED, "$expires passed before it was its turn", NULL);
    else if (any(pending, ACTUATOR_FAILED))
        answer(commander, pending, REPLY_FAILED, pending->why.text, NULL);
    else if (any(pending, ACTUATOR_SUPERSEDED))
        answer(commander, pending, REPLY_SUPERSEDED, "a newer command came before it was its turn",
               NULL);
    else
        answer(commander, pending, REPLY_DONE, clock_remark(pending), NULL);
}

void commander_settled(struct commander *commander, struct actuator *actuator)
{
    for (struct pending **place = &commander->pending; *place;) {
        struct pending *pending = *place;
        for (size_t i = 0; i < pending->n_items; i++) {
            struct item *item = &pending->items[i];
            if (item->outcome == ACTUATOR_PENDING &&
                strcmp(item->key, actuator_name(actuator)) == 0)
                look(commander, pending, item);
        }
        if (pending->token > 0 || any(pending, ACTUATOR_PENDING)) {
            place = &pending->next;
            continue;
        }
        *place = pending->next;
        commander->n_pending--;
        conclude(commander, pending);
        pending_free(pending);
    }
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

static void apply(struct commander *commander, const struct envelope *envelope,
                  struct pending *pending)
{
    const struct command *command = envelope->command;
    actuators_begin(commander->actuators);
    for (size_t i = 0; i < command->n_items; i++)
        pending->items[i].ticket = actuators_set(
            commander->actuators, actuators_find(commander->actuators, command->items[i].key),
            &command->items[i].value, envelope->lease_usec, envelope->seq);
    for (size_t i = 0; i < command->n_items; i++) // what does not sleep is there already
        look(commander, pending, &pending->items[i]);
    actuators_end(commander->actuators);
}

/* Takes over pending. */
static void carry_out(struct commander *commander, const struct envelope *envelope,
                      struct pending *pending)
{
    _cleanup_(pending_freep) struct pending *owned = pending;
    if (is_out_of_date(commander, envelope)) {
        answer(commander, pending, REPLY_SUPERSEDED, "one with a higher $seq came before it", NULL);
        return;
    }
    apply(commander, envelope, pending);
    bool is_watched =
        wants_reply(pending->id, &pending->to) || pending->expires_wall_usec != USEC_INFINITY;
    if (!any(pending, ACTUATOR_PENDING))
        conclude(commander, pending);
    else if (is_watched)
        keep(commander, TAKE_PTR(owned));
}

/* Takes over pending. */
static int begin_action(struct commander *commander, const struct envelope *envelope,
                        struct pending *pending, struct why *why)
{
    pending->token = ++commander->last_token;
    int r = commander->handlers->act(commander->userdata, envelope, pending->token, why);
    if (r < 0)
        return r;
    keep(commander, pending);
    if (r == COMMANDER_ONCE)
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
        commander->handlers->reply(commander->userdata, &pending->to, known, true);
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
    _cleanup_(pending_freep) struct pending *pending = new_pending(&envelope, message);
    if (!pending || is_known(commander, pending))
        return; // without memory as if it had never come
    if (r == 0)
        r = check(commander, &envelope, &why);
    if (r == 0 && has_expired(pending)) {
        answer(commander, pending, REPLY_EXPIRED, clock_remark(pending), NULL);
        return;
    }
    if (r == 0)
        commander->handlers->accepted(commander->userdata, message, envelope.id);
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

void commander_acted(struct commander *commander, uint64_t token, enum reply_status status,
                     const char *reason, const char *readings)
{
    for (struct pending **place = &commander->pending; *place; place = &(*place)->next) {
        _cleanup_(pending_freep) struct pending *pending = *place;
        if (pending->token != token) {
            (void)TAKE_PTR(pending);
            continue;
        }
        *place = pending->next;
        commander->n_pending--;
        answer(commander, pending, status, reason, readings);
        return;
    }
}

/* --- life ------------------------------------------------------------------------------------ */

int commander_new(struct actuators *actuators, struct journal *journal,
                  const struct commander_handlers *handlers, void *userdata,
                  struct commander **ret_commander)
{
    _cleanup_(commander_freep) struct commander *commander = calloc(1, sizeof(*commander));
    if (!commander)
        return -ENOMEM;
    *commander = (struct commander){
        .actuators = actuators,
        .journal = journal,
        .handlers = handlers,
        .userdata = userdata,
    };
    *ret_commander = TAKE_PTR(commander);
    return 0;
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
