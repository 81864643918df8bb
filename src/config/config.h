// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The configuration in force: loaded whole or not at all, immutable, reference-counted, so that
 * what was built from an older one may outlive a reload.
 *
 *     config_load(&sources, &config, &errors) reads all files, reports every error of all of them.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config/schema.h"
#include "core/command.h"
#include "core/expr.h"
#include "core/rule.h"
#include "core/sampling.h"
#include "core/stream.h"
#include "util/cleanup.h"

enum config_role { ROLE_DEVICE, ROLE_SERVER, ROLE_COMBINED };
extern const char *const config_role_names[]; // indexed by enum config_role, NULL-terminated

/* [daemon] */
struct daemon_config {
    int role;
    char *id; // specifiers and default already resolved
    char *group;
    int log_level; // index in err, warning, notice, info, debug; see config_log_level()
};

/* [broker] */
enum { TRANSPORT_TCP, TRANSPORT_UNIX };
enum { PROTOCOL_AUTO, PROTOCOL_5, PROTOCOL_311 };
struct broker_config {
    char **host;  // names or addresses; paths with transport = unix
    int64_t port; // 0 in the file's absence is resolved to 1883 or 8883
    int transport, protocol;
    uint64_t keepalive_usec;
    char *username, *password_file;
    bool tls;
    char *ca_file, *cert_file, *key_file, *psk_identity, *psk_file, *alpn;
    uint64_t reconnect_min_usec, reconnect_max_usec, session_expiry_usec;
    int64_t max_inflight;
    uint64_t max_message; // bytes of a payload
};

/* [topics]: checked templates, still as text. */
struct topics_config {
    char *telemetry, *commands, *group_commands, *replies, *state, *status;
    char *backlog; // NULL: late telemetry goes where fresh telemetry goes
};

/* [queue] */
struct queue_config {
    uint64_t max_size; // bytes
    int durability;    // enum stream_durability
    uint64_t commit_interval_usec;
    int64_t drain_rate; // messages a second; 0: no limit
};

/* [server] */
struct server_config {
    char **devices;             // patterns with * and ?
    char **groups;              // likewise, of groups
    char *share;                // NULL: none
    uint64_t forget_after_usec; // USEC_INFINITY: never
    char *record;               // NULL: none
    uint64_t record_max_size, record_max_age_usec;
};

/* [group NAME] */
struct group_config {
    char **devices; // patterns with * and ?
};

/* [stream NAME] */
struct stream_config {
    char *topic; // template; NULL: that of [topics] telemetry
    int64_t qos;
    bool retain;
    uint64_t interval_usec; // of its sensors that have none; USEC_INFINITY: none
    int keep;               // enum stream_keep
    uint64_t max_age_usec;  // USEC_INFINITY: none
    int64_t max_messages;   // 0: no limit
    int when_full;          // enum stream_full
    int order;              // enum stream_order
    int64_t priority;
    int time; // enum stream_time
};

/* [sensor NAME], without the driver's own keys */
struct sensor_config {
    char *driver;
    char *stream;
    uint64_t interval_usec;
    uint64_t sample_interval_usec; // USEC_INFINITY: interval
    struct sampling_options sampling;
    int64_t decimals; // -1 when unset; copied into sampling
};

enum { ON_KEEP, ON_SAFE };

/* [actuator NAME], without the driver's own keys */
struct actuator_config {
    char *driver;
    int type;                     // index in bool, number, string
    double min, max;              // NAN when unset
    struct command_limits limits; // made from the above
    char *initial_text, *safe_text;
    struct value initial, safe; // made from these; VALUE_NONE when unset
    int on_exit, on_disconnect;
    uint64_t disconnect_after_usec;
};

/* [action NAME] */
struct action_config {
    char *unit; // NULL for `reboot` alone
};

/* [rule NAME] */
enum { WHERE_SERVER, WHERE_DEVICE, WHERE_OFFLINE };
enum { SCOPE_DEVICE, SCOPE_GROUP };
enum { SEND_CHANGE, SEND_ALWAYS };
enum { DELIVERY_AUTO, DELIVERY_PLAIN, DELIVERY_LATEST, DELIVERY_ORDERED };
struct rule_config {
    int where;
    int scope;
    char **devices; // patterns with * and ?; default *
    struct expr *when, *until;
    struct command *then_command, *else_command; // keys `then` and `else`
    uint64_t hold_usec;                          // 0 by default
    uint64_t stale_after_usec;                   // USEC_INFINITY by default
    int64_t min_devices;                         // at least 1
    int send;
    uint64_t refresh_usec; // USEC_INFINITY: never
    int delivery;
    int64_t qos;
    uint64_t expires_usec; // USEC_INFINITY: never
    uint64_t lease_usec;   // key `for`; USEC_INFINITY: none
};

/* One key of one section: what --print-config shows and a reload compares. */
struct config_value {
    const struct schema_option *option;
    char *text;       // as written, resolved, or the default; NULL: unset
    const char *file; // owned by the config, or "command line"; NULL: the default
    unsigned line;    // 0: of no file
};

/* One section. data is the structure of its kind, driver_data that of its driver (or NULL). */
struct config_section {
    const struct schema_section *schema;
    const void *driver; // struct sensor_driver or struct actuator_driver
    char *name;         // of [kind NAME]; "" where unnamed
    const char *file;   // where it first stands; NULL: only defaults
    unsigned line;
    bool bad; // while loading: one of its values was refused
    size_t n_values;
    struct config_value *values; // one for each row: the section's, then the driver's
    void *data;
    void *driver_data;
};

struct config {
    atomic_uint n_references; // workers hold some
    size_t n_sections;
    struct config_section **sections; // unnamed ones first, then in the order of the files
    // Shortcuts into sections:
    const struct daemon_config *daemon;
    const struct broker_config *broker;
    const struct topics_config *topics;
    const struct queue_config *queue;
    const struct server_config *server;
    char **files; // that were read
};

/* A driver as the loader needs to know it; made by drivers/driver.h's drivers_for_config(). */
struct config_driver {
    const char *name;
    const void *driver; // what goes into config_section.driver
    const struct schema_option *options;
    size_t n_options;
    size_t config_size;
    unsigned types; // actuators: mask of 1 << VALUE_...; sensors: 0
    // A check of the whole, once each key is right; NULL. -EINVAL with why.
    int (*check)(const void *driver_config, struct why *why);
};

struct config_sources {
    const char *file; // NULL: NIGHTLIGHT_SYSCONFDIR "/nightlightd.conf", then its conf.d/*.conf
    const char *role; // from the command line, over the file's; NULL
    const struct config_driver *sensor_drivers;
    size_t n_sensor_drivers;
    const struct config_driver *actuator_drivers;
    size_t n_actuator_drivers;
};

/* Every error of all files, in order: "FILE:LINE: section.key: what is wrong, what is expected". */
struct config_errors {
    char **lines; // NULL-terminated; NULL when there are none
    size_t n_lines;
};
void config_errors_done(struct config_errors *errors);

/*
 * Loads a configuration. With file given, conf.d beside it (FILE's directory + "/conf.d/") is read
 * too. 0 and a new *ret_config; -EINVAL with at least one line in errors (a file that cannot be
 * read is one); -ENOMEM. Blocks on the disk: start and reload only.
 */
int config_load(const struct config_sources *sources, struct config **ret_config,
                struct config_errors *errors);

struct config *config_ref(struct config *config);
void config_unref(struct config *config);
DEFINE_CLEANUP(struct config *, config_unref)

/* The i-th section of that kind ("sensor"), or NULL. In the order of the files. */
const struct config_section *config_nth(const struct config *config, const char *kind, size_t i);
size_t config_count(const struct config *config, const char *kind);
const struct config_section *config_find(const struct config *config, const char *kind,
                                         const char *name);

/* Whether two sections of one kind say the same, driver and all; where it stands does not count. */
bool config_section_equal(const struct config_section *a, const struct config_section *b);

/* LOG_ERR..LOG_DEBUG */
int config_log_level(const struct daemon_config *daemon);

/*
 * Writes every key in force, its origin as a comment on the line before. A secret is a comment too,
 * without its value; all else loads again as it is.
 */
void config_print(const struct config *config, FILE *out);

/*
 * Whether a stream or a rule asks for QoS 2 and gets 1: with a session that outlives the connection
 * a new client numbers its messages anew, and the broker may take a new one for an old one that it
 * has (MQTT 5.0, section 4.3.3).
 */
bool config_lowers_qos(const struct config *config);

/* Writes a line for each setting that is valid and does not do what it says, with its origin. */
void config_print_notes(const struct config *config, FILE *out);

/* Pointers for a section's structures. */
static inline const struct sensor_config *config_sensor(const struct config_section *section)
{
    return section->data;
}
static inline const struct actuator_config *config_actuator(const struct config_section *section)
{
    return section->data;
}
static inline const struct action_config *config_action(const struct config_section *section)
{
    return section->data;
}
static inline const struct rule_config *config_rule(const struct config_section *section)
{
    return section->data;
}
static inline const struct group_config *config_group(const struct config_section *section)
{
    return section->data;
}
static inline const struct stream_config *config_stream(const struct config_section *section)
{
    return section->data;
}

/* What core/rule.h evaluates. */
static inline struct rule_spec config_rule_spec(const struct rule_config *rule)
{
    return (struct rule_spec){
        .when = rule->when,
        .until = rule->until,
        .hold_usec = rule->hold_usec,
        .stale_after_usec = rule->stale_after_usec,
    };
}
