// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The configuration as a table: a section is a structure, a key is a row that says where in the
 * structure its value goes, of which type and range, and what it is for. The loader,
 * --print-config, the manual page and the check of the sample configuration all read these rows;
 * nothing else knows the keys. A driver brings the rows for its own keys (drivers/driver.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/why.h"

/* Type of the structure's member in brackets, with its value when the key is unset. */
enum option_type {
    OPTION_BOOL,      // (bool, false)
    OPTION_INT,       // (int64_t, 0)
    OPTION_NUMBER,    // (double, NAN)
    OPTION_DURATION,  // (uint64_t microseconds, USEC_INFINITY)
    OPTION_SIZE,      // (uint64_t bytes, 0)
    OPTION_ENUM,      // (int: index in choices, 0)
    OPTION_STRING,    // (char *, NULL)
    OPTION_LIST,      // (char **: words separated by white space, NULL)
    OPTION_ARGV,      // (char **: a command line split by parse_argv(), NULL)
    OPTION_CONDITION, // (struct expr *, NULL)
    OPTION_COMMAND,   // (struct command *, NULL)
};

/*
 * min and max: of numbers, of durations in microseconds, of sizes in bytes, of a string's length.
 * Both 0: no limit. def is parsed as if the user had written it; NULL leaves the key unset.
 */
struct schema_option {
    const char *key;
    enum option_type type;
    size_t offset;
    double min, max;
    const char *def;
    bool required;              // in every such section
    bool secret;                // --print-config hides the value
    const char *unit;           // for the manual; NULL
    const char *const *choices; // OPTION_ENUM, NULL-terminated
    // A further check of the text, already of the right type; NULL. -EINVAL with why.
    int (*check)(const char *text, struct why *why);
    const char *help; // one or two sentences for the manual
};

struct schema_section {
    const char *name;
    bool named;  // [name NAME], any number of them
    size_t size; // of the structure
    const struct schema_option *options;
    size_t n_options;
    const char *help;
};

/* Every section but the drivers' keys, in the order of the manual. */
extern const struct schema_section *const schema_sections[]; // NULL-terminated

const struct schema_section *schema_find_section(const char *name);
const struct schema_option *schema_find_option(const struct schema_option *options,
                                               size_t n_options, const char *key);

/* "a duration such as 5s, from 10ms to 1d": what the row expects, for errors and the manual. */
const char *schema_describe(const struct schema_option *option, char *out, size_t size);
