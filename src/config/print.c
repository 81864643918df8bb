// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes a configuration in a form that loads again: config_print(). Comments have lines of their
// own, since the reader takes them nowhere else.
#include <string.h>

#include "config/config.h"
#include "util/strings.h"

enum { MAX_LINE = 198 }; // bytes that inih takes

static void print_origin(const struct config_value *value, FILE *out)
{
    char file[256];
    if (!value->file) {
        fputs("# default\n", out);
        return;
    }
    strings_printable(value->file, strlen(value->file), file, sizeof(file));
    if (value->line > 0)
        fprintf(out, "# %s:%u\n", file, value->line);
    else
        fprintf(out, "# %s\n", file);
}

static void print_value(const struct config_value *value, FILE *out)
{
    const char *key = value->option->key;
    if (!value->text)
        return;
    print_origin(value, out);
    if (value->option->secret) {
        fprintf(out, "# %s is set, and hidden here\n", key);
        return;
    }
    // A line that was written at its longest, without spaces, must not become a longer one.
    bool fits = strlen(key) + strlen(" = ") + strlen(value->text) <= MAX_LINE;
    fprintf(out, "%s%s%s\n", key, fits ? " = " : "=", value->text);
}

void config_print(const struct config *config, FILE *out)
{
    for (size_t i = 0; i < config->n_sections; i++) {
        const struct config_section *section = config->sections[i];
        fprintf(out, "%s[%s%s%s]\n", i ? "\n" : "", section->schema->name,
                section->schema->named ? " " : "", section->name);
        for (size_t k = 0; k < section->n_values; k++)
            print_value(&section->values[k], out);
    }
}
