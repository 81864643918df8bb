// SPDX-License-Identifier: LGPL-2.1-or-later
// Topics of the server: what to subscribe to and what a topic that comes in means. Owns the parsed
// templates; no I/O.
#include "server/intake.h"

#include <string.h>

#include "util/strings.h"

enum { STATUS, REPLIES, COMMANDS, GROUP_COMMANDS, STATE, N_SINGLE };

struct intake {
    struct config *config;
    struct topic_template *single[N_SINGLE];
    size_t n_telemetry; // the telemetry templates, those of the streams too, each once
    struct topic_template **telemetry;
    bool any_pattern; // a device pattern with a wildcard
};

static const unsigned all_fields = (1u << TOPIC_FIELDS) - 1;

static bool has_wildcard(const char *pattern)
{
    return strpbrk(pattern, "*?") != NULL;
}

static int add_telemetry(struct intake *intake, const char *text)
{
    int r = topic_parse(text, all_fields, &intake->telemetry[intake->n_telemetry], NULL);
    if (r >= 0)
        intake->n_telemetry++;
    return r;
}

static int parse_all(struct intake *intake)
{
    const struct topics_config *topics = intake->config->topics;
    const struct config_section *section;
    size_t n_streams = config_count(intake->config, "stream");
    intake->telemetry = calloc(n_streams + 2, sizeof(struct topic_template *));
    if (!intake->telemetry)
        return -ENOMEM;
    const char *const texts[N_SINGLE] = {
        [STATUS] = topics->status,     [REPLIES] = topics->replies,
        [COMMANDS] = topics->commands, [GROUP_COMMANDS] = topics->group_commands,
        [STATE] = topics->state,
    };
    int r = 0;
    for (size_t i = 0; r >= 0 && i < N_SINGLE; i++)
        r = topic_parse(texts[i], all_fields, &intake->single[i], NULL);
    if (r >= 0)
        r = add_telemetry(intake, topics->telemetry);
    if (r >= 0 && topics->backlog)
        r = add_telemetry(intake, topics->backlog);
    for (size_t i = 0; r >= 0 && (section = config_nth(intake->config, "stream", i)); i++) {
        const char *topic = config_stream(section)->topic;
        if (topic && strcmp(topic, topics->telemetry) != 0)
            r = add_telemetry(intake, topic);
    }
    return r;
}

int intake_new(struct config *config, struct intake **ret_intake)
{
    _cleanup_(intake_freep) struct intake *intake = calloc(1, sizeof(*intake));
    if (!intake)
        return -ENOMEM;
    intake->config = config_ref(config);
    for (size_t i = 0; config->server->devices[i]; i++) // never NULL: it has a default
        intake->any_pattern |= has_wildcard(config->server->devices[i]);
    int r = parse_all(intake);
    if (r < 0)
        return r;
    *ret_intake = TAKE_PTR(intake);
    return 0;
}

void intake_free(struct intake *intake)
{
    if (!intake)
        return;
    for (size_t i = 0; i < N_SINGLE; i++)
        topic_free(intake->single[i]);
    for (size_t i = 0; i < intake->n_telemetry; i++)
        topic_free(intake->telemetry[i]);
    free(intake->telemetry);
    config_unref(intake->config);
    free(intake);
}

/* Adds to filters. share: the name of a shared subscription (MQTT 5.0, section 4.8.2), or NULL. */
static int add_filter(const struct topic_template *template, const char *id, const char *share,
                      char ***filters)
{
    _cleanup_(freep) char *filter = NULL, *shared = NULL;
    const struct topic_values values = { .field = { [TOPIC_ID] = id } };
    size_t n = strings_count(*filters);
    int r = topic_filter(template, &values, &filter);
    if (r < 0)
        return r == -ENOMEM ? r : 0; // no device can be called so
    if (share && asprintf(&shared, "$share/%s/%s", share, filter) < 0) {
        shared = NULL;
        return -ENOMEM;
    }
    char **all = reallocarray(*filters, n + 2, sizeof(char *));
    if (!all)
        return -ENOMEM;
    all[n] = share ? TAKE_PTR(shared) : TAKE_PTR(filter);
    all[n + 1] = NULL;
    *filters = all;
    return 0;
}

static int add_filters(const struct intake *intake, const char *id, char ***filters)
{
    const char *share = intake->config->server->share;
    int r = add_filter(intake->single[STATUS], id, NULL, filters);
    if (r == 0)
        r = add_filter(intake->single[REPLIES], id, NULL, filters);
    if (r == 0 && share)
        r = add_filter(intake->single[COMMANDS], id, NULL, filters);
    for (size_t k = 0; r == 0 && k < intake->n_telemetry; k++)
        r = add_filter(intake->telemetry[k], id, share, filters);
    return r;
}

int intake_filters(const struct intake *intake, char ***ret_filters)
{
    char *const everyone[] = { NULL, NULL };
    // One filter for all as soon as one pattern needs it: the others would only come twice.
    char *const *ids = intake->any_pattern ? everyone : intake->config->server->devices;
    _cleanup_(strings_freep) char **filters = calloc(1, sizeof(char *));
    int r = filters ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && (i == 0 || ids[i]); i++)
        r = add_filters(intake, ids[i], &filters);
    if (r == 0)
        *ret_filters = TAKE_PTR(filters);
    return r;
}

static bool is_ours(const struct intake *intake, struct topic_slice slice)
{
    char id[128];
    if (!slice.bytes || slice.length >= sizeof(id) || !topic_valid_value(slice.bytes, slice.length))
        return false;
    memcpy(id, slice.bytes, slice.length);
    id[slice.length] = '\0';
    return strings_match_any(intake->config->server->devices, id);
}

/* "{id}/{sensor}" would take "lamp/commands" and "lamp/state" for telemetry as well. */
static bool is_of_another_kind(const struct intake *intake, const char *topic,
                               const struct topic_match *match)
{
    struct topic_match ignored;
    return (match->field[TOPIC_SENSOR].bytes || match->field[TOPIC_STREAM].bytes) &&
           (topic_match(intake->single[COMMANDS], topic, &ignored) ||
            topic_match(intake->single[STATE], topic, &ignored));
}

enum intake_kind intake_classify(const struct intake *intake, const char *topic,
                                 struct topic_slice *ret_id, struct topic_slice *ret_group)
{
    struct topic_match match;
    enum intake_kind kind = INTAKE_OTHER;
    if (topic_match(intake->single[STATUS], topic, &match))
        kind = INTAKE_STATUS; // before telemetry: "{id}/{sensor}" would take it as well
    else if (topic_match(intake->single[REPLIES], topic, &match))
        kind = INTAKE_REPLY;
    else if (intake->config->server->share && topic_match(intake->single[COMMANDS], topic, &match))
        kind = INTAKE_COMMAND;
    for (size_t i = 0; kind == INTAKE_OTHER && i < intake->n_telemetry; i++) {
        if (topic_match(intake->telemetry[i], topic, &match) &&
            !is_of_another_kind(intake, topic, &match))
            kind = INTAKE_TELEMETRY;
    }
    if (kind == INTAKE_OTHER || !is_ours(intake, match.field[TOPIC_ID]))
        return INTAKE_OTHER;
    *ret_id = match.field[TOPIC_ID];
    *ret_group = match.field[TOPIC_GROUP];
    return kind;
}

bool intake_has_group(const struct intake *intake)
{
    for (size_t i = 0; i < intake->n_telemetry; i++) {
        if (topic_has(intake->telemetry[i], TOPIC_GROUP))
            return true;
    }
    return false;
}

int intake_command_topic(const struct intake *intake, const char *id, const char *group,
                         char **ret_topic)
{
    const struct topic_values values = {
        .field = { [TOPIC_ID] = id, [TOPIC_GROUP] = group ? group : intake->config->daemon->group },
    };
    return topic_expand(intake->single[COMMANDS], &values, ret_topic);
}

int intake_group_topic(const struct intake *intake, const char *group, char **ret_topic)
{
    const struct topic_values values = { .field = { [TOPIC_GROUP] = group } };
    return topic_expand(intake->single[GROUP_COMMANDS], &values, ret_topic);
}
