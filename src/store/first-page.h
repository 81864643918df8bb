// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The first page of a database says what kind of file it is, how long it is, and where its tables
 * begin. A damaged file is read with one that says it is as long as it is: its own, or, if that was
 * destroyed, the one of a new queue.db, where the tables begin at the same places. Internal to
 * src/store.
 */
#pragma once

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/db-schema.h"

enum {
    FIRST_PAGE_BEGIN = 16, // so many pages of a new file hold all that it begins with
    FIRST_PAGE_LEAVES = 4,
};

struct first_page {
    sqlite3_io_methods methods; // first: what SQLite sees
    const sqlite3_io_methods *base;
    uint8_t bytes[DB_PAGE_SIZE];
    // Where the list of tables goes on, if it is too long for it. Of a new file only.
    struct {
        uint32_t number;
        uint8_t bytes[DB_PAGE_SIZE];
    } leaves[FIRST_PAGE_LEAVES];
    size_t n_leaves;
};

/* begin: of a new file, FIRST_PAGE_BEGIN pages. Whether the file at path says it is of its kind. */
bool first_page_is_like(const uint8_t *begin, const char *path);

/* Likewise. own: it is that of path, which is like it. */
void first_page_init(struct first_page *first_page, const uint8_t *begin, const char *path,
                     bool own);

/* From now on the main file of handle, of which nothing was read yet, begins with it. */
void first_page_show(struct first_page *first_page, sqlite3 *handle);
