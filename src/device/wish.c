// SPDX-License-Identifier: LGPL-2.1-or-later
// Owns the list of the wishes that have ended, and the source that tells of them.
#include "device/wish.h"

struct wishes {
    sd_event_source *source;
    void (*told)(void *userdata);
    void *userdata;
    struct wish *first, **end;
};

static int on_turn(sd_event_source *source, void *userdata)
{
    (void)source;
    struct wishes *wishes = userdata;
    while (wishes->first) {
        struct wish *wish = wishes->first;
        wishes->first = wish->next;
        if (!wishes->first)
            wishes->end = &wishes->first;
        wish->ended(wish);
    }
    wishes->told(wishes->userdata);
    return 0;
}

int wishes_new(sd_event *event, void (*told)(void *userdata), void *userdata,
               struct wishes **ret_wishes)
{
    _cleanup_(wishes_freep) struct wishes *wishes = calloc(1, sizeof(*wishes));
    if (!wishes)
        return -ENOMEM;
    wishes->told = told;
    wishes->userdata = userdata;
    wishes->end = &wishes->first;
    int r = sd_event_add_defer(event, &wishes->source, on_turn, wishes);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(wishes->source, SD_EVENT_OFF);
    *ret_wishes = TAKE_PTR(wishes);
    return 0;
}

void wishes_free(struct wishes *wishes)
{
    if (!wishes)
        return;
    sd_event_source_disable_unref(wishes->source);
    free(wishes);
}

void wish_end(struct wishes *wishes, struct wish *wish, enum wish_outcome outcome)
{
    if (!wish)
        return;
    wish->outcome = outcome;
    wish->next = NULL;
    *wishes->end = wish;
    wishes->end = &wish->next;
    wishes_note(wishes);
}

void wishes_note(struct wishes *wishes)
{
    sd_event_source_set_enabled(wishes->source, SD_EVENT_ONESHOT);
}
