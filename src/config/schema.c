// SPDX-License-Identifier: LGPL-2.1-or-later
// The table of the configuration; see schema.h. Rows and their single checks, nothing else.
#include "config/schema.h"

#include <math.h>
#include <string.h>

#include "config/identity.h"
#include "config/sections.h"
#include "core/topic.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

#define MSEC(n)   ((double)(n) * (double)USEC_PER_MSEC)
#define SECOND(n) ((double)(n) * (double)USEC_PER_SEC)
#define DAY(n)    SECOND(86400.0 * (n))

const char *const config_role_names[] = { "device", "server", "combined", NULL };

static const char *const log_levels[] = { "err", "warning", "notice", "info", "debug", NULL };
static const char *const transports[] = { "tcp", "unix", NULL };
static const char *const protocols[] = { "auto", "5", "3.1.1", NULL };
static const char *const aggregates[] = { "last", "mean", "min", "max", "median", NULL };
static const char *const value_types[] = { "bool", "number", "string", NULL };
static const char *const wheres[] = { "server", "device", "offline", NULL };
static const char *const ons[] = { "keep", "safe", NULL };
static const char *const scopes[] = { "device", "group", NULL };
static const char *const durabilities[] = { "batched", "strict", "outage", NULL };
static const char *const keeps[] = { "all", "latest", "none", NULL };
static const char *const when_fulls[] = { "drop-oldest", "drop-newest", NULL };
static const char *const orders[] = { "live-first", "in-order", NULL };
static const char *const times[] = { "late", "always", "never", NULL };
static const char *const sends[] = { "change", "always", NULL };
static const char *const deliveries[] = { "auto", "plain", "latest", "ordered", NULL };

_Static_assert(sizeof(enum sampling_aggregate) == sizeof(int), "OPTION_ENUM writes an int");

/* MQTT counts its times in seconds. */
static int check_whole_seconds(const char *text, struct why *why)
{
    uint64_t usec;
    if (parse_duration(text, &usec) == 0 && usec % USEC_PER_SEC == 0)
        return 0;
    return why_set(why, EINVAL, "'%.60s' has a fraction of a second; expected whole seconds", text);
}

static int check_identity(const char *text, struct why *why)
{
    _cleanup_(freep) char *name = NULL;
    return identity_expand(text, &name, why);
}

static int check_patterns(const char *text, struct why *why)
{
    _cleanup_(strings_freep) char **patterns = NULL;
    if (strings_split(text, &patterns) < 0)
        return -ENOMEM;
    for (size_t i = 0; patterns[i]; i++) {
        size_t length = strlen(patterns[i]);
        _cleanup_(freep) char *plain = strdup(patterns[i]);
        if (!plain)
            return -ENOMEM;
        for (char *at = plain; *(at += strcspn(at, "*?"));)
            *at = '-';
        if (!topic_valid_value(plain, length))
            return why_set(why, EINVAL,
                           "'%.60s' is no pattern of ids; expected 1 to 64 of A-Z a-z 0-9 . _ : @ "
                           "- and the wildcards * and ?",
                           patterns[i]);
    }
    return 0;
}

static int check_absolute(const char *text, struct why *why)
{
    if (*text == '/')
        return 0;
    return why_set(why, EINVAL, "'%.60s' is no absolute path; expected one that begins with /",
                   text);
}

/* MQTT 5.0, section 4.8.2, and no more than other names have. */
static int check_share(const char *text, struct why *why)
{
    if (topic_valid_value(text, strlen(text)))
        return 0;
    return why_set(why, EINVAL,
                   "'%.60s' is no name of a share; expected 1 to 64 of A-Z a-z 0-9 . _ : @ -",
                   text);
}

/* As systemd.unit(5) has names, of what can be started and comes to an end. */
static int check_unit(const char *text, struct why *why)
{
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789:_.\\@-";
    static const char *const suffixes[] = { ".service", ".target", ".timer" };
    size_t length = strlen(text);
    for (size_t i = 0; i < ELEMENTS(suffixes) && text[strspn(text, characters)] == '\0'; i++) {
        size_t suffix = strlen(suffixes[i]);
        if (length > suffix && strcmp(text + length - suffix, suffixes[i]) == 0)
            return 0;
    }
    return why_set(why, EINVAL,
                   "'%.60s' is no unit to start; expected a name such as backup.service", text);
}

#define DAEMON(member)   .offset = offsetof(struct daemon_config, member)
#define BROKER(member)   .offset = offsetof(struct broker_config, member)
#define TOPICS(member)   .offset = offsetof(struct topics_config, member)
#define QUEUE(member)    .offset = offsetof(struct queue_config, member)
#define GROUP(member)    .offset = offsetof(struct group_config, member)
#define SERVER(member)   .offset = offsetof(struct server_config, member)
#define STREAM(member)   .offset = offsetof(struct stream_config, member)
#define SENSOR(member)   .offset = offsetof(struct sensor_config, member)
#define ACTUATOR(member) .offset = offsetof(struct actuator_config, member)
#define ACTION(member)   .offset = offsetof(struct action_config, member)
#define RULE(member)     .offset = offsetof(struct rule_config, member)

static const struct schema_option daemon_options[] = {
    { "role", OPTION_ENUM, DAEMON(role), .def = "combined", .choices = config_role_names,
      .help = "What this daemon is: a device with sensors and actuators, the server that decides "
              "for devices, or both side by side." },
    { "id", OPTION_STRING, DAEMON(id), .min = 1, .max = 128, .check = check_identity,
      .help = "The device's name in topics, 1 to 64 of A-Z a-z 0-9 . _ : @ -. %H is the host name, "
              "%m the machine id, %% a percent sign. Unset, it is the host name, a hyphen and 8 "
              "hexadecimal digits made from the machine id." },
    { "group", OPTION_STRING, DAEMON(group), .min = 1, .max = 128, .def = "default",
      .check = check_identity,
      .help = "The group whose commands this device obeys too. Characters and specifiers as in "
              "id." },
    { "log_level", OPTION_ENUM, DAEMON(log_level), .def = "info", .choices = log_levels,
      .help = "The least important lines that are logged: with info each message too, with notice "
              "only what changes or fails, which spares an SD card." },
};

static const struct schema_option broker_options[] = {
    { "host", OPTION_LIST, BROKER(host), .def = "localhost",
      .help = "Names or addresses of brokers, without a port, separated by spaces and tried in "
              "turn; with transport = unix, absolute paths of sockets." },
    { "port", OPTION_INT, BROKER(port), .min = 1, .max = 65535,
      .help = "The broker's TCP port. Unset, it is 1883, or 8883 with tls." },
    { "transport", OPTION_ENUM, BROKER(transport), .def = "tcp", .choices = transports,
      .help = "How to reach the broker." },
    { "protocol", OPTION_ENUM, BROKER(protocol), .def = "auto", .choices = protocols,
      .help = "The version of MQTT; auto is 5, and 3.1.1 where 5 is refused." },
    { "keepalive", OPTION_DURATION, BROKER(keepalive_usec), .min = SECOND(5), .max = SECOND(64800),
      .def = "60s", .check = check_whole_seconds,
      .help = "The longest silence before the connection is probed, in whole seconds." },
    { "username", OPTION_STRING, BROKER(username), .help = "The user name for the broker." },
    { "password_file", OPTION_STRING, BROKER(password_file),
      .help = "The file that holds the password, readable for the user nightlightd and not for "
              "others; or, without a slash, the name of a systemd credential." },
    { "tls", OPTION_BOOL, BROKER(tls), .def = "no", .help = "Whether to encrypt with TLS." },
    { "ca_file", OPTION_STRING, BROKER(ca_file),
      .help = "PEM file of the authorities to trust instead of the system's." },
    { "cert_file", OPTION_STRING, BROKER(cert_file),
      .help = "PEM file of the client's certificate; goes with key_file." },
    { "key_file", OPTION_STRING, BROKER(key_file),
      .help = "PEM file of the client's private key, or the name of a systemd credential." },
    { "psk_identity", OPTION_STRING, BROKER(psk_identity),
      .help = "The identity for TLS with a pre-shared key, instead of certificates." },
    { "psk_file", OPTION_STRING, BROKER(psk_file),
      .help = "The file that holds the pre-shared key in hexadecimal, or the name of a systemd "
              "credential." },
    { "alpn", OPTION_STRING, BROKER(alpn), .min = 1, .max = 255,
      .help = "The application protocol to ask for in the TLS handshake." },
    { "reconnect_min", OPTION_DURATION, BROKER(reconnect_min_usec), .min = MSEC(100),
      .max = SECOND(3600), .def = "1s", .help = "The first pause before connecting again." },
    { "reconnect_max", OPTION_DURATION, BROKER(reconnect_max_usec), .min = MSEC(100), .max = DAY(1),
      .def = "2min", .help = "The longest pause; pauses double up to it, with jitter." },
    { "session_expiry", OPTION_DURATION, BROKER(session_expiry_usec), .min = 0, .max = DAY(365),
      .def = "0s", .check = check_whole_seconds,
      .help = "How long the broker keeps the session of a lost connection (MQTT 5), in whole "
              "seconds. With one, QoS 2 goes as QoS 1." },
    { "max_inflight", OPTION_INT, BROKER(max_inflight), .min = 1, .max = 65535, .def = "100",
      .unit = "messages", .help = "How many messages may wait for their acknowledgement." },
    { "max_message", OPTION_SIZE, BROKER(max_message), .min = 4096, .max = 64 << 20, .def = "256K",
      .help =
          "The largest message that is taken in; what is larger is refused before it is held." },
};

static const struct schema_option topics_options[] = {
    { "telemetry", OPTION_STRING, TOPICS(telemetry), .def = "{id}/telemetry",
      .help = "Where devices publish readings. {id}, {group}, {stream} and {sensor} are whole "
              "levels." },
    { "commands", OPTION_STRING, TOPICS(commands), .def = "{id}/commands",
      .help = "Where a device takes commands. {id} and {group}." },
    { "group_commands", OPTION_STRING, TOPICS(group_commands), .def = "groups/{group}/commands",
      .help = "Where all devices of a group take commands. {group} alone." },
    { "replies", OPTION_STRING, TOPICS(replies), .def = "{id}/replies",
      .help = "Where a device says what became of a command that has an $id. {id} and {group}." },
    { "state", OPTION_STRING, TOPICS(state), .def = "{id}/state",
      .help = "Where a device says, retained, how its actuators are set. {id} and {group}." },
    { "status", OPTION_STRING, TOPICS(status), .def = "{id}/status",
      .help = "Where a device says, retained, whether it is online. {id} and {group}." },
    { "backlog", OPTION_STRING, TOPICS(backlog),
      .help =
          "Where telemetry goes that could not be sent within 2 s. Placeholders as in telemetry. "
          "Unset, it goes where fresh telemetry goes." },
};

static const struct schema_option queue_options[] = {
    { "max_size", OPTION_SIZE, QUEUE(max_size), .min = 1 << 20, .max = 1099511627776.0,
      .def = "64M",
      .help = "How large the queue on disk may grow. At the bound the least important stream gives "
              "way, as its when_full says." },
    { "durability", OPTION_ENUM, QUEUE(durability), .def = "batched", .choices = durabilities,
      .help =
          "What a power cut can take: with batched, the last commit_interval; with strict, "
          "nothing, since a message is on the disk before it is sent; with outage, what had not "
          "been delivered, since only that is written at all, which spares an SD card. A crash "
          "of the daemon takes nothing with batched and strict." },
    { "commit_interval", OPTION_DURATION, QUEUE(commit_interval_usec), .min = MSEC(10),
      .max = SECOND(60), .def = "1s",
      .help =
          "How long what was written may take to be safe from a power cut, and with outage, how "
          "long a message may take to be acknowledged before it is written." },
    { "drain_rate", OPTION_INT, QUEUE(drain_rate), .min = 0, .max = 1000000, .def = "0",
      .unit = "messages a second",
      .help =
          "How fast late messages follow once the connection is back, with jitter, and beginning "
          "within 10 s at random, so that a fleet that comes back together does not swamp its "
          "broker. 0: as fast as the broker takes them." },
};

static const struct schema_option server_options[] = {
    { "devices", OPTION_LIST, SERVER(devices), .def = "*", .check = check_patterns,
      .help = "The devices to listen to: ids, or patterns with * and ?, separated by spaces. On a "
              "public test broker * is refused." },
    { "groups", OPTION_LIST, SERVER(groups), .def = "*", .check = check_patterns,
      .help = "The groups that this server decides for, by the rules with scope = group: names, or "
              "patterns. Where several servers share a fleet, each has its own." },
    { "share", OPTION_STRING, SERVER(share), .min = 1, .max = 64, .check = check_share,
      .help = "The name under which several servers share the telemetry, each message going to one "
              "of them (MQTT 5 shared subscriptions). For rules with scope = device." },
    { "record", OPTION_STRING, SERVER(record), .check = check_absolute,
      .help = "The file that telemetry and status messages are recorded to, a JSON object a line, "
              "for nightlightctl rules test. The one before it is kept as FILE.1." },
    { "record_max_size", OPTION_SIZE, SERVER(record_max_size), .min = 65536, .max = 1099511627776.0,
      .def = "64M", .help = "How large the recording may become, both files together." },
    { "record_max_age", OPTION_DURATION, SERVER(record_max_age_usec), .min = SECOND(60),
      .max = DAY(3650), .def = "7d", .help = "How old what is recorded may become." },
    { "forget_after", OPTION_DURATION, SERVER(forget_after_usec), .min = SECOND(1),
      .max = DAY(3650),
      .help = "A device that has not been heard of for so long is forgotten, until it is heard of "
              "again. Unset, only where 250,000 others need the room." },
};

static const struct schema_option group_options[] = {
    { "devices", OPTION_LIST, GROUP(devices), .required = true, .check = check_patterns,
      .help =
          "The devices of the group: ids, or patterns with * and ?. The first section that fits "
          "counts." },
};

static const struct schema_option stream_options[] = {
    { "topic", OPTION_STRING, STREAM(topic),
      .help = "The template of the stream's topic. Unset, it is telemetry of [topics]." },
    { "qos", OPTION_INT, STREAM(qos), .min = 0, .max = 2, .def = "1",
      .help = "The MQTT quality of service: 0 at most once, 1 at least once, 2 exactly once." },
    { "retain", OPTION_BOOL, STREAM(retain), .def = "no",
      .help = "Whether the broker keeps the last message." },
    { "interval", OPTION_DURATION, STREAM(interval_usec), .min = MSEC(10), .max = DAY(1),
      .help = "The interval of the stream's sensors that have none of their own." },
    { "keep", OPTION_ENUM, STREAM(keep), .def = "all", .choices = keeps,
      .help = "What is kept while there is no connection: all messages, the latest value of each "
              "sensor, or none." },
    { "max_age", OPTION_DURATION, STREAM(max_age_usec), .min = SECOND(1), .max = DAY(3650),
      .help = "An older message is given up. Unset, none is too old." },
    { "max_messages", OPTION_INT, STREAM(max_messages), .min = 1, .max = 1000000000000.0,
      .unit = "messages",
      .help = "How many messages may wait. Unset, only max_size of [queue] bounds them." },
    { "when_full", OPTION_ENUM, STREAM(when_full), .def = "drop-oldest", .choices = when_fulls,
      .help = "What is given up at a bound." },
    { "order", OPTION_ENUM, STREAM(order), .def = "live-first", .choices = orders,
      .help = "After an outage: fresh messages at once and the late ones between them, or all in "
              "order." },
    { "priority", OPTION_INT, STREAM(priority), .min = -1000, .max = 1000, .def = "0",
      .help = "Streams of a higher priority are sent first, and give way last at max_size." },
    { "time", OPTION_ENUM, STREAM(time), .def = "late", .choices = times,
      .help = "When the JSON carries the time of the sample as \"time\": in late messages, always, "
              "or never. With MQTT 5, every message has it as a user property." },
};

static const struct schema_option sensor_options[] = {
    { "driver", OPTION_STRING, SENSOR(driver), .required = true,
      .help = "What reads the sensor: one of those below, which bring keys of their own." },
    { "stream", OPTION_STRING, SENSOR(stream), .def = "telemetry",
      .help = "The stream that the readings go to." },
    { "interval", OPTION_DURATION, SENSOR(interval_usec), .min = MSEC(10), .max = DAY(1),
      .help = "How often a reading is published. Unset, it is the stream's interval, or 5s." },
    { "sample_interval", OPTION_DURATION, SENSOR(sample_interval_usec), .min = MSEC(1),
      .max = DAY(1), .help = "How often the sensor is read. Unset, it is interval." },
    { "aggregate", OPTION_ENUM, SENSOR(sampling.aggregate), .def = "last", .choices = aggregates,
      .help = "What is published of the readings of one interval, where sample_interval takes "
              "several." },
    { "scale", OPTION_NUMBER, SENSOR(sampling.scale), .def = "1",
      .help = "The raw value is multiplied by this, then offset is added." },
    { "offset", OPTION_NUMBER, SENSOR(sampling.offset), .def = "0",
      .help = "Added to the raw value once it is scaled." },
    { "decimals", OPTION_INT, SENSOR(decimals), .min = 0, .max = 9,
      .help = "Digits behind the point to round to. Unset, readings are not rounded." },
    { "valid_min", OPTION_NUMBER, SENSOR(sampling.valid_min),
      .help = "A lower reading, once scaled, is an error of the sensor: logged, not published." },
    { "valid_max", OPTION_NUMBER, SENSOR(sampling.valid_max),
      .help = "A higher reading, once scaled, is an error of the sensor: logged, not published." },
    { "deadband", OPTION_NUMBER, SENSOR(sampling.deadband), .min = 0, .max = INFINITY,
      .help = "A reading that differs by less from the last published one is not published." },
    { "max_silence", OPTION_DURATION, SENSOR(sampling.max_silence_usec), .min = MSEC(10),
      .max = DAY(365),
      .help = "In spite of deadband, a reading is published at least this often." },
};

static const struct schema_option actuator_options[] = {
    { "driver", OPTION_STRING, ACTUATOR(driver), .required = true,
      .help = "What sets the actuator: one of those below, which bring keys of their own." },
    { "type", OPTION_ENUM, ACTUATOR(type), .def = "bool", .choices = value_types,
      .help = "What values the actuator takes." },
    { "min", OPTION_NUMBER, ACTUATOR(min), .help = "The least number it takes." },
    { "max", OPTION_NUMBER, ACTUATOR(max), .help = "The greatest number it takes." },
    { "initial", OPTION_STRING, ACTUATOR(initial_text), .max = VALUE_TEXT_SIZE - 1,
      .help = "What it is set to at the start of the daemon when it is not known what it was "
              "last. Unset, it is left as it is." },
    { "safe", OPTION_STRING, ACTUATOR(safe_text), .max = VALUE_TEXT_SIZE - 1,
      .help = "What it falls back to: when the lease of a command ($for) has ended, and by "
              "on_exit and on_disconnect." },
    { "on_exit", OPTION_ENUM, ACTUATOR(on_exit), .def = "keep", .choices = ons,
      .help =
          "Whether a clean end of the daemon, or of its role as a device, leaves it as it is or "
          "sets it to safe. A restart by systemd is such an end too." },
    { "on_disconnect", OPTION_ENUM, ACTUATOR(on_disconnect), .def = "keep", .choices = ons,
      .help = "Whether it is left as it is or set to safe once the device has been cut off from "
              "the broker for disconnect_after. A rule with where = offline that sets it goes "
              "before." },
    { "disconnect_after", OPTION_DURATION, ACTUATOR(disconnect_after_usec), .min = MSEC(100),
      .max = DAY(365), .def = "1min",
      .help = "How long the device may be cut off from the broker before on_disconnect applies and "
              "rules with where = offline begin to decide." },
};

static const struct schema_option action_options[] = {
    { "unit", OPTION_STRING, ACTION(unit), .min = 1, .max = 255, .check = check_unit,
      .help = "The systemd unit that the action starts: a service, a target or a timer. The reply "
              "comes when its job has ended." },
};

static const struct schema_option rule_options[] = {
    { "where", OPTION_ENUM, RULE(where), .def = "server", .choices = wheres,
      .help =
          "Who decides: the server, by what devices publish, or the device itself, by its own "
          "sensors and with no broker in the way: always, or with offline only once it has been "
          "cut off for the disconnect_after of the actuators that the rule sets." },
    { "scope", OPTION_ENUM, RULE(scope), .def = "device", .choices = scopes,
      .help = "What is decided for: each device by itself, or a group as a whole. A group's rule "
              "looks at all its devices, as in median(light) < 300, and its command is published "
              "once, on group_commands of [topics]." },
    { "devices", OPTION_LIST, RULE(devices), .def = "*", .check = check_patterns,
      .help = "The devices that the rule is for: ids, or patterns with * and ?." },
    { "when", OPTION_CONDITION, RULE(when), .required = true,
      .help = "The condition that leads to then: an expression over the last readings." },
    { "until", OPTION_CONDITION, RULE(until),
      .help = "The condition that leads back to else. Unset, it is that when is false." },
    { "then", OPTION_COMMAND, RULE(then_command), .required = true,
      .help = "The command once when holds, a JSON object." },
    { "else", OPTION_COMMAND, RULE(else_command),
      .help = "The command once it is over, a JSON object." },
    { "hold", OPTION_DURATION, RULE(hold_usec), .min = 0, .max = DAY(365), .def = "0s",
      .help = "The shortest time between two changes: keeps a lamp from flickering, a pump from "
              "starting too often." },
    { "stale_after", OPTION_DURATION, RULE(stale_after_usec), .min = MSEC(10), .max = DAY(365),
      .help = "An older reading counts as unknown, which changes nothing. Unset, none is too "
              "old." },
    { "min_devices", OPTION_INT, RULE(min_devices), .min = 1, .max = 1000000, .def = "1",
      .unit = "devices",
      .help = "With scope = group: while fewer devices have a fresh reading, the aggregate is "
              "unknown, which changes nothing." },
    { "send", OPTION_ENUM, RULE(send), .def = "change", .choices = sends,
      .help = "Whether to send the command only when the decision changes, or with each reading." },
    { "refresh", OPTION_DURATION, RULE(refresh_usec), .min = SECOND(1), .max = DAY(365),
      .help = "How long after a command it is sent again, while the decision holds and its "
              "readings are known. Unset, never; with for, a third of that." },
    { "delivery", OPTION_ENUM, RULE(delivery), .def = "auto", .choices = deliveries,
      .help =
          "How a command is seen through. plain: published once. latest: kept on disk and sent "
          "again until the device replies, also to one that is offline now; a newer command for "
          "the same actuators takes its place. ordered: a queue for each device, in which each "
          "waits for the reply to the one before. auto: latest for a device that has published a "
          "status message, plain for any other." },
    { "qos", OPTION_INT, RULE(qos), .min = 0, .max = 2, .def = "1",
      .help = "The MQTT quality of service of the commands." },
    { "expires", OPTION_DURATION, RULE(expires_usec), .min = SECOND(1), .max = DAY(365),
      .help = "A command that has not been carried out after that long never is. Unset, it does "
              "not expire." },
    { "for", OPTION_DURATION, RULE(lease_usec), .min = SECOND(1), .max = DAY(365),
      .help = "A lease: the device sets the actuators to their safe state when it has not heard "
              "the command again for that long. It is renewed in time while the decision holds "
              "and its readings are known." },
};

#define SECTION(section, is_named, text)                                                           \
    {                                                                                              \
        .name = #section, .named = (is_named), .size = sizeof(struct section##_config),            \
        .options = section##_options, .n_options = ELEMENTS(section##_options), .help = (text)     \
    }

static const struct schema_section sections[] = {
    SECTION(daemon, false, "The daemon itself."),
    SECTION(broker, false, "The MQTT broker and the way to it."),
    SECTION(topics, false, "Templates of the MQTT topics, the same on both ends."),
    SECTION(queue, false, "What waits to be sent, kept on disk through outages and power cuts."),
    SECTION(server, false, "What the server takes in."),
    SECTION(
        group, true,
        "A group of devices, where the telemetry topic does not carry {group}. A device of none "
        "is of the group default."),
    SECTION(stream, true,
            "A stream of readings. The stream telemetry is always there; the name is {stream}."),
    SECTION(sensor, true, "A sensor; its name is the key of its readings."),
    SECTION(actuator, true, "An actuator; its name is the key in commands."),
    SECTION(action, true,
            "Something that a command may start, by {\"$action\": \"NAME\"}, and nothing else can "
            "be started from outside. [action reboot], without unit, lets a command reboot the "
            "machine."),
    SECTION(rule, true, "A rule: a condition over readings, and the commands that follow from it."),
};

const struct schema_section *const schema_sections[] = {
    &sections[0], &sections[1], &sections[2], &sections[3], &sections[4],  &sections[5],
    &sections[6], &sections[7], &sections[8], &sections[9], &sections[10], NULL,
};

const struct schema_section *schema_find_section(const char *name)
{
    for (size_t i = 0; i < ELEMENTS(sections); i++) {
        if (strcmp(sections[i].name, name) == 0)
            return &sections[i];
    }
    return NULL;
}

const struct schema_option *schema_find_option(const struct schema_option *options,
                                               size_t n_options, const char *key)
{
    for (size_t i = 0; i < n_options; i++) {
        if (strcmp(options[i].key, key) == 0)
            return &options[i];
    }
    return NULL;
}
