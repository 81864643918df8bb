// SPDX-License-Identifier: LGPL-2.1-or-later
// Fills in the structures of the sections; see build.h. Knows rows and drivers, not single keys,
// but for `driver`.
#include "config/build.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "config/convert.h"
#include "util/strings.h"

/* One section in the making. */
struct builder {
    const struct raw_section *raw;
    struct config_section *section;
    const struct config_driver *driver;  // NULL: none, or not known
    const struct config_driver *drivers; // that there are for this kind
    size_t n_drivers;
    struct errors *errors;
};

void build_begin(struct raw_config *raw, struct errors *errors)
{
    for (size_t i = 0; schema_sections[i]; i++) {
        if (!schema_sections[i]->named)
            reader_section(raw, schema_sections[i], "", errors);
    }
    reader_section(raw, schema_find_section("stream"), "telemetry", errors);
}

DEFINE_CLEANUP(struct config_section *, config_free_section)

static void complain(struct builder *builder, const char *file, unsigned line, const char *key,
                     const char *text)
{
    const struct raw_section *raw = builder->raw;
    struct place place = { file, line, raw->schema->name, raw->name, key };
    errors_add(builder->errors, &place, "%s", text);
    builder->section->bad = true;
}

/* --- drivers --------------------------------------------------------------------------------- */

static void find_drivers(struct builder *builder, const struct config_sources *sources)
{
    const char *kind = builder->raw->schema->name;
    if (strcmp(kind, "sensor") == 0) {
        builder->drivers = sources->sensor_drivers;
        builder->n_drivers = sources->n_sensor_drivers;
    } else if (strcmp(kind, "actuator") == 0) {
        builder->drivers = sources->actuator_drivers;
        builder->n_drivers = sources->n_actuator_drivers;
    }
}

static size_t driver_names(const struct builder *builder, const char **names, size_t size)
{
    size_t n = 0;
    for (; n < builder->n_drivers && n < size; n++)
        names[n] = builder->drivers[n].name;
    return n;
}

static void list_drivers(const struct builder *builder, char *out, size_t size)
{
    const char *names[64];
    char list[192];
    size_t n = driver_names(builder, names, ELEMENTS(names));
    snprintf(out, size, "one of %s", strings_join(names, n, list, sizeof(list)));
}

static void unknown_driver(struct builder *builder, const struct raw_value *value)
{
    const char *names[64];
    char shown[64], list[256], text[512];
    size_t n = driver_names(builder, names, ELEMENTS(names));
    strings_printable(value->text, strlen(value->text), shown, sizeof(shown));
    list_drivers(builder, list, sizeof(list));
    const char *nearest = strings_nearest(value->text, names, n);
    snprintf(text, sizeof(text), "unknown driver '%s'%s%s%s; expected %s", shown,
             nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "", list);
    complain(builder, value->file, value->line, "driver", text);
}

/* The last `driver` counts; an unknown one before it is an error all the same. */
static void choose_driver(struct builder *builder)
{
    for (size_t i = 0; builder->drivers && i < builder->raw->n_values; i++) {
        const struct raw_value *value = &builder->raw->values[i];
        if (strcmp(value->key, "driver") != 0)
            continue;
        builder->driver = NULL;
        for (size_t k = 0; k < builder->n_drivers; k++) {
            if (strcmp(builder->drivers[k].name, value->text) == 0)
                builder->driver = &builder->drivers[k];
        }
        if (!builder->driver)
            unknown_driver(builder, value);
    }
    if (builder->driver)
        builder->section->driver = builder->driver->driver;
}

/* --- keys ------------------------------------------------------------------------------------ */

static size_t collect_keys(const struct config_section *section, const char **keys, size_t size)
{
    size_t n = 0;
    for (; n < section->n_values && n < size; n++)
        keys[n] = section->values[n].option->key;
    return n;
}

/* The drivers of this kind that have such a key. */
static size_t drivers_with(const struct builder *builder, const char *key, const char **names,
                           size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < builder->n_drivers && n < size; i++) {
        const struct config_driver *driver = &builder->drivers[i];
        if (schema_find_option(driver->options, driver->n_options, key))
            names[n++] = driver->name;
    }
    return n;
}

static void unknown_key(struct builder *builder, const struct raw_value *value)
{
    const char *names[64];
    char list[1024], text[1200];
    size_t n = drivers_with(builder, value->key, names, ELEMENTS(names));
    if (n > 0 && !builder->driver)
        return; // who knows: the driver is missing or misspelt, and that is reported
    if (n > 0) {
        snprintf(text, sizeof(text), "a key of the driver%s %s, but the driver here is %s",
                 n > 1 ? "s" : "", strings_join(names, n, list, sizeof(list)),
                 builder->driver->name);
        complain(builder, value->file, value->line, value->key, text);
        return;
    }
    n = collect_keys(builder->section, names, ELEMENTS(names));
    const char *nearest = strings_nearest(value->key, names, n);
    if (nearest)
        snprintf(text, sizeof(text), "unknown key (did you mean '%s'?)", nearest);
    else
        snprintf(text, sizeof(text), "unknown key; expected one of %s",
                 strings_join(names, n, list, sizeof(list)));
    complain(builder, value->file, value->line, value->key, text);
}

static bool set_value(struct builder *builder, size_t i, const char *text, struct why *why)
{
    struct config_value *value = &builder->section->values[i];
    _cleanup_(freep) char *copy = strdup(text);
    int r = copy ? convert_set(value->option, value->data, text, why) : -ENOMEM;
    if (r == -ENOMEM)
        builder->errors->out_of_memory = true;
    if (r < 0)
        return r == -ENOMEM;
    free(value->text);
    value->text = TAKE_PTR(copy);
    return true;
}

static void take_value(struct builder *builder, const struct raw_value *raw)
{
    struct config_section *section = builder->section;
    for (size_t i = 0; i < section->n_values; i++) {
        struct config_value *value = &section->values[i];
        struct why why = { 0 };
        if (strcmp(value->option->key, raw->key) != 0)
            continue;
        if (!set_value(builder, i, raw->text, &why)) {
            complain(builder, raw->file, raw->line, raw->key, why.text);
            return;
        }
        value->file = raw->file;
        value->line = raw->line;
        return;
    }
    unknown_key(builder, raw);
}

static void require_values(struct builder *builder)
{
    const struct config_section *section = builder->section;
    for (size_t i = 0; i < section->n_values; i++) {
        const struct schema_option *option = section->values[i].option;
        char expected[256], text[320];
        bool tried = false; // and refused, which is reported
        for (size_t k = 0; k < builder->raw->n_values; k++)
            tried = tried || strcmp(builder->raw->values[k].key, option->key) == 0;
        if (!option->required || tried)
            continue;
        if (builder->drivers && strcmp(option->key, "driver") == 0)
            list_drivers(builder, expected, sizeof(expected));
        else
            schema_describe(option, expected, sizeof(expected));
        snprintf(text, sizeof(text), "the key is missing; expected %s", expected);
        complain(builder, section->file, section->line, option->key, text);
    }
}

/* --- sections -------------------------------------------------------------------------------- */

static void add_rows(struct config_section *section, const struct schema_option *options, size_t n,
                     void *data)
{
    for (size_t i = 0; i < n; i++) {
        convert_unset(&options[i], data);
        section->values[section->n_values++] =
            (struct config_value){ .option = &options[i], .data = data };
    }
}

/* The section with nothing set. */
static struct config_section *allocate(const struct builder *builder,
                                       const struct config_driver *driver)
{
    const struct schema_section *schema = builder->raw->schema;
    _cleanup_(config_free_sectionp) struct config_section *section = calloc(1, sizeof(*section));
    if (!section)
        return NULL;
    section->schema = schema;
    section->file = builder->raw->file;
    section->line = builder->raw->line;
    section->name = strdup(builder->raw->name);
    section->values =
        calloc(schema->n_options + (driver ? driver->n_options : 0), sizeof(struct config_value));
    section->data = calloc(1, schema->size);
    if (!section->name || !section->values || !section->data)
        return NULL;
    add_rows(section, schema->options, schema->n_options, section->data);
    if (!driver)
        return TAKE_PTR(section);
    section->driver_data = calloc(1, driver->config_size ? driver->config_size : 1);
    if (!section->driver_data)
        return NULL;
    add_rows(section, driver->options, driver->n_options, section->driver_data);
    return TAKE_PTR(section);
}

static void set_defaults(struct builder *builder)
{
    struct config_section *section = builder->section;
    for (size_t i = 0; i < section->n_values; i++) {
        const char *def = section->values[i].option->def;
        bool ok = !def || set_value(builder, i, def, NULL);
        assert(ok); // a row's default is right: a test goes over every row
    }
}

static void check_driver(struct builder *builder)
{
    const struct config_section *section = builder->section;
    struct why why = { 0 };
    if (section->bad || !builder->driver || !builder->driver->check)
        return;
    int r = builder->driver->check(section->driver_data, &why);
    if (r < 0)
        complain(builder, section->file, section->line, NULL, *why.text ? why.text : strerror(-r));
}

static struct config_section *build_section(const struct raw_section *raw, bool incomplete,
                                            const struct config_sources *sources,
                                            struct errors *errors)
{
    struct config_section placeholder = { 0 }; // while the driver is being chosen
    struct builder builder = { .raw = raw, .section = &placeholder, .errors = errors };
    find_drivers(&builder, sources);
    choose_driver(&builder);
    struct config_section *section = allocate(&builder, builder.driver);
    if (!section) {
        errors->out_of_memory = true;
        return NULL;
    }
    section->driver = placeholder.driver;
    section->bad = placeholder.bad;
    builder.section = section;
    set_defaults(&builder);
    for (size_t i = 0; i < raw->n_values; i++)
        take_value(&builder, &raw->values[i]);
    if (!incomplete)
        require_values(&builder);
    check_driver(&builder);
    return section;
}

void build_sections(struct config *config, const struct raw_config *raw,
                    const struct config_sources *sources, struct errors *errors)
{
    config->sections = calloc(raw->n_sections + 1, sizeof(struct config_section *));
    if (!config->sections) {
        errors->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < raw->n_sections && !errors->out_of_memory; i++) {
        struct config_section *section =
            build_section(raw->sections[i], raw->incomplete, sources, errors);
        if (section)
            config->sections[config->n_sections++] = section;
    }
}
