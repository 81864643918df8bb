// SPDX-License-Identifier: LGPL-2.1-or-later
// The connection to queue.db: how it is opened, made safe and closed; see db.h.
#include "store/db.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/killpoint.h"

enum {
    // What deletes and counters may need beside max_size, so that a full queue can be drained.
    HEADROOM_PAGES = 256,
    // With more messages than these, the file is not made smaller: they would have to be copied.
    SHRINK_BELOW_SIZE = 256 * 1024,
    // Fewer free pages than these are kept for what comes next.
    KEPT_PAGES = 1024 * 1024 / DB_PAGE_SIZE,
    // The log keeps its place on the disk up to this, so that it is there when the disk is full.
    MAX_LOG_SIZE = 1536 * 1024,
};

/* Those of the open file; the first member is what SQLite sees. */
struct db_methods {
    sqlite3_io_methods own;
    const sqlite3_io_methods *base;
};

struct db {
    sqlite3 *handle;
    struct db_methods methods;
    sqlite3_stmt *statements[DB_N_STATEMENTS];
    char *path;
    uint64_t max_pages;
    uint64_t limit_pages; // PRAGMA max_page_count as it is now; 0: not set yet
    bool syncs;           // PRAGMA synchronous: a commit syncs the log
    bool is_unsynced;     // there are commits that a power cut may take
    bool has_sync_failed;
    unsigned wal_pages; // in the log, since it was last moved into the file
    int64_t file_size;  // as we last left it, without the log; -1: not known
};

static int error_of_system(const struct db *db, struct why *why)
{
    int error = sqlite3_system_errno(db->handle);
    if (error == EDQUOT)
        error = ENOSPC;
    if (error <= 0)
        error = EIO;
    return why_set(why, error, "%s: %s (%s)", db->path, strerror(error),
                   sqlite3_errmsg(db->handle));
}

/*
 * SQLite says FULL for a full disk and for max_page_count alike. Only the first one comes from a
 * system call that failed, and db_step() and db_execute() clear errno before.
 */
static int error_of_full(const struct db *db, struct why *why)
{
    if (errno == ENOSPC)
        return why_set(why, ENOSPC, "%s: %s", db->path, strerror(ENOSPC));
    return why_set(why, ENOBUFS, "%s has reached max_size", db->path);
}

/* Of an SQLite result code, with why; errno as the call left it. Returns -errno. */
static int error_of(const struct db *db, int code, struct why *why)
{
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return why_set(why, ENOMEM, "out of memory");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return why_set(why, EBUSY, "%s is in use by another nightlightd", db->path);
    case SQLITE_FULL:
        return error_of_full(db, why);
    case SQLITE_READONLY:
        // Its header says that only a newer SQLite may write to it.
        if (code == SQLITE_READONLY && access(db->path, W_OK) == 0)
            return why_set(why, EUCLEAN, "%s: %s", db->path, sqlite3_errmsg(db->handle));
        return why_set(why, EROFS, "%s: %s", db->path, sqlite3_errmsg(db->handle));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT: // none of ours fails in a file that is sound
    case SQLITE_MISMATCH:
    case SQLITE_ERROR: // a table or a column is not there
        return why_set(why, EUCLEAN, "%s: %s", db->path, sqlite3_errmsg(db->handle));
    case SQLITE_IOERR:
        if (code == SQLITE_IOERR_NOMEM)
            return why_set(why, ENOMEM, "out of memory");
        if (code == SQLITE_IOERR_CORRUPTFS || code == SQLITE_IOERR_DATA)
            return why_set(why, EUCLEAN, "%s: %s", db->path, sqlite3_errmsg(db->handle));
        return error_of_system(db, why);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return error_of_system(db, why);
    default:
        return why_set(why, EIO, "%s: %s", db->path, sqlite3_errmsg(db->handle));
    }
}

static int db_execute(const struct db *db, const char *sql, struct why *why)
{
    errno = 0;
    int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : error_of(db, code, why);
}

/* Like db_execute(), of what has one row with one number. */
static int db_ask(const struct db *db, const char *sql, int64_t *ret_value, struct why *why)
{
    sqlite3_stmt *statement = NULL;
    errno = 0;
    int code = sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    int r = 0;
    if (code == SQLITE_ROW)
        *ret_value = sqlite3_column_int64(statement, 0);
    else
        r = error_of(db, code == SQLITE_DONE ? SQLITE_CORRUPT : code, why);
    sqlite3_finalize(statement);
    return r;
}

int db_step(struct db *db, enum db_statement which, struct why *why)
{
    errno = 0;
    int code = sqlite3_step(db->statements[which]);
    if (code == SQLITE_ROW)
        return 1;
    int r = code == SQLITE_DONE ? 0 : error_of(db, code, why);
    sqlite3_reset(db->statements[which]);
    return r;
}

int db_run(struct db *db, enum db_statement which, struct why *why)
{
    int r = db_step(db, which, why);
    assert(r <= 0);
    return r;
}

void db_reset(struct db *db, enum db_statement which)
{
    sqlite3_reset(db->statements[which]);
}

/* SQLite has no mode for new files but 0644. Their log gets the mode of the file. */
static int make_private_file(const char *path, struct why *why)
{
    _cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno != EEXIST)
        return why_set(why, errno, "%s: %s", path, strerror(errno));
    return 0;
}

static sqlite3_file *file_of(const struct db *db)
{
    sqlite3_file *file = NULL;
    int code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_FILE_POINTER, (void *)&file);
    return code == SQLITE_OK && file && file->pMethods ? file : NULL;
}

static int64_t size_of_file(const struct db *db)
{
    sqlite3_file *file = file_of(db);
    sqlite3_int64 size;
    return file && file->pMethods->xFileSize(file, &size) == SQLITE_OK ? size : -1;
}

static int characteristics(sqlite3_file *file)
{
    const struct db_methods *methods = (const struct db_methods *)file->pMethods;
    return methods->base->xDeviceCharacteristics(file) & ~SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/*
 * A commit that syncs then fills the last block of the device with copies of its last page: no
 * block is written once more that holds what is safe already, so that a cut in the middle of that
 * cannot tear it, and less is written. SQLite's own switch (psow=0) is one for rollback journals
 * too, where each page brings along those that share its block: here it is turned once the pager
 * has looked.
 */
static void pad_syncs(struct db *db)
{
    sqlite3_file *file = file_of(db);
    if (!file)
        return;
    db->methods = (struct db_methods){ .own = *file->pMethods, .base = file->pMethods };
    db->methods.own.xDeviceCharacteristics = characteristics;
    file->pMethods = &db->methods.own;
}

/* With first_page: of a damaged one, which is only read. */
static int connect_to(struct db *db, const char *vfs, struct first_page *first_page,
                      struct why *why)
{
    bool is_damaged = first_page;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
                      SQLITE_OPEN_NOFOLLOW;
    errno = 0;
    int code = sqlite3_open_v2(db->path, &db->handle, flags, vfs);
    if (!db->handle)
        return why_set(why, ENOMEM, "out of memory");
    sqlite3_extended_result_codes(db->handle, 1);
    if (code != SQLITE_OK)
        return error_of(db, code, why);
    if (sqlite3_db_readonly(db->handle, "main") == 1) {
        int error = access(db->path, W_OK) < 0 ? errno : EROFS;
        return why_set(why, error, "%s: %s", db->path, strerror(error));
    }
    if (first_page)
        first_page_show(first_page, db->handle);
    else
        pad_syncs(db);
    // Until it is known to be ours and sound, closing it must not write to it.
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    // This makes SQLite read a file that is shorter than it says, or whose tables are odd.
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_WRITABLE_SCHEMA, is_damaged, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, !is_damaged, NULL);
    // EXCLUSIVE comes before all that reads the file: so WAL needs no shared memory, which could
    // not be made on a full disk.
    return db_execute(db,
                      "PRAGMA locking_mode = EXCLUSIVE;"
                      "PRAGMA trusted_schema = OFF;"
                      "PRAGMA cell_size_check = ON;"
                      "PRAGMA temp_store = MEMORY;"
                      "PRAGMA mmap_size = 0;"
                      "PRAGMA cache_size = -256;"
                      // Debian's SQLite overwrites what is deleted, and so writes a quarter more.
                      "PRAGMA secure_delete = OFF;"
                      "PRAGMA synchronous = NORMAL;", // as db->syncs says
                      why);
}

/* *ret_version: of the tables; 0: there are none yet. -EPROTO if it is not for us. */
static int identify(const struct db *db, int64_t *ret_version, struct why *why)
{
    int64_t application = 0, n_tables = 0;
    int r = db_ask(db, "SELECT count(*) FROM sqlite_schema", &n_tables, why);
    if (r == 0)
        r = db_ask(db, "PRAGMA application_id", &application, why);
    if (r == 0)
        r = db_ask(db, "PRAGMA user_version", ret_version, why);
    if (r < 0)
        return r;
    if (n_tables == 0 && application == 0 && *ret_version == 0)
        return 0;
    if (application != DB_APPLICATION_ID)
        return why_set(why, EPROTO,
                       "%s is the database of another program (application_id %lld) and is not "
                       "touched; once it is moved away, a new one is made",
                       db->path, (long long)application);
    if (*ret_version > db_schema_version)
        return why_set(why, EPROTO,
                       "%s is of version %lld, by a newer nightlightd, and is not touched; this "
                       "one knows up to %d: install the newer one, or move the file away",
                       db->path, (long long)*ret_version, db_schema_version);
    if (*ret_version < 1 || n_tables == 0)
        return why_set(why, EUCLEAN, "%s has lost its tables", db->path);
    return 0;
}

static int use_log(const struct db *db, int64_t version, struct why *why)
{
    int r = 0;
    // Without auto_vacuum: its map of pages would be written with every commit that adds one.
    if (version == 0)
        r = db_execute(db, "PRAGMA page_size = 1024; PRAGMA auto_vacuum = NONE;", why);
    if (r == 0)
        r = db_execute(db, "PRAGMA journal_mode = WAL", why);
    if (r < 0)
        return r;
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA journal_size_limit = %d", MAX_LOG_SIZE);
    return db_execute(db, sql, why);
}

static int migrate(const struct db *db, int64_t version, struct why *why)
{
    if (version == db_schema_version)
        return 0;
    char sql[96];
    snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;",
             DB_APPLICATION_ID, db_schema_version);
    KILL_POINT("migrate");
    int r = db_execute(db, "BEGIN IMMEDIATE", why);
    for (; r == 0 && version < db_schema_version; version++) {
        r = db_execute(db, db_schema_migrations[version], why);
        KILL_POINT("migrate-step");
    }
    if (r == 0)
        r = db_execute(db, sql, why);
    KILL_POINT("migrated");
    return r;
}

static int prepare(struct db *db, struct why *why)
{
    for (size_t i = 0; i < DB_N_STATEMENTS; i++) {
        errno = 0;
        int code = sqlite3_prepare_v3(db->handle, db_schema_statements[i], -1,
                                      SQLITE_PREPARE_PERSISTENT, &db->statements[i], NULL);
        if (code != SQLITE_OK)
            return error_of(db, code, why);
    }
    return 0;
}

/* Of a commit that wrote something; one that did not syncs nothing either. */
static int on_commit(void *userdata, sqlite3 *handle, const char *name, int n_pages)
{
    (void)handle;
    (void)name;
    struct db *db = userdata;
    db->wal_pages = (unsigned)n_pages;
    db->is_unsynced = !db->syncs;
    return SQLITE_OK;
}

static int open_tables(struct db *db, struct why *why)
{
    int64_t version = 0;
    int r = identify(db, &version, why);
    if (r < 0)
        return r;
    sqlite3_wal_hook(db->handle, on_commit, db); // and so there is no checkpoint but ours
    r = use_log(db, version, why);
    if (r == 0)
        r = migrate(db, version, why);
    if (r == 0)
        r = prepare(db, why);
    return r;
}

int db_open(const struct db_options *options, struct db **ret_db, struct why *why)
{
    _cleanup_(db_closep) struct db *db = calloc(1, sizeof(*db));
    if (!db || !(db->path = strdup(options->path)))
        return why_set(why, ENOMEM, "out of memory");
    db_set_max_size(db, options->max_size);
    int r = make_private_file(options->path, why);
    KILL_POINT("open");
    if (r == 0)
        r = connect_to(db, options->vfs, NULL, why);
    if (r == 0)
        r = open_tables(db, why);
    if (r < 0)
        return r;
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    db->file_size = size_of_file(db);
    *ret_db = TAKE_PTR(db);
    return 0;
}

int db_open_damaged(const char *path, const char *vfs, struct first_page *first_page,
                    sqlite3 **ret_handle)
{
    struct db db = { .path = (char *)path };
    int r = connect_to(&db, vfs, first_page, NULL);
    if (r == 0)
        r = db_execute(&db, "PRAGMA query_only = ON", NULL);
    if (r < 0) {
        sqlite3_close(db.handle);
        return r;
    }
    *ret_handle = db.handle;
    return 0;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    for (size_t i = 0; i < DB_N_STATEMENTS; i++)
        sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->handle);
    free(db->path);
    free(db);
}

const char *db_path(const struct db *db)
{
    return db->path;
}

sqlite3 *db_handle(const struct db *db)
{
    return db->handle;
}

sqlite3_stmt *db_statement(const struct db *db, enum db_statement which)
{
    return db->statements[which];
}

void db_set_max_size(struct db *db, uint64_t max_size)
{
    db->max_pages = max_size / DB_PAGE_SIZE;
}

static int set_limit(struct db *db, uint64_t n_pages, struct why *why)
{
    if (db->limit_pages == n_pages)
        return 0;
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %llu", (unsigned long long)n_pages);
    int r = db_execute(db, sql, why);
    if (r == 0)
        db->limit_pages = n_pages;
    return r;
}

static int set_syncs(struct db *db, bool syncs, struct why *why)
{
    if (db->syncs == syncs)
        return 0;
    int r =
        db_execute(db, syncs ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", why);
    if (r == 0)
        db->syncs = syncs;
    return r;
}

int db_begin(struct db *db, bool has_headroom, bool sync, struct why *why)
{
    int r = set_limit(db, db->max_pages + (has_headroom ? HEADROOM_PAGES : 0), why);
    if (r == 0)
        r = set_syncs(db, sync && !db->has_sync_failed, why);
    return r < 0 ? r : db_run(db, DB_BEGIN, why);
}

int db_commit(struct db *db, struct why *why)
{
    int r = db_run(db, DB_COMMIT, why);
    if (r < 0 && sqlite3_extended_errcode(db->handle) == SQLITE_IOERR_FSYNC)
        db->has_sync_failed = true;
    return r;
}

void db_rollback(struct db *db)
{
    if (!sqlite3_get_autocommit(db->handle))
        (void)db_run(db, DB_ROLLBACK, NULL);
}

static int sync_log(const struct db *db, struct why *why)
{
    sqlite3_file *log = NULL;
    errno = 0;
    int code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, (void *)&log);
    if (code == SQLITE_OK)
        code = log && log->pMethods ? log->pMethods->xSync(log, SQLITE_SYNC_NORMAL) : SQLITE_ERROR;
    if (code == SQLITE_OK)
        return 0;
    int error = errno > 0 ? errno : EIO;
    return why_set(why, error, "cannot sync the log of %s: %s", db->path, strerror(error));
}

int db_sync(struct db *db, struct why *why)
{
    if (!db->is_unsynced)
        return 0;
    // The kernel forgets what it could not write, and the next sync says that all is well: after a
    // failure everything is written once more, into the file.
    KILL_POINT("sync");
    int r = db->has_sync_failed ? db_checkpoint(db, 0, why) : sync_log(db, why);
    KILL_POINT("synced");
    db->has_sync_failed = r < 0;
    db->is_unsynced = r < 0;
    return r;
}

int db_checkpoint(struct db *db, unsigned max_wal_pages, struct why *why)
{
    if (db->wal_pages <= max_wal_pages)
        return 0;
    KILL_POINT("checkpoint");
    errno = 0;
    int code = sqlite3_wal_checkpoint_v2(db->handle, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    KILL_POINT("checkpointed");
    db->file_size = size_of_file(db);
    if (code != SQLITE_OK)
        return error_of(db, code, why);
    db->wal_pages = 0;
    db->is_unsynced = false; // it syncs the log before, and the file afterwards
    return 0;
}

static int64_t count_free_pages(struct db *db)
{
    if (db_step(db, DB_FREE_PAGES, NULL) != 1)
        return 0;
    int64_t n_free = sqlite3_column_int64(db->statements[DB_FREE_PAGES], 0);
    db_reset(db, DB_FREE_PAGES);
    return n_free;
}

void db_shrink(struct db *db, uint64_t n_bytes)
{
    if (n_bytes > SHRINK_BELOW_SIZE || count_free_pages(db) <= KEPT_PAGES)
        return;
    // What is left is little, however large the file was.
    KILL_POINT("shrink");
    if (db_execute(db, "VACUUM", NULL) == 0)
        (void)db_checkpoint(db, 0, NULL); // it is this that makes the file shorter
}

bool db_has_shrunk(const struct db *db)
{
    int64_t size = size_of_file(db);
    return size >= 0 && size < db->file_size;
}

int db_read_begin(const struct db *db, void *bytes, int size)
{
    sqlite3_file *file = file_of(db);
    int code = file ? file->pMethods->xRead(file, bytes, size, 0) : SQLITE_ERROR;
    return code == SQLITE_OK || code == SQLITE_IOERR_SHORT_READ ? 0 : -EIO;
}
