// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `file`: writes the value and a newline to a file, a device or a FIFO.
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "drivers/driver.h"
#include "util/cleanup.h"
#include "util/files.h"
#include "util/parse.h"
#include "util/strings.h"

struct file_config {
    char *path;
};

struct file {
    const struct file_config *config;
};

static const struct schema_option options[] = {
    {
        .key = "path",
        .type = OPTION_STRING,
        .offset = offsetof(struct file_config, path),
        .min = 1,
        .max = 4095,
        .required = true,
        .help = "The file. It gets 1 or 0 for a bool, else the number or the text, and a newline. "
                "A regular file is replaced atomically, anything else (sysfs, a FIFO, a device) is "
                "written to in place.",
    },
};

/* VALUE_NONE unless text is what set() writes for a value of that type. */
static void parse_value(const char *text, enum value_type type, struct value *ret_value)
{
    struct value value = { .type = type };
    int r = -EINVAL;
    if (type == VALUE_BOOL) {
        r = parse_bool(text, &value.boolean);
    } else if (type == VALUE_NUMBER) {
        r = parse_number(text, &value.number);
    } else if (type == VALUE_STRING) {
        size_t length = strlen(text);
        if (length < sizeof(value.string) && strings_is_utf8(text, length)) {
            memcpy(value.string, text, length + 1);
            r = 0;
        }
    }
    *ret_value = r == 0 ? value : (struct value){ .type = VALUE_NONE };
}

/* A wrong path is better reported now than with the first command. */
static int check_directory(const char *path, struct why *why)
{
    char directory[PATH_MAX];
    snprintf(directory, sizeof(directory), "%s", path);
    char *slash = strrchr(directory, '/');
    if (!slash)
        return 0;
    slash[slash == directory] = '\0';
    if (access(directory, X_OK) < 0)
        return why_set(why, errno, "cannot create %s: %s", path, strerror(errno));
    return 0;
}

/* A FIFO or a device is not read: that would take away what another waits for. */
static int read_now(const char *path, enum value_type type, struct value *ret_now, struct why *why)
{
    struct value now = { .type = VALUE_NONE };
    _cleanup_(freep) char *text = NULL;
    struct stat status;
    int r = stat(path, &status) < 0 ? -errno : 0;
    if (r == -ENOENT)
        r = check_directory(path, why);
    else if (r < 0)
        why_set(why, -r, "cannot use %s: %s", path, strerror(-r));
    else if (S_ISDIR(status.st_mode))
        r = why_set(why, EISDIR, "%s is a directory", path);
    else if (S_ISREG(status.st_mode) && files_read_line(path, VALUE_TEXT_SIZE, &text) == 0)
        parse_value(text, type, &now);
    if (r == 0)
        *ret_now = now;
    return r;
}

static int file_open(const void *config, enum value_type type, void **ret_state,
                     struct actuator_start *start, struct why *why)
{
    _cleanup_(freep) struct file *file = malloc(sizeof(*file));
    if (!file)
        return why_set(why, ENOMEM, "out of memory");
    file->config = config;
    int r = read_now(file->config->path, type, &start->now, why);
    if (r < 0)
        return r;
    *ret_state = TAKE_PTR(file);
    return 0;
}

static int file_set(void *state, const struct value *value, struct why *why)
{
    const struct file *file = state;
    char text[VALUE_TEXT_SIZE + 128], line[sizeof(text) + 1];
    value_format_plain(value, text, sizeof(text));
    snprintf(line, sizeof(line), "%s\n", text);
    int r = files_write(file->config->path, line);
    if (r < 0)
        return why_set(why, -r, "cannot write %s: %s", file->config->path, strerror(-r));
    return 0;
}

const struct actuator_driver actuator_driver_file = {
    .base.name = "file",
    .base.help = "Writes the value to a file.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct file_config),
    .base.blocking = true,
    .types = 1 << VALUE_BOOL | 1 << VALUE_NUMBER | 1 << VALUE_STRING,
    .open = file_open,
    .set = file_set,
    .base.close = free,
};
