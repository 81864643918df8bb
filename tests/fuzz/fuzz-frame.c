// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as frames, each behind two bytes of its length. What a reader takes out of them can be
// said again, and is then the same.
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/frame.h"
#include "util/cleanup.h"

enum { MAX_SIZE = 1 << 20, HEADER_SIZE = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of exactly their size, so that ASan sees the first byte too far. */
static uint8_t *copy(const void *bytes, size_t size)
{
    uint8_t *exact = malloc(size);
    assert(exact || size == 0);
    if (size > 0)
        memcpy(exact, bytes, size);
    return exact;
}

/* Says the record, hears it, says it again: to the same bytes, which are left in *first. */
static void repeat(const struct frame_record *record, struct frame_queue *first)
{
    _cleanup_(frame_reader_done) struct frame_reader reader = { .max_size = MAX_SIZE };
    _cleanup_(frame_queue_done) struct frame_queue said = { 0 }, again = { 0 };
    struct frame_options options;
    struct frame_record heard = { .options = &options };
    const void *bytes;
    size_t size;
    int r = 0;
    assert(frame_queue_put(first, record) == 0 && frame_queue_put(&said, record) == 0);
    while (r == 0 && frame_queue_first(&said, &bytes, &size)) {
        assert(size <= FRAME_MAX_SIZE);
        frame_reader_feed(&reader, bytes, size);
        r = frame_reader_next(&reader, &heard);
        if (r == 0)
            frame_queue_pop(&said);
    }
    assert(r == 1 && frame_queue_put(&again, &heard) == 0);
    assert(again.end == first->end && memcmp(again.bytes, first->bytes, again.end) == 0);
    assert(frame_reader_next(&reader, &heard) == 0);
}

/* Whether the frame is one record, and not in parts. */
static bool is_whole(const uint8_t *frame, size_t size)
{
    uint32_t body_size;
    if (size < HEADER_SIZE || frame[5] != 0)
        return false;
    memcpy(&body_size, frame, sizeof(body_size));
    return body_size == size - HEADER_SIZE;
}

static int read_frame(struct frame_reader *reader, struct frame_record *record,
                      const uint8_t *frame, size_t size)
{
    bool is_alone = reader->parts_kind == 0 && is_whole(frame, size);
    int r;
    frame_reader_feed(reader, frame, size);
    while ((r = frame_reader_next(reader, record)) > 0) {
        _cleanup_(frame_queue_done) struct frame_queue queue = { 0 };
        const void *bytes;
        size_t same_size;
        repeat(record, &queue);
        if (is_alone) // a record has one form
            assert(frame_queue_first(&queue, &bytes, &same_size) && same_size == size &&
                   memcmp(bytes, frame, size) == 0);
    }
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(frame_reader_done) struct frame_reader reader = { .max_size = MAX_SIZE };
    struct frame_options options;
    struct frame_record record = { .options = &options };
    int r = 0;
    while (r == 0 && size >= sizeof(uint16_t)) {
        size_t length = data[0] | (size_t)data[1] << 8;
        data += sizeof(uint16_t);
        size -= sizeof(uint16_t);
        length = length < size ? length : size;
        _cleanup_(freep) uint8_t *frame = copy(data, length);
        r = read_frame(&reader, &record, frame, length);
        assert(r == 0 || r == -EBADMSG || r == -EPROTO || r == -EMSGSIZE);
        data += length;
        size -= length;
    }
    return 0;
}
