// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Whoever has made a role, and hears from it and from its parts: from the main loop alone, never
 * from within a call.
 */
#pragma once

enum owner_event {
    OWNER_COUNTED, // a counter has changed that the role's describe() shows
    OWNER_CHANGED, // or more of it
    OWNER_STOPPED, // the role has come to its end: free it now
    OWNER_RELOAD,  // a command wants the configuration to be loaded again
};

struct owner {
    void (*told)(void *userdata, enum owner_event event);
    void *userdata;
};
