// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is known of the fleet, as it outlives a stop: pages of PAGE_DEVICES devices, a record of the
 * store each. A page has its devices with their groups, what their rules have decided and their
 * series, and what the rules of their groups have decided.
 *
 *     pages_note() when something of a device has changed; pages_next() hands out the records that
 * are due. At the start pages_parse() each record, and pages_take() each device in it.
 *
 * A change is on its page's next record 2.5 minutes later: pages_next() may take as long again for
 * all of them. What ordered rules have decided is not here but in server/decisions.h. Pure.
 */
#pragma once

#include <json-c/json.h>

#include "server/fleet.h"
#include "server/ruleset.h"
#include "util/cleanup.h"

enum { PAGE_DEVICES = 16, PAGES_KEY_SIZE = 16 };

struct pages;

/* rules is borrowed; max_bytes: of all records together. 0 or -ENOMEM. */
int pages_new(const struct ruleset *rules, uint64_t max_bytes, struct pages **ret_pages);
void pages_free(struct pages *pages);
DEFINE_CLEANUP(struct pages *, pages_free)

// When a device was heard last is kept that long afterwards, if nothing else of its page changes.
#define PAGES_HEARD_USEC (3600 * 1000000ULL)

/*
 * Something of device is to be kept; has_changed: else it has only been heard. Without memory it is
 * with its next note. pages NULL: nothing is kept.
 */
void pages_note(struct pages *pages, struct fleet_device *device, bool has_changed,
                uint64_t now_mono_usec);

/* device is about to be forgotten. */
void pages_drop(struct pages *pages, struct fleet_device *device, uint64_t now_mono_usec);

/* When the next page is due; USEC_INFINITY: none is. */
uint64_t pages_next_mono_usec(const struct pages *pages);

/*
 * The next record of those that are due by until_mono_usec (USEC_INFINITY: all that have changed).
 * 1, and *ret_value is a new string, or NULL: it is to be removed; *ret_n_devices is how many are
 * on it. 0: there is none. -ENOMEM: it stays due.
 */
int pages_next(struct pages *pages, const struct ruleset_now *now, uint64_t until_mono_usec,
               char key[static PAGES_KEY_SIZE], char **ret_value, size_t *ret_n_devices);

/* How many devices have changed since their page was handed out. */
size_t pages_n_unkept(const struct pages *pages);

/* How many devices are on pages that max_bytes has no room for. */
size_t pages_n_left_out(const struct pages *pages);

/* --- taking it up again ---------------------------------------------------------------------- */

struct page_text {
    size_t number;
    struct json_object *object; // json_object_put()
    struct json_object *devices;
};

/* Reads a record. 0; -EBADMSG: it is none; -ENOMEM. */
int pages_parse(struct pages *pages, const char *key, const char *value,
                struct page_text *ret_text);

/* The i-th device's id, and its group where its topic has named one, else NULL; -EBADMSG. */
int page_text_device(const struct page_text *text, size_t i, const char **ret_id,
                     const char **ret_group);

/*
 * Gives device, which is of its group by now, what the i-th of text's knew, and puts it on the same
 * page. What is there by now stays if it is newer. -ENOMEM: its page is full, or there is none.
 */
int pages_take(struct pages *pages, const struct page_text *text, size_t i,
               struct fleet_device *device, const struct ruleset_now *now);

/* Not all of text was taken: its page is written anew. */
void pages_renew(struct pages *pages, const struct page_text *text, uint64_t now_mono_usec);

/* What is on disk under the keys of old, which is about to go, is replaced by what is here. */
void pages_replace(struct pages *pages, const struct pages *old, uint64_t now_mono_usec);
