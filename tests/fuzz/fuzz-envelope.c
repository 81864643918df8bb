// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a command in its envelope. What is taken is within all bounds, and whatever was read
// of a refused one can be told in a reply.
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "core/envelope.h"
#include "core/json.h"
#include "util/clock.h"
#include "util/strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_taken(const struct envelope *envelope)
{
    assert((envelope->action[0] != '\0') == (envelope->command == NULL));
    assert(envelope->seq <= (uint64_t)1 << 53);
    assert(envelope->lease_usec <= 365 * 86400 * USEC_PER_SEC);
    assert(strings_count(envelope->sensors) <= ENVELOPE_MAX_SENSORS);
    assert(!envelope->sensors || envelope->action[0]);
    for (size_t i = 0; envelope->command && i < envelope->command->n_items; i++) {
        assert(envelope->command->items[i].key[0] != '$');
        assert(envelope->command->items[i].value.type != VALUE_NONE);
    }
}

static void check_reply(const struct envelope *envelope, const char *reason)
{
    const struct reply reply = {
        .id = envelope->id, .status = REPLY_REJECTED, .reason = reason, .state = "{}"
    };
    _cleanup_(freep) char *text = reply_format(&reply);
    assert(json_check(text, strlen(text), JSON_MAX_SIZE, JSON_MAX_DEPTH, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct envelope envelope;
    struct why why = { "" };
    _cleanup_(freep) char *bytes = malloc(size + 1); // exact: an overrun is found
    if (size > 0)
        memcpy(bytes, data, size);
    int r = envelope_parse(bytes, size, &envelope, &why);
    assert(r == 0 || (r < 0 && why.text[0]));
    assert(strlen(envelope.id) <= ENVELOPE_MAX_ID);
    if (r == 0)
        check_taken(&envelope);
    check_reply(&envelope, why.text);
    envelope_done(&envelope);
    return 0;
}
