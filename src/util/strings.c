// SPDX-License-Identifier: LGPL-2.1-or-later
// String helpers; see strings.h. Pure, no I/O.
#include "util/strings.h"

#include <fnmatch.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NEAREST_MAX = 64 };

void strings_free(char **vector)
{
    for (size_t i = 0; vector && vector[i]; i++)
        free(vector[i]);
    free(vector);
}

size_t strings_count(char *const *vector)
{
    size_t n = 0;
    while (vector && vector[n])
        n++;
    return n;
}

bool strings_match_any(char *const *patterns, const char *text)
{
    for (size_t i = 0; patterns && patterns[i]; i++) {
        if (fnmatch(patterns[i], text, 0) == 0)
            return true;
    }
    return false;
}

int strings_split(const char *text, char ***ret_vector)
{
    static const char blank[] = " \t\r\n";
    _cleanup_(strings_freep) char **vector = calloc(strlen(text) / 2 + 2, sizeof(char *));
    if (!vector)
        return -ENOMEM;
    for (size_t n = 0;; n++) {
        text += strspn(text, blank);
        size_t length = strcspn(text, blank);
        if (length == 0)
            break;
        vector[n] = strndup(text, length);
        if (!vector[n])
            return -ENOMEM;
        text += length;
    }
    *ret_vector = TAKE_PTR(vector);
    return 0;
}

bool strings_equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

const char *strings_join(const char *const *words, size_t n_words, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "%s", n_words > 0 ? words[0] : "none");
    for (size_t i = 1; i < n_words && words[i] && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, ", %s", words[i]);
    if (at >= size)
        memcpy(out + size - 4, "...", 4);
    return out;
}

/* Optimal string alignment distance; both words are shorter than NEAREST_MAX. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][NEAREST_MAX + 1]; // the row before the last, the last, and this one
    size_t length_a = strlen(a), length_b = strlen(b);
    for (size_t j = 0; j <= length_b; j++)
        rows[1][j] = j;
    for (size_t i = 1; i <= length_a; i++) {
        size_t *before = rows[(i + 2) % 3], *last = rows[i % 3], *row = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= length_b; j++) {
            size_t changed = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = min3(last[j] + 1, row[j - 1] + 1, changed);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
    }
    return rows[(length_a + 1) % 3][length_b];
}

const char *strings_nearest(const char *word, const char *const *candidates, size_t n_candidates)
{
    size_t length = strlen(word);
    if (length >= NEAREST_MAX)
        return NULL;
    size_t limit = length / 3 > 1 ? length / 3 : 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < n_candidates; i++) {
        if (strlen(candidates[i]) >= NEAREST_MAX)
            continue;
        size_t distance = edit_distance(word, candidates[i]);
        if (distance <= limit && (!nearest || distance < limit)) {
            nearest = candidates[i];
            limit = distance;
        }
    }
    return nearest;
}

static const char hex_digits[] = "0123456789abcdef";

char *strings_to_hex(const void *bytes, size_t n_bytes, char *out)
{
    const uint8_t *byte = bytes;
    char *at = out;
    for (size_t i = 0; i < n_bytes; i++) {
        *at++ = hex_digits[byte[i] >> 4];
        *at++ = hex_digits[byte[i] & 0xf];
    }
    *at = '\0';
    return out;
}

bool strings_from_hex(const char *text, size_t n_bytes, void *out)
{
    if (strspn(text, hex_digits) < 2 * n_bytes)
        return false;
    for (uint8_t *byte = out; n_bytes-- > 0; text += 2)
        *byte++ = (uint8_t)((strchr(hex_digits, text[0]) - hex_digits) << 4 |
                            (strchr(hex_digits, text[1]) - hex_digits));
    return true;
}

size_t strings_utf8_length(const char *text, size_t length)
{
    const uint8_t *byte = (const uint8_t *)text;
    if (length == 0)
        return 0;
    if (byte[0] < 0x80)
        return 1;
    size_t n = byte[0] >= 0xf0 ? 4 : byte[0] >= 0xe0 ? 3 : 2;
    if (byte[0] < 0xc2 || byte[0] > 0xf4 || n > length)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((byte[0] == 0xe0 && byte[1] < 0xa0) || (byte[0] == 0xed && byte[1] > 0x9f) ||
        (byte[0] == 0xf0 && byte[1] < 0x90) || (byte[0] == 0xf4 && byte[1] > 0x8f))
        return 0;
    return n;
}

bool strings_is_utf8(const char *bytes, size_t length)
{
    while (length > 0) {
        size_t n = strings_utf8_length(bytes, length);
        if (n == 0)
            return false;
        bytes += n;
        length -= n;
    }
    return true;
}

const char *strings_printable(const char *bytes, size_t length, char *out, size_t size)
{
    size_t at = 0;
    while (length > 0) {
        size_t n = strings_utf8_length(bytes, length);
        uint8_t byte = (uint8_t)bytes[0];
        bool is_c1 = n == 2 && byte == 0xc2 && (uint8_t)bytes[1] < 0xa0; // U+0080 to U+009F
        bool plain = n > 0 && byte >= 0x20 && byte != 0x7f && !is_c1;
        size_t need = plain ? n : 4;
        if (!plain)
            n = 1; // byte by byte
        if (at + need + (length > n ? 3 : 0) >= size) {
            memcpy(out + at, "...", 3);
            at += 3;
            break;
        }
        if (plain)
            memcpy(out + at, bytes, n);
        else
            strings_to_hex(&byte, 1, stpcpy(out + at, "\\x"));
        at += need;
        bytes += n;
        length -= n;
    }
    out[at] = '\0';
    return out;
}
