// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Gathers what is wrong with a configuration, so that one run reports it all. Internal to config/.
 *
 *     struct errors errors = { .files = paths };
 *     errors_add(&errors, &(struct place){ path, 7, "sensor", "light", "interval" }, "...");
 *     r = errors_finish(&errors, &lines, &n_lines);
 *
 * Running out of memory is remembered here too, so that the passes over a configuration need not
 * hand it up through every call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Where an error is. What is not known stays NULL or 0. */
struct place {
    const char *file; // one of errors.files by its pointer, or a static string; NULL: the first
    unsigned line;
    const char *kind, *name, *key; // of the section, of [kind NAME], and within it
};

struct error {
    size_t rank; // of the file
    unsigned line;
    size_t number; // keeps the order of errors in one line
    char *text;
};

struct errors {
    char *const *files; // NULL-terminated, in the order of the report; owned by the caller
    size_t n_errors, n_allocated;
    struct error *errors;
    bool out_of_memory;
};

void errors_done(struct errors *errors);

/* Adds "FILE:LINE: kind name.key: TEXT". */
void errors_add(struct errors *errors, const struct place *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Sorts by file and line and moves the lines to *ret_lines, NULL-terminated. 0 if there are none
 * (NULL, 0), -EINVAL if there are, -ENOMEM.
 */
int errors_finish(struct errors *errors, char ***ret_lines, size_t *ret_n_lines);
