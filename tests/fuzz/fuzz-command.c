// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a command. One that is taken keeps its bounds, and its own JSON gives it again.
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/command.h"
#include "core/json.h"
#include "util/strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_item(const struct command_item *item)
{
    char json[VALUE_TEXT_SIZE * 6 + 3], plain[352];
    size_t length = strlen(item->key);
    assert(length >= 1 && length <= COMMAND_MAX_KEY && item->key[0] != '$');
    assert(item->value.type != VALUE_NONE);
    assert(item->value.type != VALUE_NUMBER || isfinite(item->value.number));
    assert(item->value.type != VALUE_STRING ||
           strings_is_utf8(item->value.string, strlen(item->value.string)));
    value_format_json(&item->value, json, sizeof(json));
    assert(json_check(json, strlen(json), sizeof(json), 0, NULL) == 0);
    value_format_plain(&item->value, plain, sizeof(plain));
    for (int decimals = -1; item->value.type == VALUE_NUMBER && decimals <= 9; decimals++) {
        value_format_number(item->value.number, decimals, plain, sizeof(plain));
        assert(json_check(plain, strlen(plain), sizeof(plain), 0, NULL) == 0);
    }
    struct command_limits limits = { VALUE_NUMBER, -10, 10 };
    (void)command_check_item(item, &limits, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct why why = { "" };
    _cleanup_(command_freep) struct command *command = NULL;
    int r = command_parse((const char *)data, size, &command, &why);
    assert((r < 0) == (why.text[0] != '\0') && (r < 0) == !command);
    if (r < 0)
        return 0;
    assert(command->n_items >= 1 && command->n_items <= COMMAND_MAX_ITEMS);
    for (size_t i = 0; i < command->n_items; i++)
        check_item(&command->items[i]);

    _cleanup_(command_freep) struct command *again = NULL;
    r = command_parse(command->json, strlen(command->json), &again, NULL);
    assert(r == 0 && again->n_items == command->n_items);
    for (size_t i = 0; i < command->n_items; i++) {
        assert(strcmp(again->items[i].key, command->items[i].key) == 0);
        assert(value_equal(&again->items[i].value, &command->items[i].value));
    }
    return 0;
}
