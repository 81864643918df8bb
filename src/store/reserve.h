// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A file that only takes its place on the disk, so that there is some to give back when others have
 * filled it: enough for what waits to be drained. Internal to src/store.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct reserve {
    const char *directory; // the owner's
    bool is_there;
    uint64_t next_mono_usec; // no attempt to make it before
};

/* Makes it if it is not there and there is room. Unless at_once, not within 10 s of the last try.
 */
void reserve_make(struct reserve *reserve, bool at_once);

/* Gives it back. Returns whether it was there. */
bool reserve_give_back(struct reserve *reserve);
