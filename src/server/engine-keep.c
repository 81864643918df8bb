// SPDX-License-Identifier: LGPL-2.1-or-later
// What the engine knows, over a restart and a reload.
#include <assert.h>
#include <string.h>

#include "server/engine-internal.h"
#include "util/strings.h"

int engine_keep(struct engine *engine, uint64_t max_bytes)
{
    return pages_new(engine->rules, max_bytes, &engine->pages);
}

uint64_t engine_keep_mono_usec(const struct engine *engine)
{
    return pages_next_mono_usec(engine->pages);
}

int engine_next_record(struct engine *engine, const struct ruleset_now *now, bool all,
                       char key[static PAGES_KEY_SIZE], char **ret_value, size_t *ret_n_devices)
{
    return pages_next(engine->pages, now, all ? UINT64_MAX : now->mono_usec, key, ret_value,
                      ret_n_devices);
}

size_t engine_n_unkept(const struct engine *engine)
{
    return pages_n_unkept(engine->pages);
}

size_t engine_n_left_out(const struct engine *engine)
{
    return pages_n_left_out(engine->pages);
}

/* --- over a restart -------------------------------------------------------------------------- */

static int restore_device(struct engine *engine, const struct page_text *text, size_t i,
                          char *const *patterns, const struct ruleset_now *now)
{
    const char *id, *group;
    struct fleet_device *device = NULL;
    int r = page_text_device(text, i, &id, &group);
    if (r < 0)
        return r;
    if (!strings_match_any(patterns, id))
        return -ENOENT;
    device = fleet_find(engine->fleet, (struct topic_slice){ id, strlen(id) });
    if (!device)
        r = engine_make(engine, (struct topic_slice){ id, strlen(id) }, now, &device);
    if (r < 0)
        return r;
    assert(device);
    (void)groups_join(engine->groups, device,
                      (struct topic_slice){ group, group ? strlen(group) : 0 }, now);
    return pages_take(engine->pages, text, i, device, now);
}

int engine_restore(struct engine *engine, const char *key, const char *value, char *const *patterns,
                   const struct ruleset_now *now)
{
    struct page_text text;
    int r = pages_parse(engine->pages, key, value, &text), first = 0;
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_object_array_length(text.devices); i++) {
        r = restore_device(engine, &text, i, patterns, now);
        if (first == 0)
            first = r;
    }
    if (first < 0) // without those that are gone
        pages_renew(engine->pages, &text, now->mono_usec);
    json_object_put(text.object);
    return first == -ENOMEM ? first : 0;
}

void engine_restored(struct engine *engine, const struct ruleset_now *now)
{
    fleet_sort(engine->fleet);
    size_t cursor = 0;
    struct fleet_device *device;
    // Each may have been heard since that was written down.
    while ((device = fleet_next(engine->fleet, &cursor))) {
        for (; device; device = device->next) {
            uint64_t heard_mono_usec = device->heard_mono_usec + PAGES_HEARD_USEC;
            device->heard_mono_usec =
                heard_mono_usec < now->mono_usec ? heard_mono_usec : now->mono_usec;
        }
    }
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

int engine_restore_series(struct engine *engine, struct topic_slice id, uint64_t span_usec,
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
    pages_note(engine->pages, device, true, now->mono_usec);
    return 0;
}

/* --- over a reload --------------------------------------------------------------------------- */

static void inherit_device(struct engine *engine, const struct engine *old,
                           struct fleet_device *device, const struct ruleset_now *now)
{
    const struct topic_slice id = { device->id, strlen(device->id) };
    struct topic_slice group = { NULL, 0 };
    struct fleet_device *heir;
    if (engine_make(engine, id, now, &heir) < 0)
        return;
    if (device->group && device->is_group_named)
        group = (struct topic_slice){ device->group->name, strlen(device->group->name) };
    (void)groups_join(engine->groups, heir, group, now);
    heir->heard_mono_usec = device->heard_mono_usec;
    heir->online = device->online;
    for (size_t i = 0; i < ruleset_n_series(old->rules); i++) {
        const struct server_series *series = ruleset_series(old->rules, i);
        size_t k =
            find_series(engine, series->span_usec, ruleset_slot_at(old->rules, series->slot)->name);
        if (k != SIZE_MAX)
            heir->series[k] = TAKE_PTR(device->series[i]);
    }
}

void engine_inherit(struct engine *engine, struct engine *old, char *const *patterns,
                    const struct ruleset_now *now)
{
    size_t cursor = 0;
    struct fleet_device *device;
    while ((device = fleet_next(old->fleet, &cursor))) {
        for (; device; device = device->next) {
            if (strings_match_any(patterns, device->id))
                inherit_device(engine, old, device, now);
        }
    }
    fleet_sort(engine->fleet);
    if (engine->pages && old->pages)
        pages_replace(engine->pages, old->pages, now->mono_usec);
}
