// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The structures of the sections: plain values, that the rows of schema.c fill in. Everybody else
 * includes config.h, and reads them there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/command.h"
#include "core/expr.h"
#include "core/sampling.h"

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
