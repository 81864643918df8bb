// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `log`: a dry run. It moves nothing and, like every driver, logs nothing itself; the
// lines about commands and rules are the device's own, as for any actuator.
#include "drivers/driver.h"

static int log_open(const void *config, enum value_type type, void **ret_state,
                    struct actuator_start *start, struct why *why)
{
    (void)config, (void)type, (void)start, (void)why;
    static char nothing; // an open state is never NULL
    *ret_state = &nothing;
    return 0;
}

static int log_set(void *state, const struct value *value, struct why *why)
{
    (void)state, (void)value, (void)why;
    return 0;
}

static void log_close(void *state)
{
    (void)state;
}

const struct actuator_driver actuator_driver_log = {
    .base.name = "log",
    .base.help =
        "A dry run: nothing moves, and the log shows each command and each decision of a rule.",
    .types = 1 << VALUE_BOOL | 1 << VALUE_NUMBER | 1 << VALUE_STRING,
    .open = log_open,
    .set = log_set,
    .base.close = log_close,
};
