// SPDX-License-Identifier: LGPL-2.1-or-later
// What a command says, on the wire and on disk; see letter.h.
#include "server/letter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/topic.h"
#include "util/clock.h"

const char *const letter_end_names[LETTER_ENDS] = {
    [LETTER_DONE] = "done",
    [LETTER_REJECTED] = "rejected",
    [LETTER_FAILED] = "failed",
    [LETTER_EXPIRED] = "expired",
    [LETTER_SUPERSEDED] = "superseded",
    [LETTER_UNANSWERED] = "unanswered",
};

void letter_unref(struct letter *letter)
{
    if (!letter || --letter->n_refs > 0)
        return;
    free(letter->group);
    free(letter->rule);
    free(letter->payload);
    command_free(letter->command);
    free(letter);
}

/* --- on the wire ----------------------------------------------------------------------------- */

/* The envelope goes in front of what the rule says, which stays as it was written. */
static int write_payload(struct letter *letter)
{
    size_t size;
    char time[CLOCK_RFC3339_SIZE], *text = NULL;
    const char *rest = strchr(letter->command->json, '{') + 1; // it has been parsed
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return -ENOMEM;
    fprintf(out, "{\"$id\": \"%s\", ", letter->id);
    if (letter->seq > 0)
        fprintf(out, "\"$seq\": %" PRIu64 ", ", letter->seq);
    if (letter->expires_wall_usec != USEC_INFINITY)
        fprintf(out, "\"$expires\": \"%s\", ",
                clock_format_rfc3339(letter->expires_wall_usec, time));
    if (letter->lease_usec != USEC_INFINITY)
        fprintf(out, "\"$for\": \"%llums\", ",
                (unsigned long long)(letter->lease_usec / USEC_PER_MSEC));
    fputs(rest, out);
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    letter->payload = text;
    return 0;
}

/* Takes over command. */
static int complete(struct letter *letter, const char *group, const char *rule,
                    struct command *command)
{
    letter->command = command;
    letter->rule = strdup(rule);
    letter->group = group ? strdup(group) : NULL;
    if (!letter->rule || (group && !letter->group))
        return -ENOMEM;
    return write_payload(letter);
}

static int copy_command(const struct command *command, struct command **ret_command)
{
    return command_parse(command->json, strlen(command->json), ret_command, NULL);
}

int letter_new(const struct letter_order *order, uint64_t seed, uint64_t number, uint64_t seq,
               uint64_t now_wall_usec, struct letter **ret_letter)
{
    struct command *command;
    _cleanup_(letter_unrefp) struct letter *letter = calloc(1, sizeof(*letter));
    if (!letter)
        return -ENOMEM;
    letter->n_refs = 1;
    letter->number = number;
    letter->seq = seq;
    letter->is_ordered = order->is_ordered;
    letter->qos = order->qos;
    letter->lease_usec = order->lease_usec;
    letter->expires_wall_usec =
        order->expires_usec == USEC_INFINITY ? USEC_INFINITY : now_wall_usec + order->expires_usec;
    snprintf(letter->id, sizeof(letter->id), "%016" PRIx64 "-%" PRIu64, seed, number);
    int r = copy_command(order->command, &command);
    if (r == 0)
        r = complete(letter, order->group, order->rule, command);
    if (r < 0)
        return r;
    *ret_letter = TAKE_PTR(letter);
    return 0;
}

/* --- keys ------------------------------------------------------------------------------------ */

static bool sets(const struct command *command, const char *key)
{
    for (size_t i = 0; i < command->n_items; i++) {
        if (strcmp(command->items[i].key, key) == 0)
            return true;
    }
    return false;
}

bool letter_overlaps(const struct letter *letter, const struct command *command)
{
    for (size_t i = 0; i < letter->command->n_items; i++) {
        if (sets(command, letter->command->items[i].key))
            return true;
    }
    return false;
}

int letter_remainder(const struct letter *letter, const struct command *command,
                     struct command **ret_command)
{
    char key[COMMAND_MAX_KEY * 6 + 3], value[VALUE_TEXT_SIZE * 6 + 3];
    _cleanup_(freep) char *text = NULL;
    size_t size, n = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return -ENOMEM;
    for (size_t i = 0; i < letter->command->n_items; i++) {
        const struct command_item *item = &letter->command->items[i];
        if (!sets(command, item->key))
            fprintf(out, "%s%s: %s", n++ > 0 ? ", " : "{", json_quote(item->key, key, sizeof(key)),
                    value_format_json(&item->value, value, sizeof(value)));
    }
    fputc('}', out);
    if (fclose(out) != 0)
        return -ENOMEM;
    return n > 0 ? command_parse(text, strlen(text), ret_command, NULL) : -ENOENT;
}

struct letter_order letter_reorder(const struct letter *letter, const char *device,
                                   const struct command *rest, const struct ruleset_now *now)
{
    uint64_t expires_wall_usec = letter->expires_wall_usec;
    return (struct letter_order){
        .device = device,
        .group = letter->group,
        .rule = letter->rule,
        .command = rest,
        .qos = letter->qos,
        .expires_usec = expires_wall_usec == USEC_INFINITY   ? USEC_INFINITY
                        : expires_wall_usec > now->wall_usec ? expires_wall_usec - now->wall_usec
                                                             : 0,
        .lease_usec = letter->lease_usec,
        .has_seq = letter->seq > 0,
    };
}

bool letter_repeats(const struct letter *letter, const struct letter_order *order)
{
    return !letter->is_ordered && !order->is_ordered && strcmp(letter->rule, order->rule) == 0 &&
           strcmp(letter->command->json, order->command->json) == 0;
}

uint64_t letter_expires_mono_usec(const struct letter *letter, const struct ruleset_now *now)
{
    if (letter->expires_wall_usec == USEC_INFINITY)
        return USEC_INFINITY;
    uint64_t left_usec =
        letter->expires_wall_usec > now->wall_usec ? letter->expires_wall_usec - now->wall_usec : 0;
    return now->mono_usec + left_usec;
}

/* --- on disk --------------------------------------------------------------------------------- */

static void add_text(struct json_object *object, const char *key, const char *text)
{
    json_object_object_add(object, key, json_object_new_string(text));
}

static void add_count(struct json_object *object, const char *key, uint64_t count)
{
    if (count != USEC_INFINITY)
        json_object_object_add(object, key, json_object_new_uint64(count));
}

char *letter_format(const struct letter *letter, const char *device,
                    const struct letter_tally *tally)
{
    _cleanup_(json_object_putp) struct json_object *object = json_object_new_object();
    if (!object)
        return NULL;
    if (device) {
        add_text(object, "device", device);
    } else {
        add_count(object, "members", tally->n_members);
        add_count(object, "done", tally->n_done);
        add_count(object, "sent", letter->is_sent);
    }
    if (letter->group)
        add_text(object, "group", letter->group);
    add_text(object, "rule", letter->rule);
    add_text(object, "delivery", letter->is_ordered ? "ordered" : "latest");
    add_count(object, "number", letter->number);
    add_count(object, "seq", letter->seq);
    add_count(object, "qos", (uint64_t)letter->qos);
    add_count(object, "expires", letter->expires_wall_usec);
    add_count(object, "for", letter->lease_usec);
    add_text(object, "command", letter->command->json);
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    return text ? strdup(text) : NULL;
}

static uint64_t count_of(struct json_object *object, const char *key, uint64_t otherwise)
{
    struct json_object *member;
    if (!json_object_object_get_ex(object, key, &member) ||
        !json_object_is_type(member, json_type_int) || json_object_get_int64(member) < 0)
        return otherwise;
    return json_object_get_uint64(member);
}

static int take_members(struct letter *letter, struct json_object *object)
{
    struct command *command;
    const char *rule = json_text_of(object, "rule"), *text = json_text_of(object, "command");
    const char *delivery = json_text_of(object, "delivery");
    letter->number = count_of(object, "number", 0);
    letter->seq = count_of(object, "seq", 0);
    letter->qos = (int)count_of(object, "qos", 1);
    letter->expires_wall_usec = count_of(object, "expires", USEC_INFINITY);
    letter->lease_usec = count_of(object, "for", USEC_INFINITY);
    letter->is_sent = count_of(object, "sent", 0) > 0;
    if (!rule || !text || !delivery || letter->number == 0 || letter->qos > 2)
        return -EBADMSG;
    letter->is_ordered = strcmp(delivery, "ordered") == 0;
    int r = command_parse(text, strlen(text), &command, NULL);
    return r < 0 ? r : complete(letter, json_text_of(object, "group"), rule, command);
}

int letter_parse(const char *id, const char *record, struct letter **ret_letter, char **ret_device,
                 struct letter_tally *ret_tally)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    _cleanup_(letter_unrefp) struct letter *letter = calloc(1, sizeof(*letter));
    if (!letter)
        return -ENOMEM;
    letter->n_refs = 1;
    if (strlen(id) >= sizeof(letter->id))
        return -EBADMSG;
    snprintf(letter->id, sizeof(letter->id), "%s", id);
    int r = json_parse_object(record, strlen(record), &object, NULL);
    if (r == 0)
        r = take_members(letter, object);
    if (r < 0)
        return r;
    const char *device = json_text_of(object, "device");
    const char *receiver = device ? device : letter->group;
    if (!receiver || !topic_valid_value(receiver, strlen(receiver)))
        return -EBADMSG;
    char *copy = device ? strdup(device) : NULL;
    if (device && !copy)
        return -ENOMEM;
    *ret_tally = (struct letter_tally){
        .n_members = count_of(object, "members", 0),
        .n_done = count_of(object, "done", 0),
    };
    *ret_device = copy;
    *ret_letter = TAKE_PTR(letter);
    return 0;
}
