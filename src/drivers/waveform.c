// SPDX-License-Identifier: LGPL-2.1-or-later
// Curves and recorded series for the simulated sensor; see waveform.h. Pure, no I/O.
#include "drivers/waveform.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "drivers/reading.h"
#include "util/clock.h"
#include "util/random.h"

double waveform_at(enum waveform wave, double min, double max, uint64_t period_usec,
                   uint64_t elapsed_usec)
{
    double phase = (double)(elapsed_usec % period_usec) / (double)period_usec;
    switch (wave) {
    case WAVE_CONSTANT:
        return min;
    case WAVE_SINE:
        return min + (max - min) * (1 - cos(2 * M_PI * phase)) / 2;
    case WAVE_RAMP:
        return min + (max - min) * phase;
    case WAVE_NOISE:
    case WAVE_REPLAY:
        break;
    }
    assert(!"no curve over time");
    return min;
}

double waveform_noise(double min, double max, uint64_t *seed)
{
    return min + (max - min) * ((double)(random_next(seed) >> 11) / (double)(1ULL << 53));
}

static int parse_row(const char *line, size_t length, struct series_row *row, bool *ret_timed,
                     struct why *why)
{
    *row = (struct series_row){ 0 };
    const char *comma = memchr(line, ',', length);
    *ret_timed = comma != NULL;
    if (!comma)
        return reading_from_text(line, length, &row->value, why);
    size_t n_seconds = (size_t)(comma - line);
    int r = reading_from_text(line, n_seconds, &row->seconds, why);
    if (r < 0)
        return r;
    if (fabs(row->seconds) > 1e9) // 30 years; microseconds of it stay exact
        return why_set(why, ERANGE, "the time is beyond 1e9 seconds");
    return reading_from_text(comma + 1, length - n_seconds - 1, &row->value, why);
}

static int add_row(struct series *series, const char *line, size_t length, struct why *why)
{
    struct series_row row;
    bool timed;
    if (series->n_rows == SERIES_MAX_ROWS)
        return why_set(why, EFBIG, "more than %d rows", SERIES_MAX_ROWS);
    int r = parse_row(line, length, &row, &timed, why);
    if (r < 0)
        return r;
    if (series->n_rows > 0 && timed != series->timed)
        return why_set(why, EBADMSG, "some lines have a time and some have none");
    if (series->n_rows > 0 && timed && row.seconds <= series->rows[series->n_rows - 1].seconds)
        return why_set(why, EBADMSG, "the time is not later than that of the line before");
    series->timed = timed;
    series->rows[series->n_rows++] = row;
    return 0;
}

static bool is_skipped(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return line[i] == '#';
    return true;
}

int series_parse(const char *bytes, size_t length, struct series **ret_series, struct why *why)
{
    size_t n_lines = 1;
    for (size_t i = 0; i < length; i++)
        n_lines += bytes[i] == '\n';
    if (n_lines > SERIES_MAX_ROWS)
        n_lines = SERIES_MAX_ROWS;
    _cleanup_(freep) struct series *series =
        calloc(1, sizeof(*series) + n_lines * sizeof(series->rows[0]));
    if (!series)
        return why_set(why, ENOMEM, "out of memory");
    const char *end = bytes + length;
    for (unsigned number = 1; bytes < end; number++) {
        const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));
        size_t n = (size_t)((newline ? newline : end) - bytes);
        struct why cause = { 0 };
        int r = is_skipped(bytes, n) ? 0 : add_row(series, bytes, n, &cause);
        if (r < 0)
            return why_set(why, r == -EFBIG ? EFBIG : EBADMSG, "line %u: %s", number, cause.text);
        bytes += n + (newline != NULL);
    }
    if (series->n_rows == 0)
        return why_set(why, EBADMSG, "no values in it");
    *ret_series = TAKE_PTR(series);
    return 0;
}

double series_at(const struct series *series, uint64_t n, uint64_t elapsed_usec)
{
    const struct series_row *rows = series->rows;
    size_t n_rows = series->n_rows;
    if (!series->timed)
        return rows[n % n_rows].value;
    if (n_rows == 1)
        return rows[0].value;
    double loop_seconds = 2 * rows[n_rows - 1].seconds - rows[n_rows - 2].seconds - rows[0].seconds;
    double at = rows[0].seconds + fmod((double)elapsed_usec / (double)USEC_PER_SEC, loop_seconds);
    size_t low = 0, high = n_rows; // the last row that is not later than `at`
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (rows[middle].seconds <= at)
            low = middle;
        else
            high = middle;
    }
    return rows[low].value;
}
