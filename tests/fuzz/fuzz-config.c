// SPDX-License-Identifier: LGPL-2.1-or-later
// Feeds the loader one file of any bytes. What it takes, it must print in a form that it takes
// again and that says the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "config/config.h"

struct options {
    int choice;
    int64_t integer;
    double number;
    uint64_t duration, size;
    bool boolean;
    char *string;
    char **list, **argv;
};

static const char *const choices[] = { "constant", "sine", NULL };

static const struct schema_option rows[] = {
    { "wave", OPTION_ENUM, offsetof(struct options, choice), .choices = choices },
    { "line", OPTION_INT, offsetof(struct options, integer), .min = -5, .max = 511, .def = "0" },
    { "level", OPTION_NUMBER, offsetof(struct options, number), .min = -1, .max = 1 },
    { "period", OPTION_DURATION, offsetof(struct options, duration), .def = "1min" },
    { "memory", OPTION_SIZE, offsetof(struct options, size), .min = 1, .max = 65536 },
    { "active_low", OPTION_BOOL, offsetof(struct options, boolean), .def = "no" },
    { "path", OPTION_STRING, offsetof(struct options, string), .max = 100 },
    { "lines", OPTION_LIST, offsetof(struct options, list), .def = NULL },
    { "command", OPTION_ARGV, offsetof(struct options, argv), .def = NULL },
};

static const struct config_driver drivers[] = {
    { "sim", "sim", rows, ELEMENTS(rows), sizeof(struct options), 1 << VALUE_BOOL, NULL },
    { "log", "log", NULL, 0, 0, 1 << VALUE_NUMBER | 1 << VALUE_BOOL, NULL },
};

static struct config *load(const void *bytes, size_t size)
{
    struct config *config = NULL;
    struct config_errors errors = { 0 };
    char path[64];
    _cleanup_(closep) int fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const struct config_sources sources = { path,    NULL,
                                            drivers, ELEMENTS(drivers),
                                            drivers, ELEMENTS(drivers) };
    int r = config_load(&sources, &config, &errors);
    if ((r == 0) != (config != NULL) || (r == -EINVAL) != (errors.n_lines > 0))
        abort();
    for (size_t i = 0; i < errors.n_lines; i++) {
        if (strncmp(errors.lines[i], path, strlen(path)) != 0 || strchr(errors.lines[i], '\n'))
            abort();
    }
    config_errors_done(&errors);
    return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(config_unrefp) struct config *config = load(data, size);
    if (!config)
        return 0;
    _cleanup_(freep) char *printed = NULL;
    size_t printed_size = 0;
    FILE *out = open_memstream(&printed, &printed_size);
    if (!out)
        abort();
    config_print(config, out);
    fclose(out);
    _cleanup_(config_unrefp) struct config *again = load(printed, printed_size);
    if (!again || again->n_sections != config->n_sections)
        abort();
    for (size_t i = 0; i < config->n_sections; i++) {
        if (!config_section_equal(config->sections[i], again->sections[i]))
            abort();
    }
    return 0;
}
