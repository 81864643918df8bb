// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `exec`: a program that gets the value as its last argument.
#include "drivers/driver.h"
#include "drivers/exec.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/strings.h"

struct exec_config {
    char **command;
    uint64_t timeout_usec;
};

struct exec_actuator {
    const struct exec_config *config;
    struct exec *exec;
    char **argv; // the command's strings, borrowed, and text
    char text[VALUE_TEXT_SIZE + 128];
};

static const struct schema_option options[] = {
    {
        .key = "command",
        .type = OPTION_ARGV,
        .offset = offsetof(struct exec_config, command),
        .required = true,
        .help = "The program and its arguments; the value comes as one more at the end: 1 or 0 "
                "for a bool, else the number or the text. A text may begin with a dash: end the "
                "command with -- if the program takes options. It ends with status 0 when it has "
                "done its work; what it leaves running in its process group is killed then. There "
                "is no shell.",
    },
    {
        .key = "timeout",
        .type = OPTION_DURATION,
        .offset = offsetof(struct exec_config, timeout_usec),
        .min = 10 * USEC_PER_MSEC,
        .max = 600.0 * USEC_PER_SEC,
        .def = "10s",
        .help = "After this time the program is killed and the setting has failed.",
    },
};

static void exec_actuator_close(void *state)
{
    struct exec_actuator *actuator = state;
    if (!actuator)
        return;
    exec_free(actuator->exec);
    free(actuator->argv);
    free(actuator);
}
DEFINE_CLEANUP(struct exec_actuator *, exec_actuator_close)

static int exec_actuator_open(const void *config, enum value_type type, void **ret_state,
                              struct actuator_start *start, struct why *why)
{
    (void)type, (void)start;
    _cleanup_(exec_actuator_closep) struct exec_actuator *actuator = calloc(1, sizeof(*actuator));
    if (!actuator)
        return why_set(why, ENOMEM, "out of memory");
    actuator->config = config;
    char **command = actuator->config->command;
    size_t n = strings_count(command);
    actuator->argv = calloc(n + 2, sizeof(char *));
    if (!actuator->argv)
        return why_set(why, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        actuator->argv[i] = command[i];
    actuator->argv[n] = actuator->text;
    int r = exec_new(&actuator->exec, why);
    if (r < 0)
        return r;
    *ret_state = TAKE_PTR(actuator);
    return 0;
}

static int exec_actuator_set(void *state, const struct value *value, struct why *why)
{
    struct exec_actuator *actuator = state;
    value_format_plain(value, actuator->text, sizeof(actuator->text));
    return exec_run(actuator->exec, actuator->argv, actuator->config->timeout_usec, NULL, NULL,
                    why);
}

static void exec_actuator_cancel(void *state)
{
    const struct exec_actuator *actuator = state;
    exec_cancel(actuator->exec);
}

const struct actuator_driver actuator_driver_exec = {
    .base.name = "exec",
    .base.help = "Runs a program with the value as its last argument.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct exec_config),
    .base.blocking = true,
    .types = 1 << VALUE_BOOL | 1 << VALUE_NUMBER | 1 << VALUE_STRING,
    .open = exec_actuator_open,
    .set = exec_actuator_set,
    .base.close = exec_actuator_close,
    .base.cancel = exec_actuator_cancel,
};
