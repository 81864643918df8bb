// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `file`: a number, or a number within a JSON object, in any file. The file is opened
// anew for each reading, so that it may be replaced, or come only later.
#include <string.h>

#include "drivers/driver.h"
#include "drivers/reading.h"
#include "util/cleanup.h"
#include "util/files.h"

enum { MAX_SIZE = 64 * 1024 };

struct file_config {
    char *path;
    char *json;
};

struct file {
    const struct file_config *config;
};

static int check_member(const char *text, struct why *why)
{
    size_t length = strlen(text);
    if (text[0] == '.' || text[length - 1] == '.' || strstr(text, ".."))
        return why_set(why, EINVAL, "a name between the dots is missing");
    return 0;
}

static const struct schema_option options[] = {
    {
        .key = "path",
        .type = OPTION_STRING,
        .offset = offsetof(struct file_config, path),
        .min = 1,
        .max = 4095,
        .required = true,
        .help = "The file. It holds one number as text, white space around it allowed, or with "
                "json a JSON object; at most 64 KiB. A file in sysfs or one that a person or a "
                "program writes; it is read anew each time.",
    },
    {
        .key = "json",
        .type = OPTION_STRING,
        .offset = offsetof(struct file_config, json),
        .min = 1,
        .max = 255,
        .check = check_member,
        .help = "The member of the JSON object to take: a name, or names and array indices joined "
                "by dots, such as rooms.0.temperature. true and false are no numbers.",
    },
};

static int file_open(const void *config, void **ret_state, struct why *why)
{
    struct file *file = malloc(sizeof(*file));
    if (!file)
        return why_set(why, ENOMEM, "out of memory");
    file->config = config;
    *ret_state = file;
    return 0;
}

static int file_read(void *state, double *ret_value, struct why *why)
{
    const struct file *file = state;
    const struct file_config *config = file->config;
    _cleanup_(freep) char *text = NULL;
    size_t length;
    int r = files_read(config->path, MAX_SIZE, &text, &length);
    if (r < 0)
        return why_set(why, -r, "cannot read %s: %s", config->path, strerror(-r));
    struct why cause = { 0 };
    if (config->json)
        r = reading_from_json(text, length, config->json, ret_value, &cause);
    else
        r = reading_from_text(text, length, ret_value, &cause);
    if (r < 0)
        return why_set(why, -r, "%s: %s", config->path, cause.text);
    return 0;
}

const struct sensor_driver sensor_driver_file = {
    .base.name = "file",
    .base.help = "A number, or a member of a JSON object, in a file.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct file_config),
    .base.blocking = true,
    .open = file_open,
    .read = file_read,
    .base.close = free,
};
