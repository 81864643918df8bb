// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Descriptors that must not close when the daemon is restarted: systemd's file descriptor store
 * (FDSTORE=1 in sd_notify(3)) keeps a copy of each and hands it to the next run by its name
 * (sd_listen_fds_with_names(3)). Without such a store they still live on from one configuration to
 * the next. All belong to this table; others borrow them. Main loop only.
 *
 *     fdstore_init();                               // once, at the start
 *     fd = fdstore_claim("gpio-gpiochip0-17");      // or make one, and
 *     fdstore_add("gpio-gpiochip0-17", fd);
 *     fdstore_release(fd);                          // it stays open for whoever claims it next
 *     fdstore_prune();                              // nobody did
 */
#pragma once

/* That the unit asks systemd for (FileDescriptorStoreMax=). */
enum { FDSTORE_MAX = 64 };

/* Takes up what systemd has kept, and cleans the environment of it. */
void fdstore_init(void);

/* The descriptor of that name, now the caller's to use until fdstore_release(); -ENOENT. */
int fdstore_claim(const char *name);

/*
 * Takes over fd and claims it. name is printable ASCII without ':' (sd_pid_notify_with_fds(3)), of
 * at most 63 bytes. -ENOBUFS if the table is full; then fd stays the caller's.
 */
int fdstore_add(const char *name, int fd);

/* A claimed descriptor is not needed now. */
void fdstore_release(int fd);

/* Closes a descriptor here and in systemd's store. */
void fdstore_drop(int fd);

/* Drops all that nobody claims. */
void fdstore_prune(void);
