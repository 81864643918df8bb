// SPDX-License-Identifier: LGPL-2.1-or-later
// The store on disk: opens it when it can, and decides what follows when a job has met damage or a
// full disk. The work is done by db.h and what is beside it.
#include "store/store.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "store/db-job.h"
#include "store/db-salvage.h"
#include "store/reserve.h"
#include "util/strings.h"

/*
 * Pages in the log before they are moved into the file. Each time every page that changed is
 * written once more: the more of them, the fewer bytes are written in all. While the disk is full
 * the log must not take more than the reserve had.
 */
enum {
    LOG_PAGES = 1024,
    SCARCE_LOG_PAGES = 128,
    MAX_LOG_PAGES = 1536, // no more is written until they could be moved
};

struct store_sqlite {
    struct store base;
    struct store_sqlite_options options; // strings are owned
    char *path;                          // of queue.db, without symbolic links; NULL: not known yet
    struct db *db;                       // NULL: not open
    struct reserve reserve;
    bool has_room;
    bool has_failed; // the job before met an error of the disk
    bool is_damaged; // was met outside a job
    uint64_t generation;
    uint64_t n_lost;
};

/* A directory on the way may be a symbolic link (/var/lib on another disk), the file may not. */
static int resolve(struct store_sqlite *store, struct why *why)
{
    if (store->path)
        return 0;
    char directory[PATH_MAX];
    if (!realpath(store->options.directory, directory))
        return why_set(why, errno, "%s: %s", store->options.directory, strerror(errno));
    if (asprintf(&store->path, "%s/queue.db", directory) < 0) {
        store->path = NULL;
        return why_set(why, ENOMEM, "out of memory");
    }
    return 0;
}

static void close_db(struct store_sqlite *store)
{
    db_close(TAKE_PTR(store->db));
}

static struct db_options db_options(const struct store_sqlite *store)
{
    struct db_options options = {
        .path = store->path,
        .vfs = store->options.vfs,
        .max_size = store->options.max_size,
    };
    memcpy(options.boot, store->options.boot, STORE_BOOT_SIZE);
    return options;
}

static int salvage(struct store_sqlite *store, struct why *why)
{
    close_db(store);
    struct db_options options = db_options(store);
    uint64_t n_lost;
    int r = db_salvage(&options, &n_lost, why);
    if (r < 0)
        return r;
    store->is_damaged = false;
    store->n_lost += n_lost;
    r = db_open(&options, &store->db, why);
    if (r == 0)
        store->generation++;
    return r;
}

static int open_db(struct store_sqlite *store, struct why *why)
{
    if (store->is_damaged)
        return salvage(store, why);
    if (store->db)
        return 0;
    int r = resolve(store, why);
    if (r < 0)
        return r;
    struct db_options options = db_options(store);
    r = db_salvage_finish(&options, why);
    if (r == 0)
        r = db_open(&options, &store->db, why);
    if (r == 0)
        store->generation++;
    return r;
}

static bool give_back(struct store_sqlite *store)
{
    if (!reserve_give_back(&store->reserve))
        return false;
    store->has_room = false;
    return true;
}

/* Only what makes the queue smaller may use what the reserve was. */
static int check_room(struct store_sqlite *store, const struct store_job *job, struct why *why)
{
    reserve_make(&store->reserve);
    store->has_room = store->has_room || store->reserve.is_there;
    if (!store->has_room && job->n_puts > 0)
        return why_set(why, ENOSPC, "%s: %s", store->path, strerror(ENOSPC));
    return 0;
}

/* One attempt at it all. */
static int try_job(struct store_sqlite *store, struct store_job *job, struct why *why)
{
    int r = open_db(store, why);
    if (r == 0)
        db_set_max_size(store->db, store->options.max_size);
    if (r == 0)
        r = check_room(store, job, why);
    if (r == 0)
        r = db_checkpoint(store->db, MAX_LOG_PAGES, why);
    if (r == 0)
        r = db_job_run(store->db, job, why);
    return r;
}

static int run_job(struct store_sqlite *store, struct store_job *job, struct why *why)
{
    int r = try_job(store, job, why);
    if (r == -EUCLEAN) {
        store->is_damaged = true;
        r = try_job(store, job, why);
    }
    if (r == -ENOSPC && job->n_puts == 0 && give_back(store)) {
        if (store->db)
            (void)db_checkpoint(store->db, 0, NULL);
        r = try_job(store, job, why);
    }
    return r == -EUCLEAN ? -EIO : r; // damaged again at once: nothing that a new file would mend
}

static int sqlite_run(struct store *base, struct store_job *job, struct why *why)
{
    struct store_sqlite *store = (struct store_sqlite *)base;
    // The disk may have been taken out and put in again. An open file is kept else: closing it
    // after a failure would leave open whether the failed transaction is found in the log.
    if (store->db && store->has_failed && db_has_moved(store->db))
        close_db(store);
    if (job->max_size > 0)
        store->options.max_size = job->max_size;
    int r = run_job(store, job, why);
    store->has_failed = r < 0;
    if (r < 0)
        return r;
    job->generation = store->generation;
    job->n_lost = store->n_lost;
    job->has_room = store->has_room;
    (void)db_checkpoint(store->db, store->has_room ? LOG_PAGES : SCARCE_LOG_PAGES, NULL);
    db_shrink(store->db);
    return 0;
}

static int append_name(char ***names, size_t n, const char *name)
{
    char **larger = reallocarray(*names, n + 2, sizeof(*larger));
    if (!larger)
        return -ENOMEM;
    *names = larger;
    larger[n + 1] = NULL;
    larger[n] = strdup(name);
    return larger[n] ? 0 : -ENOMEM;
}

static int sqlite_names(struct store *base, char ***ret_names)
{
    struct store_sqlite *store = (struct store_sqlite *)base;
    if (!store->db)
        return -ENOTCONN;
    _cleanup_(strings_freep) char **names = calloc(1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < store->db->n_streams; i++) {
        int r = append_name(&names, i, store->db->streams[i]->name);
        if (r < 0)
            return r;
    }
    *ret_names = TAKE_PTR(names);
    return 0;
}

static int sqlite_records(struct store *base, const char *space,
                          void (*visit)(void *userdata, const char *key, const char *value),
                          void *userdata)
{
    struct store_sqlite *store = (struct store_sqlite *)base;
    if (!store->db)
        return -ENOTCONN;
    sqlite3_stmt *row = store->db->statements[DB_RECORDS];
    sqlite3_bind_text(row, 1, space, -1, SQLITE_STATIC);
    int r;
    while ((r = db_step(store->db, DB_RECORDS, NULL)) > 0) {
        const char *key = (const char *)sqlite3_column_text(row, 0);
        const char *value = (const char *)sqlite3_column_text(row, 1);
        if (key && value)
            visit(userdata, key, value);
    }
    store->is_damaged = r == -EUCLEAN; // the next job mends it
    return r == 0 || r == -ENOMEM ? r : -EIO;
}

static void sqlite_free(struct store *base)
{
    struct store_sqlite *store = (struct store_sqlite *)base;
    close_db(store);
    free(store->path);
    free((void *)store->options.directory);
    free((void *)store->options.vfs);
    free(store);
}

int store_sqlite_new(const struct store_sqlite_options *options, struct store **ret_store)
{
    static const struct store_vtable vtable = {
        .run = sqlite_run,
        .names = sqlite_names,
        .records = sqlite_records,
        .free = sqlite_free,
    };
    struct store_sqlite *store = calloc(1, sizeof(*store));
    if (!store)
        return -ENOMEM;
    store->base.vtable = &vtable;
    store->options = *options;
    store->options.directory = strdup(options->directory);
    store->options.vfs = options->vfs ? strdup(options->vfs) : NULL;
    store->reserve.directory = store->options.directory;
    store->has_room = true;
    if (!store->options.directory || (options->vfs && !store->options.vfs)) {
        sqlite_free(&store->base);
        return -ENOMEM;
    }
    *ret_store = &store->base;
    return 0;
}
