// SPDX-License-Identifier: LGPL-2.1-or-later
// Commands from a peer or the configuration; see command.h. Pure.
#include "core/command.h"

#include <string.h>

#include "core/json.h"

void command_free(struct command *command)
{
    if (!command)
        return;
    free(command->json);
    free(command);
}

static int take_string(const char *key, struct json_object *member, struct value *ret_value,
                       struct why *why)
{
    const char *text = json_object_get_string(member);
    size_t length = (size_t)json_object_get_string_len(member);
    if (strlen(text) != length)
        return why_set(why, EBADMSG, "'%s': the text holds a NUL", key);
    if (length >= VALUE_TEXT_SIZE)
        return why_set(why, EMSGSIZE, "'%s': a text is at most %d bytes", key, VALUE_TEXT_SIZE - 1);
    ret_value->type = VALUE_STRING;
    memcpy(ret_value->string, text, length + 1);
    return 0;
}

int command_take_value(const char *key, struct json_object *member, struct value *ret_value,
                       struct why *why)
{
    switch (json_object_get_type(member)) {
    case json_type_boolean:
        *ret_value =
            (struct value){ .type = VALUE_BOOL, .boolean = json_object_get_boolean(member) };
        return 0;
    case json_type_int:
    case json_type_double:
        *ret_value =
            (struct value){ .type = VALUE_NUMBER, .number = json_object_get_double(member) };
        return 0;
    case json_type_string:
        return take_string(key, member, ret_value, why);
    default:
        return why_set(why, EBADMSG, "'%s' is neither a boolean, a number nor a string", key);
    }
}

static int take_item(const char *key, struct json_object *member, struct command_item *ret_item,
                     struct why *why)
{
    size_t length = strlen(key);
    if (length == 0)
        return why_set(why, EBADMSG, "a key is empty");
    if (length > COMMAND_MAX_KEY)
        return why_set(why, EMSGSIZE, "a key is longer than %d bytes", COMMAND_MAX_KEY);
    memcpy(ret_item->key, key, length + 1);
    return command_take_value(key, member, &ret_item->value, why);
}

int command_from_object(struct json_object *object, const char *bytes, size_t length,
                        struct command **ret_command, struct why *why)
{
    size_t n_items = 0;
    json_object_object_foreach(object, name, ignored)
    {
        (void)ignored;
        n_items += name[0] != '$';
    }
    if (n_items == 0)
        return why_set(why, EBADMSG, "there is no key in it");
    if (n_items > COMMAND_MAX_ITEMS)
        return why_set(why, EMSGSIZE, "%zu keys, at most %d are read", n_items, COMMAND_MAX_ITEMS);
    _cleanup_(command_freep) struct command *command =
        calloc(1, sizeof(*command) + n_items * sizeof(command->items[0]));
    if (!command)
        return why_set(why, ENOMEM, "out of memory");
    json_object_object_foreach(object, key, member)
    {
        if (key[0] == '$')
            continue;
        int r = take_item(key, member, &command->items[command->n_items], why);
        if (r < 0)
            return r;
        command->n_items++;
    }
    command->json = strndup(bytes, length); // with its digits and spaces, a line of the file
    if (!command->json)
        return why_set(why, ENOMEM, "out of memory");
    *ret_command = TAKE_PTR(command);
    return 0;
}

int command_parse(const char *bytes, size_t length, struct command **ret_command, struct why *why)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    int r = json_parse_object(bytes, length, &object, why);
    if (r < 0)
        return r;
    json_object_object_foreach(object, key, ignored)
    {
        (void)ignored;
        if (key[0] == '$')
            return why_set(why, EOPNOTSUPP, "'%.80s': keys that begin with '$' are for messages",
                           key);
    }
    return command_from_object(object, bytes, length, ret_command, why);
}

int command_check_item(const struct command_item *item, const struct command_limits *limits,
                       struct why *why)
{
    const struct value *value = &item->value;
    if (value->type != limits->type)
        return why_set(why, EINVAL, "'%s' takes a %s, this is a %s", item->key,
                       value_type_name(limits->type), value_type_name(value->type));
    if (value->type == VALUE_NUMBER &&
        !(value->number >= limits->min && value->number <= limits->max))
        return why_set(why, ERANGE, "'%s' takes %g to %g, this is %.15g", item->key, limits->min,
                       limits->max, value->number);
    return 0;
}

static bool is_value(const struct value *value, struct json_object *member)
{
    enum json_type type = json_object_get_type(member);
    switch (value->type) {
    case VALUE_BOOL:
        return type == json_type_boolean && json_object_get_boolean(member) == value->boolean;
    case VALUE_NUMBER:
        return (type == json_type_int || type == json_type_double) &&
               json_object_get_double(member) == value->number;
    case VALUE_STRING:
        return type == json_type_string &&
               strcmp(json_object_get_string(member), value->string) == 0;
    default:
        return false;
    }
}

bool command_is_said_by(const struct command *command, struct json_object *object)
{
    size_t n_items = 0;
    struct json_object *member;
    json_object_object_foreach(object, key, ignored)
    {
        (void)ignored;
        n_items += key[0] != '$';
    }
    if (command->n_items != n_items)
        return false;
    for (size_t i = 0; i < n_items; i++) {
        if (!json_object_object_get_ex(object, command->items[i].key, &member) ||
            !is_value(&command->items[i].value, member))
            return false;
    }
    return true;
}

bool command_is_covered_by(const struct command *command, struct json_object *object)
{
    struct json_object *member;
    for (size_t i = 0; i < command->n_items; i++) {
        if (!json_object_object_get_ex(object, command->items[i].key, &member))
            return false;
    }
    return true;
}
