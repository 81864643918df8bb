// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes numbers of what sensors say; see reading.h. Pure, no I/O: the bytes are foreign.
#include "drivers/reading.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/json.h"
#include "util/cleanup.h"
#include "util/parse.h"
#include "util/strings.h"

enum {
    NUMBER_SIZE = 400, // the longest that value_format_number() writes is 352
    KEY_SIZE = 256,
    W1_SIZE = 256, // two lines of some 40 bytes
};

static const char white_space[] = " \t\r\n\v\f";

static bool is_space(char byte)
{
    return byte != '\0' && strchr(white_space, byte);
}

int reading_from_text(const char *bytes, size_t length, double *ret_value, struct why *why)
{
    while (length > 0 && is_space(bytes[length - 1]))
        length--;
    for (; length > 0 && is_space(*bytes); bytes++)
        length--;
    if (length == 0)
        return why_set(why, ENODATA, "empty, expected a number");
    char number[NUMBER_SIZE];
    char shown[64];
    int r = -EINVAL;
    if (length < sizeof(number) && !memchr(bytes, '\0', length)) {
        memcpy(number, bytes, length);
        number[length] = '\0';
        r = parse_number(number, ret_value);
    }
    if (r == -ERANGE)
        return why_set(why, ERANGE, "'%s' is too large a number",
                       strings_printable(bytes, length, shown, sizeof(shown)));
    if (r < 0)
        return why_set(why, EBADMSG, "'%s' is not a number",
                       strings_printable(bytes, length, shown, sizeof(shown)));
    return 0;
}

/* One step down: at's member or element that is called by the first length bytes of name. */
static bool get_child(struct json_object *at, const char *name, size_t length,
                      struct json_object **ret_child)
{
    char key[KEY_SIZE];
    if (length >= sizeof(key))
        return false;
    memcpy(key, name, length);
    key[length] = '\0';
    if (json_object_is_type(at, json_type_object))
        return json_object_object_get_ex(at, key, ret_child);
    int64_t index;
    if (!json_object_is_type(at, json_type_array) || parse_int(key, &index) < 0 ||
        (uint64_t)index >= json_object_array_length(at))
        return false; // a negative index has become a huge one
    *ret_child = json_object_array_get_idx(at, (size_t)index);
    return true;
}

/* False if nothing is there; a member that is null is there, as NULL. */
static bool find_member(struct json_object *at, const char *path, struct json_object **ret_member)
{
    while (!get_child(at, path, strlen(path), ret_member)) {
        size_t length = strcspn(path, ".");
        if (path[length] == '\0' || !get_child(at, path, length, &at))
            return false;
        path += length + 1;
    }
    return true;
}

static int member_value(struct json_object *member, const char *path, double *ret_value,
                        struct why *why)
{
    enum json_type type = json_object_get_type(member);
    if (type != json_type_int && type != json_type_double)
        return why_set(why, EBADMSG, "'%s' is of type %s, expected a number", path,
                       json_type_to_name(type));
    *ret_value = json_object_get_double(member);
    return 0;
}

int reading_from_json(const char *bytes, size_t length, const char *path, double *ret_value,
                      struct why *why)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    int r = json_parse_object(bytes, length, &object, why);
    if (r < 0)
        return r;
    struct json_object *member;
    if (!find_member(object, path, &member))
        return why_set(why, ENODATA, "there is no '%s' in the JSON", path);
    return member_value(member, path, ret_value, why);
}

int reading_from_w1_milli(double milli_celsius, double *ret_value, struct why *why)
{
    if (milli_celsius == 85000)
        return why_set(why, ENODATA,
                       "85 degrees is what the sensor says after power-on, before it has measured:"
                       " check its supply");
    *ret_value = milli_celsius / 1000;
    return 0;
}

int reading_from_w1_slave(const char *bytes, size_t length, double *ret_value, struct why *why)
{
    static const char shorted[] = "00 00 00 00 00 00 00 00 00 ";
    char text[W1_SIZE];
    if (length >= sizeof(text) || memchr(bytes, '\0', length))
        return why_set(why, EBADMSG, "not the form of a w1_slave file");
    memcpy(text, bytes, length);
    text[length] = '\0';
    char *second = strchr(text, '\n');
    char *temperature = second ? strstr(second, "t=") : NULL;
    if (!temperature || !strstr(text, "crc="))
        return why_set(why, EBADMSG, "not the form of a w1_slave file");
    *second = '\0';
    if (!strstr(text, " YES"))
        return why_set(why, EIO, "the check sum of the answer is wrong");
    if (strncmp(text, shorted, sizeof(shorted) - 1) == 0)
        return why_set(why, EIO, "the answer is all zeros: the bus is shorted or has no supply");
    temperature += strlen("t=");
    double milli_celsius = 0;
    int r = reading_from_text(temperature, strlen(temperature), &milli_celsius, why);
    if (r < 0)
        return r;
    return reading_from_w1_milli(milli_celsius, ret_value, why);
}
