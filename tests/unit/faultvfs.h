// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A disk that fails, below SQLite: a VFS of its own ("fault") on top of SQLite's. Calls that change
 * the disk (write, truncate, sync, delete) are counted from 1.
 *
 *     faultvfs_reset(); faultvfs_fail_at(n, EIO, true); ... faultvfs_reset();
 *
 * or a power cut: faultvfs_reset(); faultvfs_cut_at(n); run until nothing works any more, close the
 * store, faultvfs_restore(how, seed): the files are what the disk has kept. A file's content as of
 * its last sync is always kept; creating and deleting a file is at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FAULTVFS "fault"

enum faultvfs_loss {
    FAULTVFS_ALL,     // all that was not synced
    FAULTVFS_NONE,    // nothing but what the cut call would have written
    FAULTVFS_TAIL,    // from some write on, which is cut at a sector
    FAULTVFS_SECTORS, // of all writes some sectors of 512 bytes, in any order
    FAULTVFS_LOSSES,
};

/* Once in a process. */
void faultvfs_register(void);

/* All works, and nothing is counted yet. Forgets what was held. */
void faultvfs_reset(void);

/* From the n-th call on each fails with error (ENOSPC or another errno), or only that one. */
void faultvfs_fail_at(unsigned n, int error, bool once);

/* The n-th call and all that follow fail; writes are held from now on. */
void faultvfs_cut_at(unsigned n);
bool faultvfs_was_cut(void);
void faultvfs_restore(enum faultvfs_loss loss, uint64_t seed);

unsigned faultvfs_calls(void);
unsigned faultvfs_syncs(void);
unsigned faultvfs_reads(void);
