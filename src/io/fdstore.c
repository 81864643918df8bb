// SPDX-License-Identifier: LGPL-2.1-or-later
// A table of descriptors, mirrored in systemd's store. One a process, as is the socket to systemd.
#include "io/fdstore.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "io/notify.h"
#include "util/cleanup.h"
#include "util/strings.h"

enum { NAME_SIZE = 64 };

struct entry {
    char name[NAME_SIZE]; // "": free
    int fd;
    bool claimed;
};

static struct entry entries[FDSTORE_MAX];

static struct entry *find(const char *name)
{
    for (size_t i = 0; i < FDSTORE_MAX; i++) {
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    }
    return NULL;
}

static struct entry *find_fd(int fd)
{
    for (size_t i = 0; i < FDSTORE_MAX; i++) {
        if (entries[i].name[0] && entries[i].fd == fd)
            return &entries[i];
    }
    return NULL;
}

static void fill(struct entry *entry, const char *name, int fd)
{
    *entry = (struct entry){ .fd = fd };
    snprintf(entry->name, sizeof(entry->name), "%s", name);
}

/* systemd removes all descriptors of that name. */
static void forget(const char *name)
{
    char state[NAME_SIZE + 32];
    snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s", name);
    notify_send(state, -EBADF);
}

void fdstore_init(void)
{
    _cleanup_(strings_freep) char **names = NULL;
    int n = sd_listen_fds_with_names(true, &names);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        struct entry *entry = find("");
        if (!entry || strlen(names[i]) >= NAME_SIZE || find(names[i])) {
            forget(names[i]); // none of ours, or twice the same
            close(fd);
            continue;
        }
        fill(entry, names[i], fd);
    }
}

int fdstore_claim(const char *name)
{
    struct entry *entry = find(name);
    if (!entry || entry->claimed)
        return -ENOENT;
    entry->claimed = true;
    return entry->fd;
}

int fdstore_add(const char *name, int fd)
{
    char state[NAME_SIZE + 32];
    struct entry *entry = find("");
    if (!entry || find(name) || strlen(name) >= NAME_SIZE)
        return -ENOBUFS;
    fill(entry, name, fd);
    entry->claimed = true;
    snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s", name);
    notify_send(state, fd); // without systemd it lives on in here alone
    return 0;
}

void fdstore_release(int fd)
{
    struct entry *entry = find_fd(fd);
    if (entry)
        entry->claimed = false;
}

void fdstore_drop(int fd)
{
    struct entry *entry = find_fd(fd);
    if (!entry)
        return;
    forget(entry->name);
    close(entry->fd);
    entry->name[0] = '\0';
}

void fdstore_prune(void)
{
    for (size_t i = 0; i < FDSTORE_MAX; i++) {
        if (entries[i].name[0] && !entries[i].claimed)
            fdstore_drop(entries[i].fd);
    }
}
