// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the files of the outbox share: outbox.c (life, taking messages, acknowledgements),
 * outbox-entry.c (entries, lists, the count), outbox-topic.c (where to), outbox-send.c (what is
 * sent next, and how), disk.c (when the store gets something), outbox-job.c and outbox-stored.c
 * (what goes there and comes back), outbox-record.c (records that wait for it) and outbox-bounds.c
 * (what is given up).
 *
 * An entry is a message in memory. Its place is its journey:
 *
 *     fresh -> in flight -> done        or `loaded` instead of `fresh`, when it was read from the
 *     loaded -> in flight -> done       store
 *
 * and beside it there is what the store has of it: nothing, handed over (a job is at work), or
 * stored. A stored one that is fresh or loaded may leave memory at any time, to be loaded again. A
 * done one stays until the store has removed it, so that it is not taken for a new one when it is
 * read. Entries are found by stream and seq in a hash table.
 *
 * The ledger on disk follows the rows there; `delta` has what never came to disk; `pending` has
 * what the disk's does not know yet. The three together are the stream's ledger at any moment.
 */
#pragma once

// Without memory an element is not added; the default is to end the process.
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "core/topic.h"
#include "outbox/disk.h"
#include "outbox/outbox.h"
#include "util/ratelimit.h"

enum { N_SEQ_BUCKETS = 1024, N_MID_BUCKETS = 256 };

enum entry_place { ENTRY_FRESH, ENTRY_LOADED, ENTRY_IN_FLIGHT, ENTRY_DONE };
enum entry_storage { ENTRY_UNSTORED, ENTRY_HANDED_OVER, ENTRY_STORED };

struct stream;

struct entry {
    struct entry *previous, *next;         // in the list of its place; none in flight
    struct entry *put_previous, *put_next; // among those that are to be stored
    struct entry *same_seq_bucket, *same_mid_bucket;
    struct stream *stream;
    uint64_t seq;
    struct store_moment moment;
    uint8_t run[STORE_RUN_SIZE]; // under which it has its number
    uint64_t begin_wall_usec;    // of another boot; 0: not known
    uint64_t put_mono_usec;      // not stored before; 0: at once
    uint64_t tag;
    size_t size; // as the store counts it
    uint32_t n_samples;
    int mid;         // in flight
    uint8_t place;   // enum entry_place
    uint8_t storage; // enum entry_storage
    uint8_t end;     // done: enum ledger_end
    int8_t qos;
    uint8_t n_refusals;
    bool is_to_be_put; // in the list of those
    bool this_boot;
    bool was_sent;   // it may have arrived already
    bool was_loaded; // and not fresh, before it was in flight
    char *subject;   // behind payload; NULL: none
    char payload[];  // NUL-terminated
};

struct entry_list {
    struct entry *first, *last;
    size_t n;
};

struct stream {
    char *name;
    struct stream_policy policy;        // its name is the one above
    const struct topic_template *topic; // the outbox's; NULL: its messages have their own
    bool is_configured;                 // else it is only drained
    uint64_t next_seq;
    bool is_known; // disk says what the store has
    struct store_state disk;
    struct ledger delta, pending;
    struct ledger job_delta; // what the job at work has of delta
    uint64_t n_unwritten;    // messages that wait and are not stored
    uint64_t unwritten_bytes;
    uint64_t n_handed_over; // entries that a job is writing, done ones too
    uint64_t n_stored;      // entries that are stored, done ones too
    uint64_t n_stored_done; // the done ones of them
    uint64_t n_in_flight, n_in_flight_samples;
    struct entry_list fresh, loaded;
    uint64_t cursor;                    // what is stored up to here is in memory
    bool is_unsynced;                   // keep = latest: a power cut may bring back what is gone
    bool is_exhausted;                  // nothing is stored beyond the cursor that is not in memory
    uint64_t trim_messages, trim_bytes; // to be given up on disk by the next job
    uint64_t expire_mono_usec;          // when to look for what has expired on disk
    uint64_t hold_mono_usec;            // the broker refuses what we send: nothing before
    uint64_t hold_usec;                 // the last such pause
    uint64_t wait_mono_usec;            // keep = latest: since when it waits for the disk; 0: not
    uint64_t n_given_up;                // messages, at a stop: they could not be written
};

struct outbox_record {
    UT_hash_handle hh;
    bool is_new;     // its name is not in the store
    char *value;     // NULL: it is to be removed
    const char *key; // in name
    size_t name_size;
    char name[]; // the space and the key, each with its NUL
};

/* The job that the store has, and what it is made of. Everything is the outbox's. */
struct outbox_job {
    struct store_job store;
    struct stream **streams;        // of store.streams
    struct entry **puts;            // of store.puts
    struct store_message *messages; // likewise
    struct entry_list done;         // of store.ranges
    size_t n_done;
    struct outbox_record *records; // by name
    uint64_t ticket;               // the last one whose records are in it, or were in one before
    struct stream *queried;
};

/* Where messages go: templates, and what they are filled in with. */
struct outbox_topics {
    char *id, *group;
    struct topic_template *other, *late; // see outbox_options; NULL: none
    struct topic_template **streams;     // of the policies, in their order
    size_t n_streams;
};

struct outbox {
    int (*run_job)(void *userdata, struct store_job *job);
    void *userdata;
    struct outbox_options options;
    char *name; // of options
    struct outbox_topics topics;
    uint8_t boot[STORE_BOOT_SIZE]; // of the machine
    uint8_t run[STORE_RUN_SIZE];   // under which numbers are used

    size_t n_streams;
    struct stream **streams; // the urgent first, then the higher the priority the earlier

    struct entry *by_seq[N_SEQ_BUCKETS];
    struct entry *by_mid[N_MID_BUCKETS];
    struct entry *put_first, *put_last;    // to be stored, in the order of put_mono_usec
    struct entry_list done;                // stored, to be removed from the store
    size_t n_in_memory, n_bytes_in_memory; // not stored, volatile ones too

    struct link *link; // NULL: not connected
    bool is_closing, is_freed;
    unsigned window, n_in_flight;
    size_t bytes_in_flight; // as entry_bytes() counts them

    uint64_t connected_mono_usec;
    uint64_t lost_mono_usec; // when the connection broke, or the start; 0 while connected
    uint64_t outage_usec;    // how long the last one took
    uint64_t n_backlog;      // what waited when it ended and still waits
    uint64_t n_backlog_sent, n_backlog_lost;
    bool backlog_is_told;
    bool was_connected;     // ever
    uint64_t n_inherited;   // messages that an earlier run has left
    uint64_t n_lost_before; // messages, when the outage began
    uint64_t n_lost_meanwhile;
    uint64_t drain_mono_usec; // with a drain rate: when the next late message may go
    uint64_t random;          // the state of random_next()

    struct outbox_job *job;        // at work; NULL: none
    struct outbox_record *records; // that wait for the store, by name
    struct disk disk;
    uint64_t woken_ticket;    // up to which the tick was asked for, to tell
    uint64_t generation;      // as the store last said
    bool must_ask;            // whether it has changed
    bool is_sealed;           // the store knows all numbers that were used
    bool has_stored;          // a job has worked
    bool is_ended;            // what is lost with a stop has been told
    uint64_t begin_wall_usec; // of this boot, as the store was last told

    uint64_t armed_mono_usec;                          // when the tick is wanted, but for the disk
    uint64_t disk_mono_usec;                           // when it is wanted for that, as things are
    uint64_t n_sent, n_dropped, n_expired, n_rejected; // messages
    struct ratelimit refusals, drops;
};

/* --- outbox-entry.c -------------------------------------------------------------------------- */

struct entry *entry_new(struct stream *stream, const void *payload, size_t payload_size,
                        const char *subject);
void entry_list_append(struct entry_list *list, struct entry *entry);
void entry_list_prepend(struct entry_list *list, struct entry *entry);
void entry_list_insert(struct entry_list *list, struct entry *entry); // by seq
void entry_list_remove(struct entry_list *list, struct entry *entry);
struct entry_list *entry_list_of(struct entry *entry); // fresh or loaded; NULL

/* Into the hash table; among those to be stored too, unless the stream is volatile. */
void outbox_add(struct outbox *outbox, struct entry *entry);
struct entry *outbox_find(const struct outbox *outbox, const struct stream *stream, uint64_t seq);
/* Out of everything but the lists of `done`, and free. */
void outbox_forget(struct outbox *outbox, struct entry *entry);
void outbox_put_later(struct outbox *outbox, struct entry *entry);
void outbox_put_never(struct outbox *outbox, struct entry *entry);

/* An entry's storage has changed: keeps the counts. */
void outbox_set_storage(struct outbox *outbox, struct entry *entry, enum entry_storage storage);
/* The message has come to its end. The entry is freed, or done. */
void outbox_finish(struct outbox *outbox, struct entry *entry, enum ledger_end end);

uint64_t outbox_begin_wall(void);               // when this boot began
uint64_t entry_wall(const struct entry *entry); // 0: not known
void outbox_arm(struct outbox *outbox, uint64_t mono_usec);
uint64_t stream_n_waiting(const struct stream *stream);  // in flight too
uint64_t stream_n_unloaded(const struct stream *stream); // on disk alone
void stream_rewind(struct stream *stream, uint64_t seq); // the cursor goes before seq
bool stream_is_on_disk(const struct stream *stream);     // something of it, or may be soon
struct ledger stream_ledger(const struct stream *stream);

/* --- outbox.c -------------------------------------------------------------------------------- */

/* Logs, once, that what waited when the connection came back is sent. */
void outbox_tell_drained(struct outbox *outbox);

/* --- outbox-topic.c -------------------------------------------------------------------------- */

/* Errors as topic_parse(). */
int outbox_topics_make(const struct outbox_options *options, const struct stream_policy *policies,
                       size_t n_policies, struct outbox_topics *ret_topics);
void outbox_topics_done(struct outbox_topics *topics);
/* A new topic for a message. -ENOENT: its stream has none; or as topic_expand(). */
int outbox_topic(const struct outbox *outbox, const struct entry *entry, bool is_late,
                 char **ret_topic);

/* --- outbox-send.c --------------------------------------------------------------------------- */

/* Sends what may be sent. */
void outbox_pump(struct outbox *outbox);
void outbox_take_back(struct outbox *outbox, struct entry *entry); // from flight, not delivered

/* --- outbox-job.c ---------------------------------------------------------------------------- */

/* Hands the store what there is for it, if it is free and it is time. */
void outbox_feed_store(struct outbox *outbox);
void outbox_job_free(struct outbox_job *job);

/* --- outbox-stored.c ------------------------------------------------------------------------- */

/* A stop that could not write everything: what is left is dropped, and counted. */
void outbox_give_up(struct outbox *outbox);

/* --- outbox-record.c ------------------------------------------------------------------------- */

/* What a job has of records: borrows them. -ENOMEM. */
int outbox_list_records(struct outbox_record *records, struct store_job *job);
/* Records of a job that has failed are to be written by the next. */
void outbox_give_back_records(struct outbox *outbox, struct outbox_record **records);
void outbox_free_records(struct outbox_record **records);
size_t outbox_count_records(const struct outbox_record *records);

/* --- outbox-bounds.c ------------------------------------------------------------------------- */

/* Makes room for a message that is to come; false: it is to be dropped. */
bool outbox_make_room(struct outbox *outbox, struct stream *stream, size_t size);
/* keep = latest: gives up what entry replaces, or, for one that was loaded, entry itself. */
void outbox_merge(struct outbox *outbox, struct entry *entry);
/* Ends what is too old, in memory. Whether entry itself was. */
bool outbox_expire(struct outbox *outbox, struct entry *entry);
/* Frees memory of what is on disk as well. */
void outbox_evict(struct outbox *outbox, struct stream *stream);
