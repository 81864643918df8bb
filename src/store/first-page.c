// SPDX-License-Identifier: LGPL-2.1-or-later
// A first page in place of what stands in a file; see first-page.h. The offsets are those of
// SQLite's file format (https://www.sqlite.org/fileformat2.html, "The Database Header" and "B-tree
// Pages").
#include "store/first-page.h"

#include <fcntl.h>
#include <string.h>

#include "util/cleanup.h"

enum {
    COUNT_OF_PAGES = 28,
    FREE_PAGES_END = 40,
    TREE = 100, // where the root of the list of tables begins: its kind,
    INNER = 5,
    N_CELLS = TREE + 3,
    LAST_CHILD = TREE + 8,
    CELLS = TREE + 12,
};

/* What never changes in a file of ours: its format, its format of tables, its text encoding. */
static const struct {
    size_t first, size;
} constants[] = { { 0, 18 }, { 20, 4 }, { 44, 4 }, { 56, 4 } };

static bool read_own(const char *path, uint8_t bytes[static DB_PAGE_SIZE])
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && pread(fd, bytes, DB_PAGE_SIZE, 0) == DB_PAGE_SIZE;
}

bool first_page_is_like(const uint8_t *begin, const char *path)
{
    uint8_t own[DB_PAGE_SIZE];
    if (!read_own(path, own))
        return false;
    for (size_t i = 0; i < ELEMENTS(constants); i++)
        if (memcmp(own + constants[i].first, begin + constants[i].first, constants[i].size) != 0)
            return false;
    return true;
}

static uint32_t number_at(const uint8_t *bytes, int size)
{
    uint32_t number = 0;
    for (int i = 0; i < size; i++)
        number = number << 8 | bytes[i];
    return number;
}

static void add_leaf(struct first_page *first_page, const uint8_t *begin, uint32_t number)
{
    if (number < 2 || number > FIRST_PAGE_BEGIN || first_page->n_leaves == FIRST_PAGE_LEAVES)
        return;
    size_t i = first_page->n_leaves++;
    first_page->leaves[i].number = number;
    memcpy(first_page->leaves[i].bytes, begin + (size_t)(number - 1) * DB_PAGE_SIZE, DB_PAGE_SIZE);
}

static void add_leaves(struct first_page *first_page, const uint8_t *begin)
{
    if (begin[TREE] != INNER)
        return; // it is all
    for (uint32_t i = 0; i < number_at(begin + N_CELLS, 2) && i < DB_PAGE_SIZE / 4; i++) {
        uint32_t cell = number_at(begin + CELLS + (size_t)i * 2, 2);
        if (cell <= DB_PAGE_SIZE - 4)
            add_leaf(first_page, begin, number_at(begin + cell, 4));
    }
    add_leaf(first_page, begin, number_at(begin + LAST_CHILD, 4));
}

void first_page_init(struct first_page *first_page, const uint8_t *begin, const char *path,
                     bool own)
{
    first_page->n_leaves = 0;
    if (!own || !read_own(path, first_page->bytes)) {
        memcpy(first_page->bytes, begin, DB_PAGE_SIZE);
        add_leaves(first_page, begin);
    }
    // No page is known to be free, and as many are there as the file is long.
    memset(first_page->bytes + COUNT_OF_PAGES, 0, FREE_PAGES_END - COUNT_OF_PAGES);
}

/* Shows a page in what was read from offset on; whether it is all of that. */
static bool overlay(const uint8_t *page, uint32_t number, uint8_t *bytes, int size, int64_t offset)
{
    int64_t at = (int64_t)(number - 1) * DB_PAGE_SIZE;
    int64_t first = offset > at ? offset : at;
    int64_t end = offset + size < at + DB_PAGE_SIZE ? offset + size : at + DB_PAGE_SIZE;
    if (first < end)
        memcpy(bytes + (first - offset), page + (first - at), (size_t)(end - first));
    return first == offset && end == offset + size;
}

static int read_page(sqlite3_file *file, void *bytes, int size, sqlite3_int64 offset)
{
    const struct first_page *first_page = (const struct first_page *)file->pMethods;
    int code = first_page->base->xRead(file, bytes, size, offset);
    bool is_whole = overlay(first_page->bytes, 1, bytes, size, offset);
    for (size_t i = 0; i < first_page->n_leaves; i++)
        is_whole |=
            overlay(first_page->leaves[i].bytes, first_page->leaves[i].number, bytes, size, offset);
    return is_whole ? SQLITE_OK : code;
}

/* An empty file would be taken for a new one, and its log be thrown away. */
static int tell_size(sqlite3_file *file, sqlite3_int64 *size)
{
    const struct first_page *first_page = (const struct first_page *)file->pMethods;
    int code = first_page->base->xFileSize(file, size);
    if (code == SQLITE_OK && *size < DB_PAGE_SIZE)
        *size = DB_PAGE_SIZE;
    for (size_t i = 0; code == SQLITE_OK && i < first_page->n_leaves; i++)
        if (*size < (sqlite3_int64)first_page->leaves[i].number * DB_PAGE_SIZE)
            *size = (sqlite3_int64)first_page->leaves[i].number * DB_PAGE_SIZE;
    return code;
}

void first_page_show(struct first_page *first_page, sqlite3 *handle)
{
    sqlite3_file *file = NULL;
    int code = sqlite3_file_control(handle, "main", SQLITE_FCNTL_FILE_POINTER, (void *)&file);
    if (code != SQLITE_OK || !file || !file->pMethods)
        return;
    first_page->base = file->pMethods;
    first_page->methods = *file->pMethods;
    first_page->methods.xRead = read_page;
    first_page->methods.xFileSize = tell_size;
    file->pMethods = &first_page->methods;
}
