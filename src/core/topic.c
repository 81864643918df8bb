// SPDX-License-Identifier: LGPL-2.1-or-later
// Topic templates; see topic.h. A template is its levels, each a text or a field. Pure.
#include "core/topic.h"

#include <stdio.h>
#include <string.h>

#include "util/strings.h"

enum { MAX_LEVELS = 32, MAX_VALUE = 64 };

struct level {
    const char *text; // in the template's copy; NULL: a field
    size_t length;
    enum topic_field field;
};

struct topic_template {
    size_t n_levels;
    struct level levels[MAX_LEVELS];
    char text[];
};

static const char *const field_names[TOPIC_FIELDS] = { "id", "group", "sensor", "stream" };

static int parse_field(const char *text, size_t length, unsigned allowed, unsigned *used,
                       enum topic_field *ret_field, struct why *why)
{
    for (size_t i = 0; i < TOPIC_FIELDS; i++) {
        if (strlen(field_names[i]) != length - 2 ||
            strncmp(field_names[i], text + 1, length - 2) != 0)
            continue;
        if (!(allowed & 1u << i))
            return why_set(why, EINVAL, "{%s} has no meaning here", field_names[i]);
        if (*used & 1u << i)
            return why_set(why, EINVAL, "{%s} stands twice", field_names[i]);
        *used |= 1u << i;
        *ret_field = (enum topic_field)i;
        return 0;
    }
    return why_set(why, EINVAL,
                   "'%.*s' is no placeholder; there are {id}, {group}, {sensor}, "
                   "{stream}",
                   (int)length, text);
}

static int parse_level(const char *text, size_t length, unsigned allowed, unsigned *used,
                       struct level *ret_level, struct why *why)
{
    *ret_level = (struct level){ .text = text, .length = length };
    if (length == 0)
        return why_set(why, EINVAL, "a level of the topic is empty");
    if (!memchr(text, '{', length) && !memchr(text, '}', length))
        return 0;
    if (text[0] != '{' || memchr(text, '}', length) != text + length - 1 ||
        memchr(text + 1, '{', length - 1))
        return why_set(why, EINVAL, "a placeholder must be a whole level: '%.*s'", (int)length,
                       text);
    ret_level->text = NULL;
    return parse_field(text, length, allowed, used, &ret_level->field, why);
}

static int check_text(const char *text, struct why *why)
{
    size_t length = strlen(text);
    if (length == 0)
        return why_set(why, EINVAL, "a topic cannot be empty");
    if (length > TOPIC_MAX_LENGTH / 2)
        return why_set(why, EINVAL, "a topic is at most %d bytes", TOPIC_MAX_LENGTH / 2);
    if (!strings_is_utf8(text, length))
        return why_set(why, EINVAL, "a topic must be valid UTF-8");
    for (const char *at = text; *at; at++) {
        const unsigned char *byte = (const unsigned char *)at; // C2 80 is U+0080
        if (byte[0] < 0x20 || byte[0] == 0x7f || (byte[0] == 0xc2 && byte[1] < 0xa0))
            return why_set(why, EINVAL, "a topic cannot hold control characters");
    }
    if (text[strcspn(text, "+#")] != '\0')
        return why_set(why, EINVAL, "'+' and '#' are for filters: write {id} and the like");
    if (text[0] == '$')
        return why_set(why, EINVAL, "topics that begin with '$' are the broker's own");
    return 0;
}

int topic_parse(const char *text, unsigned allowed, struct topic_template **ret_template,
                struct why *why)
{
    int r = check_text(text, why);
    if (r < 0)
        return r;
    _cleanup_(topic_freep) struct topic_template *template =
        calloc(1, sizeof(*template) + strlen(text) + 1);
    if (!template)
        return why_set(why, ENOMEM, "out of memory");
    memcpy(template->text, text, strlen(text) + 1);
    unsigned used = 0;
    for (const char *at = template->text;; at++) {
        size_t length = strcspn(at, "/");
        if (template->n_levels == MAX_LEVELS)
            return why_set(why, EINVAL, "a topic has at most %d levels", MAX_LEVELS);
        r = parse_level(at, length, allowed, &used, &template->levels[template->n_levels++], why);
        if (r < 0)
            return r;
        at += length;
        if (*at == '\0')
            break;
    }
    *ret_template = TAKE_PTR(template);
    return 0;
}

void topic_free(struct topic_template *template)
{
    free(template);
}

bool topic_has(const struct topic_template *template, enum topic_field field)
{
    for (size_t i = 0; i < template->n_levels; i++) {
        if (!template->levels[i].text && template->levels[i].field == field)
            return true;
    }
    return false;
}

static int expand(const struct topic_template *template, const struct topic_values *values,
                  const char *missing, char **ret_topic)
{
    char topic[TOPIC_MAX_LENGTH + 2];
    size_t length = 0;
    for (size_t i = 0; i < template->n_levels; i++) {
        const struct level *level = &template->levels[i];
        const char *text = level->text;
        size_t text_length = level->length;
        if (!text) {
            const char *value = values->field[level->field];
            text = value ? value : missing;
            if (!text || (value && !topic_valid_value(value, strlen(value))))
                return -EINVAL;
            text_length = strlen(text);
        }
        if (length + text_length + 1 > TOPIC_MAX_LENGTH)
            return -EMSGSIZE;
        if (i > 0)
            topic[length++] = '/';
        memcpy(topic + length, text, text_length); // NOLINT(bugprone-not-null-terminated-result)
        length += text_length;
    }
    char *copy = strndup(topic, length);
    if (!copy)
        return -ENOMEM;
    *ret_topic = copy;
    return 0;
}

int topic_expand(const struct topic_template *template, const struct topic_values *values,
                 char **ret_topic)
{
    return expand(template, values, NULL, ret_topic);
}

int topic_filter(const struct topic_template *template, const struct topic_values *values,
                 char **ret_filter)
{
    return expand(template, values, "+", ret_filter);
}

bool topic_match(const struct topic_template *template, const char *topic,
                 struct topic_match *ret_match)
{
    struct topic_match match = { 0 };
    if (topic[0] == '$') // taken by no filter that begins with '+': MQTT 5.0, section 4.7.2
        return false;
    for (size_t i = 0; i < template->n_levels; i++) {
        const struct level *level = &template->levels[i];
        size_t length = strcspn(topic, "/");
        if (level->text) {
            if (length != level->length || memcmp(topic, level->text, length) != 0)
                return false;
        } else {
            if (length == 0)
                return false;
            match.field[level->field] = (struct topic_slice){ topic, length };
        }
        topic += length;
        bool is_last = i + 1 == template->n_levels;
        if (is_last != (*topic == '\0'))
            return false;
        topic += !is_last;
    }
    *ret_match = match;
    return true;
}

bool topic_valid_value(const char *text, size_t length)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-";
    if (length == 0 || length > MAX_VALUE)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\0' || !strchr(allowed, text[i]))
            return false;
    }
    return true;
}
