// SPDX-License-Identifier: LGPL-2.1-or-later
// The configuration as an object: its sections, and who still holds it; see config.h.
#include "config/config.h"

#include <assert.h>
#include <string.h>
#include <syslog.h>

#include "config/convert.h"
#include "util/strings.h"

void config_free_section(struct config_section *section)
{
    for (size_t i = 0; i < section->n_values; i++) {
        convert_clear(section->values[i].option, section->values[i].data);
        free(section->values[i].text);
    }
    free(section->values);
    free(section->name);
    free(section->data);
    free(section->driver_data);
    free(section);
}

struct config *config_ref(struct config *config)
{
    unsigned n_before = atomic_fetch_add(&config->n_references, 1);
    assert(n_before > 0);
    (void)n_before;
    return config;
}

void config_unref(struct config *config)
{
    if (!config || atomic_fetch_sub(&config->n_references, 1) > 1)
        return;
    for (size_t i = 0; i < config->n_sections; i++)
        config_free_section(config->sections[i]);
    free(config->sections);
    strings_free(config->files);
    free(config);
}

const struct config_section *config_nth(const struct config *config, const char *kind, size_t i)
{
    for (size_t k = 0; k < config->n_sections; k++) {
        if (strcmp(config->sections[k]->schema->name, kind) == 0 && i-- == 0)
            return config->sections[k];
    }
    return NULL;
}

size_t config_count(const struct config *config, const char *kind)
{
    size_t n = 0;
    for (size_t i = 0; i < config->n_sections; i++)
        n += strcmp(config->sections[i]->schema->name, kind) == 0;
    return n;
}

const struct config_section *config_find(const struct config *config, const char *kind,
                                         const char *name)
{
    for (size_t i = 0; i < config->n_sections; i++) {
        if (strcmp(config->sections[i]->schema->name, kind) == 0 &&
            strcmp(config->sections[i]->name, name) == 0)
            return config->sections[i];
    }
    return NULL;
}

bool config_section_equal(const struct config_section *a, const struct config_section *b)
{
    if (a->schema != b->schema || a->driver != b->driver || a->n_values != b->n_values ||
        strcmp(a->name, b->name) != 0)
        return false;
    for (size_t i = 0; i < a->n_values; i++) {
        if (a->values[i].option != b->values[i].option ||
            !strings_equal(a->values[i].text, b->values[i].text))
            return false;
    }
    return true;
}

int config_log_level(const struct daemon_config *daemon)
{
    return LOG_ERR + daemon->log_level;
}
