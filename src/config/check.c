// SPDX-License-Identifier: LGPL-2.1-or-later
// Checks and resolves the sections without a name; see check.h. What the rows say is done before.
#include "config/check.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "config/identity.h"
#include "core/topic.h"
#include "util/strings.h"

/* --- shared ---------------------------------------------------------------------------------- */

struct config_value *check_value(const struct config_section *section, const char *key)
{
    for (size_t i = 0; i < section->n_values; i++) {
        if (strcmp(section->values[i].option->key, key) == 0)
            return &section->values[i];
    }
    assert(!"a key without a row");
    return NULL;
}

bool check_is_set(const struct config_section *section, const char *key)
{
    return check_value(section, key)->text;
}

void check_complain(struct check *check, const struct config_section *section, const char *key,
                    const char *format, ...)
{
    const struct config_value *value = key ? check_value(section, key) : NULL;
    struct place place = { section->file, section->line, section->schema->name, section->name,
                           key };
    if (value && value->file) {
        place.file = value->file;
        place.line = value->line;
    }
    _cleanup_(freep) char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    if (text)
        errors_add(check->errors, &place, "%s", text);
    else
        check->errors->out_of_memory = true;
}

bool check_has_device(const struct check *check)
{
    return check->role_known && check->config->daemon->role != ROLE_SERVER;
}

static bool has_server(const struct check *check)
{
    return check->role_known && check->config->daemon->role != ROLE_DEVICE;
}

/* --- [daemon] -------------------------------------------------------------------------------- */

/* Puts a resolved value in the place of what was written. */
static void resolve(struct check *check, struct config_value *value, char **member, char *resolved)
{
    char *text = strdup(resolved);
    if (!text)
        check->errors->out_of_memory = true;
    free(value->text);
    value->text = text;
    free(*member);
    *member = resolved;
}

static void check_identity(struct check *check, const struct config_section *section,
                           const char *key, char **member)
{
    struct config_value *value = check_value(section, key);
    struct why why = { 0 };
    char *resolved = NULL;
    int r = value->text ? identity_expand(value->text, &resolved, &why)
                        : identity_default(&resolved, &why);
    if (r == -ENOMEM)
        check->errors->out_of_memory = true;
    else if (r < 0)
        check_complain(check, section, key, "%s", why.text);
    else
        resolve(check, value, member, resolved);
}

static void check_daemon(struct check *check, const struct config_section *section)
{
    struct daemon_config *daemon = section->data;
    check_identity(check, section, "id", &daemon->id);
    check_identity(check, section, "group", &daemon->group);
}

/* --- [broker] -------------------------------------------------------------------------------- */

static void check_tcp_host(struct check *check, const struct config_section *section,
                           const char *host)
{
    const char *colon = strchr(host, ':');
    if (strpbrk(host, "\"'"))
        check_complain(check, section, "host",
                       "'%.80s' stands in quotes; expected a name or address without", host);
    else if (strstr(host, "://"))
        check_complain(check, section, "host",
                       "'%.80s' is a URL; expected a name or address alone, the port in port and "
                       "encryption in tls",
                       host);
    else if (strchr(host, '/'))
        check_complain(check, section, "host",
                       "'%.80s' is no name or address; expected one, or transport = unix", host);
    else if (colon && !strchr(colon + 1, ':'))
        check_complain(check, section, "host",
                       "'%.80s' names a port; expected a name or address, and the port in port",
                       host);
    else if (strlen(host) > 253)
        check_complain(check, section, "host", "'%.80s...' has over 253 bytes; expected a name",
                       host);
}

static void check_unix_path(struct check *check, const struct config_section *section,
                            const char *path)
{
    const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (*path != '/')
        check_complain(check, section, "host",
                       "'%.80s' is no socket; expected an absolute path with transport = unix",
                       path);
    else if (strlen(path) > max)
        check_complain(check, section, "host",
                       "'%.80s...' is too long for a socket; expected at most %zu bytes", path,
                       max);
}

static void check_hosts(struct check *check, const struct config_section *section)
{
    const struct broker_config *broker = section->data;
    for (size_t i = 0; broker->host[i]; i++) {
        if (broker->transport == TRANSPORT_UNIX)
            check_unix_path(check, section, broker->host[i]);
        else
            check_tcp_host(check, section, broker->host[i]);
    }
    if (broker->transport != TRANSPORT_UNIX)
        return;
    if (check_is_set(section, "port"))
        check_complain(check, section, "port",
                       "does not go with transport = unix; expected no such line");
    if (broker->tls)
        check_complain(check, section, "tls", "does not go with transport = unix; expected no");
}

/* key only means something beside other. */
static void check_needs(struct check *check, const struct config_section *section, const char *key,
                        const char *other)
{
    if (check_is_set(section, key) && !check_is_set(section, other))
        check_complain(check, section, key, "does not work alone; expected %s too", other);
}

static void check_tls(struct check *check, const struct config_section *section)
{
    static const char *const keys[] = { "ca_file",      "cert_file", "key_file",
                                        "psk_identity", "psk_file",  "alpn" };
    const struct broker_config *broker = section->data;
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        if (check_is_set(section, keys[i]) && !broker->tls)
            check_complain(check, section, keys[i],
                           "has no effect without TLS; expected tls = yes");
    }
    check_needs(check, section, "cert_file", "key_file");
    check_needs(check, section, "key_file", "cert_file");
    check_needs(check, section, "psk_identity", "psk_file");
    check_needs(check, section, "psk_file", "psk_identity");
    if (!broker->psk_identity && !broker->psk_file)
        return;
    for (size_t i = 0; i < 3; i++) {
        if (check_is_set(section, keys[i]))
            check_complain(check, section, keys[i],
                           "does not go with a pre-shared key; expected one or the other");
    }
}

static void check_broker(struct check *check, const struct config_section *section)
{
    struct broker_config *broker = section->data;
    check_hosts(check, section);
    check_tls(check, section);
    check_needs(check, section, "password_file", "username");
    if (broker->reconnect_min_usec > broker->reconnect_max_usec)
        check_complain(check, section, "reconnect_min",
                       "is greater than reconnect_max; expected it to be at most that");
    struct config_value *port = check_value(section, "port");
    if (port->text || broker->transport == TRANSPORT_UNIX)
        return;
    broker->port = broker->tls ? 8883 : 1883;
    port->text = strdup(broker->tls ? "8883" : "1883");
    if (!port->text)
        check->errors->out_of_memory = true;
}

/* --- [topics] -------------------------------------------------------------------------------- */

void check_topic(struct check *check, const struct config_section *section, const char *key,
                 int purpose)
{
    static const unsigned allowed[] = {
        [CHECK_READINGS] = 1 << TOPIC_ID | 1 << TOPIC_GROUP | 1 << TOPIC_SENSOR | 1 << TOPIC_STREAM,
        [CHECK_COMMANDS] = 1 << TOPIC_ID | 1 << TOPIC_GROUP,
        [CHECK_GROUP] = 1 << TOPIC_GROUP,
        [CHECK_STATE] = 1 << TOPIC_ID | 1 << TOPIC_GROUP,
    };
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    struct why why = { 0 };
    int r = topic_parse(check_value(section, key)->text, allowed[purpose], &template, &why);
    if (r == -ENOMEM)
        check->errors->out_of_memory = true;
    else if (r < 0)
        check_complain(check, section, key, "%s; expected a template such as %s", why.text,
                       purpose == CHECK_GROUP ? "groups/{group}/commands" : "{id}/telemetry");
    else if (purpose != CHECK_GROUP && has_server(check) && !topic_has(template, TOPIC_ID))
        check_complain(check, section, key,
                       "has no {id}, by which a server tells devices apart; expected it in one "
                       "level");
}

static void check_topics(struct check *check, const struct config_section *section)
{
    check_topic(check, section, "telemetry", CHECK_READINGS);
    check_topic(check, section, "commands", CHECK_COMMANDS);
    check_topic(check, section, "group_commands", CHECK_GROUP);
    check_topic(check, section, "replies", CHECK_STATE);
    check_topic(check, section, "state", CHECK_STATE);
    check_topic(check, section, "status", CHECK_STATE);
    if (check_is_set(section, "backlog"))
        check_topic(check, section, "backlog", CHECK_READINGS);
    // Two uses of one topic would feed a daemon its own words.
    for (size_t i = 0; i < section->n_values; i++) {
        for (size_t k = 0; k < i; k++) {
            const struct config_value *a = &section->values[k], *b = &section->values[i];
            if (strings_equal(a->text, b->text))
                check_complain(check, section, b->file ? b->option->key : a->option->key,
                               "%s and %s are the same topic; expected different ones",
                               a->option->key, b->option->key);
        }
    }
}

/* --- [server] -------------------------------------------------------------------------------- */

static bool is_public_broker(const char *host)
{
    static const char *const names[] = {
        "test.mosquitto.org",      "broker.hivemq.com",      "broker.mqttdashboard.com",
        "mqtt-dashboard.com",      "broker.emqx.io",         "broker-cn.emqx.io",
        "mqtt.eclipseprojects.io", "mqtt.eclipse.org",       "iot.eclipse.org",
        "public.mqtthq.com",       "public.cloud.shiftr.io", "public-mqtt-broker.bevywise.com",
        "mqtt.fluux.io",
    };
    size_t length = strlen(host);
    if (length > 0 && host[length - 1] == '.')
        length--;
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        if (strlen(names[i]) == length && strncasecmp(names[i], host, length) == 0)
            return true;
    }
    return false;
}

/* Other members get the messages of one that is away, unless its session waits for it. */
static void check_share(struct check *check, const struct config_section *section)
{
    const struct server_config *server = section->data;
    const struct broker_config *broker = check->config->broker;
    const struct config_section *rule;
    if (!server->share)
        return;
    if (broker->protocol == PROTOCOL_311)
        check_complain(check, section, "share", "needs MQTT 5; expected protocol = auto or 5");
    if (broker->session_expiry_usec > 0)
        check_complain(
            check, section, "share",
            "does not go with session_expiry: the messages of a server that is away would "
            "wait for it; expected session_expiry = 0s");
    for (size_t i = 0; (rule = config_nth(check->config, "rule", i)); i++) {
        if (!rule->bad && config_rule(rule)->scope == SCOPE_GROUP)
            check_complain(check, section, "share",
                           "rule %s is for groups and has to hear every device; expected it on a "
                           "server of its own, with groups instead of share",
                           rule->name);
    }
}

static void check_server(struct check *check, const struct config_section *section)
{
    const struct server_config *server = section->data;
    const struct broker_config *broker = check->config->broker;
    if (!has_server(check))
        return;
    check_share(check, section);
    for (size_t i = 0; broker->host[i]; i++) {
        for (size_t k = 0; server->devices[k]; k++) {
            if (!is_public_broker(broker->host[i]) ||
                server->devices[k][strspn(server->devices[k], "*?")] != '\0')
                continue;
            check_complain(check, section, "devices",
                           "'%.60s' on the public broker %s takes in everybody's devices, and the "
                           "rules would switch them; expected the ids of your own, or a prefix",
                           server->devices[k], broker->host[i]);
            return;
        }
    }
}

/* --- all ------------------------------------------------------------------------------------- */

void check_all(struct check *check)
{
    static const struct {
        const char *kind;
        void (*function)(struct check *check, const struct config_section *section);
    } checks[] = {
        { "daemon", check_daemon },     { "broker", check_broker }, { "topics", check_topics },
        { "server", check_server },     { "stream", check_stream }, { "sensor", check_sensor },
        { "actuator", check_actuator }, { "action", check_action }, { "rule", check_rule },
    };
    // Kind by kind, as a rule may stand before the actuator that it sets.
    const struct config *config = check->config;
    for (size_t k = 0; k < ELEMENTS(checks); k++) {
        for (size_t i = 0; i < config->n_sections; i++) {
            const struct config_section *section = config->sections[i];
            if (!section->bad && strcmp(section->schema->name, checks[k].kind) == 0)
                checks[k].function(check, section);
        }
    }
}
