// SPDX-License-Identifier: LGPL-2.1-or-later
// What is known of the fleet as records of the store; see pages.h. A record is a JSON object: what
// its rules and series are called, so that those of another configuration are told apart, and the
// devices, which name them by their place there.
#include "server/pages.h"

#include <inttypes.h>
#include <string.h>

#include "core/json.h"
#include "util/base64.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

enum { MAX_PAGES = FLEET_MAX_DEVICES }; // whatever the disk says

static const uint64_t write_after_usec = 150 * USEC_PER_SEC;

struct page {
    struct heap_entry due; // in it: something has changed
    size_t number, n_devices;
    size_t n_bytes;          // of its record in the store; 0: there is none
    size_t n_left_out;       // devices on it, when there was no room for its record
    uint64_t kept_mono_usec; // when it was handed out
    struct fleet_device *devices[PAGE_DEVICES];
};

struct pages {
    const struct ruleset *rules;
    struct json_object *rule_names, *series_names; // as they stand in a record
    uint64_t max_bytes, n_bytes;
    size_t n_pages;
    struct page **pages; // each NULL until it is needed
    size_t roomy;        // no page before this one has room
    size_t n_left_out;
    struct heap due;
};

/* --- pages ----------------------------------------------------------------------------------- */

static struct page *page_at(struct pages *pages, size_t number)
{
    if (number >= pages->n_pages) {
        size_t n = number < 64 ? 64 : number * 2;
        struct page **all = reallocarray(pages->pages, n, sizeof(struct page *));
        if (!all)
            return NULL;
        memset(all + pages->n_pages, 0, (n - pages->n_pages) * sizeof(struct page *));
        pages->pages = all;
        pages->n_pages = n;
    }
    if (!pages->pages[number])
        pages->pages[number] = calloc(1, sizeof(struct page));
    if (pages->pages[number])
        pages->pages[number]->number = number;
    return pages->pages[number];
}

static void mark(struct pages *pages, struct page *page, uint64_t now_mono_usec)
{
    if (page->due.place == 0) // without memory, with the next note
        (void)heap_put(&pages->due, &page->due, now_mono_usec + write_after_usec);
}

static void put_device(struct page *page, struct fleet_device *device)
{
    device->page = page;
    page->devices[page->n_devices++] = device;
}

static struct page *find_room(struct pages *pages)
{
    struct page *page = page_at(pages, pages->roomy);
    while (page && page->n_devices == PAGE_DEVICES)
        page = page_at(pages, ++pages->roomy);
    return page;
}

void pages_note(struct pages *pages, struct fleet_device *device, bool has_changed,
                uint64_t now_mono_usec)
{
    if (!pages)
        return;
    if (!device->page) {
        struct page *page = find_room(pages);
        if (!page)
            return;
        put_device(page, device);
        has_changed = true;
    }
    if (has_changed || now_mono_usec - device->page->kept_mono_usec >= PAGES_HEARD_USEC)
        mark(pages, device->page, now_mono_usec);
}

void pages_drop(struct pages *pages, struct fleet_device *device, uint64_t now_mono_usec)
{
    struct page *page = device->page;
    size_t i = 0;
    if (!pages || !page)
        return;
    while (page->devices[i] != device)
        i++;
    page->devices[i] = page->devices[--page->n_devices];
    device->page = NULL;
    if (page->number < pages->roomy)
        pages->roomy = page->number;
    mark(pages, page, now_mono_usec);
}

void pages_replace(struct pages *pages, const struct pages *old, uint64_t now_mono_usec)
{
    for (size_t i = 0; i < old->n_pages; i++) {
        size_t n_bytes = old->pages[i] ? old->pages[i]->n_bytes : 0;
        struct page *page = n_bytes > 0 ? page_at(pages, i) : NULL;
        if (!page)
            continue;
        page->n_bytes = n_bytes;
        pages->n_bytes += n_bytes;
        mark(pages, page, now_mono_usec);
    }
}

void pages_renew(struct pages *pages, const struct page_text *text, uint64_t now_mono_usec)
{
    struct page *page = page_at(pages, text->number);
    if (page)
        mark(pages, page, now_mono_usec);
}

/* --- writing --------------------------------------------------------------------------------- */

static uint64_t to_wall(uint64_t mono_usec, const struct ruleset_now *now)
{
    uint64_t age_usec = now->mono_usec - mono_usec;
    return now->wall_usec > age_usec ? now->wall_usec - age_usec : 0;
}

static uint64_t to_mono(uint64_t wall_usec, const struct ruleset_now *now)
{
    uint64_t age_usec = now->wall_usec > wall_usec ? now->wall_usec - wall_usec : 0;
    return now->mono_usec > age_usec ? now->mono_usec - age_usec : 1; // 0 is never
}

static void add_count(struct json_object *array, uint64_t count)
{
    json_object_array_add(array, json_object_new_uint64(count));
}

/* What n rules from the first-th on have decided; NULL: nothing. */
static struct json_object *format_decided(const struct pages *pages, const struct fleet_rule *rules,
                                          size_t first, size_t n, const struct ruleset_now *now)
{
    struct json_object *decided = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct server_rule *rule = ruleset_rule(pages->rules, first + i);
        if (rules[i].state.outcome == RULE_UNDECIDED || rule->config->delivery == DELIVERY_ORDERED)
            continue;
        struct json_object *one = json_object_new_array();
        add_count(one, first + i);
        add_count(one, rules[i].state.outcome);
        add_count(one, to_wall(rules[i].state.changed_mono_usec, now));
        if (!decided)
            decided = json_object_new_array();
        json_object_array_add(decided, one);
    }
    return decided;
}

static struct json_object *format_series(const struct pages *pages,
                                         const struct fleet_device *device)
{
    unsigned char bytes[SERIES_MAX_SAVED];
    char text[BASE64_SIZE(SERIES_MAX_SAVED)];
    struct json_object *all = NULL;
    for (size_t i = 0; i < ruleset_n_series(pages->rules); i++) {
        if (!device->series[i])
            continue;
        base64_encode(bytes, series_save(device->series[i], bytes), text);
        struct json_object *one = json_object_new_array();
        add_count(one, i);
        json_object_array_add(one, json_object_new_string(text));
        if (!all)
            all = json_object_new_array();
        json_object_array_add(all, one);
    }
    return all;
}

static void add(struct json_object *object, const char *key, struct json_object *value)
{
    if (value)
        json_object_object_add(object, key, value);
}

static struct json_object *format_device(const struct pages *pages,
                                         const struct fleet_device *device,
                                         const struct ruleset_now *now)
{
    struct json_object *object = json_object_new_object();
    add(object, "id", json_object_new_string(device->id));
    add(object, "heard", json_object_new_uint64(to_wall(device->heard_mono_usec, now)));
    if (device->online)
        add(object, "online", json_object_new_boolean(true));
    if (device->group && device->is_group_named)
        add(object, "group", json_object_new_string(device->group->name));
    add(object, "decided",
        format_decided(pages, device->rules, 0, ruleset_n_device_rules(pages->rules), now));
    add(object, "series", format_series(pages, device));
    return object;
}

static struct json_object *format_groups(const struct pages *pages, const struct page *page,
                                         const struct ruleset_now *now)
{
    size_t first = ruleset_n_device_rules(pages->rules);
    struct json_object *groups = json_object_new_object();
    for (size_t i = 0; i < page->n_devices; i++) {
        const struct group *group = page->devices[i]->group;
        if (group && !json_object_object_get_ex(groups, group->name, NULL))
            add(groups, group->name,
                format_decided(pages, group->rules, first, ruleset_n_rules(pages->rules) - first,
                               now));
    }
    return groups;
}

/* A new string, or NULL. */
static char *format_page(const struct pages *pages, const struct page *page,
                         const struct ruleset_now *now)
{
    _cleanup_(json_object_putp) struct json_object *object = json_object_new_object();
    struct json_object *devices = json_object_new_array();
    add(object, "rules", json_object_get(pages->rule_names));
    add(object, "windows", json_object_get(pages->series_names));
    add(object, "groups", format_groups(pages, page, now));
    for (size_t i = 0; i < page->n_devices; i++)
        json_object_array_add(devices, format_device(pages, page->devices[i], now));
    add(object, "devices", devices);
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    return text ? strdup(text) : NULL;
}

uint64_t pages_next_mono_usec(const struct pages *pages)
{
    const struct heap_entry *first = pages ? heap_first(&pages->due) : NULL;
    return first ? first->key : USEC_INFINITY;
}

/* Its record is to be value from now on, freed if there is no room for it. Returns what it is. */
static char *make_room(struct pages *pages, struct page *page, char *value)
{
    size_t n_bytes = value ? strlen(value) : 0;
    bool fits = pages->n_bytes - page->n_bytes + n_bytes <= pages->max_bytes;
    pages->n_left_out -= page->n_left_out;
    page->n_left_out = fits ? 0 : page->n_devices;
    pages->n_left_out += page->n_left_out;
    if (!fits) {
        free(value);
        value = NULL;
        n_bytes = 0;
    }
    pages->n_bytes += n_bytes - page->n_bytes;
    page->n_bytes = n_bytes;
    return value;
}

int pages_next(struct pages *pages, const struct ruleset_now *now, uint64_t until_mono_usec,
               char key[static PAGES_KEY_SIZE], char **ret_value, size_t *ret_n_devices)
{
    struct heap_entry *first;
    while (pages && (first = heap_first(&pages->due)) && first->key <= until_mono_usec) {
        struct page *page = (struct page *)((char *)first - offsetof(struct page, due));
        size_t n_before = page->n_bytes;
        char *value = page->n_devices > 0 ? format_page(pages, page, now) : NULL;
        if (page->n_devices > 0 && !value)
            return -ENOMEM;
        heap_remove(&pages->due, first);
        page->kept_mono_usec = now->mono_usec;
        value = make_room(pages, page, value);
        if (!value && n_before == 0)
            continue;
        snprintf(key, PAGES_KEY_SIZE, "%zu", page->number);
        *ret_value = value;
        *ret_n_devices = page->n_devices;
        return 1;
    }
    return 0;
}

size_t pages_n_unkept(const struct pages *pages)
{
    size_t n = 0;
    for (size_t i = 0; i < pages->n_pages; i++)
        n += pages->pages[i] && pages->pages[i]->due.place > 0 ? pages->pages[i]->n_devices : 0;
    return n;
}

size_t pages_n_left_out(const struct pages *pages)
{
    return pages->n_left_out;
}

/* --- reading --------------------------------------------------------------------------------- */

static struct json_object *member(struct json_object *object, const char *key, enum json_type type)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(object, key, &value);
    return json_object_is_type(value, type) ? value : NULL;
}

static struct json_object *element(struct json_object *array, size_t i)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_get_idx(array, i) : NULL;
}

static size_t length_of(struct json_object *array)
{
    return array ? json_object_array_length(array) : 0;
}

/* A count there, UINT64_MAX if it is none. */
static uint64_t count_at(struct json_object *array, size_t i)
{
    struct json_object *value = element(array, i);
    return json_object_is_type(value, json_type_int) && json_object_get_int64(value) >= 0
               ? json_object_get_uint64(value)
               : UINT64_MAX;
}

int pages_parse(struct pages *pages, const char *key, const char *value, struct page_text *ret_text)
{
    int64_t number;
    if (parse_int(key, &number) < 0 || number < 0 || number >= MAX_PAGES)
        return -EBADMSG;
    struct page_text text = { .number = (size_t)number, .object = json_tokener_parse(value) };
    text.devices = member(text.object, "devices", json_type_array);
    if (!text.devices) {
        json_object_put(text.object);
        return -EBADMSG;
    }
    struct page *page = page_at(pages, text.number);
    if (!page) {
        json_object_put(text.object);
        return -ENOMEM;
    }
    page->n_bytes = strlen(value);
    pages->n_bytes += page->n_bytes;
    *ret_text = text;
    return 0;
}

int page_text_device(const struct page_text *text, size_t i, const char **ret_id,
                     const char **ret_group)
{
    struct json_object *object = element(text->devices, i);
    if (!json_object_is_type(object, json_type_object))
        return -EBADMSG;
    const char *id = json_text_of(object, "id"), *group = json_text_of(object, "group");
    if (!id || !topic_valid_value(id, strlen(id)))
        return -EBADMSG;
    *ret_id = id;
    *ret_group = group;
    return 0;
}

/* The one of ours that is called as the i-th of names; SIZE_MAX: there is none. */
static size_t find_name(struct json_object *ours, struct json_object *names, uint64_t i)
{
    struct json_object *name = i < length_of(names) ? element(names, (size_t)i) : NULL;
    const char *text = json_object_get_string(name); // NULL of none
    for (size_t k = 0; text && k < json_object_array_length(ours); k++) {
        if (strings_equal(json_object_get_string(json_object_array_get_idx(ours, k)), text))
            return k;
    }
    return SIZE_MAX;
}

/* Into rules, of which the first one is the first-th and there are n. */
static void take_decided(const struct pages *pages, const struct page_text *text,
                         struct json_object *decided, struct fleet_rule *rules, size_t first,
                         size_t n, const struct ruleset_now *now)
{
    struct json_object *names = member(text->object, "rules", json_type_array);
    for (size_t i = 0; i < length_of(decided); i++) {
        struct json_object *one = element(decided, i);
        size_t rule = find_name(pages->rule_names, names, count_at(one, 0)) - first;
        uint64_t outcome = count_at(one, 1), changed_mono_usec = to_mono(count_at(one, 2), now);
        if (rule >= n || !rules[rule].applies || outcome < RULE_THEN || outcome > RULE_ELSE ||
            (rules[rule].state.outcome != RULE_UNDECIDED &&
             rules[rule].state.changed_mono_usec >= changed_mono_usec))
            continue;
        rules[rule].state = (struct rule_state){ (enum rule_outcome)outcome, changed_mono_usec };
    }
}

static void take_series(const struct pages *pages, const struct page_text *text,
                        struct json_object *all, struct fleet_device *device)
{
    unsigned char bytes[SERIES_MAX_SAVED];
    struct json_object *names = member(text->object, "windows", json_type_array);
    for (size_t i = 0; i < length_of(all); i++) {
        struct json_object *one = element(all, i), *value = element(one, 1);
        size_t at = find_name(pages->series_names, names, count_at(one, 0));
        if (at == SIZE_MAX || !json_object_is_type(value, json_type_string))
            continue;
        ssize_t n = base64_decode(json_object_get_string(value),
                                  (size_t)json_object_get_string_len(value), bytes, sizeof(bytes));
        struct series *series;
        uint64_t span_usec = ruleset_series(pages->rules, at)->span_usec;
        if (n < 0 || series_load(span_usec, bytes, (size_t)n, &series) < 0)
            continue;
        series_free(device->series[at]);
        device->series[at] = series;
    }
}

/* What rules of a group have decided: the newest of what its devices' pages say. */
static void take_group(const struct pages *pages, const struct page_text *text,
                       const struct group *group, const struct ruleset_now *now)
{
    size_t first = ruleset_n_device_rules(pages->rules);
    struct json_object *groups = member(text->object, "groups", json_type_object);
    struct json_object *decided = member(groups, group->name, json_type_array);
    take_decided(pages, text, decided, group->rules, first, ruleset_n_rules(pages->rules) - first,
                 now);
}

int pages_take(struct pages *pages, const struct page_text *text, size_t i,
               struct fleet_device *device, const struct ruleset_now *now)
{
    struct json_object *object = element(text->devices, i);
    struct json_object *heard = member(object, "heard", json_type_int);
    uint64_t heard_mono_usec = to_mono(json_object_get_uint64(heard), now); // 0 of none
    struct page *page = page_at(pages, text->number);
    if (device->group)
        take_group(pages, text, device->group, now);
    if (device->page) { // twice, since a stop came while pages were exchanged: the newer counts
        if (page)
            mark(pages, page, now->mono_usec);
        if (device->heard_mono_usec >= heard_mono_usec)
            return 0;
    } else if (page && page->n_devices < PAGE_DEVICES) {
        put_device(page, device);
    } else {
        return -ENOMEM;
    }
    device->heard_mono_usec = heard_mono_usec;
    device->online = member(object, "online", json_type_boolean) != NULL;
    take_decided(pages, text, member(object, "decided", json_type_array), device->rules, 0,
                 ruleset_n_device_rules(pages->rules), now);
    take_series(pages, text, member(object, "series", json_type_array), device);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

/* One that says something else than before is another rule, and decides anew. */
static struct json_object *name_rules(const struct ruleset *rules)
{
    struct json_object *names = json_object_new_array();
    for (size_t i = 0; names && i < ruleset_n_rules(rules); i++) {
        _cleanup_(freep) char *name = NULL;
        const struct server_rule *rule = ruleset_rule(rules, i);
        const struct command *then_command = ruleset_command(rule, RULE_THEN);
        const struct command *else_command = ruleset_command(rule, RULE_ELSE);
        if (asprintf(&name, "%s then %s else %s", rule->section->name,
                     then_command ? then_command->json : "nothing",
                     else_command ? else_command->json : "nothing") < 0)
            name = NULL;
        json_object_array_add(names, json_object_new_string(name ? name : ""));
    }
    return names;
}

static struct json_object *name_series(const struct ruleset *rules)
{
    struct json_object *names = json_object_new_array();
    for (size_t i = 0; names && i < ruleset_n_series(rules); i++) {
        const struct server_series *series = ruleset_series(rules, i);
        char name[EXPR_MAX_NAME + 32];
        snprintf(name, sizeof(name), "%s %" PRIu64, ruleset_slot_at(rules, series->slot)->name,
                 series->span_usec);
        json_object_array_add(names, json_object_new_string(name));
    }
    return names;
}

int pages_new(const struct ruleset *rules, uint64_t max_bytes, struct pages **ret_pages)
{
    _cleanup_(pages_freep) struct pages *pages = calloc(1, sizeof(*pages));
    if (!pages)
        return -ENOMEM;
    pages->rules = rules;
    pages->max_bytes = max_bytes;
    pages->rule_names = name_rules(rules);
    pages->series_names = name_series(rules);
    if (!pages->rule_names || !pages->series_names)
        return -ENOMEM;
    *ret_pages = TAKE_PTR(pages);
    return 0;
}

void pages_free(struct pages *pages)
{
    if (!pages)
        return;
    heap_done(&pages->due);
    for (size_t i = 0; i < pages->n_pages; i++)
        free(pages->pages[i]);
    free(pages->pages);
    json_object_put(pages->rule_names);
    json_object_put(pages->series_names);
    free(pages);
}
