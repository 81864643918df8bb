// SPDX-License-Identifier: LGPL-2.1-or-later
// A command as it is sent and as it is written down.
#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "server/issuer-internal.h"
#include "util/clock.h"

void body_unref(struct body *body)
{
    if (!body || --body->n_refs > 0)
        return;
    free(body->group);
    free(body->rule);
    free(body->payload);
    command_free(body->command);
    free(body);
}

/* --- on the wire ----------------------------------------------------------------------------- */

/* The envelope goes in front of what the rule says, which stays as it was written. */
static int write_payload(struct body *body)
{
    size_t size;
    char time[CLOCK_RFC3339_SIZE], *text = NULL;
    const char *rest = strchr(body->command->json, '{') + 1; // it has been parsed
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return -ENOMEM;
    fprintf(out, "{\"$id\": \"%s\", ", body->id);
    if (body->seq > 0)
        fprintf(out, "\"$seq\": %" PRIu64 ", ", body->seq);
    if (body->expires_wall_usec != USEC_INFINITY)
        fprintf(out, "\"$expires\": \"%s\", ", clock_format_rfc3339(body->expires_wall_usec, time));
    if (body->lease_usec != USEC_INFINITY)
        fprintf(out, "\"$for\": \"%llums\", ",
                (unsigned long long)(body->lease_usec / USEC_PER_MSEC));
    fputs(rest, out);
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    body->payload = text;
    return 0;
}

/* Takes over command. */
static int complete(struct body *body, const char *group, const char *rule, struct command *command)
{
    body->command = command;
    body->rule = strdup(rule);
    body->group = group ? strdup(group) : NULL;
    if (!body->rule || (group && !body->group))
        return -ENOMEM;
    return write_payload(body);
}

static int copy_command(const struct command *command, struct command **ret_command)
{
    return command_parse(command->json, strlen(command->json), ret_command, NULL);
}

int body_new(const struct issuer_order *order, uint64_t seed, uint64_t number, uint64_t seq,
             uint64_t now_wall_usec, struct body **ret_body)
{
    struct command *command;
    _cleanup_(body_unrefp) struct body *body = calloc(1, sizeof(*body));
    if (!body)
        return -ENOMEM;
    body->n_refs = 1;
    body->number = number;
    body->seq = seq;
    body->is_ordered = order->is_ordered;
    body->qos = order->qos;
    body->lease_usec = order->lease_usec;
    body->expires_wall_usec =
        order->expires_usec == USEC_INFINITY ? USEC_INFINITY : now_wall_usec + order->expires_usec;
    snprintf(body->id, sizeof(body->id), "%016" PRIx64 "-%" PRIu64, seed, number);
    int r = copy_command(order->command, &command);
    if (r == 0)
        r = complete(body, order->group, order->rule, command);
    if (r < 0)
        return r;
    *ret_body = TAKE_PTR(body);
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

bool body_overlaps(const struct body *a, const struct command *b)
{
    for (size_t i = 0; i < a->command->n_items; i++) {
        if (sets(b, a->command->items[i].key))
            return true;
    }
    return false;
}

int body_remainder(const struct body *a, const struct command *b, struct command **ret_command)
{
    char key[COMMAND_MAX_KEY * 6 + 3], value[VALUE_TEXT_SIZE * 6 + 3];
    _cleanup_(freep) char *text = NULL;
    size_t size, n = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return -ENOMEM;
    for (size_t i = 0; i < a->command->n_items; i++) {
        const struct command_item *item = &a->command->items[i];
        if (!sets(b, item->key))
            fprintf(out, "%s%s: %s", n++ > 0 ? ", " : "{", json_quote(item->key, key, sizeof(key)),
                    value_format_json(&item->value, value, sizeof(value)));
    }
    fputc('}', out);
    if (fclose(out) != 0)
        return -ENOMEM;
    return n > 0 ? command_parse(text, strlen(text), ret_command, NULL) : -ENOENT;
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

char *body_format(const struct body *body, const char *device, const struct roll_head *head)
{
    _cleanup_(json_object_putp) struct json_object *object = json_object_new_object();
    if (!object)
        return NULL;
    if (device) {
        add_text(object, "device", device);
    } else {
        add_count(object, "members", head->n_members);
        add_count(object, "done", head->n_done);
        add_count(object, "sent", head->is_sent);
    }
    if (body->group)
        add_text(object, "group", body->group);
    add_text(object, "rule", body->rule);
    add_text(object, "delivery", body->is_ordered ? "ordered" : "latest");
    add_count(object, "number", body->number);
    add_count(object, "seq", body->seq);
    add_count(object, "qos", (uint64_t)body->qos);
    add_count(object, "expires", body->expires_wall_usec);
    add_count(object, "for", body->lease_usec);
    add_text(object, "command", body->command->json);
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

static int take_members(struct body *body, struct json_object *object)
{
    struct command *command;
    const char *rule = json_text_of(object, "rule"), *text = json_text_of(object, "command");
    const char *delivery = json_text_of(object, "delivery");
    body->number = count_of(object, "number", 0);
    body->seq = count_of(object, "seq", 0);
    body->qos = (int)count_of(object, "qos", 1);
    body->expires_wall_usec = count_of(object, "expires", USEC_INFINITY);
    body->lease_usec = count_of(object, "for", USEC_INFINITY);
    if (!rule || !text || !delivery || body->number == 0 || body->qos > 2)
        return -EBADMSG;
    body->is_ordered = strcmp(delivery, "ordered") == 0;
    int r = command_parse(text, strlen(text), &command, NULL);
    return r < 0 ? r : complete(body, json_text_of(object, "group"), rule, command);
}

int body_parse(const char *key, const char *value, struct body **ret_body, char **ret_device,
               struct roll_head *ret_head)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    _cleanup_(body_unrefp) struct body *body = calloc(1, sizeof(*body));
    if (!body)
        return -ENOMEM;
    body->n_refs = 1;
    if (strlen(key) >= sizeof(body->id))
        return -EBADMSG;
    snprintf(body->id, sizeof(body->id), "%s", key);
    int r = json_parse_object(value, strlen(value), &object, NULL);
    if (r == 0)
        r = take_members(body, object);
    if (r < 0)
        return r;
    const char *device = json_text_of(object, "device");
    const char *receiver = device ? device : body->group;
    if (!receiver || !topic_valid_value(receiver, strlen(receiver)))
        return -EBADMSG;
    char *copy = device ? strdup(device) : NULL;
    if (device && !copy)
        return -ENOMEM;
    *ret_head = (struct roll_head){
        .is_sent = count_of(object, "sent", 0) > 0,
        .n_members = count_of(object, "members", 0),
        .n_done = count_of(object, "done", 0),
    };
    *ret_device = copy;
    *ret_body = TAKE_PTR(body);
    return 0;
}
