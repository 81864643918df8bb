// SPDX-License-Identifier: LGPL-2.1-or-later
// A disk that fails, below SQLite; see faultvfs.h.
#include "faultvfs.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILES = 8, SECTOR = 512 };

/* A write, or with data NULL a truncation to offset. */
struct change {
    uint8_t *data;
    size_t size;
    off_t offset;
};

/* What a power cut would leave of a file: what it was when it was synced, and some changes. */
struct held {
    char *path;
    uint8_t *base;
    size_t base_size;
    struct change *changes;
    size_t n_changes;
};

struct fault_file {
    sqlite3_file base;
    struct held *held; // NULL: nothing is held of it
    sqlite3_file *real;
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    unsigned n_calls, n_reads, n_syncs;
    unsigned fail_at;
    int error;
    bool once;
    unsigned cut_at;
    struct held held[MAX_FILES];
} disk;

static void read_base(struct held *held)
{
    free(held->base);
    held->base = NULL;
    held->base_size = 0;
    int fd = open(held->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    struct stat status;
    assert(fstat(fd, &status) == 0);
    held->base_size = (size_t)status.st_size;
    held->base = malloc(held->base_size + 1);
    assert(held->base);
    assert(read(fd, held->base, held->base_size) == status.st_size);
    close(fd);
}

static void drop_changes(struct held *held)
{
    for (size_t i = 0; i < held->n_changes; i++)
        free(held->changes[i].data);
    free(held->changes);
    held->changes = NULL;
    held->n_changes = 0;
}

static void drop_held(struct held *held)
{
    drop_changes(held);
    free(held->base);
    free(held->path);
    *held = (struct held){ 0 };
}

static struct held *find_held(const char *path)
{
    for (size_t i = 0; i < MAX_FILES; i++)
        if (disk.held[i].path && strcmp(disk.held[i].path, path) == 0)
            return &disk.held[i];
    return NULL;
}

static struct held *hold(const char *path)
{
    struct held *held = find_held(path);
    for (size_t i = 0; !held && i < MAX_FILES; i++)
        if (!disk.held[i].path) {
            held = &disk.held[i];
            held->path = strdup(path);
            read_base(held);
        }
    assert(held);
    return held;
}

static void add_change(struct held *held, const void *data, size_t size, off_t offset)
{
    struct change change = { .size = size, .offset = offset };
    if (data) {
        change.data = malloc(size);
        assert(change.data);
        memcpy(change.data, data, size);
    }
    held->changes = reallocarray(held->changes, held->n_changes + 1, sizeof(change));
    assert(held->changes);
    held->changes[held->n_changes++] = change;
}

/* SQLITE_OK, or what a call that changes the disk is to return. */
static int count_call(int io_error)
{
    unsigned n = ++disk.n_calls;
    if (disk.cut_at > 0 && n >= disk.cut_at) {
        errno = EIO;
        return io_error;
    }
    if (disk.fail_at == 0 || n < disk.fail_at || (disk.once && n > disk.fail_at))
        return SQLITE_OK;
    errno = disk.error;
    return disk.error == ENOSPC && io_error == SQLITE_IOERR_WRITE ? SQLITE_FULL : io_error;
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct fault_file *)file)->real;
}

static int fault_close(sqlite3_file *file)
{
    sqlite3_file *real = real_of(file);
    int code = real->pMethods ? real->pMethods->xClose(real) : SQLITE_OK;
    sqlite3_free(real);
    return code;
}

static int fault_read(sqlite3_file *file, void *data, int size, sqlite3_int64 offset)
{
    disk.n_reads++;
    return real_of(file)->pMethods->xRead(real_of(file), data, size, offset);
}

static int fault_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset)
{
    struct held *held = ((struct fault_file *)file)->held;
    bool was_cut = faultvfs_was_cut();
    int code = count_call(SQLITE_IOERR_WRITE);
    if (held && !was_cut) // the write that is cut may have come to the disk in part
        add_change(held, data, (size_t)size, offset);
    return code != SQLITE_OK ? code
                             : real_of(file)->pMethods->xWrite(real_of(file), data, size, offset);
}

static int fault_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct held *held = ((struct fault_file *)file)->held;
    int code = count_call(SQLITE_IOERR_TRUNCATE);
    if (code != SQLITE_OK)
        return code;
    if (held)
        add_change(held, NULL, 0, size);
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int fault_sync(sqlite3_file *file, int flags)
{
    struct held *held = ((struct fault_file *)file)->held;
    disk.n_syncs++;
    int code = count_call(SQLITE_IOERR_FSYNC);
    if (code != SQLITE_OK)
        return code;
    (void)flags;
    if (held) { // what is in the file is on the disk from now on; the true disk need not know
        drop_changes(held);
        read_base(held);
    }
    return SQLITE_OK;
}

static int fault_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int fault_lock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xLock(real_of(file), lock);
}

static int fault_unlock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), lock);
}

static int fault_check_lock(sqlite3_file *file, int *result)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), result);
}

static int fault_control(sqlite3_file *file, int operation, void *argument)
{
    if (operation == SQLITE_FCNTL_SIZE_HINT || operation == SQLITE_FCNTL_CHUNK_SIZE)
        return SQLITE_OK; // they would change the file past us
    return real_of(file)->pMethods->xFileControl(real_of(file), operation, argument);
}

static int fault_sector_size(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int fault_characteristics(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int fault_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags,
                      int *ret_flags)
{
    // Version 1: no shared memory and no mmap, and so WAL works with EXCLUSIVE locking only.
    static const sqlite3_io_methods methods = {
        .iVersion = 1,
        .xClose = fault_close,
        .xRead = fault_read,
        .xWrite = fault_write,
        .xTruncate = fault_truncate,
        .xSync = fault_sync,
        .xFileSize = fault_size,
        .xLock = fault_lock,
        .xUnlock = fault_unlock,
        .xCheckReservedLock = fault_check_lock,
        .xFileControl = fault_control,
        .xSectorSize = fault_sector_size,
        .xDeviceCharacteristics = fault_characteristics,
    };
    (void)vfs;
    struct fault_file *file = (struct fault_file *)base;
    file->base.pMethods = NULL;
    file->held = NULL;
    file->real = sqlite3_malloc(disk.real->szOsFile);
    if (!file->real)
        return SQLITE_NOMEM;
    memset(file->real, 0, (size_t)disk.real->szOsFile);
    int code = disk.real->xOpen(disk.real, path, file->real, flags, ret_flags);
    if (code != SQLITE_OK) {
        sqlite3_free(file->real);
        return code;
    }
    if (disk.cut_at > 0 && path)
        file->held = hold(path);
    file->base.pMethods = &methods;
    return SQLITE_OK;
}

static int fault_delete(sqlite3_vfs *vfs, const char *path, int sync_directory)
{
    (void)vfs;
    int code = count_call(SQLITE_IOERR_DELETE);
    if (code != SQLITE_OK)
        return code;
    struct held *held = find_held(path);
    if (held)
        drop_held(held);
    return disk.real->xDelete(disk.real, path, sync_directory);
}

void faultvfs_register(void)
{
    disk.real = sqlite3_vfs_find(NULL);
    disk.vfs = *disk.real; // what is not replaced takes no file of ours
    disk.vfs.zName = FAULTVFS;
    disk.vfs.szOsFile = sizeof(struct fault_file);
    disk.vfs.xOpen = fault_open;
    disk.vfs.xDelete = fault_delete;
    sqlite3_vfs_register(&disk.vfs, 0);
}

void faultvfs_reset(void)
{
    for (size_t i = 0; i < MAX_FILES; i++)
        drop_held(&disk.held[i]);
    disk.n_calls = disk.n_reads = disk.n_syncs = disk.fail_at = disk.cut_at = 0;
}

void faultvfs_fail_at(unsigned n, int error, bool once)
{
    disk.fail_at = n;
    disk.error = error;
    disk.once = once;
}

void faultvfs_cut_at(unsigned n)
{
    disk.cut_at = n;
}

bool faultvfs_was_cut(void)
{
    return disk.cut_at > 0 && disk.n_calls >= disk.cut_at;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005 + 1442695040888963407;
    return *state >> 33;
}

static void apply(int fd, const struct change *change, size_t first, size_t size)
{
    if (!change->data)
        assert(ftruncate(fd, change->offset) == 0);
    else
        assert(pwrite(fd, change->data + first, size, change->offset + (off_t)first) ==
               (ssize_t)size);
}

static void apply_sectors(int fd, const struct change *change, uint64_t *random)
{
    if (!change->data && next_random(random) % 2)
        apply(fd, change, 0, 0);
    for (size_t first = 0; first < change->size;) {
        size_t size = SECTOR - ((size_t)change->offset + first) % SECTOR;
        if (size > change->size - first)
            size = change->size - first;
        if (next_random(random) % 2)
            apply(fd, change, first, size);
        first += size;
    }
}

static void restore(const struct held *held, enum faultvfs_loss loss, uint64_t *random)
{
    int fd = open(held->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return;
    assert(pwrite(fd, held->base, held->base_size, 0) == (ssize_t)held->base_size);
    size_t n_kept = loss == FAULTVFS_ALL ? 0 : held->n_changes;
    if (loss == FAULTVFS_TAIL && n_kept > 0)
        n_kept = next_random(random) % n_kept;
    for (size_t i = 0; i < n_kept; i++) {
        if (loss == FAULTVFS_SECTORS)
            apply_sectors(fd, &held->changes[i], random);
        else
            apply(fd, &held->changes[i], 0, held->changes[i].size);
    }
    if (loss == FAULTVFS_TAIL && n_kept < held->n_changes) {
        const struct change *torn = &held->changes[n_kept];
        apply(fd, torn, 0, torn->size > 0 ? next_random(random) % torn->size / SECTOR * SECTOR : 0);
    }
    close(fd);
}

void faultvfs_restore(enum faultvfs_loss loss, uint64_t seed)
{
    for (size_t i = 0; i < MAX_FILES; i++)
        if (disk.held[i].path)
            restore(&disk.held[i], loss, &seed);
    faultvfs_reset();
}

unsigned faultvfs_syncs(void)
{
    return disk.n_syncs;
}

unsigned faultvfs_calls(void)
{
    return disk.n_calls;
}

unsigned faultvfs_reads(void)
{
    return disk.n_reads;
}
