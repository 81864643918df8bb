// SPDX-License-Identifier: LGPL-2.1-or-later
/* Bytes as text and back: RFC 4648, section 4, with padding. Pure. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define BASE64_SIZE(n_bytes) (((n_bytes) + 2) / 3 * 4 + 1)

/* Writes BASE64_SIZE(n_bytes) characters to out, the NUL among them. Returns out. */
char *base64_encode(const unsigned char *bytes, size_t n_bytes, char *out);

/* The bytes that text stands for, at most size: how many; -EBADMSG: it is none, or stands for more.
 */
ssize_t base64_decode(const char *text, size_t length, unsigned char *out, size_t size);
