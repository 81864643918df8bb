// SPDX-License-Identifier: LGPL-2.1-or-later
// What sensors read from files and programs: the first line is the path within the JSON, the rest
// the bytes, which are taken as text, as JSON and as the answer of a thermometer.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/reading.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    const char *newline = size > 0 ? memchr(bytes, '\n', size) : NULL;
    size_t path_length = newline ? (size_t)(newline - bytes) : 0;
    char path[256] = "";
    if (path_length >= sizeof(path))
        return 0;
    memcpy(path, bytes, path_length);
    if (newline) {
        bytes += path_length + 1;
        size -= path_length + 1;
    }
    double value = 0;
    struct why why;
    if (reading_from_text(bytes, size, &value, &why) == 0 && !isfinite(value))
        abort();
    if (reading_from_json(bytes, size, path, &value, &why) == 0 && !isfinite(value))
        abort();
    if (reading_from_w1_slave(bytes, size, &value, &why) == 0 && !isfinite(value))
        abort();
    return 0;
}
