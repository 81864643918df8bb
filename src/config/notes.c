// SPDX-License-Identifier: LGPL-2.1-or-later
// What a valid configuration does otherwise than its words say.
#include <string.h>

#include "config/config.h"
#include "util/strings.h"

static const char *const kinds_with_qos[] = { "stream", "rule" };

/* The value of the key qos, if that is 2; NULL. */
static const struct config_value *find_qos_2(const struct config_section *section)
{
    for (size_t i = 0; i < section->n_values; i++) {
        const struct config_value *value = &section->values[i];
        if (strcmp(value->option->key, "qos") == 0)
            return value->text && strcmp(value->text, "2") == 0 ? value : NULL;
    }
    return NULL;
}

/* The i-th section that asks for QoS 2 and gets 1; NULL. */
static const struct config_section *next_lowered(const struct config *config, size_t *i)
{
    if (config->broker->session_expiry_usec == 0)
        return NULL;
    for (; *i < config->n_sections; (*i)++) {
        const struct config_section *section = config->sections[*i];
        for (size_t k = 0; k < ELEMENTS(kinds_with_qos); k++) {
            if (strcmp(section->schema->name, kinds_with_qos[k]) == 0 && find_qos_2(section))
                return section;
        }
    }
    return NULL;
}

bool config_lowers_qos(const struct config *config)
{
    size_t i = 0;
    return next_lowered(config, &i);
}

void config_print_notes(const struct config *config, FILE *out)
{
    const struct config_section *section;
    for (size_t i = 0; (section = next_lowered(config, &i)); i++) {
        const struct config_value *value = find_qos_2(section);
        char file[1024];
        strings_printable(value->file, strlen(value->file), file, sizeof(file));
        fprintf(out,
                "%s:%u: %s %s.qos: note: sent with QoS 1, since session_expiry is set: the session "
                "outlives the connection, and its packet numbers do not\n",
                file, value->line, section->schema->name, section->name);
    }
}
