// SPDX-License-Identifier: LGPL-2.1-or-later
// The table of devices: finding, growing, making room.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/fleet.h"

static struct topic_slice slice(const char *id)
{
    return (struct topic_slice){ id, strlen(id) };
}

static struct fleet_device *hear(struct fleet *fleet, const char *id, bool expect_new)
{
    struct fleet_device *device = NULL;
    bool is_new;
    assert_int_equal(fleet_hear(fleet, slice(id), &device, &is_new), 0);
    assert_int_equal(is_new, expect_new);
    assert_string_equal(device->id, id);
    return device;
}

static void a_new_device_is_all_zeros(void **state)
{
    (void)state;
    _cleanup_(fleet_freep) struct fleet *fleet = NULL;
    assert_int_equal(fleet_new(&(struct fleet_shape){ 3, 2, 0, 0 }, &fleet), 0);
    const struct fleet_device *device = hear(fleet, "a", true);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(device->readings[i].mono_usec, 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(device->rules[i].state.outcome, RULE_UNDECIDED);
    assert_null(device->group);
}

static void a_device_keeps_its_readings_and_states(void **state)
{
    (void)state;
    _cleanup_(fleet_freep) struct fleet *fleet = NULL;
    assert_int_equal(fleet_new(&(struct fleet_shape){ 2, 3, 0, 0 }, &fleet), 0);
    struct fleet_device *device = hear(fleet, "lamp-1", true);
    device->readings[1] = (struct expr_reading){ .value = 250, .mono_usec = 7 };
    device->rules[2].sent_epoch = 9; // the last of the block: ASan sees a byte too far
    hear(fleet, "lamp-10", true);    // a longer id with the same beginning
    hear(fleet, "lamp", true);
    device = hear(fleet, "lamp-1", false);
    assert_true(device->readings[1].value == 250);
    assert_int_equal(device->rules[2].sent_epoch, 9);
    assert_ptr_equal(fleet_find(fleet, slice("lamp-1")), device);
    assert_null(fleet_find(fleet, slice("lamp-2")));
}

static void thousands_of_devices_are_all_found(void **state)
{
    (void)state;
    enum { N = 20000 };
    _cleanup_(fleet_freep) struct fleet *fleet = NULL;
    char id[32];
    assert_int_equal(fleet_new(&(struct fleet_shape){ 1, 1, 0, 0 }, &fleet), 0);
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "device-%d", i);
        hear(fleet, id, true)->readings[0].value = i;
    }
    assert_int_equal(fleet_count(fleet), N);
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "device-%d", i);
        assert_true(hear(fleet, id, false)->readings[0].value == i);
    }
}

static void a_full_fleet_takes_another_when_the_oldest_has_gone(void **state)
{
    (void)state;
    _cleanup_(fleet_freep) struct fleet *fleet = NULL;
    struct fleet_device *device;
    bool is_new;
    char id[32];
    assert_int_equal(fleet_new(&(struct fleet_shape){ 0, 0, 0, 0 }, &fleet), 0);
    for (int i = 0; i < FLEET_MAX_DEVICES; i++) {
        snprintf(id, sizeof(id), "%d", i);
        hear(fleet, id, true);
    }
    hear(fleet, "0", false); // now 1 is the oldest
    assert_int_equal(fleet_hear(fleet, slice("one-more"), &device, &is_new), -ENOBUFS);
    assert_string_equal(fleet_oldest(fleet)->id, "1");
    fleet_forget_oldest(fleet);
    hear(fleet, "one-more", true);
    assert_int_equal(fleet_count(fleet), FLEET_MAX_DEVICES);
    assert_non_null(fleet_find(fleet, slice("0")));
    assert_null(fleet_find(fleet, slice("1")));
    assert_non_null(fleet_find(fleet, slice("2")));
    assert_non_null(fleet_find(fleet, slice("one-more")));
}

static void devices_are_sorted_by_when_they_were_heard(void **state)
{
    (void)state;
    static const char *const ids[] = { "b", "d", "a", "c" };
    static const uint64_t heard_mono_usec[] = { 2, 4, 1, 3 };
    _cleanup_(fleet_freep) struct fleet *fleet = NULL;
    assert_int_equal(fleet_new(&(struct fleet_shape){ 0, 0, 0, 0 }, &fleet), 0);
    for (size_t i = 0; i < 4; i++)
        hear(fleet, ids[i], true)->heard_mono_usec = heard_mono_usec[i];
    fleet_sort(fleet);
    for (char id = 'a'; id <= 'd'; id++) {
        assert_int_equal(fleet_oldest(fleet)->id[0], id);
        fleet_forget_oldest(fleet);
    }
    assert_int_equal(fleet_count(fleet), 0);
}

/* Devices may come while a visit is under way, and the table grow. */
static void a_visit_in_portions_leaves_nobody_out(void **state)
{
    (void)state;
    enum { N = 100 };
    _cleanup_(fleet_freep) struct fleet *fleet = NULL;
    char id[32];
    size_t cursor = 0, n_portions = 0, n_new = 0;
    assert_int_equal(fleet_new(&(struct fleet_shape){ 1, 0, 0, 0 }, &fleet), 0);
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "%d", i);
        hear(fleet, id, true);
    }
    struct fleet_device *visited;
    while ((visited = fleet_next(fleet, &cursor))) {
        n_portions++;
        for (; visited; visited = visited->next)
            visited->n_unheard++;
        for (int i = 0; i < 10 && n_new < N; i++, n_new++) {
            snprintf(id, sizeof(id), "new-%zu", n_new);
            hear(fleet, id, true);
        }
    }
    assert_true(n_portions > 5);
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "%d", i);
        const struct fleet_device *device = fleet_find(fleet, slice(id));
        assert_true(device->n_unheard == 1 || device->n_unheard == 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_device_is_all_zeros),
        cmocka_unit_test(a_device_keeps_its_readings_and_states),
        cmocka_unit_test(thousands_of_devices_are_all_found),
        cmocka_unit_test(a_full_fleet_takes_another_when_the_oldest_has_gone),
        cmocka_unit_test(devices_are_sorted_by_when_they_were_heard),
        cmocka_unit_test(a_visit_in_portions_leaves_nobody_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
