// SPDX-License-Identifier: LGPL-2.1-or-later
// The engine's series over a restart and a reload: says what is to be kept, and takes it back.
// Paced, so that a large fleet's series cost the disk a steady little.
#include <assert.h>
#include <string.h>

#include "server/engine-internal.h"

#include "util/clock.h"

enum { KEEP_PORTION = 20 }; // devices at a time

static const uint64_t keep_after_usec = 300 * USEC_PER_SEC; // what a crash may cost
static const uint64_t keep_pause_usec = 100 * USEC_PER_MSEC;

void engine_mark_unkept(struct engine *engine, struct fleet_device *device)
{
    // Without memory for it, it is kept after its next reading.
    if (engine->handlers->keep && device->unkept.place == 0)
        heap_put(&engine->unkept, &device->unkept, engine->now.mono_usec + keep_after_usec);
}

static const char *name_of(const struct engine *engine, size_t i)
{
    return ruleset_slot_at(engine->rules, ruleset_series(engine->rules, i)->slot)->name;
}

static void keep(struct engine *engine, struct fleet_device *device)
{
    unsigned char bytes[SERIES_MAX_SAVED];
    for (size_t i = 0; i < ruleset_n_series(engine->rules); i++) {
        if (!device->series[i])
            continue;
        size_t n_bytes = series_save(device->series[i], bytes);
        engine->handlers->keep(engine->userdata, device->id,
                               ruleset_series(engine->rules, i)->span_usec, name_of(engine, i),
                               bytes, n_bytes);
    }
}

void engine_discard_kept(struct engine *engine, struct fleet_device *device)
{
    heap_remove(&engine->unkept, &device->unkept);
    for (size_t i = 0; engine->handlers->keep && i < ruleset_n_series(engine->rules); i++) {
        if (device->series[i])
            engine->handlers->keep(engine->userdata, device->id,
                                   ruleset_series(engine->rules, i)->span_usec, name_of(engine, i),
                                   NULL, 0);
    }
}

void engine_flush(struct engine *engine, size_t max_devices)
{
    struct heap_entry *first;
    for (size_t i = 0; i < max_devices && (first = heap_first(&engine->unkept)); i++) {
        heap_remove(&engine->unkept, first);
        keep(engine,
             (struct fleet_device *)((char *)first - offsetof(struct fleet_device, unkept)));
    }
}

uint64_t engine_keep_mono_usec(const struct engine *engine)
{
    const struct heap_entry *first = heap_first(&engine->unkept);
    if (!first)
        return USEC_INFINITY;
    return first->key > engine->keep_mono_usec ? first->key : engine->keep_mono_usec;
}

void engine_run_keep(struct engine *engine)
{
    struct heap_entry *first;
    if (engine->now.mono_usec < engine_keep_mono_usec(engine))
        return;
    engine->keep_mono_usec = engine->now.mono_usec + keep_pause_usec;
    for (size_t i = 0; i < KEEP_PORTION && (first = heap_first(&engine->unkept)) &&
                       first->key <= engine->now.mono_usec;
         i++)
        engine_flush(engine, 1);
}

/* The series of a name and a span; SIZE_MAX: no rule looks at it. */
static size_t find_series(const struct engine *engine, uint64_t span_usec, const char *name)
{
    size_t slot = ruleset_slot(engine->rules, name);
    for (size_t i = 0; slot != SIZE_MAX && i < ruleset_n_series(engine->rules); i++) {
        const struct server_series *series = ruleset_series(engine->rules, i);
        if (series->slot == slot && series->span_usec == span_usec)
            return i;
    }
    return SIZE_MAX;
}

int engine_restore(struct engine *engine, struct topic_slice id, uint64_t span_usec,
                   const char *name, const unsigned char *bytes, size_t n_bytes,
                   const struct ruleset_now *now)
{
    _cleanup_(series_freep) struct series *series = NULL;
    struct fleet_device *device = NULL;
    size_t i = find_series(engine, span_usec, name);
    if (i == SIZE_MAX)
        return -ENOENT;
    int r = series_load(span_usec, bytes, n_bytes, &series);
    if (r == 0)
        r = engine_hear(engine, id, now, &device);
    if (r < 0)
        return r;
    assert(device);
    series_free(device->series[i]);
    device->series[i] = TAKE_PTR(series);
    return 0;
}

struct inheritance {
    struct engine *engine, *old;
    const struct ruleset_now *now;
};

static void inherit_device(struct fleet_device *device, void *userdata)
{
    const struct inheritance *of = userdata;
    const struct topic_slice id = { device->id, strlen(device->id) };
    struct fleet_device *heir;
    for (size_t i = 0; i < ruleset_n_series(of->old->rules); i++) {
        size_t k = find_series(of->engine, ruleset_series(of->old->rules, i)->span_usec,
                               name_of(of->old, i));
        if (k == SIZE_MAX || !device->series[i] || engine_hear(of->engine, id, of->now, &heir) < 0)
            continue;
        heir->series[k] = TAKE_PTR(device->series[i]);
        engine_mark_unkept(of->engine, heir);
    }
}

void engine_inherit(struct engine *engine, struct engine *old, const struct ruleset_now *now)
{
    size_t cursor = 0;
    struct inheritance inheritance = { engine, old, now };
    while (fleet_visit(old->fleet, &cursor, SIZE_MAX, inherit_device, &inheritance))
        ;
}
