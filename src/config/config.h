// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The configuration in force: loaded whole or not at all, immutable, reference-counted, so that
 * what was built from an older one may outlive a reload.
 *
 *     config_load(&sources, &config, &errors) reads all files, reports every error of all of them.
 */
#pragma once

#include <stdatomic.h>
#include <stdio.h>

#include "config/schema.h"
#include "config/sections.h"
#include "core/rule.h"
#include "core/stream.h"
#include "util/cleanup.h"

/* One key of one section: what --print-config shows and a reload compares. */
struct config_value {
    const struct schema_option *option;
    void *data;       // the structure that it is a member of
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

/* Frees a section, half-built or whole: the loader's and config_unref()'s alone. */
void config_free_section(struct config_section *section);

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
