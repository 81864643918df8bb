// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Hash tables by uthash, with the hash of util/hash.h. Without memory HASH_ADD() does not add the
 * element: then its hh.tbl is NULL. To be included from .c files and for their own structs.
 */
#pragma once

#include "util/hash.h"

#define HASH_NONFATAL_OOM                       1
#define HASH_FUNCTION(bytes, n_bytes, ret_hash) (ret_hash) = (unsigned)hash_bytes(bytes, n_bytes)
#include <uthash.h>
