// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes for a reply: what is taken has a status, an id that fits and a reason of one line.
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "core/answer.h"
#include "util/strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct answer answer;
    struct why why = { "" };
    if (answer_parse((const char *)data, size, &answer, &why) < 0) {
        assert(why.text[0]);
        return 0;
    }
    assert(answer.status <= REPLY_SUPERSEDED);
    assert(strlen(answer.id) <= ENVELOPE_MAX_ID);
    assert(strings_is_utf8(answer.reason, strlen(answer.reason)) && !strchr(answer.reason, '\n'));
    return 0;
}
