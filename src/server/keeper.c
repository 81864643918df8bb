// SPDX-License-Identifier: LGPL-2.1-or-later
// The engine's records on their way to the store and back; see keeper.h. Owns the pace.
#include "server/keeper.h"

#include <string.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/ratelimit.h"
#include "util/strings.h"

enum {
    MAX_IN_FLIGHT = 1 << 20, // bytes that the store is given at once
    MAX_TURN = 64 << 10,     // bytes, or little more, that are made in one turn of the loop
    MAX_KEY = 256,
};

// 250,000 devices have their turn within 80 s.
static const uint64_t pause_usec = 5 * USEC_PER_MSEC;
static const uint64_t trouble_pause_usec = 10 * USEC_PER_SEC;
// At a stop: a disk that takes nothing for that long is not waited for.
static const uint64_t patience_usec = 3 * USEC_PER_SEC;

static const char fleet_space[] = "fleet";
static const char series_space[] = "series"; // of early versions

struct keeper {
    sd_event_source *timer;
    struct outbox *outbox;
    struct engine *engine;
    bool is_armed;
    uint64_t paused_mono_usec; // nothing is written before
    struct ratelimit left_out;
    // At a stop:
    uint64_t ticket;           // of what the store has been given and has not recorded; 0: nothing
    size_t n_bytes, n_devices; // of that
    uint64_t progress_mono_usec;
    bool is_told;
};

static struct ruleset_now now(void)
{
    return (struct ruleset_now){ clock_mono_usec(), clock_wall_usec() };
}

/* --- writing --------------------------------------------------------------------------------- */

/* Returns how many bytes the next record has; 0: there is none. Adds the devices on it. */
static size_t put_next(struct keeper *keeper, bool all, size_t *n_devices)
{
    char key[PAGES_KEY_SIZE];
    _cleanup_(freep) char *value = NULL;
    size_t n = 0;
    const struct ruleset_now at = now();
    if (pages_next(engine_pages(keeper->engine), &at, all ? UINT64_MAX : at.mono_usec, key, &value,
                   &n) <= 0)
        return 0;
    if (outbox_put_record(keeper->outbox, fleet_space, key, value) < 0)
        log_debug(NULL, "no memory for a record of the fleet");
    *n_devices += n;
    return sizeof(key) + (value ? strlen(value) : 0);
}

static void tell_left_out(struct keeper *keeper)
{
    size_t n = pages_n_left_out(engine_pages(keeper->engine));
    if (n > 0 && ratelimit_pass(&keeper->left_out, clock_mono_usec(), NULL))
        log_warning(NULL,
                    "what is known of %zu devices is not kept over a restart: all together it has "
                    "more than half of max_size in [queue]",
                    n);
}

void keeper_arm(struct keeper *keeper)
{
    uint64_t next_mono_usec = pages_next_mono_usec(engine_pages(keeper->engine));
    if (keeper->is_armed || next_mono_usec == USEC_INFINITY)
        return;
    if (next_mono_usec < keeper->paused_mono_usec)
        next_mono_usec = keeper->paused_mono_usec;
    sd_event_source_set_time(keeper->timer, next_mono_usec);
    sd_event_source_set_enabled(keeper->timer, SD_EVENT_ONESHOT);
    keeper->is_armed = true;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    struct keeper *keeper = userdata;
    size_t n_devices = 0;
    keeper->is_armed = false;
    keeper->paused_mono_usec = clock_mono_usec() + pause_usec;
    if (outbox_trouble(keeper->outbox)) // what waits for the disk would grow without bound
        keeper->paused_mono_usec += trouble_pause_usec;
    else
        put_next(keeper, false, &n_devices);
    tell_left_out(keeper);
    keeper_arm(keeper);
    return 0;
}

/* --- a stop ---------------------------------------------------------------------------------- */

void keeper_recorded(struct keeper *keeper, uint64_t ticket)
{
    if (keeper->ticket == 0 || ticket < keeper->ticket || outbox_trouble(keeper->outbox))
        return;
    keeper->ticket = keeper->n_bytes = keeper->n_devices = 0;
    keeper->progress_mono_usec = clock_mono_usec();
}

/* The store takes no more. */
static void give_up(struct keeper *keeper)
{
    size_t n = pages_n_unkept(engine_pages(keeper->engine)) + keeper->n_devices;
    const char *trouble = outbox_trouble(keeper->outbox);
    if (n > 0 && !keeper->is_told)
        log_warning(
            NULL,
            "what was last heard of %zu devices is not kept over the restart, for them what "
            "was written before counts: %s",
            n, trouble ? trouble : "the disk takes too long");
    keeper->is_told = true;
}

static void fill(struct keeper *keeper)
{
    size_t n_bytes = 0, n;
    do {
        n = put_next(keeper, true, &keeper->n_devices);
        n_bytes += n;
    } while (n > 0 && n_bytes < MAX_TURN);
    keeper->n_bytes += n_bytes;
    if (keeper->n_bytes >= MAX_IN_FLIGHT || (n == 0 && keeper->n_bytes > 0))
        keeper->ticket = outbox_sync_records(keeper->outbox);
}

bool keeper_finish(struct keeper *keeper, bool is_last)
{
    uint64_t now_mono_usec = clock_mono_usec();
    if (keeper->progress_mono_usec == 0)
        keeper->progress_mono_usec = now_mono_usec;
    if (is_last || outbox_trouble(keeper->outbox) ||
        now_mono_usec - keeper->progress_mono_usec > patience_usec) {
        give_up(keeper);
        return true;
    }
    if (keeper->ticket > 0)
        return false;
    fill(keeper);
    if (keeper->n_bytes > 0)
        return false;
    tell_left_out(keeper);
    return true;
}

/* --- the start ------------------------------------------------------------------------------- */

struct restoration {
    struct keeper *keeper;
    char *const *patterns;
    const struct ruleset_now *now;
};

static void on_record(void *userdata, const char *key, const char *value)
{
    const struct restoration *of = userdata;
    if (engine_restore(of->keeper->engine, key, value, of->patterns, of->now) == -EBADMSG)
        outbox_put_record(of->keeper->outbox, fleet_space, key, NULL);
}

/* Returns how many bytes there are, SIZE_MAX if it is none of our values. */
static size_t parse_hex(const char *text, unsigned char *out)
{
    size_t length = strlen(text), n_bytes = length / 2;
    bool is_ours = n_bytes <= SERIES_MAX_SAVED && length == 2 * n_bytes;
    return is_ours && strings_from_hex(text, n_bytes, out) ? n_bytes : SIZE_MAX;
}

/* Early versions had a record for each series: "ID/SPAN/NAME", the span in microseconds. */
static void on_series(void *userdata, const char *key, const char *value)
{
    const struct restoration *of = userdata;
    unsigned char bytes[SERIES_MAX_SAVED];
    char id[MAX_KEY + 1], *end;
    size_t n_id = strcspn(key, "/"), n_bytes = parse_hex(value, bytes);
    if (key[n_id] == '/' && n_id <= MAX_KEY && n_bytes != SIZE_MAX) {
        snprintf(id, sizeof(id), "%.*s", (int)n_id, key);
        uint64_t span_usec = strtoull(key + n_id + 1, &end, 10);
        if (*end == '/' && strings_match_any(of->patterns, id))
            (void)engine_restore_series(of->keeper->engine, (struct topic_slice){ id, n_id },
                                        span_usec, end + 1, bytes, n_bytes, of->now);
    }
    outbox_put_record(of->keeper->outbox, series_space, key, NULL);
}

int keeper_restore(struct keeper *keeper, struct spool *spool, char *const *patterns,
                   const struct ruleset_now *now, struct why *why)
{
    struct restoration restoration = { keeper, patterns, now };
    int r = spool_records(spool, fleet_space, on_record, &restoration, why);
    if (r >= 0)
        r = spool_records(spool, series_space, on_series, &restoration, why);
    engine_restored(keeper->engine, now);
    keeper_arm(keeper);
    return r;
}

/* --- life ------------------------------------------------------------------------------------ */

int keeper_new(sd_event *event, struct keeper **ret_keeper)
{
    _cleanup_(keeper_freep) struct keeper *keeper = calloc(1, sizeof(*keeper));
    if (!keeper)
        return -ENOMEM;
    keeper->left_out = (struct ratelimit){ .interval_usec = 3600 * USEC_PER_SEC, .burst = 1 };
    int r = sd_event_add_time(event, &keeper->timer, CLOCK_BOOTTIME, USEC_INFINITY,
                              10 * USEC_PER_MSEC, on_timer, keeper);
    if (r < 0)
        return r;
    *ret_keeper = TAKE_PTR(keeper);
    return 0;
}

void keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return;
    sd_event_source_disable_unref(keeper->timer);
    free(keeper);
}

void keeper_configure(struct keeper *keeper, struct outbox *outbox, struct engine *engine)
{
    keeper->outbox = outbox;
    keeper->engine = engine;
    keeper_arm(keeper);
}
