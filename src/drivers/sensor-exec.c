// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `exec`: the number that a program prints.
#include "drivers/driver.h"
#include "drivers/exec.h"
#include "drivers/reading.h"
#include "util/cleanup.h"
#include "util/clock.h"

struct exec_config {
    char **command;
    uint64_t timeout_usec;
};

struct exec_sensor {
    const struct exec_config *config;
    struct exec *exec;
};

static const struct schema_option options[] = {
    {
        .key = "command",
        .type = OPTION_ARGV,
        .offset = offsetof(struct exec_config, command),
        .required = true,
        .help = "The program and its arguments, run for each reading: it prints one number and "
                "ends with status 0. There is no shell, so no variables, no pipes; white space "
                "separates, quotes hold together.",
    },
    {
        .key = "timeout",
        .type = OPTION_DURATION,
        .offset = offsetof(struct exec_config, timeout_usec),
        .min = 10 * USEC_PER_MSEC,
        .max = 600.0 * USEC_PER_SEC,
        .def = "10s",
        .help = "After this time the program is killed and the reading is lost.",
    },
};

static int exec_sensor_open(const void *config, void **ret_state, struct why *why)
{
    _cleanup_(freep) struct exec_sensor *sensor = malloc(sizeof(*sensor));
    if (!sensor)
        return why_set(why, ENOMEM, "out of memory");
    sensor->config = config;
    int r = exec_new(&sensor->exec, why);
    if (r < 0)
        return r;
    *ret_state = TAKE_PTR(sensor);
    return 0;
}

static int exec_sensor_read(void *state, double *ret_value, struct why *why)
{
    struct exec_sensor *sensor = state;
    const struct exec_config *config = sensor->config;
    char output[EXEC_OUTPUT_SIZE];
    size_t length;
    int r = exec_run(sensor->exec, config->command, config->timeout_usec, output, &length, why);
    if (r < 0)
        return r;
    struct why cause = { 0 };
    r = reading_from_text(output, length, ret_value, &cause);
    return r < 0 ? why_set(why, -r, "%s: its output: %s", config->command[0], cause.text) : 0;
}

static void exec_sensor_close(void *state)
{
    struct exec_sensor *sensor = state;
    if (!sensor)
        return;
    exec_free(sensor->exec);
    free(sensor);
}

static void exec_sensor_cancel(void *state)
{
    const struct exec_sensor *sensor = state;
    exec_cancel(sensor->exec);
}

const struct sensor_driver sensor_driver_exec = {
    .base.name = "exec",
    .base.help = "The number that a program prints.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct exec_config),
    .base.blocking = true,
    .open = exec_sensor_open,
    .read = exec_sensor_read,
    .base.close = exec_sensor_close,
    .base.cancel = exec_sensor_cancel,
};
