// SPDX-License-Identifier: LGPL-2.1-or-later
// The mark of a clean end; see db-run.h.
#include "store/db-run.h"

#include <string.h>
#include <systemd/sd-id128.h>

#include "store/db-job.h"
#include "util/killpoint.h"

static const char space[] = "$run", key[] = "clean";

/* The run and the boot, as hexadecimal digits with a blank between. */
struct mark {
    char text[2 * SD_ID128_STRING_MAX];
};

static struct mark make_mark(const uint8_t *run, const uint8_t *boot)
{
    sd_id128_t ids[2];
    struct mark mark;
    memcpy(ids[0].bytes, run, STORE_RUN_SIZE);
    memcpy(ids[1].bytes, boot, STORE_BOOT_SIZE);
    sd_id128_to_string(ids[0], mark.text);
    mark.text[SD_ID128_STRING_MAX - 1] = ' ';
    sd_id128_to_string(ids[1], mark.text + SD_ID128_STRING_MAX);
    return mark;
}

/* Into ids: run and boot. */
static bool read_mark(struct db *db, sd_id128_t ids[static 2])
{
    sqlite3_stmt *row = db_statement(db, DB_RECORDS);
    char text[2 * SD_ID128_STRING_MAX] = "";
    sqlite3_bind_text(row, 1, space, -1, SQLITE_STATIC);
    if (db_step(db, DB_RECORDS, NULL) <= 0)
        return false;
    const char *value = (const char *)sqlite3_column_text(row, 1);
    if (value && strlen(value) == sizeof(text) - 1)
        memcpy(text, value, sizeof(text));
    db_reset(db, DB_RECORDS);
    text[SD_ID128_STRING_MAX - 1] = '\0';
    return sd_id128_from_string(text, &ids[0]) >= 0 &&
           sd_id128_from_string(text + SD_ID128_STRING_MAX, &ids[1]) >= 0;
}

static int write_mark(struct db *db, const char *value)
{
    const struct store_record record = { space, key, value };
    int r = db_begin(db, true, true, NULL);
    if (r == 0)
        r = db_job_write_record(db, &record, NULL);
    if (r == 0)
        r = db_commit(db, NULL);
    if (r < 0)
        db_rollback(db);
    return r < 0 ? r : db_sync(db, NULL);
}

void db_run_take(struct db *db, const uint8_t boot[static STORE_BOOT_SIZE],
                 uint8_t ret_run[static STORE_RUN_SIZE])
{
    sd_id128_t ids[2];
    if (!read_mark(db, ids))
        return;
    KILL_POINT("mark-found");
    int r = write_mark(db, NULL);
    KILL_POINT("mark-taken");
    if (r == 0 && memcmp(ids[1].bytes, boot, STORE_BOOT_SIZE) == 0)
        memcpy(ret_run, ids[0].bytes, STORE_RUN_SIZE);
}

void db_run_leave(struct db *db, const uint8_t boot[static STORE_BOOT_SIZE],
                  const uint8_t run[static STORE_RUN_SIZE])
{
    const struct mark mark = make_mark(run, boot);
    KILL_POINT("mark");
    (void)write_mark(db, mark.text);
    KILL_POINT("marked");
}

bool db_run_is_mark(const struct store_record *record)
{
    return strcmp(record->space, space) == 0;
}
