// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The readings of a span of time; see series.h. Parts are combined as by Chan, Golub and LeVeque
 * (1979), with the covariance of time and value beside the variances, for the slope.
 */
#include "core/series.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "util/clock.h"

enum { MAX_PARTS = SERIES_PARTS + 1, FIRST_ROOM = 4 };

/* The sums of some readings. Times are in seconds from the beginning of a part. */
struct sums {
    double n, value, time;                // count and means
    double of_value, of_time, of_product; // squared distances from the means, and their product
    double min, max;
};

struct part {
    uint64_t index;            // of the part, counted from the epoch
    uint64_t newest_wall_usec; // of its readings
    struct sums sums;
};

struct series {
    uint64_t span_usec, part_usec;
    size_t n_parts, n_room;
    struct part *parts; // by time, the oldest first
};

static void combine(struct sums *sums, const struct sums *other, double shift)
{
    double n = sums->n + other->n;
    double value = other->value - sums->value, time = other->time + shift - sums->time;
    double weight = sums->n * other->n / n, share = other->n / n;
    sums->of_value += other->of_value + value * value * weight;
    sums->of_time += other->of_time + time * time * weight;
    sums->of_product += other->of_product + value * time * weight;
    sums->value += value * share;
    sums->time += time * share;
    sums->min = fmin(sums->min, other->min);
    sums->max = fmax(sums->max, other->max);
    sums->n = n;
}

int series_new(uint64_t span_usec, struct series **ret_series)
{
    struct series *series = calloc(1, sizeof(*series));
    if (!series)
        return -ENOMEM;
    series->span_usec = span_usec;
    series->part_usec = span_usec / SERIES_PARTS + (span_usec % SERIES_PARTS > 0);
    *ret_series = series;
    return 0;
}

void series_free(struct series *series)
{
    if (!series)
        return;
    free(series->parts);
    free(series);
}

static bool is_within(const struct series *series, uint64_t wall_usec, uint64_t now_wall_usec)
{
    return wall_usec > now_wall_usec || now_wall_usec - wall_usec < series->span_usec;
}

static void drop(struct series *series, size_t n_oldest)
{
    if (n_oldest == 0)
        return;
    series->n_parts -= n_oldest;
    memmove(series->parts, series->parts + n_oldest, series->n_parts * sizeof(*series->parts));
}

static void drop_old(struct series *series, uint64_t now_wall_usec)
{
    size_t n_old = 0;
    while (n_old < series->n_parts &&
           !is_within(series, series->parts[n_old].newest_wall_usec, now_wall_usec))
        n_old++;
    drop(series, n_old);
}

static int make_room(struct series *series)
{
    if (series->n_parts < series->n_room)
        return 0;
    size_t n_room = series->n_room > 0 ? series->n_room * 2 : FIRST_ROOM;
    if (n_room > MAX_PARTS)
        n_room = MAX_PARTS;
    struct part *parts = reallocarray(series->parts, n_room, sizeof(*parts));
    if (!parts)
        return -ENOMEM;
    series->parts = parts;
    series->n_room = n_room;
    return 0;
}

int series_add(struct series *series, double value, uint64_t wall_usec, uint64_t now_wall_usec)
{
    if (wall_usec > now_wall_usec)
        wall_usec = now_wall_usec;
    if (!is_within(series, wall_usec, now_wall_usec))
        return 0;
    drop_old(series, now_wall_usec);
    uint64_t index = wall_usec / series->part_usec;
    size_t at = series->n_parts;
    while (at > 0 && series->parts[at - 1].index > index)
        at--;
    const struct sums sums = {
        .n = 1,
        .value = value,
        .time = (double)(wall_usec % series->part_usec) / (double)USEC_PER_SEC,
        .min = value,
        .max = value,
    };
    if (at > 0 && series->parts[at - 1].index == index) {
        struct part *part = &series->parts[at - 1];
        combine(&part->sums, &sums, 0);
        if (part->newest_wall_usec < wall_usec)
            part->newest_wall_usec = wall_usec;
        return 0;
    }
    // So many are not within one span: a clock that was set back has left parts from the future.
    if (series->n_parts == MAX_PARTS)
        series->n_parts--;
    assert(at <= series->n_parts);
    int r = make_room(series);
    if (r < 0)
        return r;
    memmove(series->parts + at + 1, series->parts + at,
            (series->n_parts - at) * sizeof(*series->parts));
    series->parts[at] = (struct part){ index, wall_usec, sums };
    series->n_parts++;
    return 0;
}

/*
 * All of the window, which is the parts from *ret_first to before *ret_end; false when there is
 * nothing. What a clock that was set back has left in the future is not in it.
 */
static bool sum_up(const struct series *series, uint64_t now_wall_usec, struct sums *ret_sums,
                   size_t *ret_first, size_t *ret_end)
{
    size_t i = 0, end = series->n_parts;
    while (end > 0 && series->parts[end - 1].index > now_wall_usec / series->part_usec)
        end--;
    while (i < end && !is_within(series, series->parts[i].newest_wall_usec, now_wall_usec))
        i++;
    if (i == end)
        return false;
    uint64_t first_index = series->parts[i].index;
    *ret_first = i;
    *ret_end = end;
    *ret_sums = series->parts[i].sums;
    for (i++; i < end; i++) {
        const struct part *part = &series->parts[i];
        double shift = (double)(part->index - first_index) * (double)series->part_usec;
        combine(ret_sums, &part->sums, shift / (double)USEC_PER_SEC);
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    double one = (*(const struct sums *const *)a)->value;
    double other = (*(const struct sums *const *)b)->value;
    return (one > other) - (one < other);
}

static double median(const struct series *series, size_t first, size_t end, double n)
{
    const struct sums *parts[MAX_PARTS];
    size_t n_parts = 0;
    for (size_t i = first; i < end; i++)
        parts[n_parts++] = &series->parts[i].sums;
    qsort(parts, n_parts, sizeof(const struct sums *), by_value);
    double seen = 0;
    for (size_t i = 0; i + 1 < n_parts; i++) {
        seen += parts[i]->n;
        if (seen == n / 2)
            return parts[i]->value / 2 + parts[i + 1]->value / 2;
        if (seen > n / 2)
            return parts[i]->value;
    }
    return parts[n_parts - 1]->value;
}

static double value_of(const struct series *series, const struct sums *sums, size_t first,
                       size_t end, enum aggregate aggregate)
{
    switch (aggregate) {
    case AGGREGATE_MIN:
        return sums->min;
    case AGGREGATE_MAX:
        return sums->max;
    case AGGREGATE_MEAN:
        return sums->value;
    case AGGREGATE_MEDIAN:
        return median(series, first, end, sums->n);
    case AGGREGATE_SUM:
        return sums->value * sums->n;
    case AGGREGATE_COUNT:
        return sums->n;
    case AGGREGATE_STDDEV:
        return sqrt(sums->of_value / sums->n);
    case AGGREGATE_RATE:
        return sums->of_product / sums->of_time; // 0 / 0 of a single moment
    }
    return NAN;
}

double series_value(const struct series *series, enum aggregate aggregate, uint64_t now_wall_usec)
{
    struct sums sums;
    size_t first = 0, end = 0;
    if (!sum_up(series, now_wall_usec, &sums, &first, &end))
        return aggregate == AGGREGATE_COUNT || aggregate == AGGREGATE_SUM ? 0 : NAN;
    double value = value_of(series, &sums, first, end, aggregate);
    return isfinite(value) ? value : NAN;
}

size_t series_size(const struct series *series)
{
    return sizeof(*series) + series->n_room * sizeof(*series->parts);
}

/* --- saved ----------------------------------------------------------------------------------- */
/*
 * A byte that says how, the span, and the parts. Of a part there is how much newer it is than the
 * one before, and how many readings it has; then its sums, or of a single reading its value alone.
 * Numbers are cut to the bytes that are not zero.
 */

enum { SAVED = 2 };

static const char old_magic[8] = "series1";

struct cursor {
    const unsigned char *at, *end;
    bool is_bad;
};

static unsigned char *put_count(unsigned char *out, uint64_t count)
{
    for (; count > 0x7f; count >>= 7)
        *out++ = (unsigned char)(count | 0x80);
    *out++ = (unsigned char)count;
    return out;
}

static uint64_t take_count(struct cursor *in)
{
    uint64_t count = 0;
    for (unsigned shift = 0; in->at < in->end && shift < 64; shift += 7) {
        unsigned char byte = *in->at++;
        count |= (uint64_t)(byte & 0x7f) << shift;
        if (byte <= 0x7f)
            return count;
    }
    in->is_bad = true;
    return 0;
}

static unsigned char *put_number(unsigned char *out, double number)
{
    uint64_t bits;
    unsigned char *size = out++;
    memcpy(&bits, &number, sizeof(bits));
    for (*size = 0; bits != 0; bits <<= 8, ++*size)
        *out++ = (unsigned char)(bits >> 56);
    return out;
}

static double take_number(struct cursor *in)
{
    uint64_t bits = 0;
    double number;
    size_t size = in->at < in->end ? *in->at++ : SIZE_MAX;
    if (size > sizeof(bits) || size > (size_t)(in->end - in->at)) {
        in->is_bad = true;
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        bits |= (uint64_t)*in->at++ << (56 - 8 * i);
    memcpy(&number, &bits, sizeof(number));
    return number;
}

size_t series_save(const struct series *series, unsigned char *out)
{
    _Static_assert(1 + 10 + MAX_PARTS * (10 + 10 + 7 * 9) <= SERIES_MAX_SAVED,
                   "SERIES_MAX_SAVED is too small");
    unsigned char *at = out;
    uint64_t before_wall_usec = 0;
    *at++ = SAVED;
    at = put_count(at, series->span_usec);
    for (size_t i = 0; i < series->n_parts; i++) {
        const struct part *part = &series->parts[i];
        const double *sums = &part->sums.value;
        at = put_count(at, part->newest_wall_usec - before_wall_usec);
        before_wall_usec = part->newest_wall_usec;
        at = put_count(at, (uint64_t)part->sums.n);
        size_t n_sums = part->sums.n > 1 ? sizeof(part->sums) / sizeof(double) - 1 : 1;
        for (size_t k = 0; k < n_sums; k++)
            at = put_number(at, sums[k]);
    }
    return (size_t)(at - out);
}

static double time_in_part(const struct series *series, uint64_t wall_usec)
{
    return (double)(wall_usec % series->part_usec) / (double)USEC_PER_SEC;
}

static struct part take_part(const struct series *series, struct cursor *in,
                             uint64_t before_wall_usec)
{
    struct part part = { .newest_wall_usec = before_wall_usec + take_count(in) };
    part.index = part.newest_wall_usec / series->part_usec;
    struct sums *sums = &part.sums;
    sums->n = (double)take_count(in);
    sums->value = sums->min = sums->max = take_number(in);
    sums->time = time_in_part(series, part.newest_wall_usec);
    for (size_t k = 1; sums->n > 1 && k < sizeof(*sums) / sizeof(double) - 1; k++)
        (&sums->value)[k] = take_number(in);
    return part;
}

static bool is_sound(const struct part *part, const struct part *before)
{
    const double *sums = &part->sums.n;
    for (size_t k = 0; k < sizeof(part->sums) / sizeof(*sums); k++) {
        if (!isfinite(sums[k]))
            return false;
    }
    return part->sums.n >= 1 && (!before || before->index < part->index);
}

/* As early versions wrote it: "series1", the span, and the parts as they were in memory. */
static int load_old(uint64_t span_usec, const unsigned char *bytes, size_t n_bytes,
                    struct series **ret_series)
{
    enum { HEAD = 8 + sizeof(span_usec) };
    _cleanup_(series_freep) struct series *series = NULL;
    if (n_bytes < HEAD || memcmp(bytes + 8, &span_usec, sizeof(span_usec)) != 0 ||
        (n_bytes - HEAD) % sizeof(struct part) != 0 ||
        (n_bytes - HEAD) / sizeof(struct part) > MAX_PARTS)
        return -EBADMSG;
    int r = series_new(span_usec, &series);
    for (size_t at = HEAD; r == 0 && at < n_bytes; at += sizeof(struct part)) {
        struct part part;
        memcpy(&part, bytes + at, sizeof(part));
        if (!is_sound(&part, series->n_parts > 0 ? &series->parts[series->n_parts - 1] : NULL) ||
            part.newest_wall_usec / series->part_usec != part.index)
            return -EBADMSG;
        r = make_room(series);
        if (r == 0)
            series->parts[series->n_parts++] = part;
    }
    if (r == 0)
        *ret_series = TAKE_PTR(series);
    return r;
}

int series_load(uint64_t span_usec, const unsigned char *bytes, size_t n_bytes,
                struct series **ret_series)
{
    if (n_bytes >= sizeof(old_magic) && memcmp(bytes, old_magic, sizeof(old_magic)) == 0)
        return load_old(span_usec, bytes, n_bytes, ret_series);
    struct cursor in = { bytes, bytes + n_bytes, false };
    if (n_bytes < 1 || *in.at++ != SAVED || take_count(&in) != span_usec)
        return -EBADMSG;
    _cleanup_(series_freep) struct series *series = NULL;
    int r = series_new(span_usec, &series);
    while (r == 0 && !in.is_bad && in.at < in.end) {
        const struct part *before =
            series->n_parts > 0 ? &series->parts[series->n_parts - 1] : NULL;
        const struct part part = take_part(series, &in, before ? before->newest_wall_usec : 0);
        if (in.is_bad || series->n_parts == MAX_PARTS || !is_sound(&part, before))
            return -EBADMSG;
        r = make_room(series);
        if (r == 0)
            series->parts[series->n_parts++] = part;
    }
    if (r == 0 && in.is_bad)
        r = -EBADMSG;
    if (r == 0)
        *ret_series = TAKE_PTR(series);
    return r;
}
