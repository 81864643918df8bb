// SPDX-License-Identifier: LGPL-2.1-or-later
// The store in memory: what store.h says in the simplest way. When memory runs out in
// the middle of a job, part of the job stays done.
#include "store-memory.h"

#include <assert.h>
#include <string.h>

#include "store/store-message.h"
#include "util/strings.h"

struct memory_stream {
    char name[STORE_MAX_NAME + 1];
    struct store_state state;
    struct store_message *messages; // by number
};

struct memory_boot {
    uint8_t uuid[STORE_BOOT_SIZE];
    uint64_t begin_wall_usec;
};

struct memory_record {
    char *space, *key, *value;
};

struct store_memory {
    struct memory_stream *streams;
    size_t n_streams;
    struct memory_boot *boots; // this one first
    size_t n_boots;
    struct memory_record *records; // by space and key
    size_t n_records;
    int error;
    bool sync_fails;
    bool is_full;
};

/*
 * Makes room for one more at index i of an array of n, which has been made by this alone and so is
 * full at each power of two. NULL if there is no memory.
 */
static void *open_gap(void *array, size_t n, size_t size, size_t i)
{
    char *larger = array;
    if ((n & (n - 1)) == 0)
        larger = reallocarray(array, n > 0 ? n * 2 : 1, size);
    if (larger)
        memmove(larger + (i + 1) * size, larger + i * size, (n - i) * size);
    return larger;
}

static void close_gap(void *array, size_t n, size_t size, size_t i)
{
    memmove((char *)array + i * size, (char *)array + (i + 1) * size, (n - i - 1) * size);
}

static int find_stream(struct store_memory *store, const char *name, size_t *ret_i)
{
    size_t i = 0;
    while (i < store->n_streams && strcmp(store->streams[i].name, name) != 0)
        i++;
    if (i == store->n_streams) {
        assert(name[0] != '\0' && strlen(name) <= STORE_MAX_NAME);
        void *larger = open_gap(store->streams, i, sizeof(*store->streams), i);
        if (!larger)
            return -ENOMEM;
        store->streams = larger;
        store->streams[i] = (struct memory_stream){ 0 };
        memcpy(store->streams[i].name, name, strlen(name) + 1);
        store->n_streams++;
    }
    *ret_i = i;
    return 0;
}

/* NULL if there is no memory. */
static struct memory_boot *find_boot(struct store_memory *store, const uint8_t *uuid)
{
    size_t i = 0;
    while (i < store->n_boots && memcmp(store->boots[i].uuid, uuid, STORE_BOOT_SIZE) != 0)
        i++;
    if (i == store->n_boots) {
        void *larger = open_gap(store->boots, i, sizeof(*store->boots), i);
        if (!larger)
            return NULL;
        store->boots = larger;
        store->boots[i] = (struct memory_boot){ 0 };
        memcpy(store->boots[i].uuid, uuid, STORE_BOOT_SIZE);
        store->n_boots++;
    }
    return &store->boots[i];
}

static struct memory_stream *stream_of(struct store_memory *store, const struct store_job *job,
                                       size_t index)
{
    assert(index < job->n_streams);
    size_t i = 0;
    int r = find_stream(store, job->streams[index].name, &i);
    assert(r == 0); // it was made before
    return &store->streams[i];
}

/* The index of the first message with a number above seq. */
static size_t index_after(const struct memory_stream *stream, uint64_t seq)
{
    size_t low = 0;
    for (size_t high = stream->state.n_messages; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (stream->messages[middle].seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int put(struct memory_stream *stream, const struct store_message *message)
{
    assert(message->seq > 0 && message->seq < STORE_SEQ_END);
    struct store_state *state = &stream->state;
    size_t i = index_after(stream, message->seq);
    if (i > 0 && stream->messages[i - 1].seq == message->seq)
        return 0;
    void *larger = open_gap(stream->messages, state->n_messages, sizeof(*message), i);
    if (!larger)
        return -ENOMEM;
    stream->messages = larger;
    int r = store_copy_message(message, &stream->messages[i]);
    if (r < 0) {
        close_gap(stream->messages, state->n_messages + 1, sizeof(*message), i);
        return r;
    }
    static const uint8_t none[STORE_RUN_SIZE];
    struct store_message *copy = &stream->messages[i];
    if (memcmp(copy->run, none, sizeof(none)) == 0)
        memcpy(copy->run, copy->moment.boot, STORE_RUN_SIZE);
    if (message->seq > state->used_seq)
        state->used_seq = message->seq;
    state->ledger.sampled += message->n_samples;
    state->n_messages++;
    state->n_samples += message->n_samples;
    state->bytes += store_cost(message);
    return 0;
}

static void remove_at(struct memory_stream *stream, size_t i, enum ledger_end end)
{
    struct store_state *state = &stream->state;
    const struct store_message *message = &stream->messages[i];
    state->ledger.ended[end] += message->n_samples;
    state->n_samples -= message->n_samples;
    state->bytes -= store_cost(message);
    free((void *)message->payload);
    close_gap(stream->messages, state->n_messages, sizeof(*message), i);
    state->n_messages--;
}

static void remove_range(struct memory_stream *stream, const struct store_range *range)
{
    size_t i = index_after(stream, range->first_seq > 0 ? range->first_seq - 1 : 0);
    while (i < stream->state.n_messages && stream->messages[i].seq <= range->last_seq)
        remove_at(stream, i, range->end);
}

static int trim(struct store_memory *store, struct memory_stream *stream, struct store_trim *trim)
{
    trim->n_gone = trim->n_samples = trim->n_bytes = 0;
    size_t i = index_after(stream, trim->after_seq);
    while (i < stream->state.n_messages) {
        const struct store_message *message = &stream->messages[i];
        const struct memory_boot *boot = find_boot(store, message->moment.boot);
        if (!boot)
            return -ENOMEM;
        uint64_t wall_usec = store_wall_usec(boot->begin_wall_usec, message->moment.mono_usec);
        if ((trim->before_seq > 0 && message->seq >= trim->before_seq) ||
            !store_trim_goes_on(trim, trim->n_gone, trim->n_bytes, wall_usec))
            break;
        trim->n_gone++;
        trim->n_samples += message->n_samples;
        trim->n_bytes += store_cost(message);
        remove_at(stream, i, trim->end);
    }
    return 0;
}

static void free_record(struct memory_record *record)
{
    free(record->space);
    free(record->key);
    free(record->value);
}

static int compare_record(const struct memory_record *a, const struct store_record *b)
{
    int order = strcmp(a->space, b->space);
    return order != 0 ? order : strcmp(a->key, b->key);
}

static int write_record(struct store_memory *store, const struct store_record *record)
{
    size_t i = 0;
    while (i < store->n_records && compare_record(&store->records[i], record) < 0)
        i++;
    if (i < store->n_records && compare_record(&store->records[i], record) == 0) {
        free_record(&store->records[i]);
        close_gap(store->records, store->n_records, sizeof(*store->records), i);
        store->n_records--;
    }
    if (!record->value)
        return 0;
    void *larger = open_gap(store->records, store->n_records, sizeof(*store->records), i);
    if (!larger)
        return -ENOMEM;
    store->records = larger;
    struct memory_record copy = {
        .space = strdup(record->space),
        .key = strdup(record->key),
        .value = strdup(record->value),
    };
    if (!copy.space || !copy.key || !copy.value) {
        close_gap(store->records, store->n_records + 1, sizeof(*store->records), i);
        free_record(&copy);
        return -ENOMEM;
    }
    store->records[i] = copy;
    store->n_records++;
    return 0;
}

static int query(struct store_memory *store, const struct memory_stream *stream,
                 struct store_query *query)
{
    size_t i = index_after(stream, query->after_seq);
    size_t n_left = stream->state.n_messages - i;
    size_t n_max = n_left < query->max_messages ? n_left : query->max_messages;
    struct store_message *messages = calloc(n_max + 1, sizeof(*messages));
    if (!messages)
        return -ENOMEM;
    size_t n = 0;
    for (uint64_t bytes = 0; n < n_max && (n == 0 || bytes < query->max_bytes); n++, i++) {
        const struct memory_boot *boot = find_boot(store, stream->messages[i].moment.boot);
        if (!boot || store_copy_message(&stream->messages[i], &messages[n]) < 0) {
            store_messages_free(messages, n);
            return -ENOMEM;
        }
        messages[n].stream = query->stream;
        messages[n].begin_wall_usec = boot->begin_wall_usec;
        bytes += store_cost(&messages[n]);
    }
    query->messages = messages;
    query->n_messages = n;
    query->at_end = n == n_left;
    return 0;
}

static int change_streams(struct store_memory *store, const struct store_job *job)
{
    for (size_t i = 0; i < job->n_streams; i++) {
        size_t at;
        int r = find_stream(store, job->streams[i].name, &at);
        if (r < 0)
            return r;
        struct store_state *state = &store->streams[at].state;
        ledger_add(&state->ledger, &job->streams[i].delta);
        uint64_t used_seq = job->streams[i].used_seq;
        if (used_seq > 0 && (job->seals || used_seq > state->used_seq))
            state->used_seq = used_seq;
    }
    return 0;
}

static int do_all(struct store_memory *store, struct store_job *job)
{
    if (job->begin_wall_usec > 0)
        store->boots[0].begin_wall_usec = job->begin_wall_usec;
    int r = change_streams(store, job);
    for (size_t i = 0; r == 0 && i < job->n_puts; i++)
        r = put(stream_of(store, job, job->puts[i]->stream), job->puts[i]);
    for (size_t i = 0; r == 0 && i < job->n_ranges; i++)
        remove_range(stream_of(store, job, job->ranges[i].stream), &job->ranges[i]);
    for (size_t i = 0; r == 0 && i < job->n_trims; i++)
        r = trim(store, stream_of(store, job, job->trims[i].stream), &job->trims[i]);
    for (size_t i = 0; r == 0 && i < job->n_records; i++)
        r = write_record(store, &job->records[i]);
    job->query.messages = NULL;
    job->query.n_messages = 0;
    job->query.at_end = true;
    if (r == 0 && job->query.max_messages > 0)
        r = query(store, stream_of(store, job, job->query.stream), &job->query);
    return r;
}

int store_memory_run(struct store_memory *store, struct store_job *job, struct why *why)
{
    if (store->error > 0)
        return why_set(why, store->error, "%s", strerror(store->error));
    if (store->is_full && job->n_puts > 0)
        return why_set(why, ENOSPC, "%s", strerror(ENOSPC));
    if (do_all(store, job) < 0)
        return why_set(why, ENOMEM, "out of memory");
    for (size_t i = 0; i < job->n_streams; i++)
        job->streams[i].state = stream_of(store, job, i)->state;
    job->generation = 1;
    job->n_lost = 0;
    job->has_room = !store->is_full;
    job->is_synced = job->sync && !store->sync_fails;
    if (job->sync && store->sync_fails)
        why_set(why, EIO, "%s", strerror(EIO));
    return 0;
}

int store_memory_names(struct store_memory *store, char ***ret_names)
{
    _cleanup_(strings_freep) char **names = calloc(store->n_streams + 1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < store->n_streams; i++) {
        names[i] = strdup(store->streams[i].name);
        if (!names[i])
            return -ENOMEM;
    }
    *ret_names = TAKE_PTR(names);
    return 0;
}

int store_memory_records(struct store_memory *store, const char *space,
                         void (*visit)(void *userdata, const char *key, const char *value),
                         void *userdata, struct why *why)
{
    (void)why;
    for (size_t i = 0; i < store->n_records; i++)
        if (strcmp(store->records[i].space, space) == 0)
            visit(userdata, store->records[i].key, store->records[i].value);
    return 0;
}

void store_memory_free(struct store_memory *store)
{
    for (size_t i = 0; i < store->n_streams; i++)
        store_messages_free(store->streams[i].messages, store->streams[i].state.n_messages);
    for (size_t i = 0; i < store->n_records; i++)
        free_record(&store->records[i]);
    free(store->streams);
    free(store->boots);
    free(store->records);
    free(store);
}

int store_memory_new(struct store_memory **ret_store)
{
    struct store_memory *store = calloc(1, sizeof(*store));
    if (store)
        store->boots = calloc(1, sizeof(*store->boots));
    if (!store || !store->boots) {
        free(store);
        return -ENOMEM;
    }
    store->n_boots = 1;
    *ret_store = store;
    return 0;
}

void store_memory_set_boot(struct store_memory *store, const uint8_t boot[static STORE_BOOT_SIZE])
{
    struct memory_boot *found = find_boot(store, boot);
    assert(found);
    struct memory_boot this = *found;
    *found = store->boots[0];
    store->boots[0] = this;
}

void store_memory_set_error(struct store_memory *store, int error)
{
    store->error = error;
}

void store_memory_set_sync_fails(struct store_memory *store, bool fails)
{
    store->sync_fails = fails;
}

void store_memory_set_room(struct store_memory *store, bool has_room)
{
    store->is_full = !has_room;
}
