// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Secrets of the configuration: a path, or the name of a credential (systemd.exec(5),
 * "CREDENTIALS"). what is the key's name, for errors, which go to error, a line.
 */
#pragma once

#include <limits.h>
#include <stddef.h>

/* 0, or -EIO with error. */
int secrets_find(const char *what, const char *name, char path[static PATH_MAX], char *error,
                 size_t size);

/* *ret_secret is a new string; secrets_free() wipes it. 0, or -EIO with error. */
int secrets_read(const char *what, const char *name, char **ret_secret, char *error, size_t size);

void secrets_free(char **secret);
