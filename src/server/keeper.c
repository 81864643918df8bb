// SPDX-License-Identifier: LGPL-2.1-or-later
// Series as records of the store; see keeper.h. A key is "ID/SPAN/NAME", the span in microseconds;
// a value is the bytes in hexadecimal, which a record's text can hold.
#include "server/keeper.h"

#include <inttypes.h>
#include <string.h>

#include "util/strings.h"

enum { MAX_KEY = 256 };

static const char space[] = "series";

struct restoration {
    struct outbox *outbox;
    struct engine *engine;
    char *const *patterns;
    const struct ruleset_now *now;
};

void keeper_keep(struct outbox *outbox, const char *id, uint64_t span_usec, const char *name,
                 const unsigned char *bytes, size_t n_bytes)
{
    static const char digits[] = "0123456789abcdef";
    char key[MAX_KEY + 1], text[2 * SERIES_MAX_SAVED + 1];
    if (outbox_trouble(outbox)) // what waits for the disk would grow without bound
        return;
    snprintf(key, sizeof(key), "%s/%" PRIu64 "/%s", id, span_usec, name);
    for (size_t i = 0; i < n_bytes; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 0xf];
    }
    text[2 * n_bytes] = '\0';
    outbox_put_record(outbox, space, key, bytes ? text : NULL);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Returns how many bytes there are, SIZE_MAX if it is none of our values. */
static size_t parse_value(const char *text, unsigned char *out)
{
    size_t n_bytes = strlen(text) / 2;
    if (n_bytes > SERIES_MAX_SAVED || text[2 * n_bytes] != '\0')
        return SIZE_MAX;
    for (size_t i = 0; i < n_bytes; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return SIZE_MAX;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return n_bytes;
}

static int restore(const struct restoration *of, const char *key, const char *value)
{
    unsigned char bytes[SERIES_MAX_SAVED];
    char id[MAX_KEY + 1], *end;
    size_t n_id = strcspn(key, "/"), n_bytes = parse_value(value, bytes);
    if (key[n_id] != '/' || n_id > MAX_KEY || n_bytes == SIZE_MAX)
        return -EBADMSG;
    memcpy(id, key, n_id);
    id[n_id] = '\0';
    uint64_t span_usec = strtoull(key + n_id + 1, &end, 10);
    if (*end != '/')
        return -EBADMSG;
    if (!strings_match_any(of->patterns, id))
        return -ENOENT;
    return engine_restore(of->engine, (struct topic_slice){ id, n_id }, span_usec, end + 1, bytes,
                          n_bytes, of->now);
}

static void on_record(void *userdata, const char *key, const char *value)
{
    const struct restoration *of = userdata;
    int r = restore(of, key, value);
    if (r == -ENOENT || r == -EBADMSG)
        outbox_put_record(of->outbox, space, key, NULL);
}

int keeper_restore(struct spool *spool, struct outbox *outbox, struct engine *engine,
                   char *const *patterns, const struct ruleset_now *now, struct why *why)
{
    struct restoration restoration = { outbox, engine, patterns, now };
    return spool_records(spool, space, on_record, &restoration, why);
}
