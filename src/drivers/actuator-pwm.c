// SPDX-License-Identifier: LGPL-2.1-or-later
// The actuator `pwm`: a channel of a Linux PWM chip (Documentation/driver-api/pwm.rst). The channel
// stays exported and running when it is closed, so that a restart does not make it flicker.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "drivers/sysfs.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/parse.h"

struct pwm_config {
    char *chip;
    int64_t channel;
    uint64_t period_usec;
};

struct pwm {
    char directory[SYSFS_DIRECTORY_SIZE];
    double period_nsec;
};

static int check_chip(const char *text, struct why *why)
{
    static const char prefix[] = "pwmchip";
    const char *digits = text + (strncmp(text, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0);
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return why_set(why, EINVAL, "a number or pwmchipN is expected");
    return 0;
}

static const struct schema_option options[] = {
    {
        .key = "chip",
        .type = OPTION_STRING,
        .offset = offsetof(struct pwm_config, chip),
        .min = 1,
        .max = 32,
        .required = true,
        .check = check_chip,
        .help = "The chip as in /sys/class/pwm: pwmchip0, or just 0.",
    },
    {
        .key = "channel",
        .type = OPTION_INT,
        .offset = offsetof(struct pwm_config, channel),
        .min = 0,
        .max = 255,
        .def = "0",
        .help = "The chip's channel. A number as the value is the part of the period that it is "
                "on, from 0 to 1; a bool is 0 or 1. The polarity is left as it is.",
    },
    {
        .key = "period",
        .type = OPTION_DURATION,
        .offset = offsetof(struct pwm_config, period_usec),
        .min = 1,
        .max = 10.0 * USEC_PER_SEC,
        .def = "1ms",
        .help = "How long a cycle takes: 1ms for a lamp, 20ms for a servo.",
    },
};

/* What the channel does now; nothing is known of one that is off or was never set. */
static int read_now(const struct pwm *pwm, enum value_type type, struct value *ret_now,
                    struct why *why)
{
    double period = 0, duty = 0, enabled = 0;
    int r = sysfs_read_number(pwm->directory, "period", &period, why);
    if (r == 0)
        r = sysfs_read_number(pwm->directory, "duty_cycle", &duty, why);
    if (r == 0)
        r = sysfs_read_number(pwm->directory, "enable", &enabled, why);
    if (r < 0)
        return r;
    *ret_now = (struct value){ .type = VALUE_NONE };
    if (enabled == 0 || period <= 0)
        return 0;
    if (type == VALUE_NUMBER)
        *ret_now = (struct value){ .type = VALUE_NUMBER, .number = duty / period };
    else if (duty == 0 || duty == period)
        *ret_now = (struct value){ .type = VALUE_BOOL, .boolean = duty > 0 };
    return 0;
}

static int export_channel(const char *chip, int64_t channel, struct why *why)
{
    char directory[SYSFS_DIRECTORY_SIZE], path[SYSFS_PATH_SIZE];
    const char *prefix = chip[0] == 'p' ? "" : "pwmchip";
    snprintf(directory, sizeof(directory), "class/pwm/%s%s", prefix, chip);
    if (!sysfs_exists(directory, ""))
        return why_set(why, ENODEV, "there is no %s", sysfs_path(directory, "", path));
    char exported[32];
    snprintf(exported, sizeof(exported), "pwm%" PRId64, channel);
    if (sysfs_exists(directory, exported))
        return 0;
    return sysfs_write_integer(directory, "export", (uint64_t)channel, why);
}

static int pwm_open(const void *config, enum value_type type, void **ret_state,
                    struct actuator_start *start, struct why *why)
{
    const struct pwm_config *pwm_config = config;
    _cleanup_(freep) struct pwm *pwm = calloc(1, sizeof(*pwm));
    if (!pwm)
        return why_set(why, ENOMEM, "out of memory");
    pwm->period_nsec = (double)pwm_config->period_usec * 1000;
    const char *chip = pwm_config->chip;
    snprintf(pwm->directory, sizeof(pwm->directory), "class/pwm/%s%s/pwm%" PRId64,
             chip[0] == 'p' ? "" : "pwmchip", chip, pwm_config->channel);
    int r = export_channel(chip, pwm_config->channel, why);
    if (r == 0)
        r = read_now(pwm, type, &start->now, why);
    if (r < 0)
        return r;
    *ret_state = TAKE_PTR(pwm);
    return 0;
}

/* In an order in which the duty never exceeds the period, which the kernel refuses. */
static int write_cycle(const struct pwm *pwm, double duty_nsec, struct why *why)
{
    double period_now;
    uint64_t period = (uint64_t)pwm->period_nsec, duty = (uint64_t)duty_nsec;
    int r = sysfs_read_number(pwm->directory, "period", &period_now, why);
    if (r < 0)
        return r;
    // A period of 0 was never set: any duty is refused until it is.
    bool period_first = period_now == 0 || duty_nsec > period_now;
    if (period_first)
        r = sysfs_write_integer(pwm->directory, "period", period, why);
    if (r == 0)
        r = sysfs_write_integer(pwm->directory, "duty_cycle", duty, why);
    if (r == 0 && !period_first && period_now != pwm->period_nsec)
        r = sysfs_write_integer(pwm->directory, "period", period, why);
    return r;
}

static int pwm_set(void *state, const struct value *value, struct why *why)
{
    const struct pwm *pwm = state;
    double part = value->type == VALUE_BOOL ? value->boolean : value->number;
    if (part < 0 || part > 1)
        return why_set(why, ERANGE, "%g is not from 0 to 1", part);
    int r = write_cycle(pwm, round(part * pwm->period_nsec), why);
    if (r < 0)
        return r;
    // Off is a duty of 0: the level of a disabled channel is the hardware's to choose.
    return sysfs_write_integer(pwm->directory, "enable", 1, why);
}

const struct actuator_driver actuator_driver_pwm = {
    .base.name = "pwm",
    .base.help = "A Linux PWM channel: a dimmed lamp, a fan, a servo.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct pwm_config),
    .base.blocking = true,
    .types = 1 << VALUE_BOOL | 1 << VALUE_NUMBER,
    .open = pwm_open,
    .set = pwm_set,
    .base.close = free,
};
