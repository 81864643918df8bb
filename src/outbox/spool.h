// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The daemon's store at work: one file and one thread for the outboxes of all roles. An outbox's
 * job waits for its turn, is done in the thread, and comes back by outbox_stored().
 *
 *     spool_new(), spool_add() for each outbox, spool_run() as its run_job(); spool_start() once
 * the daemon is set up: until then jobs are done at once, so that the start knows what is there.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "outbox/outbox.h"
#include "store/store.h"
#include "util/cleanup.h"

struct spool;
struct spool_client;

/*
 * directory is where queue.db is, made (0700) if it is not there; max_size as store.h. Blocks on
 * the disk. 0 also when the store cannot be opened, now or ever: what the outboxes have stays in
 * memory then, and they tell. -ENOMEM, or what sd-event returns.
 */
int spool_new(sd_event *event, const char *directory, uint64_t max_size, struct spool **ret_spool);
void spool_free(struct spool *spool);
DEFINE_CLEANUP(struct spool *, spool_free)

/* From now on jobs are done in the thread. */
void spool_start(struct spool *spool);

/* Whether the thread has been at one job for 10 s: the disk hangs. Logged once, as its end is. */
bool spool_is_stalled(const struct spool *spool);

/*
 * Whether the file was damaged, or removed or replaced by somebody, since the start, and has been
 * written anew. Logged each time, with what is lost. A store without jobs is looked at for that
 * once a minute.
 */
bool spool_has_mishap(const struct spool *spool);

enum spool_event {
    SPOOL_NEWS,   // one of the two above has changed; from the loop
    SPOOL_PAUSES, // see spool_pause()
};

/* Who is told; nobody at first. */
void spool_listen(struct spool *spool, void (*tell)(void *userdata, enum spool_event event),
                  void *userdata);

/* The id of this boot of the machine. */
const uint8_t *spool_boot(const struct spool *spool);

/*
 * The id under which (run, seq) is used once: STORE_RUN_SIZE bytes, new after a boot of the machine
 * and after an end that was not clean. It is clean when the last job of each outbox had `seals`.
 */
const uint8_t *spool_run_id(const struct spool *spool);

/*
 * Calls visit for each record of space. Blocks on the disk: before spool_start(), or within
 * spool_pause(). As store_records(), and -EBUSY while a job is at work.
 */
int spool_records(struct spool *spool, const char *space,
                  void (*visit)(void *userdata, const char *key, const char *value), void *userdata,
                  struct why *why);

/*
 * Tells SPOOL_PAUSES once, when no job is at work: now, or when the one that is has come back. Jobs
 * that are brought up meanwhile wait until whoever is told has returned, so that what he reads is
 * all that there is.
 */
void spool_pause(struct spool *spool);

/* A pause that has not been told yet is not wanted any more. */
void spool_forget_pause(struct spool *spool);

/* adopts: what nobody configures is this outbox's to send. 0 or -ENOMEM. */
int spool_add(struct spool *spool, struct outbox *outbox, bool adopts,
              struct spool_client **ret_client);

/* Frees the outbox too: now, or when its job has come back. NULL is fine. */
void spool_remove(struct spool_client *client);
DEFINE_CLEANUP(struct spool_client *, spool_remove)

/* As outbox_new() wants it: 0, or -EBUSY when the client's last job is not back yet. */
int spool_run(struct spool_client *client, struct store_job *job);
