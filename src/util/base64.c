// SPDX-License-Identifier: LGPL-2.1-or-later
// Bytes as text and back; see base64.h.
#include "util/base64.h"

#include <errno.h>
#include <stdint.h>

char *base64_encode(const unsigned char *bytes, size_t n_bytes, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = out;
    for (size_t i = 0; i < n_bytes; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= i + 1 < n_bytes ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= i + 2 < n_bytes ? bytes[i + 2] : 0;
        *at++ = digits[group >> 18];
        *at++ = digits[group >> 12 & 63];
        *at++ = (char)(i + 1 < n_bytes ? digits[group >> 6 & 63] : '=');
        *at++ = (char)(i + 2 < n_bytes ? digits[group & 63] : '=');
    }
    *at = '\0';
    return out;
}

static int value_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

ssize_t base64_decode(const char *text, size_t length, unsigned char *out, size_t size)
{
    size_t n = 0;
    if (length % 4 != 0)
        return -EBADMSG;
    for (size_t i = 0; i < length; i += 4) {
        uint32_t group = 0;
        size_t n_padding = i + 4 < length ? 0 : (text[i + 3] == '=') + (text[i + 2] == '=');
        for (size_t k = 0; k < 4; k++) {
            int value = k < 4 - n_padding ? value_of(text[i + k]) : 0;
            if (value < 0)
                return -EBADMSG;
            group = group << 6 | (uint32_t)value;
        }
        if (n + 3 - n_padding > size)
            return -EBADMSG;
        for (size_t k = 0; k < 3 - n_padding; k++)
            out[n++] = (unsigned char)(group >> (16 - 8 * k));
    }
    return (ssize_t)n;
}
