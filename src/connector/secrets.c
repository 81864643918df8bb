// SPDX-License-Identifier: LGPL-2.1-or-later
// Finds and reads secrets; see secrets.h.
#include "connector/secrets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/files.h"

enum { SECRET_MAX_SIZE = 64 << 10 };

void secrets_free(char **secret)
{
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
}

int secrets_find(const char *what, const char *name, char path[static PATH_MAX], char *error,
                 size_t size)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    int n;

    if (strchr(name, '/')) {
        n = snprintf(path, PATH_MAX, "%s", name);
    } else if (directory) {
        n = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    } else {
        snprintf(error, size,
                 "%s '%s': no path, and systemd has handed over no credentials directory", what,
                 name);
        return -EIO;
    }
    if (n < 0 || n >= PATH_MAX) {
        snprintf(error, size, "%s: the path is too long", what);
        return -EIO;
    }
    return 0;
}

int secrets_read(const char *what, const char *name, char **ret_secret, char *error, size_t size)
{
    _cleanup_(secrets_free) char *secret = NULL;
    char path[PATH_MAX];
    size_t length;

    int r = secrets_find(what, name, path, error, size);
    if (r < 0)
        return r;
    r = files_read(path, SECRET_MAX_SIZE, &secret, &length);
    if (r < 0) {
        snprintf(error, size, "cannot read %s %s: %s", what, path, strerror(-r));
        return -EIO;
    }
    if (strlen(secret) != length) {
        snprintf(error, size, "%s %s holds a NUL byte", what, path);
        return -EIO;
    }
    // The newline that an editor leaves; a space at the end may be meant.
    while (length > 0 && (secret[length - 1] == '\n' || secret[length - 1] == '\r'))
        secret[--length] = '\0';
    *ret_secret = TAKE_PTR(secret);
    return 0;
}
