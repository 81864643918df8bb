// SPDX-License-Identifier: LGPL-2.1-or-later
// The devices that have been heard of. Owns their memory; a hash table with a list by age. Pure:
// reads no clock and does no I/O.
#include "server/fleet.h"

#include <assert.h>
#include <string.h>

#include "util/hash.h"

enum { MIN_BUCKETS = 64 };

struct fleet {
    struct fleet_shape shape;
    size_t n_devices, n_buckets; // n_buckets is a power of two
    struct fleet_device **buckets;
    TAILQ_HEAD(, fleet_device) ages; // the one heard of longest ago first
};

uint64_t fleet_hash(struct topic_slice id)
{
    return hash_bytes(id.bytes, id.length);
}

static bool has_id(const struct fleet_device *device, uint64_t hash, struct topic_slice id)
{
    return device->hash == hash && strncmp(device->id, id.bytes, id.length) == 0 &&
           device->id[id.length] == '\0';
}

static struct fleet_device **bucket(const struct fleet *fleet, uint64_t hash)
{
    return &fleet->buckets[hash & (fleet->n_buckets - 1)];
}

static void free_device(const struct fleet *fleet, struct fleet_device *device)
{
    for (size_t i = 0; i < fleet->shape.n_series; i++)
        series_free(device->series[i]);
    free(device);
}

void fleet_forget_oldest(struct fleet *fleet)
{
    struct fleet_device *device = TAILQ_FIRST(&fleet->ages);
    struct fleet_device **at = bucket(fleet, device->hash);
    while (*at != device)
        at = &(*at)->next;
    *at = device->next;
    TAILQ_REMOVE(&fleet->ages, device, age);
    free_device(fleet, device);
    fleet->n_devices--;
}

/* Doubles the table; when memory is short the chains only grow longer. */
static void grow(struct fleet *fleet)
{
    size_t n_buckets = fleet->n_buckets * 2;
    struct fleet_device **buckets = calloc(n_buckets, sizeof(struct fleet_device *));
    if (!buckets)
        return;
    free(fleet->buckets);
    fleet->buckets = buckets;
    fleet->n_buckets = n_buckets;
    for (struct fleet_device *device = TAILQ_FIRST(&fleet->ages); device;
         device = TAILQ_NEXT(device, age)) {
        struct fleet_device **at = bucket(fleet, device->hash);
        device->next = *at;
        *at = device;
    }
}

static struct fleet_device *new_device(const struct fleet *fleet, struct topic_slice id)
{
    const struct fleet_shape *shape = &fleet->shape;
    static const size_t align = _Alignof(struct fleet_share);
    size_t readings = (sizeof(struct fleet_device) + id.length + 1 + align - 1) / align * align;
    size_t shares = readings + shape->n_slots * sizeof(struct expr_reading);
    size_t series = shares + shape->n_shares * sizeof(struct fleet_share);
    size_t rules = series + shape->n_series * sizeof(struct series *);
    size_t late = rules + shape->n_rules * sizeof(struct fleet_rule);
    char *block = calloc(1, late + shape->n_slots * sizeof(bool));
    if (!block)
        return NULL;
    struct fleet_device *device = (struct fleet_device *)block;
    device->readings = (struct expr_reading *)(block + readings);
    device->shares = (struct fleet_share *)(block + shares);
    device->series = (struct series **)(block + series);
    device->rules = (struct fleet_rule *)(block + rules);
    device->late = (bool *)(block + late);
    for (size_t i = 0; i < shape->n_shares; i++)
        device->shares[i].device = device;
    memcpy(device->id, id.bytes, id.length);
    return device;
}

int fleet_new(const struct fleet_shape *shape, struct fleet **ret_fleet)
{
    _cleanup_(fleet_freep) struct fleet *fleet = calloc(1, sizeof(*fleet));
    if (!fleet)
        return -ENOMEM;
    TAILQ_INIT(&fleet->ages);
    fleet->shape = *shape;
    fleet->n_buckets = MIN_BUCKETS;
    fleet->buckets = calloc(MIN_BUCKETS, sizeof(struct fleet_device *));
    if (!fleet->buckets)
        return -ENOMEM;
    *ret_fleet = TAKE_PTR(fleet);
    return 0;
}

void fleet_free(struct fleet *fleet)
{
    if (!fleet)
        return;
    struct fleet_device *device;
    while ((device = TAILQ_FIRST(&fleet->ages))) {
        TAILQ_REMOVE(&fleet->ages, device, age);
        free_device(fleet, device);
    }
    free(fleet->buckets);
    free(fleet);
}

size_t fleet_count(const struct fleet *fleet)
{
    return fleet->n_devices;
}

static struct fleet_device *find(const struct fleet *fleet, uint64_t hash, struct topic_slice id)
{
    struct fleet_device *device = *bucket(fleet, hash);
    while (device && !has_id(device, hash, id))
        device = device->next;
    return device;
}

struct fleet_device *fleet_find(struct fleet *fleet, struct topic_slice id)
{
    return find(fleet, fleet_hash(id), id);
}

struct fleet_device *fleet_find_hash(struct fleet *fleet, uint64_t hash)
{
    struct fleet_device *device = *bucket(fleet, hash);
    while (device && device->hash != hash)
        device = device->next;
    return device;
}

int fleet_hear(struct fleet *fleet, struct topic_slice id, struct fleet_device **ret_device,
               bool *ret_new)
{
    uint64_t hash = fleet_hash(id);
    struct fleet_device *device = find(fleet, hash, id);
    *ret_new = !device;
    if (device) {
        TAILQ_REMOVE(&fleet->ages, device, age);
    } else {
        if (fleet->n_devices >= FLEET_MAX_DEVICES)
            return -ENOBUFS;
        device = new_device(fleet, id);
        if (!device)
            return -ENOMEM;
        if (fleet->n_devices >= fleet->n_buckets)
            grow(fleet);
        device->hash = hash;
        device->next = *bucket(fleet, hash);
        *bucket(fleet, hash) = device;
        fleet->n_devices++;
    }
    TAILQ_INSERT_TAIL(&fleet->ages, device, age);
    *ret_device = device;
    return 0;
}

struct fleet_device *fleet_next(const struct fleet *fleet, size_t *cursor)
{
    struct fleet_device *first = NULL;
    while (!first && *cursor < fleet->n_buckets)
        first = fleet->buckets[(*cursor)++];
    return first;
}

struct fleet_device *fleet_oldest(const struct fleet *fleet)
{
    return TAILQ_FIRST(&fleet->ages);
}

static int by_age(const void *a, const void *b)
{
    uint64_t one = (*(struct fleet_device *const *)a)->heard_mono_usec;
    uint64_t other = (*(struct fleet_device *const *)b)->heard_mono_usec;
    return (one > other) - (one < other);
}

void fleet_sort(struct fleet *fleet)
{
    size_t n = 0;
    _cleanup_(freep) struct fleet_device **devices =
        calloc(fleet->n_devices + 1, sizeof(struct fleet_device *));
    if (!devices)
        return;
    for (struct fleet_device *device = TAILQ_FIRST(&fleet->ages); device;
         device = TAILQ_NEXT(device, age))
        devices[n++] = device;
    qsort(devices, n, sizeof(struct fleet_device *), by_age);
    TAILQ_INIT(&fleet->ages);
    for (size_t i = 0; i < n; i++)
        TAILQ_INSERT_TAIL(&fleet->ages, devices[i], age);
}
