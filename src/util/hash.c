// SPDX-License-Identifier: LGPL-2.1-or-later
// SipHash-2-4; see hash.h. Owns the key.
#include "util/hash.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static uint64_t key[2];

static void make_key(void)
{
    // Never waited for: a start early in a boot goes on with what can be had.
    if (getrandom(key, sizeof(key), GRND_NONBLOCK) == (ssize_t)sizeof(key))
        return;
    key[0] ^= (uint64_t)(uintptr_t)&key ^ (uint64_t)getpid() << 48;
    key[1] ^= (uint64_t)(uintptr_t)&key[0] << 17 ^ (uint64_t)(uintptr_t)make_key;
}

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void mix(uint64_t v[4], unsigned n_rounds)
{
    for (unsigned i = 0; i < n_rounds; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32) + v[3];
        v[2] += v[1];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static void take(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v, 2);
    v[0] ^= word;
}

uint64_t hash_siphash(const uint64_t with[2], const void *bytes, size_t n_bytes)
{
    uint64_t v[4] = { with[0] ^ 0x736f6d6570736575, with[1] ^ 0x646f72616e646f6d,
                      with[0] ^ 0x6c7967656e657261, with[1] ^ 0x7465646279746573 };
    const unsigned char *at = bytes;
    uint64_t word, last = (uint64_t)n_bytes << 56;
    for (size_t n = n_bytes; n >= sizeof(word); n -= sizeof(word), at += sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        take(v, word);
    }
    for (size_t i = 0; i < n_bytes % sizeof(word); i++)
        last |= (uint64_t)at[i] << (8 * i);
    take(v, last);
    v[2] ^= 0xff;
    mix(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_bytes(const void *bytes, size_t n_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    return hash_siphash(key, bytes, n_bytes);
}

uint64_t hash_text(const char *text)
{
    return hash_bytes(text, strlen(text));
}
