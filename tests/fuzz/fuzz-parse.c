// SPDX-License-Identifier: LGPL-2.1-or-later
// Any text as every kind of small value; a failure leaves the result untouched.
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "util/clock.h"
#include "util/parse.h"
#include "util/strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool failed(int r)
{
    assert(r == 0 || r == -EINVAL || r == -ERANGE);
    return r < 0;
}

static void check_argv(const char *text)
{
    _cleanup_(strings_freep) char **argv = NULL;
    if (failed(parse_argv(text, &argv))) {
        assert(!argv);
        return;
    }
    size_t n_bytes = 0;
    for (size_t i = 0; argv[i]; i++)
        n_bytes += strlen(argv[i]);
    assert(strings_count(argv) >= 1 && n_bytes <= strlen(text));
}

/* A time that is taken comes back as it was written, to the millisecond. */
static void check_time(const char *text)
{
    // A leap second or an offset may lead there, and it is not written.
    static const uint64_t year_10000_usec = 253402300800 * USEC_PER_SEC;
    char written[CLOCK_RFC3339_SIZE];
    uint64_t usec = 7, again = 7;
    if (failed(parse_rfc3339(text, &usec))) {
        assert(usec == 7);
        return;
    }
    clock_format_rfc3339(usec, written);
    assert(parse_rfc3339(written, &again) == 0);
    assert(usec >= year_10000_usec || again == usec - usec % USEC_PER_MSEC);
}

static void check_strings(const char *text, size_t size)
{
    static const char *const words[] = { "interval", "sample_interval", "", "light" };
    char line[8 + 64];
    (void)strings_nearest(text, words, ELEMENTS(words));
    _cleanup_(strings_freep) char **vector = NULL;
    assert(strings_split(text, &vector) == 0);
    strings_printable(text, size, line, 8 + size % 64);
    assert(strlen(line) < 8 + size % 64 && strings_is_utf8(line, strlen(line)));
    for (const char *at = line; *at; at++)
        assert((unsigned char)*at >= 0x20 && *at != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) char *text = malloc(size + 1);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    bool boolean;
    int64_t integer = 7;
    uint64_t usec = 7, bytes = 7;
    double number = NAN, same = 0;
    (void)failed(parse_bool(text, &boolean));
    assert(!failed(parse_int(text, &integer)) || integer == 7);
    assert(failed(parse_number(text, &number)) == (isnan(number) != 0));
    assert(!failed(parse_duration(text, &usec)) || usec == 7);
    assert(!failed(parse_size(text, &bytes)) || bytes == 7);
    if (parse_int(text, &integer) == 0) // every integer is a number too
        assert(parse_number(text, &same) == 0 && same == (double)integer);
    check_argv(text);
    check_time(text);
    check_strings(text, size);
    return 0;
}
