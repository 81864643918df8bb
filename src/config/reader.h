// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Text to sections of keys and values, still as text. Internal to config/, and the one user of
 * inih.
 *
 * inih splits long lines in two, cuts section names at 49 bytes, takes an indented key for a
 * continuation, cuts a value at " ;", takes ':' for '=' and tells only the first bad line. So it
 * gets its lines from a reader of our own, which lets through only what inih takes as it stands,
 * knows the line number, and reports every other line.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/errors.h"
#include "config/schema.h"

enum {
    READER_MAX_FILE = 1024 * 1024, // bytes
    READER_MAX_SECTIONS = 4096,    // of all files
    READER_MAX_VALUES = 256,       // of one section, of all files
    READER_MAX_NAME = 49,          // bytes of a key, and between a header's brackets
};

struct raw_value {
    char *key, *text;
    const char *file; // not owned
    unsigned line;
};

/* What all files say of one section; of values with the same key the last one counts. */
struct raw_section {
    const struct schema_section *schema;
    char *name; // "" where unnamed
    // Its first header, and the last one; files are not owned, NULL: in none.
    const char *file, *last_file;
    unsigned line, last_line;
    size_t n_values;
    struct raw_value *values; // in the order of the files
};

struct raw_config {
    size_t n_sections;
    struct raw_section **sections;
    bool incomplete; // a header was refused, so a section that seems to be missing may be there
};

void reader_done(struct raw_config *raw);

/* Adds a section, or finds it; NULL without memory (noted in errors) or beyond the limit. */
struct raw_section *reader_section(struct raw_config *raw, const struct schema_section *schema,
                                   const char *name, struct errors *errors);

/* Appends one value to a section. */
void reader_add_value(struct raw_section *section, const char *key, const char *text,
                      const char *file, unsigned line, struct errors *errors);

/* Reads a whole file's bytes; file is its name, which must outlive raw. */
void reader_read(struct raw_config *raw, const char *file, const char *bytes, size_t length,
                 struct errors *errors);
