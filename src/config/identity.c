// SPDX-License-Identifier: LGPL-2.1-or-later
// Names a device after its host and machine id; see identity.h.
#include "config/identity.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "core/topic.h"
#include "util/cleanup.h"

/* Ours alone and for ever: another one would rename every device that has no id of its own. */
static const sd_id128_t application =
    SD_ID128_MAKE(5b, 0e, 7c, a1, 93, 4f, 4d, 6e, b2, 18, 6a, f0, 27, c9, 3d, 84);

static int check(const char *name, struct why *why)
{
    if (topic_valid_value(name, strlen(name)))
        return 0;
    return why_set(
        why, EINVAL,
        "'%.80s' cannot be a level of a topic; expected 1 to 64 of A-Z a-z 0-9 . _ : @ -", name);
}

static int get_host_name(char name[static HOST_NAME_MAX + 1], struct why *why)
{
    if (gethostname(name, HOST_NAME_MAX + 1) < 0)
        return why_set(why, EINVAL, "the host name is not known (%s); expected a name without %%H",
                       strerror(errno));
    name[HOST_NAME_MAX] = '\0';
    return 0;
}

/* What stands for the specifier letter, in value. */
static int specifier(const char *letter, char value[static HOST_NAME_MAX + 1], struct why *why)
{
    sd_id128_t machine;
    int r;
    switch (*letter) {
    case '%':
        memcpy(value, "%", sizeof("%"));
        return 0;
    case 'H':
        return get_host_name(value, why);
    case 'm':
        r = sd_id128_get_machine(&machine);
        if (r < 0)
            return why_set(why, EINVAL,
                           "there is no machine id for %%m (%s); expected a name without it",
                           strerror(-r));
        sd_id128_to_string(machine, value);
        return 0;
    default:
        return why_set(why, EINVAL, "unknown specifier '%%%.1s'; expected %%H, %%m or %%%%",
                       letter);
    }
}

int identity_expand(const char *text, char **ret_name, struct why *why)
{
    _cleanup_(freep) char *name = malloc(strlen(text) * HOST_NAME_MAX + 1);
    if (!name)
        return -ENOMEM;
    char *out = name;
    for (; *text; text++) {
        if (*text != '%') {
            *out++ = *text;
            continue;
        }
        char value[HOST_NAME_MAX + 1];
        int r = specifier(++text, value, why);
        if (r < 0)
            return r;
        out = stpcpy(out, value);
    }
    *out = '\0';
    int r = check(name, why);
    if (r < 0)
        return r;
    *ret_name = TAKE_PTR(name);
    return 0;
}

int identity_default(char **ret_name, struct why *why)
{
    char host[HOST_NAME_MAX + 1], *name;
    sd_id128_t machine;
    int r = sd_id128_get_machine_app_specific(application, &machine);
    if (r < 0)
        return why_set(why, EINVAL,
                       "not set, and there is no machine id to make one from (%s); expected id = "
                       "NAME",
                       strerror(-r));
    r = get_host_name(host, why);
    if (r < 0)
        return r;
    if (asprintf(&name, "%s-%02x%02x%02x%02x", host, machine.bytes[0], machine.bytes[1],
                 machine.bytes[2], machine.bytes[3]) < 0)
        return -ENOMEM;
    r = check(name, why);
    if (r < 0) {
        free(name);
        return r;
    }
    *ret_name = name;
    return 0;
}
