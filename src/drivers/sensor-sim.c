// SPDX-License-Identifier: LGPL-2.1-or-later
// The sensor `sim`: made-up or recorded values, for trying things out without hardware. It runs in
// a worker only because open reads the file of a replay.
#include <math.h>
#include <string.h>

#include "drivers/driver.h"
#include "drivers/waveform.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/files.h"

struct sim_config {
    int wave;
    double min, max;
    uint64_t period_usec;
    char *path;
};

struct sim {
    const struct sim_config *config;
    struct series *series; // of a replay, else NULL
    uint64_t opened_mono_usec;
    uint64_t n_readings;
    uint64_t seed;
};

static const char *const wave_names[] = { // indexed by enum waveform
    "constant", "sine", "ramp", "noise", "replay", NULL
};

static const struct schema_option options[] = {
    {
        .key = "wave",
        .type = OPTION_ENUM,
        .offset = offsetof(struct sim_config, wave),
        .def = "sine",
        .choices = wave_names,
        .help = "constant: always min. sine: from min to max and back in each period, as daylight "
                "does from midnight to midnight. ramp: from min to max in each period, then from "
                "min again. noise: any value from min to max. replay: the values in path.",
    },
    {
        .key = "min",
        .type = OPTION_NUMBER,
        .offset = offsetof(struct sim_config, min),
        .def = "0",
        .help = "The smallest value, and the one of a constant.",
    },
    {
        .key = "max",
        .type = OPTION_NUMBER,
        .offset = offsetof(struct sim_config, max),
        .def = "1",
        .help = "The largest value.",
    },
    {
        .key = "period",
        .type = OPTION_DURATION,
        .offset = offsetof(struct sim_config, period_usec),
        .min = USEC_PER_MSEC,
        .max = 366.0 * 86400 * USEC_PER_SEC,
        .def = "1min",
        .help = "How long a sine or a ramp takes until it begins again.",
    },
    {
        .key = "path",
        .type = OPTION_STRING,
        .offset = offsetof(struct sim_config, path),
        .min = 1,
        .max = 4095,
        .help = "The CSV file of a replay, at most 1 MiB. One number a line: one is taken for each "
                "reading. Or seconds,value in each line: a value holds from that second on. At its "
                "end it begins again. Lines that begin with # are comments.",
    },
};

static int sim_check(const void *config, struct why *why)
{
    const struct sim_config *sim = config;
    if (sim->wave == WAVE_REPLAY && !sim->path)
        return why_set(why, EINVAL, "wave = replay needs path");
    if (sim->wave != WAVE_REPLAY && sim->path)
        return why_set(why, EINVAL, "path is only for wave = replay");
    bool between = sim->wave != WAVE_CONSTANT && sim->wave != WAVE_REPLAY;
    if (between && !(sim->min < sim->max))
        return why_set(why, EINVAL, "min is not below max");
    if (!isfinite(sim->max - sim->min))
        return why_set(why, EINVAL, "min and max are too far apart");
    return 0;
}

static void sim_close(void *state)
{
    struct sim *sim = state;
    if (!sim)
        return;
    free(sim->series);
    free(sim);
}
DEFINE_CLEANUP(struct sim *, sim_close)

static int load_series(const char *path, struct series **ret_series, struct why *why)
{
    _cleanup_(freep) char *text = NULL;
    size_t length;
    int r = files_read(path, SERIES_MAX_SIZE, &text, &length);
    if (r < 0)
        return why_set(why, -r, "cannot read %s: %s", path, strerror(-r));
    struct why cause = { 0 };
    r = series_parse(text, length, ret_series, &cause);
    if (r < 0)
        return why_set(why, -r, "%s: %s", path, cause.text);
    return 0;
}

static int sim_open(const void *config, void **ret_state, struct why *why)
{
    _cleanup_(sim_closep) struct sim *sim = calloc(1, sizeof(*sim));
    if (!sim)
        return why_set(why, ENOMEM, "out of memory");
    sim->config = config;
    if (sim->config->wave == WAVE_REPLAY) {
        int r = load_series(sim->config->path, &sim->series, why);
        if (r < 0)
            return r;
    }
    sim->opened_mono_usec = clock_mono_usec();
    sim->seed = sim->opened_mono_usec ^ (uintptr_t)sim; // two of them differ
    *ret_state = TAKE_PTR(sim);
    return 0;
}

static int sim_read(void *state, double *ret_value, struct why *why)
{
    (void)why;
    struct sim *sim = state;
    const struct sim_config *config = sim->config;
    uint64_t elapsed_usec = clock_mono_usec() - sim->opened_mono_usec;
    if (config->wave == WAVE_REPLAY)
        *ret_value = series_at(sim->series, sim->n_readings++, elapsed_usec);
    else if (config->wave == WAVE_NOISE)
        *ret_value = waveform_noise(config->min, config->max, &sim->seed);
    else
        *ret_value = waveform_at((enum waveform)config->wave, config->min, config->max,
                                 config->period_usec, elapsed_usec);
    return 0;
}

const struct sensor_driver sensor_driver_sim = {
    .base.name = "sim",
    .base.help = "A simulated sensor: a curve over time, noise, or a recording.",
    .base.options = options,
    .base.n_options = ELEMENTS(options),
    .base.config_size = sizeof(struct sim_config),
    .base.blocking = true,
    .base.check = sim_check,
    .open = sim_open,
    .read = sim_read,
    .base.close = sim_close,
};
