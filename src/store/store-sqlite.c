// SPDX-License-Identifier: LGPL-2.1-or-later
// The store on disk: opens it when it can, and decides what follows when a job has met damage or a
// full disk. The work is done by db.h and what is beside it.
#include "store/store.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "store/db-job.h"
#include "store/db-run.h"
#include "store/db-salvage.h"
#include "store/place.h"
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

struct store {
    struct store_options options; // strings are owned
    char *path;                   // of queue.db, without symbolic links; NULL: not known yet
    struct db *db;                // NULL: not open, because of
    int error;                    // this (negative; 0: it was not tried yet),
    struct why cause;             // in words
    struct reserve reserve;
    struct db_mirror *mirror; // what db has; and, without db, what it had: it was damaged
    struct place place;       // which file db is
    struct why mishap;        // to be told by the next job
    uint8_t run[STORE_RUN_SIZE];
    bool has_run; // and it stays
    bool has_room;
    bool has_failed;  // the job before met an error of the disk
    bool is_damaged;  // the file
    bool is_gone;     // db is not what is at path any more:
    bool is_replaced; // something else is
    uint64_t generation;
    uint64_t n_lost;
};

/* A directory on the way may be a symbolic link (/var/lib on another disk), the file may not. */
static int resolve(struct store *store, struct why *why)
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

static void close_db(struct store *store)
{
    db_close(TAKE_PTR(store->db));
    db_mirror_free(TAKE_PTR(store->mirror));
}

static struct db_options db_options(const struct store *store)
{
    return (struct db_options){
        .path = store->path,
        .vfs = store->options.vfs,
        .max_size = store->options.max_size,
    };
}

/* SQLite would take it for a new one, and throw its log away. */
static bool is_emptied(const char *path)
{
    char log_path[PATH_MAX];
    struct stat file, log;
    int length = snprintf(log_path, sizeof(log_path), "%s-wal", path);
    return length < PATH_MAX && stat(path, &file) == 0 && file.st_size <= 1 &&
           stat(log_path, &log) == 0 && log.st_size > 0;
}

static int load(struct store *store, struct why *why)
{
    uint8_t run[STORE_RUN_SIZE];
    memcpy(run, store->run, sizeof(run));
    // The mark goes in any case: what is used from now on it does not know.
    db_run_take(store->db, store->options.boot, run);
    if (store->has_run)
        memcpy(run, store->run, sizeof(run));
    int r = db_mirror_new(store->db, store->options.boot, run, &store->mirror, why);
    if (r == 0)
        memcpy(store->run, run, sizeof(run));
    return r;
}

static int open_file(struct store *store, struct why *why)
{
    int r = resolve(store, why);
    if (r == 0)
        r = place_check(store->path, why);
    if (r < 0)
        return r;
    struct db_options options = db_options(store);
    r = db_salvage_finish(&options, why);
    if (r > 0)
        (void)why_set(
            &store->mishap, EUCLEAN,
            "the queue on disk was damaged, and the run before ended before it could say "
            "what is lost, and counted as dropped; the damaged file is kept as %s.damaged",
            store->path);
    if (r >= 0 && is_emptied(store->path))
        r = why_set(why, EUCLEAN, "%s is empty, and its log is not", store->path);
    if (r >= 0)
        r = db_open(&options, &store->db, why);
    if (r == 0)
        r = load(store, why);
    if (r < 0) {
        close_db(store);
        return r;
    }
    place_note(store->path, &store->place);
    store->generation++;
    return 0;
}

static void note_mishap(struct store *store, const struct db_salvage_result *result)
{
    const char *what = !store->is_gone      ? "was damaged"
                       : store->is_replaced ? "was replaced by another file and is written anew"
                                            : "was removed and is written anew";
    (void)why_set(&store->mishap, EUCLEAN,
                  "the queue on disk %s: %s%" PRIu64
                  " messages could not be read and are counted as dropped%s%s%s",
                  what, result->is_sure ? "" : "at least ", result->n_lost,
                  !result->is_kept ? ""
                  : store->is_gone ? "; what stood there is kept as "
                                   : "; the damaged file is kept as ",
                  result->is_kept ? store->path : "", result->is_kept ? ".damaged" : "");
    store->n_lost += result->n_lost;
}

/* A new file of what can be read of the old one, and of what was known of it. */
static int salvage(struct store *store, struct why *why)
{
    struct db_salvage_result result;
    if (store->is_gone && place_is_in_use(store->path))
        return why_set(why, EBUSY, "%s is in use by another nightlightd", store->path);
    if (!store->is_gone)
        db_close(TAKE_PTR(store->db));
    const struct db_salvage_source source = { db_options(store), store->db, store->mirror };
    int r = db_salvage(&source, &result, why);
    if (r < 0)
        return r;
    note_mishap(store, &result);
    close_db(store);
    store->is_damaged = store->is_gone = false;
    return open_file(store, why);
}

static int tell_closed(const struct store *store, struct why *why)
{
    if (store->error == 0)
        return why_set(why, ENOTCONN, "it has not been opened yet");
    return why_set(why, -store->error, "%s", store->cause.text);
}

static int open_db(struct store *store, struct why *why)
{
    bool is_lost = store->is_damaged || store->is_gone;
    if (store->db && !is_lost)
        return 0;
    store->cause = (struct why){ "" };
    store->error = is_lost ? salvage(store, &store->cause) : open_file(store, &store->cause);
    return store->error < 0 ? tell_closed(store, why) : 0;
}

static bool give_back(struct store *store)
{
    if (!reserve_give_back(&store->reserve))
        return false;
    store->has_room = false;
    return true;
}

/* Only what makes the queue smaller may use what the reserve was. */
static int check_room(struct store *store, const struct store_job *job, struct why *why)
{
    // Messages come again after the outbox's own pause, and at a stop without one.
    reserve_make(&store->reserve, !store->has_room && job->n_puts > 0);
    store->has_room = store->has_room || store->reserve.is_there;
    if (!store->has_room && job->n_puts > 0)
        return why_set(why, ENOSPC, "%s: %s", store->path, strerror(ENOSPC));
    return 0;
}

/* One attempt at it all. */
static int try_job(struct store *store, struct store_job *job, struct why *why)
{
    int r = open_db(store, why);
    if (r == 0)
        db_set_max_size(store->db, store->options.max_size);
    if (r == 0)
        r = check_room(store, job, why);
    if (r == 0)
        r = db_checkpoint(store->db, MAX_LOG_PAGES, why);
    if (r == 0)
        r = db_job_run(store->db, store->mirror, job, why);
    return r;
}

static int run_job(struct store *store, struct store_job *job, struct why *why)
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

/* Whether the open file is still what is at its path, and whole. */
static void look(struct store *store)
{
    bool is_there;
    if (!store->db || store->is_gone)
        return;
    if (place_is(store->path, &store->place, &is_there)) {
        store->is_damaged |= db_has_shrunk(store->db);
        return;
    }
    // The disk may have been taken out and put in again. An open file is kept else: closing it
    // after a failure would leave open whether the failed transaction is found in the log.
    if (store->has_failed && is_there) {
        close_db(store);
        return;
    }
    store->is_gone = true;
    store->is_replaced = is_there;
}

int store_run(struct store *store, struct store_job *job, struct why *why)
{
    assert(job->query.max_messages == 0 || job->query.stream < job->n_streams);
    look(store);
    if (job->max_size > 0)
        store->options.max_size = job->max_size;
    int r = run_job(store, job, why);
    store->has_run = true;
    store->has_failed = r < 0 && r != -ENOSPC && r != -ENOBUFS;
    job->mishap = store->mishap;
    store->mishap = (struct why){ "" };
    if (r < 0)
        return r;
    job->generation = store->generation;
    job->n_lost = store->n_lost;
    job->has_room = store->has_room;
    (void)db_checkpoint(store->db, store->has_room ? LOG_PAGES : SCARCE_LOG_PAGES, NULL);
    db_shrink(store->db, db_mirror_bytes(store->mirror));
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

int store_names(struct store *store, char ***ret_names)
{
    if (!store->db)
        return tell_closed(store, NULL);
    _cleanup_(strings_freep) char **names = calloc(1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    const struct db_stream *stream;
    for (size_t i = 0; (stream = db_mirror_stream(store->mirror, i)); i++) {
        int r = append_name(&names, i, stream->name);
        if (r < 0)
            return r;
    }
    *ret_names = TAKE_PTR(names);
    return 0;
}

int store_records(struct store *store, const char *space,
                  void (*visit)(void *userdata, const char *key, const char *value), void *userdata,
                  struct why *why)
{
    if (!store->db)
        return tell_closed(store, why);
    sqlite3_stmt *row = db_statement(store->db, DB_RECORDS);
    sqlite3_bind_text(row, 1, space, -1, SQLITE_STATIC);
    int r;
    while ((r = db_step(store->db, DB_RECORDS, why)) > 0) {
        const char *key = (const char *)sqlite3_column_text(row, 0);
        const char *value = (const char *)sqlite3_column_text(row, 1);
        if (key && value)
            visit(userdata, key, value);
    }
    store->is_damaged |= r == -EUCLEAN; // the next job mends it
    return r == 0 || r == -ENOMEM ? r : -EIO;
}

void store_get_run(const struct store *store, uint8_t ret_run[static STORE_RUN_SIZE])
{
    memcpy(ret_run, store->run, STORE_RUN_SIZE);
}

void store_end(struct store *store)
{
    look(store);
    if (store->db && !store->is_damaged && !store->is_gone)
        db_run_leave(store->db, store->options.boot, store->run);
}

void store_free(struct store *store)
{
    if (!store)
        return;
    close_db(store);
    free(store->path);
    free((void *)store->options.directory);
    free((void *)store->options.vfs);
    free(store);
}

int store_new(const struct store_options *options, struct store **ret_store)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store)
        return -ENOMEM;
    store->options = *options;
    sd_id128_t run;
    if (sd_id128_randomize(&run) < 0) {
        free(store);
        return -ENOMEM; // it cannot be, once the kernel's generator is seeded
    }
    memcpy(store->run, run.bytes, STORE_RUN_SIZE);
    store->options.directory = strdup(options->directory);
    store->options.vfs = options->vfs ? strdup(options->vfs) : NULL;
    store->reserve.directory = store->options.directory;
    store->has_room = true;
    if (!store->options.directory || (options->vfs && !store->options.vfs)) {
        store_free(store);
        return -ENOMEM;
    }
    *ret_store = store;
    return 0;
}
