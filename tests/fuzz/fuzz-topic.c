// SPDX-License-Identifier: LGPL-2.1-or-later
// A first line as a template, a second as a topic. What a match finds, expanded, is the topic.
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "core/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_match(const struct topic_template *template, const char *topic)
{
    struct topic_match match;
    if (!topic_match(template, topic, &match))
        return;
    char copies[TOPIC_FIELDS][65];
    struct topic_values values = { 0 };
    bool valid = true;
    for (unsigned i = 0; i < TOPIC_FIELDS; i++) {
        const struct topic_slice *slice = &match.field[i];
        assert(topic_has(template, (enum topic_field)i) == (slice->bytes != NULL));
        if (!slice->bytes)
            continue;
        assert(slice->length > 0 && !memchr(slice->bytes, '/', slice->length));
        assert(slice->bytes >= topic && slice->length <= strlen(slice->bytes));
        if (!topic_valid_value(slice->bytes, slice->length)) {
            valid = false;
            continue;
        }
        memcpy(copies[i], slice->bytes, slice->length);
        copies[i][slice->length] = '\0';
        values.field[i] = copies[i];
    }
    _cleanup_(freep) char *again = NULL;
    int r = topic_expand(template, &values, &again);
    assert(valid ? r == 0 && strcmp(again, topic) == 0 : r == -EINVAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) char *text = strndup((const char *)data, size);
    char *topic = strchrnul(text, '\n');
    if (*topic)
        *topic++ = '\0';
    struct why why = { "" };
    _cleanup_(topic_freep) struct topic_template *template = NULL;
    int r = topic_parse(text, (1 << TOPIC_FIELDS) - 1, &template, &why);
    assert((r < 0) == (why.text[0] != '\0') && (r < 0) == !template);
    if (r < 0)
        return 0;
    struct topic_values none = { 0 }, all = { { "a", "b", "c", "d" } };
    _cleanup_(freep) char *filter = NULL;
    _cleanup_(freep) char *expanded = NULL;
    assert(topic_filter(template, &none, &filter) == 0);
    assert(topic_expand(template, &all, &expanded) == 0);
    check_match(template, expanded);
    check_match(template, topic);
    return 0;
}
