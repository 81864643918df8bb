// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as JSON. What json_check() takes, json-c must read to its last byte, and what json-c
// then prints json_check() must take; what json_quote() writes must read back.
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "util/strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* NULL is also what json-c says for null. */
static struct json_object *read_all(const char *text, size_t length)
{
    struct json_tokener *tokener = json_tokener_new_ex(JSON_MAX_DEPTH + 1);
    json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *value = json_tokener_parse_ex(tokener, text, (int)length);
    if (json_tokener_get_error(tokener) == json_tokener_continue) // a number may go on
        value = json_tokener_parse_ex(tokener, "", 1);
    assert(json_tokener_get_error(tokener) == json_tokener_success);
    json_tokener_free(tokener);
    return value;
}

static void check_object(const char *text, size_t length)
{
    struct why why = { "" };
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    int r = json_parse_object(text, length, &object, &why);
    assert((r < 0) == (why.text[0] != '\0') && (r < 0) == !object);
    if (r < 0)
        return;
    assert(json_check(text, length, JSON_MAX_SIZE, JSON_MAX_DEPTH, NULL) == 0);
    const char *printed = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    _cleanup_(json_object_putp) struct json_object *again = NULL;
    r = json_parse_object(printed, strlen(printed), &again, NULL);
    assert(r == -EMSGSIZE || (r == 0 && json_object_equal(object, again))); // escapes may be longer
}

static void check_quote(const char *text, size_t length, size_t size)
{
    _cleanup_(freep) char *copy = strndup(text, length);
    _cleanup_(freep) char *quoted = malloc(size);
    json_quote(copy, quoted, size);
    assert(strlen(quoted) < size);
    assert(json_check(quoted, strlen(quoted), size, 0, NULL) == 0);
    _cleanup_(json_object_putp) struct json_object *string = read_all(quoted, strlen(quoted));
    assert(json_object_is_type(string, json_type_string));
    if (strings_is_utf8(copy, strlen(copy)))
        assert(strncmp(json_object_get_string(string), copy,
                       (size_t)json_object_get_string_len(string)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    if (json_check(text, size, JSON_MAX_SIZE, JSON_MAX_DEPTH, NULL) == 0)
        json_object_put(read_all(text, size));
    check_object(text, size);
    check_quote(text, size, 3 + size % 64);
    return 0;
}
