// SPDX-License-Identifier: LGPL-2.1-or-later
// Gathers, orders and formats the errors of a configuration; see errors.h. Must not log.
#include "config/errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/strings.h"

void errors_done(struct errors *errors)
{
    for (size_t i = 0; i < errors->n_errors; i++)
        free(errors->errors[i].text);
    free(errors->errors);
    errors->errors = NULL;
    errors->n_errors = errors->n_allocated = 0;
}

/* The place of file in the report; what is no file (the command line) comes first. */
static size_t rank_of(const struct errors *errors, const char *file)
{
    for (size_t i = 0; errors->files[i]; i++) {
        if (errors->files[i] == file)
            return i + 1;
    }
    return 0;
}

static char *format_place(const struct place *place)
{
    char file[256], line[16] = "";
    strings_printable(place->file, strlen(place->file), file, sizeof(file));
    if (place->line > 0)
        snprintf(line, sizeof(line), ":%u", place->line);
    bool named = place->name && *place->name;
    char *text;
    int r = asprintf(&text, "%s%s: %s%s%s%s%s%s", file, line, place->kind ? place->kind : "",
                     named ? " " : "", named ? place->name : "", place->key ? "." : "",
                     place->key ? place->key : "", place->kind ? ": " : "");
    return r < 0 ? NULL : text;
}

static struct error *append(struct errors *errors)
{
    if (errors->n_errors == errors->n_allocated) {
        size_t n = errors->n_allocated ? 2 * errors->n_allocated : 16;
        struct error *larger = reallocarray(errors->errors, n, sizeof(struct error));
        if (!larger)
            return NULL;
        errors->errors = larger;
        errors->n_allocated = n;
    }
    return &errors->errors[errors->n_errors];
}

void errors_add(struct errors *errors, const struct place *place, const char *format, ...)
{
    struct place full = *place;
    if (!full.file)
        full.file = errors->files[0];
    _cleanup_(freep) char *where = format_place(&full);
    _cleanup_(freep) char *what = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&what, format, arguments) < 0)
        what = NULL;
    va_end(arguments);
    char *text = NULL;
    struct error *error = append(errors);
    if (!where || !what || !error || asprintf(&text, "%s%s", where, what) < 0) {
        errors->out_of_memory = true;
        return;
    }
    *error = (struct error){ rank_of(errors, full.file), full.line, errors->n_errors, text };
    errors->n_errors++;
}

static int compare(const void *left, const void *right)
{
    const struct error *a = left, *b = right;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

int errors_finish(struct errors *errors, char ***ret_lines, size_t *ret_n_lines)
{
    if (errors->out_of_memory)
        return -ENOMEM;
    *ret_lines = NULL;
    *ret_n_lines = 0;
    if (errors->n_errors == 0)
        return 0;
    char **lines = calloc(errors->n_errors + 1, sizeof(char *));
    if (!lines)
        return -ENOMEM;
    qsort(errors->errors, errors->n_errors, sizeof(struct error), compare);
    for (size_t i = 0; i < errors->n_errors; i++)
        lines[i] = TAKE_PTR(errors->errors[i].text);
    *ret_lines = lines;
    *ret_n_lines = errors->n_errors;
    return -EINVAL;
}
