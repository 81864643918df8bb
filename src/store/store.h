// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What outlives a crash and a power cut: the messages that wait to be sent, a ledger for each
 * stream of them, and records, which are small texts by space and key.
 *
 *     A store does one job at a time, and a job is one transaction: all of it happens or nothing.
 *     store_run() may sleep for as long as the disk likes: it runs in a worker (outbox/spool.h).
 *
 * There is one store, on SQLite: store-sqlite.c.
 *
 * A message is known by its stream's name and its number in that stream (seq), which is never
 * used twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ledger.h"
#include "util/cleanup.h"
#include "util/why.h"

enum {
    STORE_MAX_NAME = 64,  // bytes of a stream's name
    STORE_BOOT_SIZE = 16, // bytes of a boot id
    STORE_RUN_SIZE = 16,  // bytes of a run id
    // What a message costs beside its payload and subject, as counted in `bytes`.
    STORE_MESSAGE_OVERHEAD = 48,
};

/* The first number that is no seq: they are 1..2^42 - 1. */
#define STORE_SEQ_END ((uint64_t)1 << 42)

/*
 * When something was, by a clock that cannot jump: microseconds since a boot (CLOCK_BOOTTIME). What
 * wall_usec a boot began at is kept once for the boot, so that it can be put right for all.
 */
struct store_moment {
    uint8_t boot[STORE_BOOT_SIZE];
    uint64_t mono_usec;
};

struct store_message {
    size_t stream; // index into the job's streams
    uint64_t seq;
    struct store_moment moment;
    uint8_t run[STORE_RUN_SIZE]; // under which it has its number; zeros: its boot's id is that
    uint64_t begin_wall_usec;    // out only: when its boot began, as last put right; 0: not known
    uint32_t n_samples;
    const char *subject; // what the topic is made of beside the stream; NULL: nothing
    const void *payload;
    size_t payload_size; // at most 1 MiB
};

/* A stream as it is on disk once the job is done. */
struct store_state {
    uint64_t used_seq;    // the highest number that is known to have been used; 0: none was
    struct ledger ledger; // balances: what waits is n_samples
    uint64_t n_messages, n_samples, bytes;
};

/*
 * One stream in a job. Those that are not known yet come into being. The ledger follows the
 * messages that are really written and removed; delta is for samples that never came to disk, and
 * balances by itself.
 */
struct store_stream {
    const char *name;
    struct ledger delta;
    uint64_t used_seq;        // the highest number that has been used; 0: as the store knows
    struct store_state state; // out: after the job
};

/* Messages first_seq..last_seq of a stream have come to an end; the ledger counts their samples. */
struct store_range {
    size_t stream;
    uint64_t first_seq, last_seq;
    enum ledger_end end;
};

/*
 * Gives up the oldest messages with a number above after_seq and below before_seq: at least
 * n_messages of them (if there are so many), at least so many that they make up `bytes`, and all at
 * the front that were made before before_wall_usec (0: none for that reason; a message whose boot's
 * beginning is not known is not old). Their samples are counted under `end`.
 */
struct store_trim {
    size_t stream;
    uint64_t after_seq, before_seq; // before_seq 0: no limit
    uint64_t n_messages, bytes, before_wall_usec;
    enum ledger_end end;
    uint64_t n_gone, n_samples, n_bytes; // out
};

/* A record to be written, or with value NULL to be removed. */
struct store_record {
    const char *space; // 1..32 bytes
    const char *key;   // 1..256 bytes
    const char *value;
};

/* The next messages of a stream with a number above after_seq, in order; for one stream a job. */
struct store_query {
    size_t stream;
    uint64_t after_seq;
    size_t max_messages;            // 0: no query
    size_t max_bytes;               // stops once it has so many, but gives at least one message
    struct store_message *messages; // out: new, with all they point to; store_messages_free()
    size_t n_messages;              // out
    bool at_end;                    // out: there are no more behind them
};

/* Done in this order, but for the sync at the end. Out members are set on success only. */
struct store_job {
    bool sync;                // this and all before: on disk, through a power cut, on return
    bool seals;               // writes each used_seq, and no number above it is used until a job
                              // says a higher one; it may be lower than what was said before
    uint64_t begin_wall_usec; // when this boot began; 0: not known
    uint64_t max_size;        // as store_options has it, from now on; 0: no change
    struct store_stream *streams;
    size_t n_streams;
    const struct store_message *const *puts; // one that is there already is left as it is
    size_t n_puts;
    const struct store_range *ranges;
    size_t n_ranges;
    struct store_trim *trims;
    size_t n_trims;
    const struct store_record *records;
    size_t n_records;
    struct store_query query;

    // Out. Grows when the streams are not what they were after the job before: the store has been
    // opened at last, or what could be saved of a damaged one was put into a new one.
    uint64_t generation;
    uint64_t n_lost; // messages that could not be saved when that happened, since store_new
    bool has_room;   // false: the last of the disk was given back; puts will fail with -ENOSPC
    bool is_synced;  // false although sync was asked for: the sync alone failed, why tells
    // Out, of a job that fails as well: for the log, that a file was damaged, removed or replaced,
    // what is lost, and which file is kept aside, since the job before; "": nothing.
    struct why mishap;
};

/*
 * Numbers: (run, seq) is used once. After a clean end (store_end()) the next process goes on behind
 * used_seq under the same run. After any other end, and after a boot of the machine, it goes on
 * behind the highest number that the disk knows, under a new random run. So nothing is written for
 * a number's sake: used_seq comes to disk with a row that is written anyway, and with a job that
 * seals.
 */
struct store;

struct store_options {
    const char *directory;         // exists; the file in it is queue.db
    uint8_t boot[STORE_BOOT_SIZE]; // of this boot
    uint64_t max_size;             // bytes of the file, beside its log: 1.5 MiB, or one job
    const char *vfs;               // NULL: SQLite's own; for tests
};

/*
 * Nothing is opened yet: every job tries while it is not open. Copies options. 0 or -ENOMEM.
 */
int store_new(const struct store_options *options, struct store **ret_store);

/* A clean end: the last job of each stream that has used numbers has worked, and sealed them. */
void store_end(struct store *store);
void store_free(struct store *store);
DEFINE_CLEANUP(struct store *, store_free)

/*
 * Does a job, or nothing of it. -ENOSPC: the disk is full (a job without puts may still work);
 * -ENOBUFS: max_size is reached, likewise; -EROFS, -EACCES, -EIO, ...: the disk or the file cannot
 * be used now; -EBUSY: another process has it open; -EPROTO: what is there is of a newer version of
 * the program, of another program, or no file, and is not touched; -EPERM: it is another user's;
 * -ENOMEM. Each with why, which names the file.
 */
int store_run(struct store *store, struct store_job *job, struct why *why);

/* The run whose numbers are used now. The first job may change it; nothing does after that. */
void store_get_run(const struct store *store, uint8_t ret_run[static STORE_RUN_SIZE]);

/*
 * The names of all streams there are, a new vector (util/strings.h). While it is not open, why it
 * could not be, as store_run(); -ENOTCONN before the first job; -ENOMEM, -EIO.
 */
int store_names(struct store *store, char ***ret_names);

/* Calls visit for each record of space, in the order of keys. As store_names(), with why. */
int store_records(struct store *store, const char *space,
                  void (*visit)(void *userdata, const char *key, const char *value), void *userdata,
                  struct why *why);

/* Frees what a query gave. */
void store_messages_free(struct store_message *messages, size_t n);
